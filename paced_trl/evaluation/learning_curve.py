"""
Accuracy against what training has cost: the points of an arm's learning curve, their files, and what is read off them.

Evaluating is the business of `curve_evaluation.py`. Loads no model and nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from ..run_directory import write_json


DIRECTORY = "curve"
COSTS = ("tokens_generated", "student_tokens", "teacher_tokens", "seconds")


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation on the way: mean@k by set, and what training had cost until then (see [`costs_so_far`])."""

    step: int
    seconds: float
    tokens_generated: float
    student_tokens: float
    teacher_tokens: float
    accuracy: dict[str, float]

    @property
    def tokens(self) -> float:
        """All tokens together, generated ones and those of either model's forward passes, whatever a token costs."""
        return self.tokens_generated + self.student_tokens + self.teacher_tokens

    def save(self, run: Path) -> None:
        (run / DIRECTORY).mkdir(parents=True, exist_ok=True)
        write_json(run / DIRECTORY / f"step-{self.step:06}.json", asdict(self))


def read_curve(run: Path) -> list[CurvePoint]:
    """Return the points in a run's directory in the order of their steps, none if it has none."""
    return [CurvePoint(**json.loads(path.read_text())) for path in sorted((run / DIRECTORY).glob("step-*.json"))]


def curve_steps(max_steps: int, num_points: int) -> list[int]:
    """Return after which optimizer steps to evaluate: evenly spaced, the start and the end left out."""
    steps = {round(max_steps * number / (num_points + 1)) for number in range(1, num_points + 1)}
    return sorted(steps - {0, max_steps})


def mean_curve(curves: Sequence[Sequence[CurvePoint]]) -> list[CurvePoint]:
    """Return the mean over seeds of curves with the same steps; of those with other steps than the first, nothing."""
    steps = [point.step for point in curves[0]]
    alike = [curve for curve in curves if [point.step for point in curve] == steps]
    return [
        CurvePoint(
            step=points[0].step,
            **{name: fmean(getattr(point, name) for point in points) for name in COSTS},
            accuracy={name: fmean(point.accuracy[name] for point in points) for name in curves[0][0].accuracy},
        )
        for points in zip(*alike, strict=True)
    ]


def cost_of_accuracy(curve: Sequence[CurvePoint], eval_set: str, accuracy: float) -> tuple[float, float] | None:
    """Return the tokens and seconds after which a curve first has an accuracy, or `None`; points are connected."""
    previous = curve[0]
    for point in curve:
        reached = point.accuracy[eval_set]
        # 1e-9: means over seeds in another order differ in their last digit.
        if reached >= accuracy - 1e-9:
            rise = reached - previous.accuracy[eval_set]
            part = min(1.0, (accuracy - previous.accuracy[eval_set]) / rise) if rise > 0 else 0.0
            return (
                previous.tokens + part * (point.tokens - previous.tokens),
                previous.seconds + part * (point.seconds - previous.seconds),
            )
        previous = point
    return None


def best_with_retention(
    curve: Sequence[CurvePoint], eval_set: str, retention_set: str, retention: float
) -> float | None:
    """Return the highest accuracy of a curve where its `retention_set` is not below `retention`, or `None`."""
    path = [(point.accuracy[eval_set], point.accuracy[retention_set]) for point in curve]
    found = [accuracy for accuracy, kept in path if kept >= retention - 1e-9]
    for (accuracy, kept), (next_accuracy, next_kept) in pairwise(path):
        if (kept - retention) * (next_kept - retention) < 0:
            part = (retention - kept) / (next_kept - kept)
            found.append(accuracy + part * (next_accuracy - accuracy))
    return max(found, default=None)
