"""
The prior that a table of counts makes likeliest: empirical Bayes.

Maximum likelihood of the zero-one-inflated beta-binomial, with one prior for all problems or with parameters that are
linear in features (`prior_features.py` makes those).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize
from scipy.special import expit, logit, psi, softmax

from .counts import Counts, Floats, check_counts, check_evidence
from .prior import DistinctCounts, Prior, log_joint


# The likelihood of some tables (all passed; no more spread than a coin's) only grows as the Beta's mean tends to 0 or
# 1, or its concentration a0 + b0 to 0 or infinity: the fit stops at these bounds.
_MEAN_BOUNDS = (1e-6, 1.0 - 1e-6)
_CONCENTRATION_BOUNDS = (1e-3, 1e6)
# Log-odds of a point mass against the Beta; at the second the mass is exactly 0 in float64.
_LOG_ODDS_BOUNDS = (-20.0, 20.0)
_ABSENT_LOG_ODDS = -800.0
# Nats of log-likelihood, over the whole table, below which a point mass is not worth having: optimizer noise.
_MIN_GAIN = 1e-3
# K generations tell the first K moments of the pass rate and no more; the inflated prior has four parameters.
_MIN_GENERATIONS_FOR_MASSES = 4
# With K=1 everywhere the table says nothing about the concentration; this is the uniform prior's.
_UNIDENTIFIED_CONCENTRATION = 2.0
# A slope is the effect of one standard deviation of a feature, on a logit or logarithm.
_SLOPE_BOUNDS = (-5.0, 5.0)

Array = Counts | Floats
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


def fit_beta_prior(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[float, float]:
    """
    Fit a Beta prior to a table by maximum likelihood of the beta-binomial (empirical Bayes).

    The mean a0 / (a0 + b0) is bounded to [1e-6, 1 - 1e-6] and the concentration a0 + b0 to [1e-3, 1e6], because some
    tables have no finite maximum: where every problem passed, or none, or where pass rates spread no more than coins
    of one bias would, the fit comes back at or near a bound. If no problem has more than one valid generation, the
    table determines the mean only, and the concentration is 2, the uniform prior's.

    Args:
        num_passed, num_valid (`ArrayLike`): Passes and valid generations of each problem, **shape (P,)** each.

    Returns:
        `tuple[float, float]`: `(a0, b0)`.

    Raises:
        ValueError: If the counts are invalid, or no problem has a valid generation.
    """
    prior = _prior_for_all(_distinct_counts(num_passed, num_valid), (False, False))[0]
    return float(prior.a0), float(prior.b0)


def fit_prior(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, *, discounted: bool = False) -> Prior:
    """
    Fit a zero-one-inflated Beta prior to a table by maximum likelihood.

    The plain Beta is fitted too, as are the priors with one of the two masses; of those within 1e-3 nats of the
    highest log-likelihood of the table, the one with the fewest masses is returned. So a mass is either exactly 0 or
    does something. If no problem has four valid generations, the table cannot tell the four parameters apart and the
    plain Beta is returned; its limits are those of [`fit_beta_prior`].

    Args:
        num_passed, num_valid (`ArrayLike`): Passes and valid generations of each problem, **shape (P,)** each.
        discounted (`bool`, *optional*, defaults to `False`): Whether counts may be fractions, as faded evidence is.

    Returns:
        [`Prior`]: The fit, one for all problems.

    Raises:
        ValueError: If the counts are invalid, or no problem has a valid generation.

    Example:

    ```python
    >>> fit_prior([0] * 50 + [1, 2, 3, 2], [4] * 54).mass_at_zero > 0.9
    True
    ```
    """
    counts = _distinct_counts(num_passed, num_valid, discounted=discounted)
    fits = [_prior_for_all(counts, masses) for masses in possible_masses(counts[1])]
    highest = max(log_likelihood for _, log_likelihood in fits)
    return next(prior for prior, log_likelihood in fits if log_likelihood >= highest - _MIN_GAIN)


def possible_masses(valid: Array) -> list[tuple[bool, bool]]:
    """Return which point masses (at 0, at 1) a fit to these counts may have, fewest first."""
    if valid.max() < _MIN_GENERATIONS_FOR_MASSES:
        return [(False, False)]
    return [(False, False), (True, False), (False, True), (True, True)]


def maximize_likelihood(
    passed: Array,
    valid: Array,
    multiplicity: Array,
    design: Floats,
    masses: tuple[bool, bool],
    *,
    ridge: float = 0.0,
    tolerance: float = 1e-12,
) -> tuple[Floats, float]:
    """
    Return the coefficients, **shape (4, F)**, of the likeliest prior with these masses at 0 and 1, and its nats.

    The logit of the Beta's mean, the logarithm of its concentration and the log-odds of each mass to the Beta are
    linear in `design`, **shape (U, F)**: a column of ones, then standardised features. A slope of 1 costs `ridge` / 2
    nats.
    """
    total = float(multiplicity.sum())
    shape = (4, design.shape[1])
    absent = (_ABSENT_LOG_ODDS, _ABSENT_LOG_ODDS)
    concentrations = (_UNIDENTIFIED_CONCENTRATION,) * 2 if valid.max() <= 1 else _CONCENTRATION_BOUNDS
    box = np.array(
        [logit(_MEAN_BOUNDS), np.log(concentrations), *(_LOG_ODDS_BOUNDS if mass else absent for mass in masses)]
    )
    # Where a parameter is fixed, so are its slopes.
    slopes = np.where((box[:, 0] < box[:, 1])[:, None], [_SLOPE_BOUNDS], 0.0)
    low, high = (np.column_stack([box[:, side], *[slopes[:, side]] * (shape[1] - 1)]).ravel() for side in (0, 1))

    def objective(flat: Vector) -> tuple[float, Floats]:
        """Return the negative penalised log-likelihood per problem and its gradient."""
        theta = flat.reshape(shape)
        prior = prior_of(theta, design)
        parts = log_joint(passed, valid, prior)
        log_evidence = np.logaddexp.reduce(parts)
        at_zero, at_one, beta = np.exp(parts - log_evidence)
        a0, b0 = np.asarray(prior.a0), np.asarray(prior.b0)
        # The derivatives of log(B(c + a0, K - c + b0) / B(a0, b0)) by a0 and by b0, where the Beta is the explanation.
        shared = psi(a0 + b0) - psi(valid + a0 + b0)
        d_a0 = beta * (psi(passed + a0) - psi(a0) + shared)
        d_b0 = beta * (psi(valid - passed + b0) - psi(b0) + shared)
        by_predictor = np.stack(
            [
                a0 * b0 / (a0 + b0) * (d_a0 - d_b0),
                a0 * d_a0 + b0 * d_b0,
                at_zero - prior.mass_at_zero,
                at_one - prior.mass_at_one,
            ]
        )
        penalty = 0.5 * ridge * float((theta[:, 1:] ** 2).sum())
        gradient = (by_predictor * multiplicity) @ design
        gradient[:, 1:] -= ridge * theta[:, 1:]
        return (penalty - float(multiplicity @ log_evidence)) / total, -gradient.ravel() / total

    results = []
    for start in _starts(passed, valid, multiplicity):
        first = np.zeros(shape)
        first[:, 0] = start
        first, bounds = first.ravel().clip(low, high), Bounds(low, high)
        results.append(minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, tol=tolerance))
    best = min(results, key=lambda result: result.fun)
    return best.x.reshape(shape), -float(best.fun) * total


def prior_of(coefficients: Floats, design: Floats) -> Prior:
    """Return the prior that coefficients of [`maximize_likelihood`] give to rows of features, **shape (U, F)**."""
    predictors = design @ coefficients.T
    limits = np.array([logit(_MEAN_BOUNDS), np.log(_CONCENTRATION_BOUNDS)])
    mean, concentration = predictors[:, :2].clip(limits[:, 0], limits[:, 1]).T
    mean, concentration = expit(mean), np.exp(concentration)
    log_odds = np.minimum(predictors[:, 2:], _LOG_ODDS_BOUNDS[1])
    mass_at_zero, mass_at_one, _ = softmax(np.column_stack([log_odds, np.zeros(len(design))]), axis=1).T
    return Prior(concentration * mean, concentration * (1.0 - mean), mass_at_zero, mass_at_one)


def _prior_for_all(counts: tuple[Array, Array, Floats], masses: tuple[bool, bool]) -> tuple[Prior, float]:
    """Fit one prior for all problems; return it with the table's log-likelihood."""
    ones = np.ones((len(counts[0]), 1))
    coefficients, log_likelihood = maximize_likelihood(*counts, ones, masses)
    prior = prior_of(coefficients, ones[:1])
    return Prior(*(float(np.asarray(value)[0]) for value in astuple(prior))), log_likelihood


