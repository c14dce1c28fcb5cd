"""
Several arms under one budget: the same problems, references, steps, data order and seeds, one estimation shared.

An arm is a name and the settings it changes, e.g. `uniform: {weighting: uniform}`. Every arm is evaluated on the same
held-out and retention problems, and compared with a control arm problem by problem. Finished arms are reused, so arms
and seeds can be added later.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluation import Difference, Evaluation, compare_runs
from .run_directory import write_json


if TYPE_CHECKING:
    from .config import PacedConfig
    from .distillation import Distilled

RESULTS = "comparison.json"
BASE = "base"


@dataclass
class ComparisonArguments:
    """Which arms `compare` trains, and on which seeds."""

    arms: dict[str, dict[str, Any]] | str | None = field(
        default=None,
        metadata={
            "help": "Arms: name and the settings it changes, e.g. 'uniform: {weighting: uniform}'; an empty mapping "
            "takes the preset of that name. Default: uniform, hard_filter, paced, paced_sampling."
        },
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Seeds each arm is trained with."})
    learning_rates: list[float] = field(
        default_factory=list,
        metadata={"help": "Train every arm with each of these rates, as arms ARM@RATE: a grid to choose a rate from."},
    )
    control: str = field(default="uniform", metadata={"help": "Arm that the others are compared with."})

    def __post_init__(self) -> None:
        from .config import PRESETS

        given: dict[str, Any] | None = json.loads(self.arms) if isinstance(self.arms, str) else self.arms
        chosen = given or {name: {} for name in ("uniform", "hard_filter", "paced", "paced_sampling")}
        self.arms = {name: PRESETS.get(name, {}) | (settings or {}) for name, settings in chosen.items()}
        unknown = [name for name, settings in self.arms.items() if not settings]
        if unknown:
            raise ValueError(
                f"The arm {unknown[0]!r} changes no setting and is no preset. Presets: {', '.join(PRESETS)}; or give "
                "settings, e.g. `my_arm: {weight_beta: 2.0}`."
            )
        if self.control not in self.arms:
            raise ValueError(f"`control` is {self.control!r}, which is no arm. Arms: {', '.join(self.arms)}.")
        if self.learning_rates:
            self.arms = {
                f"{name}@{rate:g}": {**settings, "learning_rate": rate}
                for name, settings in self.arms.items()
                for rate in self.learning_rates
            }
            self.control = f"{self.control}@{self.learning_rates[0]:g}"


@dataclass
class ArmRun:
    """One arm trained with one seed, or the untouched student (`arm="base"`)."""

    arm: str
    seed: int
    settings: dict[str, Any]
    evaluations: dict[str, Evaluation]
    path: str | None = None
    train_seconds: float | None = None
    log_history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Comparison:
    """All runs of a comparison, and what can be said about them."""

    control: str
    eval_sets: list[str]
    retention_sets: list[str]
    runs: list[ArmRun] = field(default_factory=list)

    def arms(self) -> list[str]:
        """Return the names of the arms in the order they were run, the untouched student first."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def evaluations(self, arm: str, eval_set: str) -> list[Evaluation]:
        """Return one evaluation per seed of an arm."""
        return [run.evaluations[eval_set] for run in self.runs if run.arm == arm]

    def difference(self, arm: str, other: str, eval_set: str) -> Difference:
        """Return the paired difference in mean@k, `arm` minus `other`, over problems and seeds."""
        return compare_runs(self.evaluations(arm, eval_set), self.evaluations(other, eval_set))

    def save(self, directory: Path) -> None:
        """Write `comparison.json`; the per-problem counts lie in each run's `evaluation.json`."""
        runs = [
            {**vars(run), "evaluations": {name: e.to_dict() for name, e in run.evaluations.items()}}
            for run in self.runs
        ]
        write_json(directory / RESULTS, {**vars(self), "runs": runs})

    @classmethod
    def load(cls, directory: Path) -> Comparison:
        """Read `comparison.json`."""
        values = json.loads((directory / RESULTS).read_text())
        values["runs"] = [
            ArmRun(**{**run, "evaluations": {n: Evaluation.from_dict(e) for n, e in run["evaluations"].items()}})
            for run in values["runs"]
        ]
        return cls(**values)


def run_comparison(
    output_dir: Path,
    comparison_args: ComparisonArguments,
    eval_sets: Sequence[str],
    retention_sets: Sequence[str],
    *,
    train: Callable[[dict[str, Any], Path], Distilled],
    evaluate: Callable[[str | None, Path], dict[str, Evaluation]],
) -> Comparison:
    """
    Evaluate the untouched student, then train and evaluate each arm with each seed; save after each.

    Args:
        output_dir (`Path`): Runs go to `output_dir/arms/<arm>-seed<seed>`.
        comparison_args ([`ComparisonArguments`]): Arms, seeds and the control.
        eval_sets, retention_sets (`Sequence[str]`): Names of the sets that `evaluate` returns.
        train (`Callable`): `train(settings, directory)` trains one arm.
        evaluate (`Callable`): `evaluate(model, directory)` returns evaluations by set; model None is the student.

    Returns:
        [`Comparison`]: Also in `output_dir/comparison.json`.
    """
    arms = comparison_args.arms
    assert isinstance(arms, dict)
    comparison = Comparison(comparison_args.control, list(eval_sets), list(retention_sets))
    comparison.runs.append(ArmRun(BASE, 0, {}, evaluate(None, output_dir / BASE)))
    for seed in comparison_args.seeds:
        for arm, settings in arms.items():
            directory = output_dir / "arms" / f"{arm}-seed{seed}"
            distilled = train({**settings, "seed": seed}, directory)
            print(f"{arm}, seed {seed}: {'reused' if distilled.reused else 'trained'}, {directory}", flush=True)
            seconds = [entry["train_runtime"] for entry in distilled.log_history if "train_runtime" in entry]
            comparison.runs.append(
                ArmRun(
                    arm,
                    seed,
                    settings,
                    evaluate(str(directory), directory / "evaluation"),
                    path=str(directory),
                    train_seconds=sum(seconds),
                    log_history=distilled.log_history,
                )
            )
            comparison.save(output_dir)
    return comparison


def arm_config(args: PacedConfig, settings: dict[str, Any], output_dir: Path) -> PacedConfig:
    """Return a copy of the settings with an arm's changes."""
    names = {f.name for f in dataclasses.fields(args)}
    for name in settings.keys() - names:
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean `{nearest[0]}`?" if nearest else ""
        raise ValueError(f"An arm sets `{name}`, which is no setting of `PacedConfig`.{hint}")
    return dataclasses.replace(args, **{"beta": None, "output_dir": str(output_dir), **settings})
