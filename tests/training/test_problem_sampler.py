"""Problems drawn in proportion to their weight."""

from __future__ import annotations

import numpy as np
import pytest
from trl.trainer.utils import RepeatSampler

from paced_trl import FrontierSampler
from paced_trl.training.problem_sampler import ResumableRepeatSampler, rows_with_weight, systematic_counts


WEIGHTS = np.array([0.0, 0.5, 3.0, 1.0, 0.0, 0.25, 1.75, 1.5])


def test_systematic_counts_are_unbiased_and_low_variance() -> None:
    rng = np.random.default_rng(0)
    expected = 16 * WEIGHTS / WEIGHTS.sum()
    counts = np.array([systematic_counts(WEIGHTS, 16, rng) for _ in range(4000)])
    assert (counts.sum(axis=1) == 16).all()
    assert (np.abs(counts - expected) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.04)


def test_weight_zero_is_never_drawn_even_at_the_ends() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = systematic_counts(np.array([0.0, 1.0, 0.0]), 5, rng)
        assert counts.tolist() == [0, 5, 0]


def test_expected_gradient_equals_that_of_loss_weights() -> None:
    values = np.arange(8.0)  # stands for per-problem gradients
    draws = []
    for epoch in range(3000):
        sampler = FrontierSampler(WEIGHTS, batch_size=4, seed=1)
        sampler.set_epoch(epoch)
        draws.append(values[sampler.draw_batches()[0]].mean())  # one batch, weight 1 each
    weighted = (WEIGHTS / WEIGHTS.mean() * values).mean()
    assert np.mean(draws) == pytest.approx(weighted, abs=4 * np.std(draws) / np.sqrt(len(draws)))


def test_batches_keep_trl_s_contract() -> None:
    sampler = FrontierSampler(np.ones(10), batch_size=4, repeat_count=3, seed=0)
    indices = list(sampler)
    assert len(indices) == len(sampler) == 2 * 4 * 3
    for batch in np.array(indices).reshape(2, 3, 4):
        assert (batch == batch[0]).all()


def test_no_problem_twice_in_a_batch_where_possible() -> None:
    rng = np.random.default_rng(0)
    for epoch in range(50):
        sampler = FrontierSampler(rng.random(40) ** 3, batch_size=8, seed=2)
        sampler.set_epoch(epoch)
        batches = sampler.draw_batches()
        counts = np.bincount(batches.ravel(), minlength=40)
        possible = np.flatnonzero(counts <= len(batches))
        for batch in batches:
            assert all((batch == problem).sum() <= 1 for problem in possible)


def test_uniform_weights_visit_every_problem_once() -> None:
    sampler = FrontierSampler(np.ones(12), batch_size=4, seed=0)
    assert sorted(sampler) == list(range(12))


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    first, again = FrontierSampler(np.ones(12), 4, seed=0), FrontierSampler(np.ones(12), 4, seed=0)
    assert list(first) == list(again)
    again.set_epoch(1)
    assert list(first) != list(again)


def test_fewer_problems_than_a_batch_still_fill_one() -> None:
    assert len(list(FrontierSampler(np.array([1.0, 1.0]), batch_size=6))) == 6


@pytest.mark.parametrize(
    ("weights", "message"), [([0, 0], "All problem weights are 0"), ([1, -1], "negative"), ([np.nan], "not finite")]
)
def test_bad_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrontierSampler(weights, batch_size=2)


def epochs_of(rows: list[int], batch_size: int, num_epochs: int) -> list[list[int]]:
    sampler = ResumableRepeatSampler(rows, mini_repeat_count=1, batch_size=batch_size, shuffle=True, seed=0)
    epochs = []
    for epoch in range(num_epochs):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
    return epochs


def test_an_epoch_in_turn_is_every_problem_with_weight_once() -> None:
    epochs = epochs_of(rows_with_weight(WEIGHTS, batch_size=3), batch_size=3, num_epochs=20)
    assert all(sorted(epoch) == [1, 2, 3, 5, 6, 7] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10


def test_weights_above_zero_leave_trl_s_order_as_it_is() -> None:
    stock = RepeatSampler(range(7), mini_repeat_count=1, batch_size=3, shuffle=True, seed=0)
    assert epochs_of(rows_with_weight(np.ones(7), batch_size=3), 3, num_epochs=3) == [list(stock) for _ in range(3)]


def test_fewer_problems_with_weight_than_a_batch_are_repeated_alike() -> None:
    epochs = epochs_of(rows_with_weight(np.array([0.0, 1.0, 2.0, 0.0, 1.0]), batch_size=7), 7, num_epochs=300)
    assert {len(epoch) for epoch in epochs} == {7}
    counts = np.bincount(np.concatenate(epochs), minlength=5) / 300
    np.testing.assert_allclose(counts, [0, 7 / 3, 7 / 3, 0, 7 / 3], atol=0.15)
