"""The prior of pass rates, its fit and its posteriors, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from paced_trl.weighting.prior import (
    Prior,
    as_prior,
    credible_intervals,
    log_marginal_likelihood,
    posterior,
    posterior_mean_pass_rate,
    posterior_point_masses,
)
from paced_trl.weighting.prior_fit import fit_beta_prior, fit_prior


def simulate(num_problems, num_generations, prior, seed=0):
    """Draw pass rates from a prior and counts from the pass rates."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(prior.a0, prior.b0, num_problems)
    kind = rng.random(num_problems)
    rates[kind < prior.mass_at_zero] = 0.0
    rates[kind > 1.0 - prior.mass_at_one] = 1.0
    num_valid = np.broadcast_to(num_generations, num_problems)
    return rng.binomial(num_valid, rates), num_valid


def log_likelihood(num_passed, num_valid, prior):
    return log_marginal_likelihood(num_passed, num_valid, prior).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a0": 0.0, "b0": 1.0}, "`a0` of the prior is 0.0"),
        ({"a0": 1.0, "b0": np.inf}, "`b0` of the prior is inf"),
        ({"a0": np.nan, "b0": 1.0}, "`a0` of the prior is nan"),
        ({"a0": 1.0, "b0": 1.0, "mass_at_zero": -0.1}, "`mass_at_zero` of the prior is -0.1"),
        ({"a0": 1.0, "b0": 1.0, "mass_at_one": 1.0}, "`mass_at_one` of the prior is 1.0"),
        ({"a0": 1.0, "b0": 1.0, "mass_at_zero": 0.5, "mass_at_one": 0.5}, "are 0.5 and 0.5"),
    ],
)
def test_what_is_no_distribution_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Prior(**arguments)


def test_a_pair_is_a_plain_prior():
    assert as_prior((0.5, 2)) == as_prior([0.5, 2.0]) == Prior(0.5, 2.0, 0.0, 0.0)
    prior = Prior(1.0, 2.0, 0.1, 0.2)
    assert as_prior(prior) is prior


@pytest.mark.parametrize("prior", [(1.0,), (1.0, 2.0, 0.1), 3.0, "ab", ("a", 1.0), {"a0": 1.0, "b0": 2.0}])
def test_other_things_are_no_prior(prior):
    with pytest.raises(ValueError, match=r"`prior` is .* which is no distribution of pass rates"):
        as_prior(prior)


def test_a_pair_that_is_no_beta_is_refused():
    with pytest.raises(ValueError, match=r"`a0` of the prior is -1\.0"):
        as_prior((-1.0, 2.0))


@pytest.mark.parametrize("prior", [Prior(0.7, 2.5), Prior(0.7, 2.5, 0.3, 0.1), Prior(5.0, 1.0, 0.0, 0.6)])
@pytest.mark.parametrize("num_generations", [1, 4, 9])
def test_marginal_likelihood_is_the_integral_over_pass_rates(prior, num_generations):
    counts = np.arange(num_generations + 1)
    got = np.exp(log_marginal_likelihood(counts, np.full(counts.shape, num_generations), prior))
    beta_mass = 1.0 - prior.mass_at_zero - prior.mass_at_one
    for count in counts:
        beta_part, _ = integrate.quad(
            lambda p, count=count: stats.binom.pmf(count, num_generations, p) * stats.beta.pdf(p, prior.a0, prior.b0),
            0.0,
            1.0,
        )
        expected = (
            beta_mass * beta_part + prior.mass_at_zero * (count == 0) + prior.mass_at_one * (count == num_generations)
        )
        assert got[count] == pytest.approx(expected, rel=1e-6)
    assert got.sum() == pytest.approx(1.0, abs=1e-12)


def test_an_unmeasured_problem_has_likelihood_one_whatever_the_prior():
    np.testing.assert_allclose(log_marginal_likelihood([0], [0], Prior(0.3, 4.0, 0.2, 0.1)), 0.0, atol=1e-12)


