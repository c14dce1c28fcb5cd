"""
What went wrong while a run trained, kept beside its model: `advice.json`, which the report shows.

Responsible for the file: advice and Python's warnings, each once, whole after a kill. Decides nothing; advice is
`training_advice.py`'s. Ours.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...run_directory import write_json


ADVICE = "advice.json"
_MAX_LENGTH = 1000  # characters of one warning


def keep_note(directory: Path, subject: str, text: str, step: int | None = None) -> None:
    """
    Add a note to a run's `advice.json`, unless one on its subject is there: the run may have been interrupted since.

    Args:
        directory (`Path`): Directory of the run.
        subject (`str`): What the note is about.
        text (`str`): One or two sentences.
        step (`int`, *optional*): The optimizer step at which it was due, where that is known.
    """
    path = directory / ADVICE
    kept = read_notes(path) if path.exists() else []
    if subject not in {each["subject"] for each in kept}:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, [*kept, {"step": step, "subject": subject, "text": text}])


def read_notes(path: Path) -> list[dict[str, Any]]:
    """
    Return the notes of an `advice.json`: `step`, `subject` and `text` of each.

    Raises:
        ValueError: If the file is no JSON.
        KeyError: If a note lacks one of these.
    """
    notes = json.loads(path.read_text(encoding="utf-8"))
    return [{key: each[key] for key in ("step", "subject", "text")} for each in notes]


@contextmanager
def keeping_warnings(directory: Path) -> Iterator[None]:
    """
    Show warnings as ever, and keep the first from each line of code in a run's `advice.json`.

    What is deprecated concerns no reader of a report, and is not kept.
    """
    show = warnings.showwarning

    def show_and_keep(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *where: Any, **options: Any
    ) -> None:
        show(message, category, filename, lineno, *where, **options)
        if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            keep_note(directory, f"{Path(filename).name}:{lineno}", str(message)[:_MAX_LENGTH])

    warnings.showwarning = show_and_keep
    try:
        yield
    finally:
        warnings.showwarning = show
