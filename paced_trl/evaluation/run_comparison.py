"""
Several arms under one budget: the same problems, references, steps, data order and seeds, one estimation shared.

Every arm is evaluated on the same held-out and retention problems. Finished arms are reused, so arms and seeds can be
added later. On several processes all train and evaluate together, and the first one writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processes import Processes
from ..run_directory import RunDirectory
from .arms import BASE, Arms, ComparisonArguments
from .comparison import RESULTS, ArmRun, Comparison
from .evaluation import Evaluation
from .learning_curve import read_curve


if TYPE_CHECKING:
    from ..training.run import Distilled


def run_comparison(
    output_dir: Path,
    comparison_args: ComparisonArguments,
    eval_sets: Sequence[str],
    retention_sets: Sequence[str],
    *,
    train: Callable[[dict[str, Any], Path], Distilled],
    evaluate: Callable[[str | None, Path], dict[str, Evaluation]],
    shared_tokens: Mapping[str, int] | None = None,
    paying: Sequence[str] = (),
) -> Comparison:
    """
    Evaluate the base student, then train and evaluate each arm with each seed; save after each.

    Runs of an earlier comparison stay while they are not reached, and other seeds of these arms for good: who adds an
    arm or a seed, or stops, loses none.

    Args:
        output_dir (`Path`): Runs go to `output_dir/arms/<arm>-seed<seed>`.
        comparison_args ([`ComparisonArguments`]): Arms, seeds and the control.
        eval_sets, retention_sets (`Sequence[str]`): Names of the sets that `evaluate` returns.
        train (`Callable`): `train(settings, directory)` trains one arm.
        evaluate (`Callable`): `evaluate(model, directory)` returns evaluations by set; model None is the student.
        shared_tokens (`Mapping[str, int]`, *optional*): Tokens generated once for all arms, by what for.
        paying (`Sequence[str]`, *optional*): Arms whose curves begin after the tokens of the estimation.

    Returns:
        [`Comparison`]: Also in `output_dir/comparison.json`.
    """
    check_selection(comparison_args.select_on, eval_sets)
    comparison = Comparison(
        comparison_args.control,
        list(eval_sets),
        list(retention_sets),
        shared_tokens=dict(shared_tokens or {}),
        paying=list(paying),
        select_on=comparison_args.select_on,
    )
    comparison.runs.append(ArmRun(BASE, 0, {}, evaluate(None, output_dir / BASE)))
    is_main = Processes.current().is_main
    for seed in comparison_args.seeds:
        for arm, settings in comparison_args.settings_by_arm.items():
            directory = output_dir / "arms" / f"{arm}-seed{seed}"
            distilled = train({**settings, "seed": seed}, directory)
            if is_main:
                print(f"{arm}, seed {seed}: {'reused' if distilled.reused else 'trained'}, {directory}", flush=True)
            comparison.runs.append(
                ArmRun(
                    arm,
                    seed,
                    settings,
                    evaluate(str(directory), directory / "evaluation"),
                    path=str(directory),
                    train_seconds=_train_seconds(distilled),
                    log_history=distilled.log_history,
                    costs=distilled.costs,
                    curve=read_curve(directory),
                )
            )
            if is_main and not distilled.reused:  # the file has those, and it is long
                _with_earlier(comparison, _saved_runs(output_dir)).save(output_dir)
    of_these_arms = [run for run in _saved_runs(output_dir) if run.arm in comparison_args.settings_by_arm]
    comparison = _with_earlier(comparison, of_these_arms)
    if is_main:
        comparison.save(output_dir)
    return comparison


def check_selection(select_on: str | None, eval_sets: Sequence[str]) -> None:
    """Refuse to choose learning rates on a set that there is not, or that is the only one."""
    if select_on is not None and (select_on not in eval_sets or len(eval_sets) < 2):
        raise ValueError(
            f"`select_on` is {select_on!r}, and `eval_sets` are {', '.join(eval_sets) or 'none'}. Name a development "
            "set beside the one that arms are compared on, e.g. `--eval_sets dev=dev.jsonl test=test.jsonl`."
        )


def _saved_runs(output_dir: Path) -> list[ArmRun]:
    """Return the runs in a comparison's file as it is now: another process may add seeds beside this one."""
    return Comparison.load(output_dir).runs if (output_dir / RESULTS).exists() else []


def _with_earlier(comparison: Comparison, earlier: Sequence[ArmRun]) -> Comparison:
    """Add the runs of an earlier comparison of the same sets and settings that this one has not come to."""
    reached = {(run.arm, run.seed) for run in comparison.runs}
    settings = {run.arm: _settings_but_seed(run) for run in comparison.runs}
    sets = {*comparison.eval_sets, *comparison.retention_sets}
    left = [
        run
        for run in earlier
        if (run.arm, run.seed) not in reached
        and sets <= run.evaluations.keys()
        and settings.get(run.arm) in (None, _settings_but_seed(run))
    ]
    return dataclasses.replace(comparison, runs=[*comparison.runs, *left])


def _settings_but_seed(run: ArmRun) -> dict[str, Any]:
    """Return what decided a run's result; other seeds of an arm are no others of it if this differs."""
    stored = {} if run.path is None else RunDirectory.stored_settings(run.path)
    return {**stored, "seed": None}


def arms_so_far(output_dir: Path) -> Arms:
    """Return the arms, with their settings, of the comparison that a directory holds; none if it holds none."""
    return {run.arm: run.settings for run in _saved_runs(output_dir) if run.arm != BASE}


def _train_seconds(distilled: Distilled) -> float:
    """Return how long training took; of a run from before costs were kept, with its evaluations."""
    runtimes = [entry["train_runtime"] for entry in distilled.log_history if "train_runtime" in entry]
    return distilled.costs.get("seconds", sum(runtimes))
