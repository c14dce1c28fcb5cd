"""
The smallest difference that a comparison could have found, and how many seeds would find a smaller one.

The spread of paired differences over problems and seeds is split into three parts (two-way analysis of variance): of
the problems, of the seeds, and of what is left, generations included. More seeds shrink the last two, more problems
the first and the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..weighting.counts import Floats
from .differences import paired_values
from .evaluation import Evaluation


# An interval of 95 % excludes 0 with a probability of 80 % where the difference is so many standard errors.
STANDARD_ERRORS = 1.959964 + 0.841621
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Power:
    """Variances of a paired difference in mean@k: of one problem, of one seed, and of one of both."""

    of_problems: float
    of_seeds: float
    of_rest: float
    num_problems: int
    num_seeds: int

    def smallest_difference(self, num_seeds: int | None = None) -> float:
        """Return the difference that is found with a probability of 80 %, with these seeds or as many as given."""
        seeds = self.num_seeds if num_seeds is None else num_seeds
        by_seed = self.of_seeds + self.of_rest / self.num_problems
        return STANDARD_ERRORS * math.sqrt(self.of_problems / self.num_problems + by_seed / seeds)

    def seeds_for(self, difference: float) -> int | None:
        """Return how many seeds find a difference with a probability of 80 %; `None` if more problems are needed."""
        left = (difference / STANDARD_ERRORS) ** 2 - self.of_problems / self.num_problems
        needed = self.of_seeds + self.of_rest / self.num_problems
        if left <= 0 or needed / left > MAX_SEEDS:
            return None
        return max(1, math.ceil(needed / left - 1e-9))


def power_of(runs: Sequence[Evaluation], baselines: Sequence[Evaluation]) -> Power | None:
    """
    Return the power of a paired comparison, one evaluation per seed.

    `None` below two seeds or two problems, and where no difference varies: nothing tells then how far they would.
    """
    if len(runs) != len(baselines) or len(runs) < 2:
        return None
    values = paired_values(runs, baselines)
    return None if values.shape[1] < 2 or np.ptp(values) == 0 else variances(values)


def variances(values: Floats) -> Power:
    """Split the variance of `values`, **shape (S, P)**, into its three parts, none below 0."""
    num_seeds, num_problems = values.shape
    mean, by_seed, by_problem = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_problem[None] + mean
    of_rest = float((rest**2).sum() / ((num_seeds - 1) * (num_problems - 1)))
    return Power(
        of_problems=max(0.0, float(by_problem.var(ddof=1)) - of_rest / num_seeds),
        of_seeds=max(0.0, float(by_seed.var(ddof=1)) - of_rest / num_problems),
        of_rest=of_rest,
        num_problems=num_problems,
        num_seeds=num_seeds,
    )