def test_point_masses_are_bayes_theorem():
    prior = Prior(0.7, 2.5, mass_at_zero=0.3, mass_at_one=0.1)
    at_zero, at_one = posterior_point_masses([0, 1, 4, 0], [4, 4, 4, 0], prior)
    evidence = np.exp(log_marginal_likelihood([0, 4], [4, 4], prior))
    np.testing.assert_allclose(at_zero, [0.3 / evidence[0], 0.0, 0.0, 0.3])
    np.testing.assert_allclose(at_one, [0.0, 0.0, 0.1 / evidence[1], 0.1])


def test_point_masses_of_large_counts_are_certain():
    at_zero, at_one = posterior_point_masses(
        [0, 500_000, 10**6], [10**6] * 3, Prior(50.0, 50.0, mass_at_zero=0.1, mass_at_one=0.1)
    )
    np.testing.assert_array_equal(at_zero, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(at_one, [0.0, 0.0, 1.0])


@pytest.mark.parametrize("prior", [Prior(0.4, 0.4), Prior(1.0, 3.0), Prior(8.0, 2.0)])
@pytest.mark.parametrize("num_generations", [2, 8])
def test_plain_fit_recovers_a_known_prior(prior, num_generations):
    a0, b0 = fit_beta_prior(*simulate(20_000, num_generations, prior))
    assert a0 / (a0 + b0) == pytest.approx(prior.a0 / (prior.a0 + prior.b0), abs=0.01)
    assert np.log(a0 + b0) == pytest.approx(np.log(prior.a0 + prior.b0), abs=0.1)


@pytest.mark.parametrize(
    "prior", [Prior(2.0, 3.0, 0.4, 0.3), Prior(1.0, 1.0, 0.3, 0.0), Prior(3.0, 2.0, 0.0, 0.2), Prior(2.0, 2.0)]
)
def test_inflated_fit_recovers_a_known_prior(prior):
    fit = fit_prior(*simulate(20_000, 16, prior))
    assert fit.mass_at_zero == pytest.approx(prior.mass_at_zero, abs=0.02)
    assert fit.mass_at_one == pytest.approx(prior.mass_at_one, abs=0.02)
    assert fit.a0 == pytest.approx(prior.a0, rel=0.15)
    assert fit.b0 == pytest.approx(prior.b0, rel=0.15)


def test_fits_of_mixed_numbers_of_generations_recover_the_prior():
    num_valid = np.random.default_rng(1).integers(0, 12, 20_000)
    prior = Prior(0.8, 1.6, mass_at_zero=0.25)
    fit = fit_prior(*simulate(20_000, num_valid, prior))
    assert fit.mass_at_zero == pytest.approx(0.25, abs=0.05)
    assert fit.a0 / (fit.a0 + fit.b0) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_problems", [15, 500])
def test_no_perturbation_of_a_fit_is_more_likely(seed, num_problems):
    rng = np.random.default_rng(seed)
    prior = Prior(*rng.uniform(0.3, 3.0, 2), *rng.uniform(0.0, 0.4, 2))
    table = simulate(num_problems, rng.integers(4, 10, num_problems), prior, seed)
    plain, fit = Prior(*fit_beta_prior(*table)), fit_prior(*table)
    best_plain, best = log_likelihood(*table, plain), log_likelihood(*table, fit)
    assert best >= best_plain
    for _ in range(100):
        scale = 10.0 ** rng.uniform(-4, 0.5)
        a0, b0 = np.exp(rng.normal(np.log([plain.a0, plain.b0]), scale))
        assert log_likelihood(*table, Prior(a0, b0)) <= best_plain + 1e-6
        a0, b0 = np.exp(rng.normal(np.log([fit.a0, fit.b0]), scale))
        masses = np.abs(rng.normal([fit.mass_at_zero, fit.mass_at_one], 0.3 * scale))
        if masses.sum() < 1.0:
            # Point masses worth less than 1e-3 nats are left out on purpose.
            assert log_likelihood(*table, Prior(a0, b0, *masses)) <= best + 2e-3


def test_fit_is_the_highest_of_several_maxima():
    table = simulate(60, 8, Prior(1.0, 12.0, 0.5, 0.2), seed=3)
    fit = fit_prior(*table)

    def loss(theta):
        mean, (at_zero, at_one, _) = special.expit(theta[0]), special.softmax([theta[2], theta[3], 0.0])
        concentration = np.exp(theta[1])
        return -log_likelihood(*table, Prior(concentration * mean, concentration * (1.0 - mean), at_zero, at_one))

    bounds = [(-6, 6), (-6, 13), (-12, 12), (-12, 12)]
    highest = -optimize.differential_evolution(loss, bounds, seed=0, maxiter=150, polish=False).fun
    assert log_likelihood(*table, fit) >= highest - 2e-3


def test_inflated_fit_is_more_likely_where_there_are_masses():
    table = simulate(3000, 4, Prior(2.0, 3.0, 0.4, 0.3))
    assert log_likelihood(*table, fit_prior(*table)) > log_likelihood(*table, fit_beta_prior(*table)) + 10.0


def test_a_mass_that_explains_nothing_is_exactly_zero():
    num_passed, num_valid = [1, 2, 3, 2, 4] * 20, [4] * 100
    fit = fit_prior(num_passed, num_valid)
    assert fit.mass_at_zero == 0.0
    assert fit.mass_at_one > 0.0
    fit = fit_prior([1, 2, 3, 2], [4] * 4)
    assert fit == Prior(*fit_beta_prior([1, 2, 3, 2], [4] * 4))


def test_fit_ignores_the_order_of_problems_and_unmeasured_ones():
    num_passed, num_valid = simulate(300, 6, Prior(1.0, 2.0, 0.2))
    order = np.random.default_rng(0).permutation(300)
    longer = np.concatenate([num_passed[order], np.zeros(50, dtype=int)])
    assert fit_prior(longer, np.concatenate([num_valid[order], np.zeros(50, dtype=int)])) == fit_prior(
        num_passed, num_valid
    )


@pytest.mark.parametrize("num_generations", [1, 4, 50])
def test_tables_without_a_finite_maximum_come_back_at_a_bound(num_generations):
    num_valid = np.full(10, num_generations)
    for num_passed, mean in ((num_valid, 1.0), (np.zeros(10, dtype=int), 0.0)):
        fit = fit_prior(num_passed, num_valid)
        assert fit.a0 / (fit.a0 + fit.b0) == pytest.approx(mean, abs=2e-6)
        assert log_likelihood(num_passed, num_valid, fit) == pytest.approx(0.0, abs=1e-3)


def test_pass_rates_without_spread_come_back_at_the_highest_concentration():
    a0, b0 = fit_beta_prior([2] * 10, [4] * 10)
    assert a0 == pytest.approx(5e5)
    assert b0 == pytest.approx(5e5)


def test_one_generation_each_determines_the_mean_only():
    a0, b0 = fit_beta_prior([1, 0, 0, 0], [1, 1, 1, 0])
    assert a0 + b0 == pytest.approx(2.0)
    assert a0 / (a0 + b0) == pytest.approx(1 / 3)


@pytest.mark.parametrize("num_passed", [0, 3, 8])
def test_one_problem_can_be_fitted(num_passed):
    fit = fit_prior([num_passed], [8])
    assert fit.a0 / (fit.a0 + fit.b0) == pytest.approx(num_passed / 8, abs=1e-5)


def test_three_generations_cannot_tell_masses():
    num_passed, num_valid = simulate(5000, 3, Prior(5.0, 5.0, 0.4, 0.4))
    fit = fit_prior(num_passed, num_valid)
    assert fit == Prior(*fit_beta_prior(num_passed, num_valid))


@pytest.mark.parametrize("fit", [fit_beta_prior, fit_prior])
def test_nothing_measured_cannot_be_fitted(fit):
    with pytest.raises(ValueError, match=r"`num_valid` is 0 for all 3 problems.*check the verifier"):
        fit([0, 0, 0], [0, 0, 0])


def test_large_counts_do_not_overflow():
    rng = np.random.default_rng(0)
    num_valid = np.full(200, 10**6)
    a0, b0 = fit_beta_prior(rng.binomial(num_valid, rng.beta(2.0, 3.0, 200)), num_valid)
    assert a0 / (a0 + b0) == pytest.approx(0.4, abs=0.05)
    assert 3.0 < a0 + b0 < 8.0


@pytest.mark.parametrize("prior", [Prior(0.7, 2.5), Prior(0.7, 2.5, 0.3, 0.1)])
def test_a_posterior_is_bayes_theorem_on_a_grid(prior):
    rates = np.linspace(0.0, 1.0, 200_001)[1:-1]
    density = (1.0 - prior.mass_at_zero - prior.mass_at_one) * stats.beta.pdf(rates, prior.a0, prior.b0)
    step = rates[1] - rates[0]
    for passed, valid in ((0, 3), (2, 5), (4, 4), (0, 0)):
        inner = density * rates**passed * (1.0 - rates) ** (valid - passed) * step
        at_zero, at_one = prior.mass_at_zero * (passed == 0), prior.mass_at_one * (passed == valid)
        evidence = inner.sum() + at_zero + at_one
        after = posterior([passed], [valid], prior)
        np.testing.assert_allclose(
            [after.mass_at_zero[0], after.mass_at_one[0]], np.array([at_zero, at_one]) / evidence, 1e-3
        )
        mean = (inner @ rates + at_one) / evidence
        assert posterior_mean_pass_rate([passed], [valid], prior)[0] == pytest.approx(mean, rel=1e-3)
        # Conjugacy: more generations on top of a posterior are all generations on top of the prior.
        more = posterior([1], [2], after)
        at_once = posterior([passed + 1], [valid + 2], prior)
        assert (more.a0, more.b0) == (at_once.a0, at_once.b0)
        np.testing.assert_allclose(more.mass_at_zero, at_once.mass_at_zero, atol=1e-9)


@pytest.mark.parametrize("prior", [Prior(0.4, 0.4), Prior(0.3, 0.9), Prior(2.0, 3.0, 0.4, 0.3)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_credible_intervals_of_fitted_priors_cover(prior, level):
    rng = np.random.default_rng(0)
    kind = rng.random(20_000)
    rates = np.where(kind < prior.mass_at_zero, 0.0, rng.beta(prior.a0, prior.b0, kind.size))
    rates = np.where(kind > 1.0 - prior.mass_at_one, 1.0, rates)
    valid = rng.integers(4, 9, kind.size)
    passed = rng.binomial(valid, rates)
    low, high = credible_intervals(passed, valid, fit_prior(passed, valid), level=level)
    assert ((low <= passed / valid) & (passed / valid <= high)).all() or level < 0.9
    assert np.mean((low <= rates) & (rates <= high)) >= level - 0.01


def test_an_interval_has_the_quantiles_of_its_posterior_inside():
    low, high = credible_intervals([2], [6], (0.5, 1.5), level=0.9)
    np.testing.assert_allclose([low[0], high[0]], stats.beta.ppf([0.05, 0.95], 2.5, 5.5))


def test_an_unmeasured_problem_has_the_interval_of_everything():
    low, high = credible_intervals([0], [0], (0.5, 0.5))
    assert (low[0], high[0]) == (0.0, 1.0)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_is_a_probability(level):
    with pytest.raises(ValueError, match="`level` is"):
        credible_intervals([1], [2], (1, 1), level=level)


def test_priors_of_each_problem_give_what_one_for_all_gives():
    passed, valid = np.array([0, 1, 4]), np.array([4, 4, 4])
    single, several = Prior(0.4, 0.6, 0.1, 0.2), Prior(*(np.full(3, value) for value in (0.4, 0.6, 0.1, 0.2)))
    for function in (log_marginal_likelihood, posterior_mean_pass_rate, credible_intervals, posterior_point_masses):
        np.testing.assert_array_equal(function(passed, valid, single), function(passed, valid, several))
    assert several.at(np.array([1])).a0 == [0.4] and single.at(np.array([1])).a0 == 0.4


def test_small_tables_by_hand():
    np.testing.assert_array_equal(
        np.exp(log_marginal_likelihood([0, 1, 2], [2, 2, 2], (1, 1))).round(3), [0.333, 0.333, 0.333]
    )
    low, high = credible_intervals([0, 2, 4], [4, 4, 4], prior=(1, 1))
    np.testing.assert_array_equal(low.round(2), [0.0, 0.15, 0.48])
    np.testing.assert_array_equal(high.round(2), [0.52, 0.85, 1.0])
