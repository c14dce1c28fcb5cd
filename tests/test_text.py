"""Text for a terminal: nothing in it commands the terminal, and no text is long."""

from __future__ import annotations

import pytest

from paced_trl.text import in_percent, one_line, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold] \\ text", "plain [bold] \\ text"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x07\tend\r", "\\x1b[2J\\x07\\tend\\r"),
        ("é 数 🙂", "é 数 🙂"),
        # They reorder, hide or split what is seen, or have no bytes.
        ("a\u202eb\u200bc\u2028d", "a\\u202eb\\u200bc\\u2028d"),
        ("x\ud800y", "x\\ud800y"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode("utf-8")


def test_a_long_text_keeps_the_end_that_was_asked_for() -> None:
    text = "a" * 600 + "b" * 300
    assert shortened(text, 900) == shortened(text, 900, keep="both") == text
    assert shortened(text, 10) == "aaaaaaaaaa ..."
    assert shortened(text, 10, keep="end") == "... bbbbbbbbbb"
    assert shortened("ab" * 1000, 900, keep="both") == "ab" * 300 + "\n[... 1,100 characters ...]\n" + "ab" * 150
    assert shortened("abc", 0, keep="end") == "... "


def test_any_value_fits_on_a_line() -> None:
    assert one_line(" a\nb\x1b ", 80) == "a\\nb\\x1b"
    assert one_line({"é": [1, None]}, 80) == '{"é": [1, null]}'
    assert one_line("a" * 100, 5) == "aaaaa ..."
    assert one_line("a" * 100 + "b", 2, keep="end") == "... ab"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "none"), (1e-9, "<0.1%"), (0.0004, "<0.1%"), (0.0006, "0.1%"), (0.25, "25.0%"), (1.0, "100.0%")],
)
def test_a_share_of_none_differs_from_nearly_none(share: float, shown: str) -> None:
    assert in_percent(share) == shown
