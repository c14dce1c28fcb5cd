"""
The first prompt and completion of a run, shown as the models see them: special tokens, template, end and all.

Most runs that go wrong without a word can be seen to in these few lines. Responsible for showing them once for each
source of completions, to a person on the terminal and as a log record. Ours.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text


logger = logging.getLogger(__name__)

MAX_CHARACTERS = 2000
_SOURCES = {"dataset": "a reference of the dataset", "student": "the student's own completion"}


class FirstSamples:
    """Shows the first sample of each source of completions, once, on the process that is told to."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, source: str, texts: Mapping[str, str]) -> None:
        """
        Print texts on standard error and log them at level INFO, if none of this source have been shown.

        Args:
            source (`str`): `"dataset"` or `"student"`.
            texts (`Mapping[str, str]`): By what they are, e.g. `prompt` and `completion`, special tokens included.
        """
        if source in self._shown:
            return
        self._shown.add(source)
        parts = {name: shortened(text) for name, text in texts.items()}
        for name, text in parts.items():
            logger.info("First sample, %s, %s: %s", source, name, text)
        lines = [Text.assemble((f"{name}\n", "bold"), text) for name, text in parts.items()]
        title = f"First sample of training: {_SOURCES[source]}"
        Console(stderr=True).print(Panel(Group(*lines), title=title, title_align="left"))


def shortened(text: str) -> str:
    """Return a text of at most `MAX_CHARACTERS`: of a longer one the start and the end, which tell most."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
