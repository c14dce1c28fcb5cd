"""
What went wrong while a run trained, kept beside its model in `advice.json`: advice and Python's warnings, each once.

Loads no torch: the report reads the file.
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
    """Add a note to a run's `advice.json`, unless one on its subject is there: the run may have been interrupted."""
    path = directory / ADVICE
    kept = read_notes(path) if path.exists() else []
    if subject not in {each["subject"] for each in kept}:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, [*kept, {"step": step, "subject": subject, "text": text}])


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Return the notes of an `advice.json`: `step`, `subject` and `text` of each."""
    notes = json.loads(path.read_text(encoding="utf-8"))
    return [{key: each[key] for key in ("step", "subject", "text")} for each in notes]


@contextmanager
def keeping_warnings(directory: Path) -> Iterator[None]:
    """Show warnings as ever, and keep the first from each line of code in a run's `advice.json`."""
    show = warnings.showwarning

    def show_and_keep(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *where: Any, **options: Any
    ) -> None:
        show(message, category, filename, lineno, *where, **options)
        # What is deprecated concerns no reader of a report.
        if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            keep_note(directory, f"{Path(filename).name}:{lineno}", str(message)[:_MAX_LENGTH])

    warnings.showwarning = show_and_keep
    try:
        yield
    finally:
        warnings.showwarning = show
