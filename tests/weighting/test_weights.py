"""Problem weights against numerical integration, exact enumeration, Monte Carlo and the simulations of the method."""

from __future__ import annotations

import doctest
import importlib
import itertools
import time

import numpy as np
import pytest
from scipy import integrate, stats

from paced_trl.weighting.kernel import beta_kernel, posterior_mean_weight, unbiased_weight
from paced_trl.weighting.prior import Prior
from paced_trl.weighting.prior_fit import fit_beta_prior, fit_prior
from paced_trl.weighting.weights import effective_sample_size, problem_weights


EXPONENTS = [(1.0, 1.0), (1.0, 2.0), (0.5, 0.5), (0.0, 1.0), (2.0, 0.0), (0.0, 0.0), (3.0, 1.5)]
PRIORS = [Prior(1.0, 1.0), Prior(0.7, 2.5), Prior(0.7, 2.5, 0.3, 0.1), Prior(4.0, 2.0, 0.0, 0.6)]


def random_table(seed, num_problems=200):
    rng = np.random.default_rng(seed)
    num_valid = rng.integers(0, 12, num_problems)
    return rng.binomial(num_valid, rng.beta(0.5, 0.7, num_problems)), num_valid


def test_weights_of_small_tables_by_hand():
    np.testing.assert_array_equal(beta_kernel([0.0, 0.25, 0.5, 1.0]), [0.0, 0.1875, 0.25, 0.0])
    np.testing.assert_allclose(unbiased_weight([2, 2], [4, 8]), [1 / 3, 3 / 14], rtol=1e-14)
    np.testing.assert_array_equal(
        posterior_mean_weight([0, 1, 2], [4] * 3, prior=(1, 1)).round(3), [0.119, 0.19, 0.214]
    )
    assert np.round(fit_beta_prior([0, 0, 1, 3, 4, 4], [4] * 6), 2).tolist() == [0.28, 0.28]


@pytest.mark.parametrize(("module", "num_examples"), [("prior_fit", 1), ("weights", 2)])
def test_examples_in_docstrings(module, num_examples):
    module = importlib.import_module(f"paced_trl.weighting.{module}")
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    names = {"np": np, **vars(module)}
    examples = 0
    for documented in finder.find(module, globs=names):
        # A fence that closes a code block is no output.
        text = (documented.docstring or "").replace("```python", "").replace("```", "")
        test = doctest.DocTestParser().get_doctest(text, names, documented.name, documented.filename, 0)
        examples += len(test.examples)
        assert runner.run(test).failed == 0, documented.name
    assert examples >= num_examples


def test_kernel_is_its_formula():
    p = np.linspace(0.0, 1.0, 11)
    np.testing.assert_array_equal(beta_kernel(p), p * (1.0 - p))
    np.testing.assert_allclose(beta_kernel(p, 2.0, 0.5), p**2 * np.sqrt(1.0 - p))


def test_kernel_peaks_at_the_ratio_of_its_exponents():
    p = np.linspace(0.0, 1.0, 1001)
    assert p[np.argmax(beta_kernel(p, 1.0, 3.0))] == pytest.approx(0.25)


def test_an_exponent_of_zero_is_a_factor_of_one_everywhere():
    p = np.array([0.0, 0.3, 1.0])
    np.testing.assert_array_equal(beta_kernel(p, 0.0, 1.0), 1.0 - p)
    np.testing.assert_array_equal(beta_kernel(p, 1.0, 0.0), p)
    np.testing.assert_array_equal(beta_kernel(p, 0.0, 0.0), 1.0)


def test_kernel_keeps_shape_and_nan():
    np.testing.assert_array_equal(beta_kernel([[0.5, np.nan]]), [[0.25, np.nan]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 1.2],), "`p` holds 1.2"),
        (([-0.1],), "`p` holds -0.1"),
        (([0.5], -1.0, 1.0), "`weight_alpha` is -1.0"),
        (([0.5], 1.0, np.nan), "`weight_beta` is nan"),
        (([0.5], np.inf, 1.0), "`weight_alpha` is inf"),
    ],
)
def test_kernel_refuses_what_is_outside_its_domain(arguments, message):
    with pytest.raises(ValueError, match=message):
        beta_kernel(*arguments)


