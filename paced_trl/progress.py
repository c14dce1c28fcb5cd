"""
What a run shows while it runs: a bar with rates and time left, and the first prompt with what came of it.

On a terminal the bar moves; in a log file it is a line every half minute. Everything goes to stderr, so that a
command's result on stdout stays clean.
"""

from __future__ import annotations

import logging
import sys
import textwrap
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .text import printable, shortened


logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
_MAX_SHOWN_CHARACTERS = 2000
_SOURCES = {"dataset": "a reference of the dataset", "student": "the student's own completion"}
_shown_examples: set[tuple[str, str]] = set()


def clear_bars() -> None:
    """Clear what tqdm draws on the terminal, so that text starts on its own line; the next step draws it again."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.clear(nolock=True)


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{left:02d}"


class GenerationProgress:
    """Progress of a run, counted in completions, on stderr or a console of the caller's."""

    def __init__(self, description: str, *, enabled: bool = True, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.enabled = enabled
        self._description = description
        self._completed = self._total = self._num_tokens = self._num_new = 0
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            console=self.console,
            disable=not (enabled and self.console.is_terminal),
        )
        self._task = self._bar.add_task(description, total=None, rates="")

    def __enter__(self) -> GenerationProgress:
        clear_bars()
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def start(self, *, completed: int, total: int) -> None:
        """Set how many completions are there and how many there shall be; rates are counted from the first call on."""
        if self._num_new == 0:
            self._started = time.monotonic()
            if 0 < completed < total and not self._total:
                self.note(f"{self._description}: {completed} of {total} completions are there, going on from them.")
        self._completed, self._total = completed, total
        self._bar.update(self._task, completed=completed, total=total)

    def advance(self, num_completions: int, num_tokens: int) -> None:
        """Count completions that have just been generated."""
        self._completed += num_completions
        self._num_new += num_completions
        self._num_tokens += num_tokens
        self._bar.update(self._task, completed=self._completed, rates=self.rates())
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.note(f"{self._description}: {self._completed}/{self._total} completions, {self.rates()}")

    def rates(self) -> str:
        """Return completions and tokens per second and the time left, as text."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        left = (self._total - self._completed) * seconds / max(self._num_new, 1)
        rates = f"{self._num_new / seconds:.1f} completions/s, {self._num_tokens / seconds:,.0f} tokens/s"
        return f"{rates}, {clock(left)} left"

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show_example(self, prompt: str, completion: str, outcome: str) -> None:
        """Print the first prompt as the model sees it, and what came of it: most mistakes in a set-up show here."""
        if (self._description, prompt) not in _shown_examples:
            _shown_examples.add((self._description, prompt))
            self.note(_example({"First prompt": prompt, f"First completion ({outcome})": completion}))


class FirstSamples:
    """The first sample of each source of completions in training, shown once, special tokens and template included."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, source: str, texts: Mapping[str, str]) -> None:
        """Print on stderr and log, unless done for this source, texts by what they are: `prompt`, `completion`."""
        if source in self._shown:
            return
        self._shown.add(source)
        for name, text in texts.items():
            logger.info("First sample, %s, %s: %s", source, name, _short(text))
        title = f"First sample of training: {_SOURCES[source]}"
        clear_bars()
        Console(stderr=True).print(f"{title}\n{_example(texts)}", markup=False, highlight=False, soft_wrap=True)


def _example(texts: Mapping[str, str]) -> str:
    return "".join(f"{name}:\n{textwrap.indent(_short(text), '  ', lambda _: True)}\n" for name, text in texts.items())


def _short(text: str) -> str:
    return printable(shortened(text, _MAX_SHOWN_CHARACTERS, keep="both"))
