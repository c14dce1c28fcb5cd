"""
What a run directory holds, read back for people: evaluations, logs, settings, pass rates and completions.

Responsible for knowing where `paced-trl estimate`, `train`, `evaluate` and `compare` leave what, and for bringing a
single run and a comparison into one form. Whatever is missing is left out; only a directory that holds none of it is
refused. This module computes nothing and knows nothing of pages and figures.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..comparison import BASE, RESULTS, Comparison
from ..evaluation import Evaluation
from ..run_directory import MANIFEST
from ..store import PassRateStore
from ..verification import VALID_VERDICTS


PASS_RATES = "pass_rates.parquet"
_HISTORY = "trainer_state.json"

LogHistory = list[dict[str, Any]]


@dataclass
class RunContents:
    """
    What there is to show of a run or a comparison.

    Args:
        path (`Path`): The directory.
        comparison ([`Comparison`], *optional*): What `paced-trl compare` found; None for a single run.
        evaluations (`dict[str, dict[str, list[Evaluation]]]`):
            Evaluations by set and by arm, one per seed; the untouched student is the arm `"base"` and comes first. The
            arms of a single run are the models that were evaluated.
        retention_sets (`list[str]`): Sets of problems that no arm trains on.
        histories (`dict[str, list[LogHistory]]`): What training logged, by arm, one history per seed.
        settings (`dict[str, dict[str, Any]]`): Settings of each training run, by name of its directory.
        unfinished (`list[str]`): Names of the training runs that started and have not finished.
        pass_rates (`pyarrow.Table`, *optional*):
            `problem_id`, `num_passed` and `num_valid` of the training problems before training; where known also
            `prompt`, `solution` and `problem_weight`.
        store ([`PassRateStore`], *optional*): The completions that the pass rates were counted from.
        references ([`PassRateStore`], *optional*): The teacher's completions of the training problems.
    """

    path: Path
    comparison: Comparison | None = None
    evaluations: dict[str, dict[str, list[Evaluation]]] = field(default_factory=dict)
    retention_sets: list[str] = field(default_factory=list)
    histories: dict[str, list[LogHistory]] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    pass_rates: pa.Table | None = None
    store: PassRateStore | None = None
    references: PassRateStore | None = None

    @property
    def arms(self) -> list[str]:
        """Names of the arms, the untouched student first, the others in the order in which they were run."""
        names = dict.fromkeys([*(arm for by_arm in self.evaluations.values() for arm in by_arm), *self.histories])
        return [name for name in names if name == BASE] + [name for name in names if name != BASE]

    @property
    def eval_sets(self) -> list[str]:
        """Names of the held-out sets of the kind that was trained on."""
        return [name for name in self.evaluations if name not in self.retention_sets]


def read_run(output_dir: str | os.PathLike[str]) -> RunContents:
    """
    Read the directory of a run or of a comparison.

    Args:
        output_dir (`str` or path): The `--output_dir` of `paced-trl estimate`, `train`, `evaluate` or `compare`.

    Returns:
        [`RunContents`]: What is there.

    Raises:
        ValueError: If there is nothing to show, or a file is damaged.
    """
    path = Path(output_dir)
    contents = RunContents(path)
    if (path / RESULTS).exists():
        _add_comparison(contents)
    else:
        _add_single_run(contents)
    contents.store = _open_store(path / "pass_rates")
    contents.references = _open_store(path / "references")
    contents.pass_rates = _read_pass_rates(path / PASS_RATES, contents.store)
    if not (contents.evaluations or contents.histories or contents.pass_rates is not None):
        raise ValueError(
            f"{str(path)!r} holds no pass rates, no training log and no evaluation, so there is nothing to show. Name "
            "the `--output_dir` of `paced-trl estimate`, `train`, `evaluate` or `compare`."
        )
    return contents


def _add_comparison(contents: RunContents) -> None:
    with _naming(contents.path / RESULTS):
        comparison = Comparison.load(contents.path)
    contents.comparison = comparison
    contents.retention_sets = comparison.retention_sets
    for eval_set in [*comparison.eval_sets, *comparison.retention_sets]:
        contents.evaluations[eval_set] = {arm: comparison.evaluations(arm, eval_set) for arm in comparison.arms()}
    for run in comparison.runs:
        if run.log_history:
            contents.histories.setdefault(run.arm, []).append(run.log_history)
    for manifest in sorted(contents.path.glob(f"arms/*/{MANIFEST}")):
        _add_settings(contents, manifest)


def _add_single_run(contents: RunContents) -> None:
    name = contents.path.resolve().name
    manifest = contents.path / MANIFEST
    if manifest.exists():
        _add_settings(contents, manifest)
    history = contents.path / _HISTORY
    if history.exists():
        contents.histories[name] = [_read_json(history)["log_history"]]
    student = contents.settings.get(name, {}).get("student.model_name_or_path")
    files = [file for file in contents.path.glob("evaluation/*/*.json") if file.name != MANIFEST]
    # The untouched student first, as in a comparison.
    is_student = {file: student is not None and file.parent.name == Path(student).name for file in files}
    for file in sorted(files, key=lambda file: (not is_student[file], file)):
        by_arm = contents.evaluations.setdefault(file.stem, {})
        by_arm[BASE if is_student[file] else file.parent.name] = [Evaluation.load(file)]
        evaluation = file.with_name(MANIFEST)  # absent where `Evaluation.save` was called from Python
        names = _read_json(evaluation)["settings"]["retention_sets"] if evaluation.exists() else []
        if file.stem in names and file.stem not in contents.retention_sets:
            contents.retention_sets.append(file.stem)


def _add_settings(contents: RunContents, manifest: Path) -> None:
    values = _read_json(manifest)
    name = manifest.parent.resolve().name
    contents.settings[name] = values["settings"]
    if values["status"] != "finished":
        contents.unfinished.append(name)


def _open_store(path: Path) -> PassRateStore | None:
    return PassRateStore(path) if (path / "manifest.json").exists() else None


def _read_pass_rates(path: Path, store: PassRateStore | None) -> pa.Table | None:
    """Return the table that estimation left, or the counts of the store: without prompts, in no particular order."""
    if path.exists():
        try:
            table = pq.read_table(path)
            table.select(["problem_id", "num_passed", "num_valid"])
            return table
        except (pa.ArrowException, KeyError) as error:
            warnings.warn(
                f"{str(path)!r} cannot be read and is left out ({error}). Delete it and run `paced-trl estimate` "
                "again: no completion is generated twice.",
                stacklevel=2,
            )
    counts = store.counts().sort_by("problem_id") if store is not None else None
    if counts is None or not counts.num_rows:
        return None
    num_valid = pc.add(counts["num_passed"], 0)
    for verdict in VALID_VERDICTS[1:]:
        num_valid = pc.add(num_valid, counts[f"num_{verdict.value}"])
    return counts.select(["problem_id", "num_passed"]).append_column("num_valid", num_valid)


def _read_json(path: Path) -> dict[str, Any]:
    with _naming(path):
        return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file is damaged: the parser's own message does not."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read ({error}). Delete it and run the command that wrote it again; finished "
            "parts are reused."
        ) from error