def test_plugin_is_the_kernel_at_the_pass_rate():
    num_passed, num_valid = np.array([0, 1, 3, 8, 2]), np.array([8, 8, 4, 8, 2])
    p = num_passed / num_valid
    for alpha, beta in ((1.0, 1.0), (0.5, 0.5), (1.0, 3.0)):
        kernel = p**alpha * (1.0 - p) ** beta
        np.testing.assert_allclose(
            problem_weights(num_passed, num_valid, weight_alpha=alpha, weight_beta=beta), kernel / kernel.mean()
        )


def test_uniform_weighs_measured_problems_alike():
    np.testing.assert_array_equal(problem_weights([0, 2, 4], [4, 4, 4], kind="uniform"), np.ones(3))
    np.testing.assert_allclose(problem_weights([0, 0, 2, 4], [0, 4, 4, 4], kind="uniform"), [0, 4 / 3, 4 / 3, 4 / 3])


def test_hard_filter_keeps_the_band_with_both_ends():
    # 1/5, 4/5 and 3/10 are ends that a float comparison could miss.
    num_passed, num_valid = [0, 1, 2, 4, 5, 0], [5, 5, 5, 5, 5, 0]
    np.testing.assert_allclose(problem_weights(num_passed, num_valid, kind="hard_filter"), [0, 2, 2, 2, 0, 0])
    np.testing.assert_allclose(
        problem_weights([3, 2, 4], [10, 10, 10], kind="hard_filter", band=(0.3, 0.3)), [3, 0, 0]
    )


def test_hard_filter_never_keeps_an_unmeasured_problem():
    np.testing.assert_allclose(problem_weights([0, 0], [0, 4], kind="hard_filter", band=(0.0, 1.0)), [0.0, 2.0])


def test_controls_ignore_exponents_and_estimator():
    for kind, expected in (("uniform", [1, 1, 1]), ("hard_filter", [0, 3, 0])):
        weights = problem_weights([0, 1, 2], [2, 2, 2], kind=kind, weight_alpha=0.5, estimator="unbiased")
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("replay_share", [0.1, 0.5])
@pytest.mark.parametrize(
    "settings",
    [{}, {"weight_beta": 0.0}, {"kind": "hard_filter", "band": (0.2, 1.0)}, {"estimator": "posterior", "gate": False}],
)
def test_mastered_problems_have_the_share_that_is_replayed(replay_share, settings):
    num_passed, num_valid = random_table(0)
    weights = problem_weights(num_passed, num_valid, replay_share=replay_share, **settings)
    mastered = (num_valid > 0) & (num_passed == num_valid)
    assert weights[mastered].sum() / weights.sum() == pytest.approx(replay_share)
    assert np.ptp(weights[mastered]) == 0.0 and weights.mean() == pytest.approx(1.0)
    # Among themselves the others weigh what they do without replay.
    without = problem_weights(num_passed, num_valid, **settings)
    np.testing.assert_allclose(
        weights[~mastered] / weights[~mastered].sum(), without[~mastered] / without[~mastered].sum()
    )


def test_nothing_is_replayed_where_nothing_is_mastered():
    np.testing.assert_array_equal(
        problem_weights([0, 1, 2], [4, 4, 4], replay_share=0.3), problem_weights([0, 1, 2], [4] * 3)
    )


def test_replay_alone_is_no_training():
    with pytest.raises(ValueError, match="All 2 problem weights are 0"):
        problem_weights([0, 4], [4, 4], replay_share=0.5)


def test_faded_passes_are_mastered_too():
    weights = problem_weights([0.7, 0.2], [0.7, 0.9], replay_share=0.25, discounted=True)
    np.testing.assert_allclose(weights, [0.5, 1.5])


