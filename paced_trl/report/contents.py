"""
What a run directory holds or names, read back for people: evaluations, logs, settings, pass rates and completions.

Responsible for knowing where `paced-trl estimate`, `train`, `evaluate` and `compare` leave what, and for bringing a
single run and a comparison into one form. Whatever is missing is left out; a directory that holds nothing is refused.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..evaluation.comparison import BASE, RESULTS, Comparison
from ..evaluation.evaluation import TRAINING, Evaluation
from ..evaluation.gradient_snr import RESULT, GradientSNR
from ..run_directory import MANIFEST
from ..store.store import PassRateStore
from ..training.monitoring.notes import ADVICE, read_notes
from ..verification.verdict import VALID_VERDICTS


# Which baselines `paced-trl evaluate` compared a model with, beside its evaluation.
BASELINES = "baselines.json"
_HISTORY = "trainer_state.json"
# Written by `publishing/provenance.py`.
_PROVENANCE = "provenance.json"

LogHistory = list[dict[str, Any]]


@dataclass
class RunContents:
    """What there is to show of a run or a comparison; the base student is the arm `"base"`."""

    path: Path
    comparison: Comparison | None = None  # None for a single run
    # By set and by arm, one per seed; the arms of a single run are the models that were evaluated.
    evaluations: dict[str, dict[str, list[Evaluation]]] = field(default_factory=dict)
    retention_sets: list[str] = field(default_factory=list)  # problems of a kind that no arm trains on
    histories: dict[str, list[LogHistory]] = field(default_factory=dict)  # what training logged, by arm, one per seed
    # By name of the run's directory: settings, those of its problems included, and what training warned of.
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    advice: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)  # names of runs that have started
    # Training problems: `problem_id`, `num_passed`, `num_valid`; where known `prompt`, `solution`, `problem_weight`.
    pass_rates: pa.Table | None = None
    store: PassRateStore | None = None  # the completions that the pass rates were counted from
    references: PassRateStore | None = None
    training: dict[str, list[Evaluation]] = field(default_factory=dict)  # on the training problems, by arm
    completions: dict[str, dict[str, PassRateStore]] = field(default_factory=dict)  # by set and arm, of its first seed
    held_out_problems: dict[str, pa.Table] = field(default_factory=dict)  # by set
    gradient_snr: GradientSNR | None = None

    @property
    def arms(self) -> list[str]:
        """Names of the arms, the base student first, the others in the order in which they were run."""
        measured = [*self.evaluations.values(), self.training]
        names = dict.fromkeys([*(arm for by_arm in measured for arm in by_arm), *self.histories])
        return [name for name in names if name == BASE] + [name for name in names if name != BASE]

    @property
    def eval_sets(self) -> list[str]:
        """Names of the held-out sets of the kind that was trained on."""
        return [name for name in self.evaluations if name not in self.retention_sets]

    @property
    def logged_metrics(self) -> set[str]:
        """Names of all that some training logged."""
        return {key for logs in self.histories.values() for history in logs for entry in history for key in entry}

    @property
    def before_and_after(self) -> dict[str, dict[str, list[Evaluation]]]:
        """Evaluations whose pass rates training was to change: on held-out sets, and on the training problems."""
        by_set = {name: self.evaluations[name] for name in self.eval_sets}
        return by_set | ({TRAINING: self.training} if self.training else {})


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
    store = _store_of(contents, "pass_rates")
    contents.store = _open_store(store)
    contents.references = _open_store(_store_of(contents, "references"))
    contents.pass_rates = _read_pass_rates(store.with_suffix(".parquet"), contents.store)
    if (path / RESULT).exists():
        with _naming(path / RESULT):
            contents.gradient_snr = GradientSNR.from_dict(_read_json(path / RESULT))
    found = (contents.evaluations, contents.histories, contents.pass_rates, contents.gradient_snr)
    if not any(part is not None and part != {} for part in found):
        raise ValueError(
            f"{str(path)!r} holds no pass rates, no training log and no evaluation, so there is nothing to show. Name "
            "the `--output_dir` of `paced-trl estimate`, `train`, `evaluate` or `compare`."
        )
    return contents


def _add_comparison(contents: RunContents) -> None:
    with _naming(contents.path / RESULTS):
        comparison = Comparison.load(contents.path).selected()
    contents.comparison = comparison
    contents.retention_sets = comparison.retention_sets
    for eval_set in [*comparison.eval_sets, *comparison.retention_sets]:
        contents.evaluations[eval_set] = {arm: comparison.evaluations(arm, eval_set) for arm in comparison.arms()}
    for run in comparison.runs:
        if TRAINING in run.evaluations:
            contents.training.setdefault(run.arm, []).append(run.evaluations[TRAINING])
        if run.log_history:
            contents.histories.setdefault(run.arm, []).append(run.log_history)
        directory = contents.path / (BASE if run.arm == BASE else f"arms/{run.arm}-seed{run.seed}/evaluation")
        _add_held_out(contents, run.arm, directory, run.evaluations)
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
    own = dict.fromkeys(file.parent for file in sorted(contents.path.glob("evaluation/*/*.json")))
    elsewhere = [baseline for directory in own for baseline in _baselines(directory)]
    directories = list(own | dict.fromkeys(elsewhere))
    bases = [each for each in directories if student is not None and each.name == Path(student).name]
    is_base = bases or (elsewhere[:1] if student is None else [])
    # The base student first, as in a comparison.
    for directory in sorted(directories, key=lambda directory: directory not in is_base):
        evaluation = directory / MANIFEST  # absent where `Evaluation.save` was called from Python
        retention = _read_json(evaluation)["settings"]["retention_sets"] if evaluation.exists() else []
        arm = BASE if directory in is_base else directory.name
        for file in sorted(directory.glob("*.json")):
            if file.name in (MANIFEST, BASELINES) or arm in contents.evaluations.get(file.stem, {}):
                continue
            with _naming(file):
                contents.evaluations.setdefault(file.stem, {})[arm] = [Evaluation.load(file)]
            _add_held_out(contents, arm, directory, [file.stem])
            if file.stem in retention and file.stem not in contents.retention_sets:
                contents.retention_sets.append(file.stem)
    contents.training = contents.evaluations.pop(TRAINING, {})
    in_order = [*contents.eval_sets, *contents.retention_sets]
    contents.evaluations = {name: contents.evaluations[name] for name in in_order}


def _baselines(directory: Path) -> list[Path]:
    """Return where the evaluations lie that `paced-trl evaluate` compared this one with, if they are still there."""
    file = directory / BASELINES
    found = [_located(directory, path) for path in _read_json(file)] if file.exists() else []
    return [path for path in found if path.is_dir()]


def _located(directory: Path, name: str) -> Path:
    """Return where a directory lies that a run's record names as seen from where its command was run."""
    seen_from = [Path(), *directory.resolve().parents]
    return next((each / name for each in seen_from if (each / name).is_dir()), Path(name))


