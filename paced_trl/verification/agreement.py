"""Completions that exist already, judged: verdict counts, speed, and agreement with labels."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ..text import one_line
from .check import Messages, completion_text
from .verdict import Verdict
from .verifier import Verifier


_ROWS_AT_ONCE = 512  # per update of the bar; workers wait for each other at its end
_SHOWN_CHARACTERS = 300
_ROWS_READ_OUT = 100  # with more of them, only as many as of everything else
_NOTHING = "(nothing)"
_TRUE = ("true", "1", "1.0", "passed", "pass", "correct", "right", "yes")
_FALSE = ("false", "0", "0.0", "failed", "fail", "incorrect", "wrong", "no")


@dataclass(frozen=True)
class VerifiedRow:
    """One completion with its verdict, and what the verifier read from it and from its gold."""

    row: int  # place in the data, from 0
    problem: Any
    solution: Any
    completion: str | Messages
    verdict: Verdict
    label: bool | None = None  # whether it is known to be right
    answer_read: str | None = None
    gold_read: str | None = None


@dataclass(frozen=True)
class VerificationReport:
    """
    Verdicts of many completions. Made by [`verify_completions`]; `str(report)` is what `paced-trl verify` prints.

    Args:
        verifier (`str`): Name of the verifier.
        rows (`list[VerifiedRow]`): In the order of the data.
        seconds (`float`): Wall-clock time of judging, the start of worker processes included.
        max_shown (`int`, *optional*, defaults to `5`): Disagreements and rows without a valid verdict to print.
    """

    verifier: str
    rows: list[VerifiedRow]
    seconds: float
    max_shown: int = 5

    @property
    def counts(self) -> dict[Verdict, int]:
        """Completions per verdict; verdicts that did not occur are left out."""
        counter = Counter(row.verdict for row in self.rows)
        return {verdict: counter[verdict] for verdict in Verdict if counter[verdict]}

    @property
    def rate(self) -> float:
        """Completions judged per second."""
        return len(self.rows) / max(self.seconds, 1e-9)

    @property
    def agreement_table(self) -> dict[tuple[bool, bool], int]:
        """Completions per (verdict is passed, label is right), of those with a label and a valid verdict."""
        counter = Counter((row.verdict is Verdict.PASSED, row.label) for row in self._comparable())
        return {(passed, right): counter[passed, right] for passed in (True, False) for right in (True, False)}

    @property
    def agreement(self) -> float | None:
        """Fraction of the labelled completions with a valid verdict on which both agree; `None` if there is none."""
        table = self.agreement_table
        total = sum(table.values())
        return (table[True, True] + table[False, False]) / total if total else None

    @property
    def disagreements(self) -> list[VerifiedRow]:
        """Rows whose valid verdict differs from their label."""
        return [row for row in self._comparable() if (row.verdict is Verdict.PASSED) != row.label]

    @property
    def without_verdict(self) -> list[VerifiedRow]:
        """Rows about which the verifier could say nothing: `TIMEOUT` and `UNVERIFIABLE`."""
        return [row for row in self.rows if not row.verdict.is_valid]

    def write(self, path: str | Path) -> None:
        """Write one JSON object per completion: its row, verdict, label, what was read, problem, gold, completion."""
        names = ("row", "verdict", "label", "gold_read", "answer_read", "problem", "solution", "completion")
        with open(path, "w", encoding="utf-8") as file:
            for row in self.rows:
                file.write(json.dumps({name: getattr(row, name) for name in names}, default=str) + "\n")

    def _comparable(self) -> list[VerifiedRow]:
        return [row for row in self.rows if row.label is not None and row.verdict.is_valid]

    def __str__(self) -> str:
        lines = [
            f"{len(self.rows)} completions judged by '{self.verifier}' in {self.seconds:.1f} s: {self.rate:.1f}/s"
        ]
        lines += [f"  {verdict:13}{count:8}  {count / len(self.rows):6.1%}" for verdict, count in self.counts.items()]
        if self.agreement is not None:
            table = self.agreement_table
            lines += [
                f"Agreement with the labels: {self.agreement:.2%} of {sum(table.values())} labelled completions",
                f"  {'':20}{'label right':>12}{'label wrong':>13}",
                f"  {'verdict passed':20}{table[True, True]:12}{table[True, False]:13}",
                f"  {'verdict not passed':20}{table[False, True]:12}{table[False, False]:13}",
            ]
        lines += self._readings()
        lines += self._listed("Disagreements", self.disagreements)
        lines += self._listed("Without a valid verdict (they never count)", self.without_verdict)
        return "\n".join(lines)

    def _readings(self) -> list[str]:
        """Return what was read, of all rows where they are few."""
        shown = self.rows if len(self.rows) <= _ROWS_READ_OUT else self.rows[: self.max_shown]
        if self.max_shown <= 0 or all(row.answer_read is None and row.gold_read is None for row in shown):
            return []
        lines = [f"What was read, of {'each completion' if shown is self.rows else f'the first {len(shown)}'}:"]
        lines.append(f"  {'':>5}  {'verdict':12}  {'gold':30}  answer")
        for row in shown:
            gold, answer = (
                _NOTHING if text is None else one_line(text, 26) for text in (row.gold_read, row.answer_read)
            )
            lines.append(f"  {row.row:>5}  {row.verdict:12}  {gold:30}  {answer}")
        return lines

    def _listed(self, title: str, rows: list[VerifiedRow]) -> list[str]:
        if not rows or self.max_shown <= 0:
            return []
        lines = [f"{title}: {len(rows)}" + (f", the first {self.max_shown}" if len(rows) > self.max_shown else "")]
        for row in rows[: self.max_shown]:
            label = "" if row.label is None else f", label {'right' if row.label else 'wrong'}"
            lines.append(f"  row {row.row}: {row.verdict}{label}")
            for name in ("problem", "solution", "completion"):
                value = getattr(row, name)
                if value is not None:
                    is_completion = name == "completion"
                    text = completion_text(value) if is_completion else value
                    shown = one_line(text, _SHOWN_CHARACTERS, keep="end" if is_completion else "start")
                    lines.append(f"    {name:11}{shown}")
        return lines


def as_label(value: Any, row: int = 0) -> bool | None:
    """Return a label as a boolean, `None` where there is none."""
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "none", "nan"):
        return None
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(
            f"The label of row {row} is {value!r}, which says neither right nor wrong. Write true/false, 1/0 or "
            "passed/failed, or leave it empty."
        )
    return text in _TRUE


def verify_completions(
    completions: Sequence[str | Messages],
    solutions: Sequence[Any],
    verifier: Verifier,
    *,
    labels: Sequence[Any] | None = None,
    problems: Sequence[Any] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    max_shown: int = 5,
    show_progress: bool = True,
) -> VerificationReport:
    """
    Judge completions and compare the verdicts with labels.

    Args:
        completions (`Sequence` of `str` or of lists of messages, **shape (N,)**): What to judge.
        solutions (`Sequence`, **shape (N,)**): The golds.
        verifier ([`Verifier`]): From [`load_verifier`].
        labels (`Sequence`, **shape (N,)**, *optional*):
            Which completions are right: booleans, 0/1, "passed"/"failed"; `None` where it is not known.
        problems (`Sequence`, **shape (N,)**, *optional*): The prompts, to show and for verifiers that use them.
        columns (`Mapping` of sequences, **shape (N,)**, *optional*): Further columns, for verifiers that need them.
        max_shown (`int`, *optional*, defaults to `5`): Rows of each kind that `str(report)` lists.
        show_progress (`bool`, *optional*, defaults to `True`): Whether a bar on stderr shows how far it is.

    Returns:
        [`VerificationReport`]

    Raises:
        ValueError: If lengths differ, or a label says neither right nor wrong.

    Example:

    ```python
    >>> from paced_trl import load_verifier, verify_completions
    >>> report = verify_completions(["It is 4.", "It is 5."], [4, 4], load_verifier("numeric"), labels=[True, True])
    >>> report.agreement, [row.row for row in report.disagreements]
    (0.5, [1])
    ```
    """
    given = dict(columns or {}) if problems is None else {"prompt": problems, **(columns or {})}
    known = [None] * len(completions) if labels is None else [as_label(value, row) for row, value in enumerate(labels)]
    if not len(known) == len(completions) == len(solutions):
        raise ValueError(
            f"Got {len(completions)} completions, {len(solutions)} solutions and {len(known)} labels; each completion "
            "needs one of each."
        )
    verdicts: list[Verdict] = []
    readings: list[tuple[str | None, str | None]] = []
    began = time.monotonic()
    console = Console(stderr=True)
    with Progress(console=console, disable=not (show_progress and console.is_terminal)) as bar:
        task = bar.add_task("verify", total=len(completions))
        for start in range(0, len(completions), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            values = {name: column[part] for name, column in given.items()}
            verdicts += verifier(completions[part], solutions[part], **values)
            readings += verifier.readings(completions[part], solutions[part])
            bar.update(task, completed=len(verdicts))
    seconds = time.monotonic() - began
    prompts = [None] * len(verdicts) if problems is None else problems
    rows = zip(range(len(verdicts)), prompts, solutions, completions, verdicts, known, readings, strict=True)
    return VerificationReport(verifier.name, [VerifiedRow(*row, *read) for *row, read in rows], seconds, max_shown)
