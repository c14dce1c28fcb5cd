"""Adaptive allocation: errors and gains against their definitions, and what it saves in simulations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from paced_trl.weighting.allocation import (
    SCREENING_GENERATIONS,
    AdaptiveAllocation,
    expected_gains,
    plugin_weight_error,
    weight_error,
)
from paced_trl.weighting.counts import Counts, Floats
from paced_trl.weighting.kernel import beta_kernel
from paced_trl.weighting.prior import Prior, posterior, posterior_mean_pass_rate
from paced_trl.weighting.prior_fit import fit_prior
from paced_trl.weighting.weights import problem_weights


PLUGIN: dict[str, Any] = {"estimator": "plugin"}
POSTERIOR: dict[str, Any] = {"estimator": "posterior", "gate": False}
GATED: dict[str, Any] = {"estimator": "posterior", "gate": True}
UNBIASED: dict[str, Any] = {"estimator": "unbiased"}
ESTIMATORS = [PLUGIN, POSTERIOR, GATED, UNBIASED, {"estimator": "plugin", "weight_alpha": 2.0, "weight_beta": 0.5}]
PRIOR = Prior(0.5, 0.8, 0.2, 0.1)


def mean_one(values: Floats) -> Floats:
    return values / values.mean()


def kernel(rates: Floats, weighting: dict[str, Any]) -> Floats:
    return beta_kernel(rates, weighting.get("weight_alpha", 1.0), weighting.get("weight_beta", 1.0))


def draw(prior: Prior, size: int, rng: np.random.Generator) -> Floats:
    kind = rng.random(size)
    rates = rng.beta(prior.a0, prior.b0, size)
    return np.where(kind < prior.mass_at_zero, 0.0, np.where(kind > 1.0 - prior.mass_at_one, 1.0, rates))


@pytest.mark.parametrize("weighting", ESTIMATORS, ids=str)
def test_the_estimated_error_is_the_error_of_simulated_pass_rates(weighting: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rates = draw(PRIOR, 200_000, rng)
    valid = rng.integers(2, 9, rates.size)
    passed = rng.binomial(valid, rates)
    error = mean_one(problem_weights(passed, valid, prior=PRIOR, **weighting)) - mean_one(kernel(rates, weighting))
    estimated = weight_error(passed, valid, prior=PRIOR, weighting=weighting)
    assert estimated == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.01)


@pytest.mark.parametrize("num_generations", [1, 4, 8])
def test_the_error_expected_of_fixed_generations_is_that_of_simulated_ones(num_generations: int) -> None:
    if num_generations == 1:
        # One generation passes or fails: the plug-in kernel is 0 for all problems.
        assert plugin_weight_error(1, PRIOR) == float("inf")
        return
    rng = np.random.default_rng(1)
    rates = draw(PRIOR, 200_000, rng)
    passed = rng.binomial(num_generations, rates)
    weights = problem_weights(passed, np.full(rates.size, num_generations))
    error = np.sqrt(np.mean((weights - mean_one(kernel(rates, {}))) ** 2))
    assert plugin_weight_error(num_generations, PRIOR) == pytest.approx(error, rel=0.01)


def test_the_error_expected_of_posteriors_is_the_mean_over_what_they_would_draw() -> None:
    passed, valid = np.array([0, 1, 2, 4]), np.array([2, 4, 3, 4])
    known = posterior(passed, valid, PRIOR)
    copies = posterior(np.tile(passed, 50_000), np.tile(valid, 50_000), PRIOR)
    rng = np.random.default_rng(2)
    rates = np.where(
        (kind := rng.random(200_000)) < copies.mass_at_zero,
        0.0,
        np.where(kind > 1.0 - np.asarray(copies.mass_at_one), 1.0, rng.beta(copies.a0, copies.b0)),
    )
    weights = problem_weights(rng.binomial(8, rates), np.full(rates.size, 8))
    error = np.sqrt(np.mean((weights - mean_one(kernel(rates, {}))) ** 2))
    assert plugin_weight_error(8, known) == pytest.approx(error, rel=0.01)


def test_the_gain_of_the_posterior_mean_is_the_expected_drop_of_its_variance() -> None:
    passed, valid = np.array([0, 1, 2, 3, 4]), np.array([2, 2, 5, 3, 8])

    def moments(passed: Counts, valid: Counts) -> tuple[Floats, Floats]:
        after = posterior(passed, valid, PRIOR)
        inner = 1.0 - np.asarray(after.mass_at_zero) - after.mass_at_one
        frozen = [stats.beta(a, b) for a, b in zip(after.a0, after.b0, strict=True)]  # type: ignore[arg-type]
        mean = np.array([f.expect(lambda p: p * (1 - p)) for f in frozen])
        second = np.array([f.expect(lambda p: (p * (1 - p)) ** 2) for f in frozen])
        return inner * mean, inner * second - (inner * mean) ** 2

    mean, variance = moments(passed, valid)
    chance = posterior_mean_pass_rate(passed, valid, PRIOR)
    after = chance * moments(passed + 1, valid + 1)[1] + (1 - chance) * moments(passed, valid + 1)[1]
    gains = expected_gains(passed, valid, prior=PRIOR, weighting=POSTERIOR)
    np.testing.assert_allclose(gains, len(passed) * (variance - after) / mean.sum() ** 2, rtol=1e-6)
    assert (gains > 0).all()


@pytest.mark.parametrize("weighting", ESTIMATORS, ids=str)
def test_a_gain_is_the_drop_in_error_that_one_more_generation_brings(weighting: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    passed = rng.binomial(4, draw(PRIOR, 2000, rng))
    valid = np.full(2000, 4)
    gains = expected_gains(passed, valid, prior=PRIOR, weighting=weighting)
    before = weight_error(passed, valid, prior=PRIOR, weighting=weighting) ** 2
    for row in (np.flatnonzero(passed == count)[0] for count in range(5)):
        one = np.arange(2000) == row
        chance = posterior_mean_pass_rate(passed, valid, PRIOR)[row]
        with_pass, without = (
            weight_error(passed + outcome, valid + one, prior=PRIOR, weighting=weighting) ** 2 for outcome in (one, 0)
        )
        # The posterior second moments are a martingale: what is left is the estimate's doing.
        assert gains[row] == pytest.approx(before - chance * with_pass - (1 - chance) * without, abs=2e-6, rel=0.02)


def simulate(
    rates: Floats, rule: AdaptiveAllocation, seed: int, is_usable: Any = None
) -> tuple[Counts, Counts, Prior]:
    """Draw generations as a rule asks for them; return passes, generations and the last prior."""
    rng = np.random.default_rng(seed)
    outcomes = rng.random((rates.size, 8 * rule.num_generations)) < rates[:, None]
    usable = np.ones(rates.size, bool) if is_usable is None else is_usable
    targets = np.full(rates.size, SCREENING_GENERATIONS)
    while True:
        passed = (outcomes & (np.arange(outcomes.shape[1]) < targets[:, None])).sum(axis=1)
        prior = fit_prior(passed, targets)
        following = rule.next_targets(targets, passed, targets, usable, prior)
        if following is None:
            return passed, targets, prior
        assert ((following - targets) >= 0).all() and following.sum() > targets.sum()
        targets = following


@pytest.mark.parametrize(("weighting", "most"), [(POSTERIOR, 4.4), (GATED, 6.6), (PLUGIN, 7.2)], ids=str)
def test_fewer_generations_reach_the_error_of_fixed_ones(weighting: dict[str, Any], most: float) -> None:
    rng = np.random.default_rng(4)
    rates = rng.beta(0.4, 0.4, 4000)
    truth = mean_one(kernel(rates, {}))
    fixed = problem_weights(rng.binomial(8, rates), np.full(rates.size, 8))
    passed, generated, prior = simulate(rates, AdaptiveAllocation(8, weighting=weighting), seed=5)
    adaptive = problem_weights(passed, generated, prior=prior, **weighting)
    error, mark = (np.sqrt(np.mean((weights - truth) ** 2)) for weights in (adaptive, fixed))
    assert generated.mean() <= most
    assert error <= 1.05 * mark


def test_a_target_stops_earlier_and_the_budget_bounds_all() -> None:
    rates = np.random.default_rng(6).beta(0.4, 0.4, 2000)
    passed, generated, prior = simulate(rates, AdaptiveAllocation(8, 0.7, POSTERIOR), seed=7)
    assert weight_error(passed, generated, prior=prior, weighting=POSTERIOR) <= 0.7
    _, more, _ = simulate(rates, AdaptiveAllocation(8, 0.5, POSTERIOR), seed=7)
    assert 2 < generated.mean() < more.mean() < 8
    _, most, _ = simulate(rates, AdaptiveAllocation(4, 0.01, POSTERIOR), seed=7)
    assert most.sum() == 4 * rates.size
    assert most.max() <= 8 * 4


def test_a_round_goes_to_the_largest_gains() -> None:
    rng = np.random.default_rng(8)
    valid = rng.integers(2, 6, 3000)
    passed = rng.binomial(valid, rng.beta(0.4, 0.4, 3000))
    rule = AdaptiveAllocation(8, 0.1, GATED)
    following = rule.next_targets(valid, passed, valid, np.ones(3000, bool), PRIOR)
    assert following is not None
    chosen = following > valid
    assert (following - valid).max() == 1 and chosen.sum() == round(3000 / 16)
    gains = expected_gains(passed, valid, prior=PRIOR, weighting=GATED)
    assert gains[chosen].min() >= gains[~chosen].max() - 1e-12


def test_unusable_problems_get_nothing_and_failing_verifiers_little() -> None:
    rule = AdaptiveAllocation(8, weighting=POSTERIOR)
    targets, is_usable = np.full(1000, 2), np.arange(1000) % 2 == 0
    passed = np.random.default_rng(9).binomial(2, 0.5, 1000) * is_usable
    following = rule.next_targets(targets, passed, 2 * is_usable, is_usable, Prior(0.4, 0.4))
    assert following is not None
    assert (following[~is_usable] == 2).all() and following.sum() > 2000
    # The second half never got a valid verdict in 30 generations.
    generated = np.where(np.arange(1000) < 500, 2, 30)
    valid = np.where(np.arange(1000) < 500, 2, 0)
    rule = AdaptiveAllocation(64, 0.01, POSTERIOR)
    following = rule.next_targets(generated, passed * (valid > 0), valid, np.ones(1000, bool), Prior(0.4, 0.4))
    assert following is not None and (following[500:] == 30).all()


def test_a_table_without_weight_looks_for_problems_that_deserve_some() -> None:
    zeros, two = np.zeros(200, np.int64), np.full(200, 2)
    assert weight_error(zeros, two, prior=Prior(0.2, 2.0), weighting=PLUGIN) == float("inf")
    gains = expected_gains(zeros, two, prior=Prior(0.2, 2.0), weighting=PLUGIN)
    assert np.isfinite(gains).all() and (gains > 0).all()


def test_problems_with_priors_of_their_own_are_told_apart() -> None:
    prior = Prior(np.repeat([0.5, 50.0], 100), np.repeat([0.5, 50.0], 100))
    one, two = np.ones(200, np.int64), np.full(200, 2)
    gains = expected_gains(one, two, prior=prior, weighting=POSTERIOR)
    assert gains[0] > 10 * gains[-1]
    following = AdaptiveAllocation(8, 0.05, POSTERIOR).next_targets(two, one, two, np.ones(200, bool), prior)
    assert following is not None
    assert following[:100].sum() - 200 == 64 and (following[100:] == 2).all()
