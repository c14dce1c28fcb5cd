"""
Whether one model is better than another: the paired difference of two sides that answered the same problems.

Responsible for the bootstrap behind every interval, over problems and over the runs of a side, and for refusing sides
that did not answer the same problems under the same settings. Ours; the paper (PACED, arXiv 2603.11178) gives standard
errors. Knows nothing of how evaluations are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..weighting.counts import Floats, pass_rates


if TYPE_CHECKING:
    from .evaluation import Evaluation

CONFIDENCE = 0.95
# What may differ between the records of two sides: the model, which is what is compared, and the draw.
_FREE_FIELDS = {"generator.model", "generator.weights", "generator.dtype", "seed"}
# Numbers drawn at once by the bootstrap: 80 MB.
_MAX_DRAWS = 10_000_000


@dataclass(frozen=True)
class Difference:
    """
    Difference in mean@k between two sides that answered the same problems, run minus baseline.

    Where there is no other side, as in [`mean_over_runs`], the mean@k itself.

    Args:
        estimate (`float`): Mean over problems of the difference in pass rate, in [-1, 1].
        low (`float`): Lower end of the 95 % interval.
        high (`float`): Upper end of the 95 % interval.
        num_problems (`int`): Problems that count: those with a valid verdict in every evaluation of both sides.
    """

    estimate: float
    low: float
    high: float
    num_problems: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0: only then is one side said to be better."""
        return self.low > 0.0 or self.high < 0.0


def compare_runs(
    run: Evaluation | Sequence[Evaluation],
    baseline: Evaluation | Sequence[Evaluation],
    *,
    num_resamples: int = 10_000,
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
    reference = sides[0][0]
    for other in [*sides[0], *sides[1]]:
        _check_comparable(reference, other)
    rates = [np.stack([_pass_rates_in_order(e, reference.problem_ids) for e in side]) for side in sides]
    if len(sides[0]) == len(sides[1]) or 1 in (len(sides[0]), len(sides[1])):
        return _bootstrap([rates[0] - rates[1]], reference.name, num_resamples=num_resamples, seed=seed)
    return _bootstrap([rates[0], -rates[1]], reference.name, num_resamples=num_resamples, seed=seed)


def mean_over_runs(evaluations: Sequence[Evaluation]) -> Difference:
    """
    Return mean@k over the runs of a side with its bootstrap interval over problems and runs, as in [`compare_runs`].

    Args:
        evaluations (`Sequence[Evaluation]`): One or several, of the same problems.
    """
    for other in evaluations:
        _check_comparable(evaluations[0], other)
    ids = evaluations[0].problem_ids
    return _bootstrap([np.stack([_pass_rates_in_order(e, ids) for e in evaluations])], evaluations[0].name)


def _pass_rates_in_order(evaluation: Evaluation, problem_ids: Sequence[str]) -> Floats:
    """Return the pass rates of **shape (P,)** in the order of `problem_ids`, nan where there is no valid verdict."""
    row_of = {problem_id: row for row, problem_id in enumerate(evaluation.problem_ids)}
    rates = pass_rates(evaluation.num_passed, evaluation.num_valid)
    return rates[[row_of[problem_id] for problem_id in problem_ids]]


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
    settings, other_settings = _settings(one.record), _settings(other.record)
    differing = [
        f"`{key}` {settings.get(key, 'absent')!r} and {other_settings.get(key, 'absent')!r}"
        for key in sorted(settings.keys() | other_settings.keys())
        if settings.get(key, "absent") != other_settings.get(key, "absent")
    ]
    if differing:
        raise ValueError(
            f"The evaluations of {one.model!r} and {other.model!r} on {one.name!r} were made under different "
            f"settings, so a difference would not be the models': {'; '.join(differing)}. Evaluate both alike."
        )


def _settings(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a record's settings by dotted name, without those that may differ."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= _settings(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in _FREE_FIELDS:
            flat[f"{prefix}{key}"] = value
    return flat


def _bootstrap(groups: list[Floats], name: str, *, num_resamples: int = 10_000, seed: int = 0) -> Difference:
    """
    Return the sum over groups of a group's mean, with its 95 % percentile interval.

    Args:
        groups (`list` of `np.ndarray` of **shape (S, P)**): Values per run and problem. Resamples draw the same
            problems for all groups, and the runs of each for itself.
        name (`str`): Name of the set, for the message.
    """
    # Sums over seeds in another order must not make a difference of 1e-17 out of none.
    values: Floats = np.concatenate(groups).round(12)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        raise ValueError(
            f"None of the {groups[0].shape[1]} problems of {name!r} has a valid verdict in every evaluation, so no "
            "problem can be compared. Check the verifier."
        )
    mean = sum(part.mean() for part in np.split(values, np.cumsum([len(group) for group in groups])[:-1]))
    rng = np.random.default_rng([seed, 1])
    weights: list[Floats] = [
        rng.multinomial(len(group), [1 / len(group)] * len(group), size=num_resamples).astype(np.float64) / len(group)
        for group in groups
    ]
    run_weights = np.concatenate(weights, axis=1)
    return Difference(round(float(mean), 12), *_interval(values, run_weights, seed=seed), num_problems=values.shape[1])


def bootstrap_interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values`, **shape (P,)**, over resamples of problems."""
    return _interval(values[None], np.ones((10_000, 1)), seed=0)


def _interval(values: Floats, run_weights: Floats, *, seed: int) -> tuple[float, float]:
    """
    Return the 95 % percentile interval of the mean over problems and the weighted sum over runs.

    Only how often a problem's values are drawn matters, not for which problem: that is a multinomial draw over the
    distinct columns, of which k generations give few.

    Args:
        values (`np.ndarray` of **shape (S, P)**): Values per run and problem.
        run_weights (`np.ndarray` of **shape (R, S)**): Weight of each run in each resample.
        seed (`int`): Seed of the draws of problems.
    """
    rng = np.random.default_rng(seed)
    num_resamples, num_problems = len(run_weights), values.shape[1]
    distinct, counts = np.unique(values, axis=1, return_counts=True)
    chunk = max(1, _MAX_DRAWS // counts.size)
    sums = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        by_run = rng.multinomial(num_problems, counts / num_problems, size=size) @ distinct.T
        sums.append((by_run * run_weights[start : start + size]).sum(axis=1))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(np.concatenate(sums) / num_problems, [tail, 1.0 - tail])
    return float(low), float(high)
