"""
Where a run comes from: what its settings do not say and a model card has to.

`paced-trl train` writes it beside the run's settings when it starts, because only then is it known which names are
models on the Hub and which are directories. Stays with the run; what of it is published is for `published_run.py`.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..run_directory import write_json


PROVENANCE = "provenance.json"
_LIBRARIES = ("paced_trl", "trl", "transformers", "torch", "peft", "datasets", "tokenizers", "accelerate")
# Names that would do for a repository, and are files.
_FILES = (".json", ".jsonl", ".csv", ".parquet", ".gguf")


def hub_id(name: str | None) -> str | None:
    """Return a name that can be a model or dataset on the Hub, `None` for a local path: what exists here is local."""
    if not name or "/" not in name or name.startswith((".", "~")) or name.endswith(_FILES):
        return None
    if Path(name).expanduser().exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on, those that are installed."""
    installed = {distribution.metadata["Name"].replace("-", "_") for distribution in metadata.distributions()}
    return {name: metadata.version(name) for name in _LIBRARIES if name in installed}


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
