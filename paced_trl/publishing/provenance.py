"""
Where a run comes from: what its settings do not say and a model card has to.

`paced-trl train` writes it beside the run's settings when it starts, because only then is it known which names are
models on the Hub and which are directories. Stays with the run; what of it is published is for `published_run.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..names import hub_id, library_versions
from ..run_directory import write_json


PROVENANCE = "provenance.json"


def write_provenance(
    output_dir: str | Path,
    *,
    student: str | None,
    teacher: str | None,
    problems: dict[str, Any],
    pass_rates: dict[str, Any],
    references: dict[str, Any],
) -> None:
    """
    Write what a training run was started with.

    Args:
        output_dir (`str` or `Path`): Directory of the run.
        student, teacher (`str`): Models, as the user names them.
        problems, pass_rates, references (`dict[str, Any]`): Settings of the steps before training.
    """
    path = Path(output_dir)
    path.mkdir(parents=True, exist_ok=True)
    write_json(
        path / PROVENANCE,
        {
            "student": hub_id(student),
            "teacher": hub_id(teacher),
            "dataset": hub_id(problems.get("dataset_name")),
            "published_pass_rates": hub_id(pass_rates.get("pass_rates")),
            "problems": problems,
            "pass_rates": pass_rates,
            "references": references,
            "versions": library_versions(),
        },
    )


def read_provenance(output_dir: Path) -> dict[str, Any]:
    """Return what [`write_provenance`] wrote; nothing for runs of `compare` and of Python."""
    path = output_dir / PROVENANCE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