@pytest.mark.parametrize("exponents", [(1, 1), (1, 2), (2, 1), (0, 1), (2, 0), (0, 0), (2, 3)])
@pytest.mark.parametrize("num_generations", [5, 8])
def test_unbiased_estimate_has_the_kernel_as_its_expectation(exponents, num_generations):
    alpha, beta = exponents
    counts = np.arange(num_generations + 1)
    estimates = unbiased_weight(counts, np.full(counts.shape, num_generations), weight_alpha=alpha, weight_beta=beta)
    for p in (0.0, 0.1, 0.37, 0.9, 1.0):
        expectation = stats.binom.pmf(counts, num_generations, p) @ estimates
        assert expectation == pytest.approx(p**alpha * (1.0 - p) ** beta, abs=1e-14)


def test_unbiased_estimate_is_the_share_of_ordered_draws():
    outcomes = [True, True, True, False, False]
    draws = list(itertools.permutations(outcomes, 3))
    share = np.mean([first and second and not third for first, second, third in draws])
    assert unbiased_weight([3], [5], weight_alpha=2, weight_beta=1)[0] == pytest.approx(share)


def test_unbiased_is_proportional_to_plugin_for_the_default_kernel_and_equal_counts():
    num_passed = np.array([0, 1, 4, 7, 8])
    np.testing.assert_allclose(
        problem_weights(num_passed, np.full(5, 8), estimator="unbiased"), problem_weights(num_passed, np.full(5, 8))
    )


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (1.0, 1.5)])
def test_unbiased_refuses_fractional_exponents(exponents):
    alpha, beta = exponents
    with pytest.raises(ValueError, match=f"are {alpha} and {beta}.*whole-numbered exponents only.*'posterior'"):
        problem_weights([1], [4], estimator="unbiased", weight_alpha=alpha, weight_beta=beta)


