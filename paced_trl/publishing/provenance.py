"""
Where a run comes from, as `paced-trl train` writes it beside the run's settings when it starts.

Only then is it known which names are models on the Hub and which are directories. What of it is published is for
`run.py`.
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
    """Write what a run was started with: its models as the user names them, and the settings of the other steps."""
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
