"""
The bootstrap behind every interval: problems (or references) drawn again, and the runs of a side with them.

Knows numbers only, neither evaluations nor gradients. Where all values are equal the interval has width 0, however few
they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..weighting.counts import Floats


CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
# Numbers drawn at once: 80 MB.
_MAX_DRAWS = 10_000_000


def resample(num_items: int, num_resamples: int, rng: np.random.Generator) -> Floats:
    """Return how often each item is drawn in each resample, **shape (R, N)**."""
    return rng.multinomial(num_items, np.full(num_items, 1.0 / num_items), size=num_resamples).astype(np.float64)


def percentile_interval(replicates: Floats) -> tuple[Floats, Floats]:
    """Return both ends of the 95 % interval of resampled values, **shape (R, ...)**."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail], axis=0)
    return low, high


def interval_of_mean(values: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values`, **shape (P,)**, over resamples of problems."""
    return _interval(values[None], np.ones((NUM_RESAMPLES, 1)), seed=0)


def interval_over_runs(
    groups: Sequence[Floats], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """
    Return the 95 % interval of the sum over groups, each **shape (S, P)**, runs by problems, of a group's mean.

    Resamples draw the same problems for all groups, and the runs of each group for itself.
    """
    rng = np.random.default_rng([seed, 1])
    weights = [resample(len(group), num_resamples, rng) / len(group) for group in groups]
    return _interval(np.concatenate(groups), np.concatenate(weights, axis=1), seed=seed)


def _interval(values: Floats, run_weights: Floats, *, seed: int) -> tuple[float, float]:
    """Return the interval of the mean over problems of `values`, **(S, P)**, summed with `run_weights`, **(R, S)**."""
    rng = np.random.default_rng(seed)
    num_resamples, num_problems = len(run_weights), values.shape[1]
    # Only how often a problem's values are drawn matters, not for which problem: a multinomial draw over the distinct
    # columns does it, and k generations give few of them.
    distinct, counts = np.unique(values, axis=1, return_counts=True)
    chunk = max(1, _MAX_DRAWS // counts.size)
    sums = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        by_run = rng.multinomial(num_problems, counts / num_problems, size=size) @ distinct.T
        sums.append((by_run * run_weights[start : start + size]).sum(axis=1))
    low, high = percentile_interval(np.concatenate(sums) / num_problems)
    return float(low), float(high)
