"""`python -m paced_trl` is `paced-trl`."""

from .commands import main


main()
