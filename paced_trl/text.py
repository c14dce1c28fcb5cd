"""
Text that nobody has checked, made safe and short for a terminal.

Models, servers and data sets can write anything. A control character reaches the terminal as a command (it clears the
screen or changes the title), and a completion can be very long.
"""

from __future__ import annotations

import json
from typing import Any, Literal


def printable(text: str) -> str:
    """Return text with every character but line feeds that cannot be seen escaped as Python does: `\\x1b`."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, max_characters: int, *, keep: Literal["start", "end", "both"] = "start") -> str:
    """Return at most so many characters of a text, and a mark of where others were."""
    if len(text) <= max_characters:
        return text
    if keep == "start":
        return f"{text[:max_characters]} ..."
    if keep == "end":
        return f"... {text[len(text) - max_characters :]}"
    head = max_characters * 2 // 3  # how a text begins tells most, and then what it answers at the end
    tail = text[len(text) - (max_characters - head) :]
    return f"{text[:head]}\n[... {len(text) - max_characters:,} characters ...]\n{tail}"


def in_percent(share: float) -> str:
    """Return a share in per cent; "none" where there is none and "<0.1%" where there is hardly any."""
    return "none" if share == 0 else "<0.1%" if share < 0.0005 else f"{share:.1%}"


def one_line(value: Any, max_characters: int, *, keep: Literal["start", "end"] = "start") -> str:
    """Return a text, or another value as JSON, on one line that is safe and short."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(shortened(text.strip(), max_characters, keep=keep)).replace("\n", "\\n")
