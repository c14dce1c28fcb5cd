"""What cannot work is refused before weights load."""