def test_unbiased_gives_weight_zero_with_a_warning_where_no_estimate_exists():
    with pytest.warns(UserWarning, match="1 of 4 problems get weight 0: .* needs 2 valid generations.*row 2 has 1"):
        weights = problem_weights([4, 0, 1, 0], [8, 8, 1, 0], estimator="unbiased")
    np.testing.assert_allclose(weights, [4.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(np.isnan(unbiased_weight([1, 0, 1], [1, 0, 2])), [True, True, False])


def test_unbiased_refuses_a_table_without_any_estimate():
    with pytest.raises(ValueError, match=r"needs 4 valid generations, and the problem in row 1 has 2.*to 4 or more"):
        problem_weights([0, 1, 1], [0, 2, 3], estimator="unbiased", weight_alpha=2, weight_beta=2)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("exponents", EXPONENTS)
@pytest.mark.parametrize(("num_passed", "num_valid"), [(0, 4), (1, 4), (4, 4), (7, 16), (0, 0)])
def test_posterior_mean_is_the_integral_over_pass_rates(prior, exponents, num_passed, num_valid):
    alpha, beta = exponents

    def at(p):
        """Kernel and likelihood at a pass rate."""
        likelihood = stats.binom.pmf(num_passed, num_valid, p)
        return p**alpha * (1.0 - p) ** beta * likelihood, likelihood

    beta_mass = 1.0 - prior.mass_at_zero - prior.mass_at_one
    parts = []
    for part in (0, 1):
        # quad's algebraic weight p^(a0 - 1) (1 - p)^(b0 - 1) takes the singular ends of the density.
        integral, _ = integrate.quad(
            lambda p, part=part: at(p)[part], 0.0, 1.0, weight="alg", wvar=(prior.a0 - 1.0, prior.b0 - 1.0)
        )
        density = (
            integral / integrate.quad(lambda p: 1.0, 0.0, 1.0, weight="alg", wvar=(prior.a0 - 1.0, prior.b0 - 1.0))[0]
        )
        parts.append(beta_mass * density + prior.mass_at_zero * at(0.0)[part] + prior.mass_at_one * at(1.0)[part])
    got = posterior_mean_weight([num_passed], [num_valid], weight_alpha=alpha, weight_beta=beta, prior=prior)
    assert got[0] == pytest.approx(parts[0] / parts[1], rel=1e-7)


@pytest.mark.parametrize("prior", PRIORS)
def test_posterior_mean_is_what_simulated_pass_rates_have(prior):
    rng = np.random.default_rng(0)
    rates = rng.beta(prior.a0, prior.b0, 1_000_000)
    kind = rng.random(rates.size)
    rates[kind < prior.mass_at_zero] = 0.0
    rates[kind > 1.0 - prior.mass_at_one] = 1.0
    passed = rng.binomial(4, rates)
    kernel = rates * (1.0 - rates) ** 2
    counts = np.arange(5)
    expected = posterior_mean_weight(counts, np.full(5, 4), weight_beta=2.0, prior=prior)
    for count in counts:
        seen = kernel[passed == count]
        assert seen.mean() == pytest.approx(expected[count], abs=5.0 * seen.std() / np.sqrt(seen.size))


def test_posterior_variance_is_closed_through_doubled_exponents():
    prior, (num_passed, num_valid) = (0.8, 1.7), (3, 10)
    samples = stats.beta.rvs(num_passed + 0.8, num_valid - num_passed + 1.7, size=400_000, random_state=0)
    mean = posterior_mean_weight([num_passed], [num_valid], prior=prior)[0]
    second = posterior_mean_weight([num_passed], [num_valid], weight_alpha=2.0, weight_beta=2.0, prior=prior)[0]
    assert second - mean**2 == pytest.approx(np.var(samples * (1.0 - samples)), rel=0.02)


def test_posterior_tends_to_the_kernel_with_many_generations():
    p = np.array([0.1, 0.5, 0.9])
    num_valid = np.full(3, 10**6)
    got = posterior_mean_weight(p * num_valid, num_valid, prior=Prior(0.5, 0.5, 0.2, 0.2))
    np.testing.assert_allclose(got, p * (1.0 - p), rtol=1e-5)


def test_posterior_fits_the_prior_to_the_table_unless_one_is_given():
    num_passed, num_valid = random_table(0)
    arguments = {"estimator": "posterior", "gate": False}
    fitted = problem_weights(num_passed, num_valid, **arguments)
    prior = fit_prior(num_passed, num_valid)
    np.testing.assert_array_equal(fitted, problem_weights(num_passed, num_valid, prior=prior, **arguments))
    other = problem_weights(num_passed, num_valid, prior=(5.0, 5.0), **arguments)
    expected = np.where(num_valid > 0, posterior_mean_weight(num_passed, num_valid, prior=(5.0, 5.0)), 0.0)
    np.testing.assert_allclose(other, expected / expected.mean())
    assert np.abs(other - fitted).max() > 0.1


@pytest.mark.parametrize("exponents", [(1.0, 1.0), (0.0, 1.0)])
def test_gate_zeroes_problems_with_one_outcome_only(exponents):
    num_passed, num_valid = random_table(1)
    settings = {"estimator": "posterior", "weight_alpha": exponents[0], "weight_beta": exponents[1]}
    gated = problem_weights(num_passed, num_valid, **settings)
    inside = (num_passed > 0) & (num_passed < num_valid)
    np.testing.assert_array_equal(gated > 0.0, inside)
    ungated = problem_weights(num_passed, num_valid, gate=False, **settings)
    np.testing.assert_array_equal(ungated > 0.0, num_valid > 0)
    np.testing.assert_allclose(gated[inside] / gated.max(), ungated[inside] / ungated[inside].max())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_alpha": 0.5, "weight_beta": 2.0},
        {"kind": "uniform"},
        {"kind": "hard_filter"},
        {"estimator": "posterior"},
        {"estimator": "posterior", "gate": False, "weight_alpha": 0.0},
    ],
)
def test_weights_of_any_table_are_a_weighting(seed, settings):
    num_passed, num_valid = random_table(seed)
    weights = problem_weights(num_passed, num_valid, **settings)
    assert weights.shape == num_passed.shape
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()
    assert (weights >= 0.0).all()
    assert weights.mean() == pytest.approx(1.0, abs=1e-12)
    assert (weights[num_valid == 0] == 0.0).all()
    assert 1.0 <= effective_sample_size(weights) <= weights.size
    # A problem's weight is a function of its own counts and the table, not of its row.
    order = np.random.default_rng(seed).permutation(weights.size)
    np.testing.assert_allclose(problem_weights(num_passed[order], num_valid[order], **settings), weights[order])


