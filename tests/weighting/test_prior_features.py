"""Priors that depend on features: recovered from simulations, harmless where features say nothing, calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from scipy.special import expit

from paced_trl.weighting.counts import Counts, Floats
from paced_trl.weighting.prior import credible_intervals, log_marginal_likelihood
from paced_trl.weighting.prior_features import fit_feature_prior, problem_features
from paced_trl.weighting.prior_fit import fit_prior


def simulate(
    features: Floats, slope: float, *, num_generations: int = 4, seed: int = 0
) -> tuple[Floats, Counts, Counts]:
    """Pass rates around a logit-linear mean with concentration 2."""
    rng = np.random.default_rng(seed)
    mean = expit(0.3 + slope * features[:, 0])
    rates = rng.beta(2.0 * mean, 2.0 * (1.0 - mean))
    valid = np.full(len(rates), 4)
    return rates, rng.binomial(valid, rates), valid


@pytest.fixture
def features() -> Floats:
    values = np.random.default_rng(1).normal(size=(4000, 1))
    return (values - values.mean()) / values.std()


def test_the_slope_of_a_simulation_is_recovered(features: Floats) -> None:
    _, passed, valid = simulate(features, 1.5)
    prior = fit_feature_prior(passed, valid, features)
    a0, b0 = np.asarray(prior.a0), np.asarray(prior.b0)
    np.testing.assert_allclose(a0 / (a0 + b0), expit(0.3 + 1.5 * features[:, 0]), atol=0.05)
    common = fit_prior(passed, valid)
    gain = log_marginal_likelihood(passed, valid, prior).sum() - log_marginal_likelihood(passed, valid, common).sum()
    assert gain > 100


def test_a_feature_that_says_nothing_leaves_one_prior_for_all(features: Floats) -> None:
    _, passed, valid = simulate(features, 0.0)
    prior = fit_feature_prior(passed, valid, features)
    assert prior == fit_prior(passed, valid)
    assert fit_feature_prior(passed, valid, np.zeros((4000, 0))) == fit_prior(passed, valid)


def test_unmeasured_problems_get_what_their_features_say(features: Floats) -> None:
    _, passed, valid = simulate(features, 1.5)
    measured = np.arange(4000) % 2 == 0
    prior = fit_feature_prior(passed * measured, valid * measured, features)
    mean = np.asarray(prior.a0) / (np.asarray(prior.a0) + prior.b0)
    np.testing.assert_allclose(mean[~measured], expit(0.3 + 1.5 * features[~measured, 0]), atol=0.06)


def test_intervals_cover_overall_and_at_every_level_of_the_feature(features: Floats) -> None:
    rates, passed, valid = simulate(features, 1.5)
    low, high = credible_intervals(passed, valid, fit_feature_prior(passed, valid, features))
    covered = (low <= rates) & (rates <= high)
    assert covered.mean() >= 0.94
    for part in np.array_split(np.argsort(features[:, 0]), 4):
        assert covered[part].mean() >= 0.92
    wide_low, wide_high = credible_intervals(passed, valid, fit_prior(passed, valid))
    assert (high - low).mean() < (wide_high - wide_low).mean()


def test_point_masses_may_depend_on_features(features: Floats) -> None:
    rng = np.random.default_rng(2)
    is_hard = features[:, 0] > 0
    rates = np.where(is_hard & (rng.random(4000) < 0.9), 0.0, rng.beta(2, 2, 4000))
    valid = np.full(4000, 6)
    prior = fit_feature_prior(rng.binomial(valid, rates), valid, is_hard[:, None] * 2.0 - 1.0)
    masses = np.asarray(prior.mass_at_zero)
    assert masses[is_hard].mean() == pytest.approx(0.9, abs=0.05)
    assert masses[~is_hard].mean() < 0.05


def test_features_are_standardised_columns() -> None:
    problems = Dataset.from_dict(
        {
            "prompt": ["a", "aa", "aaaa", "a" * 16],
            "steps": [1, 2, None, 3],
            "source": ["x", "y", "x", "z"],
            "same": [7, 7, 7, 7],
            "hard": [True, False, False, True],
        }
    )
    length = problem_features(problems, ["prompt_length"])
    np.testing.assert_allclose(length.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(length.std(axis=0), 1.0)
    assert (np.diff(length, axis=0) >= 0).all() and (np.diff(length[:, 0]) > 0).all()
    # Beyond the column itself, how far it is above a quartile: 0 up to there.
    assert length.shape == (4, 4) and [len(np.unique(column)) for column in length.T] == [4, 4, 3, 2]
    assert problem_features(problems, ["steps"])[2, 0] == 0.0
    source = problem_features(problems, ["source"])
    assert source.shape == (4, 3)
    assert (source[[0, 2], 0] > 0).all() and (source[[1, 3], 0] < 0).all()
    assert problem_features(problems, ["same"]).shape == (4, 0)
    assert len(np.unique(problem_features(problems, ["hard"])[:, 0])) == 2
    assert problem_features(problems, []).shape == (4, 0)


def test_an_outlier_counts_as_three_deviations() -> None:
    values = [0.0] * 99 + [1e9]
    features = problem_features(Dataset.from_dict({"prompt": ["p"] * 100, "x": values}), ["x"])
    assert features.max() == 3.0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lenght"], "`prior_features` has 'lenght', which is no column of the problems: they have prompt, tags"),
        (["tags"], r"`prior_features` has the column 'tags', which holds \['x'\]"),
    ],
)
def test_what_is_no_feature_is_refused(names: list[str], message: str) -> None:
    problems = Dataset.from_dict({"prompt": ["p", "q"], "tags": [["x"], ["y", "z"]]})
    with pytest.raises(ValueError, match=message):
        problem_features(problems, names)


def test_features_of_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`features` has shape \(3, 1\) for 2 problems"):
        fit_feature_prior([1, 2], [4, 4], np.zeros((3, 1)))
