"""
The result of a comparison: all runs of all arms, their paired differences, learning curves and costs, kept in a file.

Who trains and evaluates is `run_comparison.py`. Loads nothing heavy.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..run_directory import write_json
from .arms import BASE as BASE
from .differences import Difference, compare_runs, mean_over_runs
from .evaluation import Evaluation
from .learning_curve import COSTS, CurvePoint, best_with_retention, cost_of_accuracy, mean_curve
from .power import Power, power_of


RESULTS = "comparison.json"
POWER_DIFFERENCES = (0.01, 0.02)


@dataclass
class ArmRun:
    """One arm trained with one seed, or the base student (`arm="base"`)."""

    arm: str
    seed: int
    settings: dict[str, Any]
    evaluations: dict[str, Evaluation]  # by set
    path: str | None = None
    train_seconds: float | None = None  # without evaluations
    log_history: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)  # those of `costs_so_far`
    curve: list[CurvePoint] = field(default_factory=list)  # without the start and the end

    @property
    def accuracy(self) -> dict[str, float]:
        """mean@k by set."""
        return {name: evaluation.mean_at_k for name, evaluation in self.evaluations.items()}


@dataclass
class Comparison:
    """
    All runs of a comparison.

    Args:
        control (`str`): Arm that the others are compared with.
        eval_sets, retention_sets (`list[str]`): Names of the sets of the kind that is trained on, and of the others.
        runs (`list[ArmRun]`): The base student first.
        shared_tokens (`dict[str, int]`): Tokens generated once for all arms: `estimation` by the student, `references`
            by the teacher.
        paying (`list[str]`): Arms whose curves begin after those of `estimation`, by `count_estimation`.
        select_on (`str`, *optional*): Set on which each arm's learning rate is chosen; see [`selected`].
    """

    control: str
    eval_sets: list[str]
    retention_sets: list[str]
    runs: list[ArmRun] = field(default_factory=list)
    shared_tokens: dict[str, int] = field(default_factory=dict)
    paying: list[str] = field(default_factory=list)
    select_on: str | None = None

    def selected(self) -> Comparison:
        """
        Return the comparison of each arm at its best learning rate, the highest mean on the set `select_on`.

        The set is left out of the result, so that no arm is judged where it was chosen. Without it, all is compared.
        """
        if self.select_on is None:
            return self
        best: dict[str, str] = {}
        for arm in self.arms():
            name = arm.rpartition("@")[0] or arm
            means = [self.mean(each, self.select_on).estimate for each in (arm, best.get(name, arm))]
            if means[0] >= means[1]:
                best[name] = arm
        control = best.get(self.control.rpartition("@")[0], self.control)
        runs = [run for run in self.runs if run.arm in best.values()]
        eval_sets = [name for name in self.eval_sets if name != self.select_on]
        return replace(self, control=control, eval_sets=eval_sets, runs=runs, select_on=None)

    def arms(self) -> list[str]:
        """Return the names of the arms in the order they were run, the base student first."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def runs_of(self, arm: str) -> list[ArmRun]:
        """Return an arm's runs, one per seed."""
        return [run for run in self.runs if run.arm == arm]

    def evaluations(self, arm: str, eval_set: str) -> list[Evaluation]:
        """Return one evaluation per seed of an arm."""
        return [run.evaluations[eval_set] for run in self.runs_of(arm)]

    def mean(self, arm: str, eval_set: str) -> Difference:
        """Return an arm's mean@k with its interval over problems and seeds."""
        return mean_over_runs(self.evaluations(arm, eval_set))

    def difference(self, arm: str, other: str, eval_set: str) -> Difference:
        """
        Return the paired difference in mean@k, `arm` minus `other`, over problems and seeds.

        Runs of the same seed are pairs. While an arm lacks seeds that the other has, the seeds of both count.
        """
        pairs = self._pairs(arm, other, eval_set)
        if BASE in (arm, other) or not pairs[0]:
            pairs = [self.evaluations(name, eval_set) for name in (arm, other)]
        return compare_runs(*pairs)

    def power(self, arm: str, eval_set: str) -> Power | None:
        """Return how small a difference to the control could have been found; `None` below two common seeds."""
        return None if arm in (BASE, self.control) else power_of(*self._pairs(arm, self.control, eval_set))

    def _pairs(self, arm: str, other: str, eval_set: str) -> list[list[Evaluation]]:
        """Return the evaluations of both arms, those of their common seeds, in the order of these."""
        sides = [{run.seed: run.evaluations[eval_set] for run in self.runs_of(name)} for name in (arm, other)]
        return [[side[seed] for seed in sorted(sides[0].keys() & sides[1].keys())] for side in sides]

    def costs(self, arm: str) -> dict[str, float]:
        """Return the means over seeds of what an arm's training cost, as far as they are known."""
        known = [run.costs for run in self.runs_of(arm) if run.costs]
        return {name: sum(costs[name] for costs in known) / len(known) for name in COSTS} if known else {}

    def curve(self, arm: str) -> list[CurvePoint]:
        """Return an arm's learning curve, the mean over seeds, base student first; empty where costs are unknown."""
        start = next((run.accuracy for run in self.runs_of(BASE)), None)
        curves = []
        for run in self.runs_of(arm):
            if not run.costs or start is None:
                continue
            last = max((int(entry.get("step", 0)) for entry in run.log_history), default=0)
            ends = CurvePoint(0, 0.0, 0, 0, 0, start), CurvePoint(last, **run.costs, accuracy=run.accuracy)
            on_the_way = [point for point in run.curve if start.keys() <= point.accuracy.keys()]
            curves.append([ends[0], *on_the_way, ends[1]])
        paid = self.shared_tokens.get("estimation", 0) if arm in self.paying else 0
        points = mean_curve(curves) if curves else []
        return [replace(point, tokens_generated=point.tokens_generated + paid) for point in points]

    def arms_with_curves(self) -> list[str]:
        """Return the names of the arms whose training's cost is known, and so have a curve."""
        return [arm for arm in self.arms() if self.curve(arm)]

    def cost_of_control(self, arm: str, eval_set: str) -> tuple[float, float] | None:
        """Return the tokens and seconds until an arm has the control's final accuracy; `None` if it never has."""
        curve = self.curve(arm)
        if len(curve) < 3 or not self.runs_of(self.control):
            return None
        return cost_of_accuracy(curve, eval_set, self.mean(self.control, eval_set).estimate)

    def best_with_retention_of_control(self, arm: str, eval_set: str, retention_set: str) -> float | None:
        """Return an arm's highest accuracy while it has forgotten no more than the control at its end, or `None`."""
        curve = self.curve(arm)
        if len(curve) < 3 or not self.runs_of(self.control):
            return None
        return best_with_retention(curve, eval_set, retention_set, self.mean(self.control, retention_set).estimate)

    def results(self) -> dict[str, dict[str, Any]]:
        """Return all that the tables say as numbers, by arm, as JSON values."""
        results: dict[str, dict[str, Any]] = {}
        for arm in self.arms():
            sets: dict[str, Any] = {}
            for name in [*self.eval_sets, *self.retention_sets]:
                sets[name] = {"mean_at_k": asdict(self.mean(arm, name))}
                for other in {BASE, self.control} - {arm} if arm != BASE else ():
                    if self.runs_of(other):
                        sets[name][f"minus_{other}"] = asdict(self.difference(arm, other, name))
                power = self.power(arm, name)
                if power is not None:
                    sets[name]["power"] = {
                        "smallest_difference": power.smallest_difference(),
                        "seeds_for": {str(size): power.seeds_for(size) for size in POWER_DIFFERENCES},
                    }
                if arm != BASE and name in self.eval_sets:
                    reached = self.cost_of_control(arm, name)
                    sets[name]["until_accuracy_of_control"] = reached and {"tokens": reached[0], "seconds": reached[1]}
                    sets[name]["best_with_retention_of_control"] = {
                        kept: self.best_with_retention_of_control(arm, name, kept) for kept in self.retention_sets
                    }
            results[arm] = {
                "sets": sets,
                "costs": self.costs(arm),
                "curve": [{**asdict(point), "tokens": point.tokens} for point in self.curve(arm)],
            }
        return results

    def save(self, directory: Path) -> None:
        """Write `comparison.json`; the per-problem counts lie in each run's `evaluation.json`."""
        runs = [
            {
                **vars(run),
                "evaluations": {name: e.to_dict() for name, e in run.evaluations.items()},
                "curve": [asdict(point) for point in run.curve],
            }
            for run in self.runs
        ]
        write_json(directory / RESULTS, {**vars(self), "runs": runs})

    @classmethod
    def load(cls, directory: Path) -> Comparison:
        values = json.loads((directory / RESULTS).read_text())
        values["runs"] = [
            ArmRun(
                **{
                    **run,
                    "evaluations": {n: Evaluation.from_dict(e) for n, e in run["evaluations"].items()},
                    "curve": [CurvePoint(**point) for point in run.get("curve", [])],
                }
            )
            for run in values["runs"]
        ]
        return cls(**values)