@pytest.mark.parametrize("kind", ["beta", "uniform", "hard_filter"])
@pytest.mark.parametrize("estimator", ["plugin", "unbiased", "posterior"])
def test_a_table_of_one_problem_has_weight_one(kind, estimator):
    assert problem_weights([2], [4], kind=kind, estimator=estimator) == [1.0]


# Relative RMSE of mean-1 weights as simulated with 20,000 problems: METHOD.md, "Estimation quality".
@pytest.mark.parametrize(
    ("prior", "num_generations", "plugin", "posterior"),
    [
        (Prior(0.4, 0.4), 4, 0.92, 0.61),
        (Prior(0.4, 0.4), 8, 0.60, 0.48),
        (Prior(0.3, 0.9), 4, 0.97, 0.62),
        (Prior(1.0, 1.0), 8, 0.44, 0.31),
        (Prior(0.2, 0.2), 4, 1.21, 0.86),
        (Prior(2.0, 3.0, 0.4, 0.3), 4, 1.10, 0.89),
        (Prior(2.0, 3.0, 0.4, 0.3), 8, 0.65, 0.53),
    ],
)
def test_simulated_errors_of_the_estimators(prior, num_generations, plugin, posterior):
    rng = np.random.default_rng(0)
    rates = rng.beta(prior.a0, prior.b0, 8000)
    kind = rng.random(rates.size)
    rates[kind < prior.mass_at_zero] = 0.0
    rates[kind > 1.0 - prior.mass_at_one] = 1.0
    num_passed, num_valid = rng.binomial(num_generations, rates), np.full(rates.size, num_generations)
    true = rates * (1.0 - rates)
    true /= true.mean()

    def error(**settings):
        return np.sqrt(np.mean((problem_weights(num_passed, num_valid, **settings) - true) ** 2))

    assert error() == pytest.approx(plugin, abs=0.05)
    inflated_error = error(estimator="posterior", gate=False)
    assert inflated_error == pytest.approx(posterior, abs=0.04)
    plain = fit_beta_prior(num_passed, num_valid)
    assert inflated_error <= error(estimator="posterior", gate=False, prior=plain) + 0.01


@pytest.mark.parametrize("estimator", ["plugin", "unbiased", "posterior"])
def test_large_counts_do_not_overflow(estimator):
    num_valid = np.full(4, 10**6)
    num_passed = np.array([1, 250_000, 500_000, 999_999])
    p = num_passed / num_valid
    expected = p * (1.0 - p) / np.mean(p * (1.0 - p))
    weights = problem_weights(num_passed, num_valid, estimator=estimator, prior=(0.5, 0.5))
    np.testing.assert_allclose(weights[1:3], expected[1:3], rtol=1e-5)
    assert (weights > 0.0).all()


