"""
Which problems a generation batch holds: all that have a weight in turn, or problems drawn in proportion to it.

Problems of weight 0 are in no batch. Drawing problem i with probability w_i / sum_j w_j and loss weight 1 has the same
expected gradient as going through all problems alike with loss weight w_i, but spends little on problems of little
weight. TRL's trainer expects each generation batch once per accumulation step; its `RepeatSampler` does that, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


def rows_with_weight(problem_weights: np.ndarray, batch_size: int) -> list[int]:
    """Return the rows with a weight above 0, all of them repeated until they fill a generation batch."""
    rows = np.flatnonzero(problem_weights > 0)
    return np.tile(rows, max(1, -(-batch_size // len(rows)))).tolist()


class ResumableRepeatSampler(RepeatSampler):
    """TRL's `RepeatSampler` over the rows in `data_source`, whose epochs a resumed run can find again."""

    def __iter__(self) -> Iterator[int]:
        rows: Any = self.data_source
        return (rows[index] for index in super().__iter__())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; accelerate's data loader calls it."""
        # TRL would give a run that resumes in its second epoch the order of the first. Epoch e is the e-th permutation
        # of its generator, as it is in a run that is not interrupted.
        if self.shuffle:
            assert self.seed is not None
            self.generator.manual_seed(self.seed)
            for _ in range(epoch):
                torch.randperm(self.num_samples, generator=self.generator)


def systematic_counts(problem_weights: np.ndarray, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how often each of P problems occurs among `num_draws` by systematic resampling, **shape (P,)**."""
    # One uniform number places a comb of `num_draws` equidistant teeth on the cumulated weights; problem i occurs
    # floor(e_i) or ceil(e_i) times, with expectation e_i = num_draws * w_i / sum_j w_j exactly.
    order = rng.permutation(len(problem_weights))
    cumulated = np.cumsum(problem_weights[order], dtype=np.float64)
    cumulated *= num_draws / cumulated[-1]
    teeth = np.arange(num_draws) + rng.random()
    # `side="right"`: a tooth on a boundary belongs to the next problem, so that a problem of weight 0 is never hit.
    hits = np.minimum(np.searchsorted(cumulated, teeth, side="right"), np.flatnonzero(problem_weights[order])[-1])
    return np.bincount(order[hits], minlength=len(problem_weights))


def draw_batch(problem_weights: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the rows of one generation batch by weight; a row twice only if its share exceeds one draw."""
    counts = systematic_counts(problem_weights, batch_size, rng)
    return rng.permutation(np.repeat(np.arange(len(counts)), counts))


class FrontierSampler(Sampler[int]):
    """
    Draw problems in proportion to their weight, in generation batches that TRL's trainer can use.

    One epoch is as many draws as there are problems (rounded down to whole generation batches, at least one), not each
    problem once: a problem occurs `w_i` times on average, `w_i` normalised to mean 1. Within a generation batch a
    problem is repeated only if it has more draws in the epoch than there are batches. The draws of an epoch depend on
    the seed and the number of the epoch alone, so a resumed run sees the same problems.

    Args:
        problem_weights (`Sequence[float]`): Weights of **shape (P,)**, non-negative, not all 0.
        batch_size (`int`): Problems in a generation batch, over all processes and accumulation steps.
        repeat_count (`int`, *optional*, defaults to `1`): How often each batch is emitted: the accumulation steps.
        seed (`int`, *optional*, defaults to `0`): Seed of the draws.

    Raises:
        ValueError: If all weights are 0, or one is negative or not finite.
    """

    def __init__(
        self, problem_weights: Sequence[float] | np.ndarray, batch_size: int, repeat_count: int = 1, seed: int = 0
    ) -> None:
        self.problem_weights = np.asarray(problem_weights, dtype=np.float64)
        if not np.isfinite(self.problem_weights).all() or (self.problem_weights < 0).any():
            raise ValueError(
                "A problem weight is negative or not finite, so it is no sampling rate. Check the weights."
            )
        if not self.problem_weights.any():
            raise ValueError("All problem weights are 0, so no problem can be drawn. Check the pass rates.")
        self.batch_size = batch_size
        self.repeat_count = repeat_count
        self.seed = seed
        self.epoch = 0
        self.num_batches = max(1, len(self.problem_weights) // batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws the next iteration gives; accelerate's data loader calls it."""
        self.epoch = epoch

    def draw_batches(self) -> np.ndarray:
        """Return the epoch's problem indices, **shape (num_batches, batch_size)**."""
        rng = np.random.default_rng([self.seed, self.epoch])
        counts = systematic_counts(self.problem_weights, self.num_batches * self.batch_size, rng)
        shuffled = rng.permutation(len(counts))
        copies = np.repeat(shuffled, counts[shuffled])
        # Dealt like cards: copies of one problem lie side by side and so go to different batches.
        batches = copies.reshape(self.batch_size, self.num_batches).T
        return rng.permuted(rng.permutation(batches, axis=0), axis=1)

    def __iter__(self) -> Iterator[int]:
        for batch in self.draw_batches():
            for _ in range(self.repeat_count):
                yield from batch.tolist()

    def __len__(self) -> int:
        return self.num_batches * self.batch_size * self.repeat_count