def _store_of(contents: RunContents, setting: str) -> Path:
    """Return the store of the run's pass rates or references: its own, or one that it was told to use."""
    own = contents.path / setting
    named = [settings[setting] for settings in contents.settings.values() if settings.get(setting)]
    found = own.exists() or own.with_suffix(".parquet").exists() or not named
    return own if found else _located(contents.path, named[0])


def _add_settings(contents: RunContents, manifest: Path) -> None:
    values = _read_json(manifest)
    name = manifest.parent.resolve().name
    provenance = manifest.with_name(_PROVENANCE)
    before = _read_json(provenance) if provenance.exists() else {}
    steps = {**before.get("problems", {}), **before.get("pass_rates", {}), **before.get("references", {})}
    contents.settings[name] = {key: value for key, value in steps.items() if value is not None} | values["settings"]
    if values["status"] != "finished":
        contents.unfinished.append(name)
    notes = manifest.with_name(ADVICE)
    if notes.exists():
        with _naming(notes):
            contents.advice[name] = read_notes(notes)


def _add_held_out(contents: RunContents, arm: str, directory: Path, eval_sets: Iterable[str]) -> None:
    """Find an arm's completions of held-out problems, and the problems; the first run of an arm is taken."""
    for eval_set in eval_sets:
        store = _open_store(directory / f"{eval_set}_completions")
        if store is not None:
            contents.completions.setdefault(eval_set, {}).setdefault(arm, store)
        problems = directory / f"{eval_set}_problems.parquet"
        if eval_set not in contents.held_out_problems and problems.exists():
            with _naming(problems):
                contents.held_out_problems[eval_set] = pq.read_table(problems)


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
    num_valid = reduce(pc.add, (counts[f"num_{verdict.value}"] for verdict in VALID_VERDICTS))
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
