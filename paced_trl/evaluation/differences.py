"""
Whether one model is better than another: the paired difference of two sides that answered the same problems.

Refuses sides that did not answer the same problems under the same settings. Intervals come from `intervals.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..store.manifest import differing_fields
from ..weighting.counts import Floats, pass_rates
from .evaluation import Evaluation
from .intervals import NUM_RESAMPLES, interval_over_runs


# What may differ between the records of two sides: the model, which is what is compared, and the draw.
_FREE_FIELDS = {"generator.model", "generator.weights", "generator.dtype", "seed"}


@dataclass(frozen=True)
class Difference:
    """Mean over problems of the difference in pass rate, or of one side's pass rate, with its 95 % interval."""

    estimate: float
    low: float
    high: float
    num_problems: int  # that count: with a valid verdict in every evaluation

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0: only then is one side said to be better."""
        return self.low > 0.0 or self.high < 0.0


def compare_runs(
    run: Evaluation | Sequence[Evaluation],
    baseline: Evaluation | Sequence[Evaluation],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Difference:
    """
    Return the paired difference in mean@k, `run` minus `baseline`, with a bootstrap interval over problems and runs.

    Pairing takes out what the problems have in common, which is most of the variance of mean@k. A side may be several
    evaluations, such as one per training seed: a problem's pass rate is then its mean over them, and each resample
    draws problems and evaluations. Sides of as many are pairs, first with first (give them in the order of their
    seeds); one evaluation is the other of every pair; else each side is drawn for itself. With few evaluations the
    part of the interval that they are responsible for is too narrow, for S of them by about sqrt((S - 1) / S).

    Args:
        run ([`Evaluation`] or sequence of them): One side.
        baseline ([`Evaluation`] or sequence of them): The other.
        num_resamples (`int`, *optional*, defaults to `10_000`): Resamples of the bootstrap.
        seed (`int`, *optional*, defaults to `0`): Seed of the bootstrap.

    Returns:
        [`Difference`]: Estimate and 95 % interval. Problems without a valid verdict in some evaluation do not count.

    Raises:
        ValueError: If a side is empty, problems or settings other than the model differ, `num_resamples` is below 1,
            or no problem has a valid verdict everywhere.

    Example:

    ```python
    >>> difference = compare_runs(paced, uniform)
    >>> print(f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
    ```
    """
    sides = [list(side) if isinstance(side, Sequence) else [side] for side in (run, baseline)]
    for side, argument in zip(sides, ("run", "baseline"), strict=True):
        if not side:
            raise ValueError(f"`{argument}` holds no evaluation, so there is nothing to compare. Give at least one.")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` is {num_resamples}, which gives no interval. Give 1 or more.")
    one, other = _pass_rates(*sides)
    are_pairs = len(one) == len(other) or 1 in (len(one), len(other))
    groups = [one - other] if are_pairs else [one, -other]
    return _difference(groups, sides[0][0].name, num_resamples=num_resamples, seed=seed)


def mean_over_runs(evaluations: Sequence[Evaluation]) -> Difference:
    """Return mean@k over the runs of one side, with its interval over problems and runs as in [`compare_runs`]."""
    return _difference(_pass_rates(evaluations), evaluations[0].name)


def paired_values(runs: Sequence[Evaluation], baselines: Sequence[Evaluation]) -> Floats:
    """Return differences in pass rate of pairs, **shape (S, P)**, over the problems that all have measured."""
    one, other = _pass_rates(runs, baselines)
    return (one - other)[:, ~np.isnan(one - other).any(axis=0)]


def _pass_rates(*sides: Sequence[Evaluation]) -> list[Floats]:
    """Return pass rates of each side, **shape (S, P)**, problems in one order, nan where no verdict is valid."""
    first = sides[0][0]

    def in_order(evaluation: Evaluation) -> Floats:
        _check_comparable(first, evaluation)
        row_of = {problem_id: row for row, problem_id in enumerate(evaluation.problem_ids)}
        rates = pass_rates(evaluation.num_passed, evaluation.num_valid)
        return rates[[row_of[problem_id] for problem_id in first.problem_ids]]

    return [np.stack([in_order(evaluation) for evaluation in side]) for side in sides]


def _check_comparable(one: Evaluation, other: Evaluation) -> None:
    """Refuse evaluations on different problems or under different settings, naming what differs."""
    for has, lacks in ((one, other), (other, one)):
        extra = sorted(set(has.problem_ids) - set(lacks.problem_ids))
        if extra:
            raise ValueError(
                f"The evaluation of {has.model!r} on {has.name!r} has {len(extra)} problems that the one of "
                f"{lacks.model!r} on {lacks.name!r} lacks, the first {extra[0]!r}: a paired difference needs the same "
                "problems. Evaluate both on the same set."
            )
    # An empty dict says as much as none.
    differing = [
        f"`{name}` {here} and {there}"
        for name, here, there in differing_fields(one.record, other.record)
        if name not in _FREE_FIELDS and {here, there} != {"{}", "absent"}
    ]
    if differing:
        raise ValueError(
            f"The evaluations of {one.model!r} and {other.model!r} on {one.name!r} were made under different "
            f"settings, so a difference would not be the models': {'; '.join(differing)}. Evaluate both alike."
        )


def _difference(groups: list[Floats], name: str, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Difference:
    """Return the sum over groups, each **shape (S, P)**, of a group's mean, with its interval."""
    # Sums over seeds in another order must not make a difference of 1e-17 out of none.
    values: Floats = np.concatenate(groups).round(12)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        raise ValueError(
            f"None of the {groups[0].shape[1]} problems of {name!r} has a valid verdict in every evaluation, so no "
            "problem can be compared. Check the verifier."
        )
    measured = np.split(values, np.cumsum([len(group) for group in groups])[:-1])
    mean = round(float(sum(group.mean() for group in measured)), 12)
    interval = interval_over_runs(measured, num_resamples=num_resamples, seed=seed)
    return Difference(mean, *interval, num_problems=values.shape[1])