def _distinct_counts(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, *, discounted: bool = False
) -> tuple[Array, Array, Floats]:
    """Return the distinct (c, K) of the measured problems, each of **shape (U,)**, and how many problems have them."""
    check: Callable[..., tuple[np.ndarray, np.ndarray]] = check_evidence if discounted else check_counts
    passed, valid = check(num_passed, num_valid)
    measured = valid > 0
    if not measured.any():
        raise ValueError(
            f"`num_valid` is 0 for all {valid.size} problems, so there is nothing to fit a prior to. Estimate pass "
            "rates first, or check the verifier: it gave no valid verdict."
        )
    if discounted:
        return passed[measured], valid[measured], np.ones(int(measured.sum()))
    distinct = DistinctCounts.of(passed[measured], valid[measured], Prior(1.0, 1.0))
    return distinct.passed, distinct.valid, distinct.multiplicity


def _starts(passed: Array, valid: Array, multiplicity: Array) -> list[Vector]:
    """Return where to start the search: the likelihood can have several maxima."""
    # From a small share of the extreme counts in the masses the search sometimes ends in a lower one; from these two
    # it found the highest in each of 600 simulated fits.
    inner = multiplicity * ((passed > 0) & (passed < valid))
    inner_mean = inner @ passed / (inner @ valid) if inner.any() else 0.5
    extremes = np.array([multiplicity[passed == 0].sum(), multiplicity[passed == valid].sum()]) / multiplicity.sum()
    starts = []
    for mean, share_in_masses in ((0.5, 0.5), (inner_mean, 0.9)):
        masses = np.maximum(share_in_masses * extremes, 1e-4)
        log_odds = np.log(masses / (1.0 - share_in_masses * extremes.sum()))
        starts.append(np.array([logit(mean), np.log(2.0), *log_odds]))
    return starts