def test_a_million_problems_take_seconds():
    rng = np.random.default_rng(0)
    num_valid = rng.integers(0, 9, 1_000_000)
    num_passed = rng.binomial(num_valid, rng.beta(0.4, 0.4, num_valid.size))
    start = time.process_time()
    weights = problem_weights(num_passed, num_valid, estimator="posterior")
    assert time.process_time() - start < 10.0
    assert weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "gaussian"}, "`kind` is 'gaussian'.*'beta', 'uniform', 'hard_filter'"),
        ({"estimator": "bayes"}, "`estimator` is 'bayes'.*'plugin', 'unbiased', 'posterior'"),
        ({"kind": "uniform", "estimator": "bayes"}, "`estimator` is 'bayes'"),
        ({"weight_alpha": -0.5}, "`weight_alpha` is -0.5"),
        ({"weight_beta": np.nan}, "`weight_beta` is nan"),
        ({"band": (0.8, 0.2)}, r"`band` is \(0.8, 0.2\)"),
        ({"band": (0.2, 1.2)}, r"`band` is \(0.2, 1.2\)"),
        ({"band": (0.2,)}, r"`band` is \(0.2,\)"),
        ({"band": (np.nan, 0.5)}, r"`band` is \(nan, 0.5\)"),
        ({"replay_share": 1.0}, r"`replay_share` is 1.0; it is the share .* in \[0, 1\)"),
        ({"replay_share": 0.2, "kind": "uniform"}, "uniform weights are the same"),
        ({"prior": (0.0, 1.0)}, "`a0` of the prior is 0.0"),
        ({"prior": "flat"}, "`prior` is 'flat'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        problem_weights([1, 2], [4, 4], **settings)


@pytest.mark.parametrize(
    ("num_passed", "num_valid", "settings", "advice"),
    [
        ([0, 0, 4], [4, 4, 4], {}, r"1 problems are mastered .* 2 out of reach.*difficulty in between"),
        ([0, 0, 0], [4, 4, 0], {}, r"2 out of reach .* 1 unmeasured.*Use easier problems.*gate=False"),
        ([4, 4], [4, 4], {"estimator": "posterior"}, r"2 problems are mastered.*harder problems.* set `gate=False`"),
        ([0, 0], [0, 0], {}, r"2 unmeasured .*Estimate pass rates first.*verifier"),
        ([0, 0], [0, 0], {"estimator": "posterior"}, "Estimate pass rates first"),
        ([0, 0], [0, 0], {"estimator": "unbiased"}, "Estimate pass rates first"),
        ([0, 0], [0, 0], {"kind": "uniform"}, "Estimate pass rates first"),
        ([1, 1], [10, 10], {"kind": "hard_filter"}, r"No pass rate is within `band` \(0.2, 0.8\): widen it"),
        ([0, 4], [4, 4], {"kind": "hard_filter"}, "difficulty in between.*`kind='beta'`"),
        ([1, 1], [4, 4], {"estimator": "unbiased", "weight_alpha": 2}, "2 on the frontier.*lower `weight_alpha`"),
    ],
)
def test_a_table_without_any_weight_says_what_it_holds_and_what_to_do(num_passed, num_valid, settings, advice):
    with pytest.raises(ValueError, match=f"All {len(num_valid)} problem weights are 0.*{advice}"):
        problem_weights(num_passed, num_valid, **settings)


def test_the_advice_for_an_empty_frontier_works():
    assert problem_weights([0, 0, 0], [4, 4, 0], estimator="posterior", gate=False)[0] > 0.0
    assert problem_weights([0, 4], [4, 4], kind="beta", estimator="posterior", gate=False).min() > 0.0


def test_effective_sample_size_is_its_formula():
    weights = np.random.default_rng(0).gamma(0.5, size=100)
    assert effective_sample_size(weights) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert effective_sample_size(np.ones(7)) == 7.0
    assert effective_sample_size([0.0, 3.0, 0.0]) == 1.0


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_effective_sample_size_does_not_depend_on_the_unit(unit):
    assert effective_sample_size(np.array([1.0, 2.0, 3.0]) * unit) == pytest.approx(36 / 14)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "holds 2 weights and none above 0"),
        ([], "holds 0 weights"),
        ([1.0, -1.0], "holds -1.0"),
        ([1.0, np.nan], "holds nan"),
        ([[1.0, 2.0]], r"has shape \(1, 2\)"),
    ],
)
def test_what_is_no_weighting_has_no_effective_sample_size(weights, message):
    with pytest.raises(ValueError, match=message):
        effective_sample_size(weights)
