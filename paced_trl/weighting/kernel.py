"""
The Beta kernel w(p) = p^weight_alpha (1 - p)^weight_beta, and its estimates from c passes in K generations.

It is one problem's weight before it is normalised, which is the business of `weights.py`.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from .counts import Counts, Floats, check_counts, check_evidence, pass_rates
from .prior import AnyPrior, as_prior, posterior_point_masses


WeightEstimator = Literal["plugin", "unbiased", "posterior"]


def beta_kernel(p: npt.ArrayLike, weight_alpha: float = 1.0, weight_beta: float = 1.0) -> Floats:
    """
    Return the Beta kernel p^weight_alpha (1 - p)^weight_beta, with 0^0 = 1.

    It is highest at p = weight_alpha / (weight_alpha + weight_beta): `weight_beta > weight_alpha` favours harder
    problems.

    Args:
        p (`ArrayLike`): Pass rates in [0, 1], of any shape; nan stays nan.
        weight_alpha, weight_beta (`float`, *optional*, defaults to `1.0`): Exponents of p and of 1 - p, at least 0.

    Returns:
        `np.ndarray`: Kernel values in [0, 1], float64 of the shape of `p`, not normalised.

    Raises:
        ValueError: If a pass rate is outside [0, 1], or an exponent negative or not finite.
    """
    check_exponents(weight_alpha, weight_beta)
    rates = np.asarray(p, dtype=np.float64)
    outside = rates[(rates < 0.0) | (rates > 1.0)]
    if outside.size:
        raise ValueError(f"`p` holds {outside.flat[0]}, which is no pass rate. Give fractions in [0, 1].")
    return rates**weight_alpha * (1.0 - rates) ** weight_beta


def kernel_estimates(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    weight_alpha: float = 1.0,
    weight_beta: float = 1.0,
    estimator: WeightEstimator = "plugin",
    prior: AnyPrior | None = None,
    gate: bool = True,
) -> Floats:
    """Return estimates of the kernel, **shape (P,)**: 0 where unmeasured, but by `"posterior"` without a gate."""
    if estimator == "unbiased":
        passed, valid = check_counts(num_passed, num_valid)
        return _unbiased_where_it_exists(passed, valid, weight_alpha, weight_beta)
    observed, total = check_evidence(num_passed, num_valid)
    if estimator == "plugin":
        return np.where(total > 0, beta_kernel(pass_rates(observed, total), weight_alpha, weight_beta), 0.0)
    if prior is None:
        raise ValueError("`estimator` is 'posterior', which starts from a `prior`, and none is given. Fit one.")
    mean = posterior_mean_weight(observed, total, weight_alpha=weight_alpha, weight_beta=weight_beta, prior=prior)
    return np.where((observed > 0) & (observed < total), mean, 0.0) if gate else mean


def unbiased_weight(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, *, weight_alpha: float = 1.0, weight_beta: float = 1.0
) -> Floats:
    """
    Return the unbiased estimate of the kernel p^a (1 - p)^b, a = weight_alpha and b = weight_beta.

    Of c passes in K generations it is the share of ordered draws of a + b generations whose first a passed and whose
    last b failed: c^(a) (K - c)^(b) / K^(a + b), with x^(m) = x (x - 1) ... (x - m + 1). For the default exponents
    that is c (K - c) / (K (K - 1)). The expectation of any function of c is a polynomial in p of degree K at most, so
    an unbiased estimate exists, and it is this one, if and only if a and b are whole numbers and a + b is at most K.

    Args:
        num_passed, num_valid (`ArrayLike`): Passes c and valid generations K of each problem, **shape (P,)** each.
        weight_alpha, weight_beta (`float`, *optional*, defaults to `1.0`): Exponents, whole numbers.

    Returns:
        `np.ndarray`: Estimates in [0, 1], not normalised; float64 of **shape (P,)**; nan where K < a + b.

    Raises:
        ValueError: If the counts are invalid, or an exponent is negative or no whole number.
    """
    passed, valid = check_counts(num_passed, num_valid)
    check_exponents(weight_alpha, weight_beta)
    if not (float(weight_alpha).is_integer() and float(weight_beta).is_integer()):
        raise ValueError(
            f"`weight_alpha` and `weight_beta` are {weight_alpha} and {weight_beta}, but an unbiased estimate of the "
            "kernel exists for whole-numbered exponents only. Round them, or use `estimator='plugin'` or 'posterior'."
        )
    num_passes, num_failures = int(weight_alpha), int(weight_beta)
    estimate = np.where(valid >= num_passes + num_failures, 1.0, np.nan)
    if np.isnan(estimate).all():
        return estimate
    # One factor per drawn generation, so that no product of large counts is ever formed.
    with np.errstate(divide="ignore", invalid="ignore"):
        for drawn in range(num_passes):
            estimate *= np.maximum(passed - drawn, 0) / (valid - drawn)
        for drawn in range(num_failures):
            estimate *= np.maximum(valid - passed - drawn, 0) / (valid - num_passes - drawn)
    return estimate


def posterior_mean_weight(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    weight_alpha: float = 1.0,
    weight_beta: float = 1.0,
    prior: AnyPrior,
) -> Floats:
    """
    Return the posterior mean E[p^a (1 - p)^b | c, K], a = weight_alpha and b = weight_beta, in closed form.

    Under Beta(a0, b0) it is B(c + a0 + a, K - c + b0 + b) / B(c + a0, K - c + b0), B the Beta function. Under an
    inflated [`Prior`] that is multiplied by the posterior probability that p is neither 0 nor 1; the kernel is 0
    there, unless an exponent is 0. The second moment is the same with both exponents doubled, so the posterior
    variance is closed too.

    Args:
        num_passed, num_valid (`ArrayLike`): Passes c, valid generations K, **shape (P,)** each, whole or discounted.
        weight_alpha, weight_beta (`float`, *optional*, defaults to `1.0`): Exponents of p and of 1 - p, at least 0.
        prior ([`Prior`] or pair of `float`): Distribution of pass rates, or plain `(a0, b0)`.

    Returns:
        `np.ndarray`: Posterior means in [0, 1], not normalised; float64 of **shape (P,)**. A problem without a valid
        generation has the prior's mean.

    Raises:
        ValueError: If the counts or the prior are invalid, or an exponent is negative or not finite.
    """
    passed, valid = check_evidence(num_passed, num_valid)
    check_exponents(weight_alpha, weight_beta)
    prior = as_prior(prior)
    shape_a, shape_b = passed + prior.a0, valid - passed + prior.b0
    mean = np.exp(betaln(shape_a + weight_alpha, shape_b + weight_beta) - betaln(shape_a, shape_b))
    if not (np.any(prior.mass_at_zero) or np.any(prior.mass_at_one)):
        return mean
    at_zero, at_one = posterior_point_masses(passed, valid, prior)
    at_ends = at_zero * (weight_alpha == 0.0) + at_one * (weight_beta == 0.0)
    return (1.0 - at_zero - at_one) * mean + at_ends


def check_exponents(weight_alpha: float, weight_beta: float) -> None:
    """Refuse exponents with which the kernel is not bounded."""
    for name, exponent in (("weight_alpha", weight_alpha), ("weight_beta", weight_beta)):
        if not 0.0 <= exponent < np.inf:
            raise ValueError(
                f"`{name}` is {exponent}, which is no exponent of the kernel: the weight would not be bounded. Give a "
                "finite number of at least 0."
            )


def _unbiased_where_it_exists(passed: Counts, valid: Counts, weight_alpha: float, weight_beta: float) -> Floats:
    """Return the unbiased estimates, 0 where there is none; warn of those, and refuse if there is none at all."""
    weights = unbiased_weight(passed, valid, weight_alpha=weight_alpha, weight_beta=weight_beta)
    too_few = np.flatnonzero(np.isnan(weights) & (valid > 0))
    if not too_few.size:
        return weights
    needed, row = int(weight_alpha + weight_beta), too_few[0]
    reason = (
        f"the unbiased estimate with `weight_alpha` {weight_alpha} and `weight_beta` {weight_beta} needs {needed} "
        f"valid generations, and the problem in row {row} has {valid[row]}"
    )
    if np.isnan(weights).all():
        raise ValueError(
            f"No problem can be weighted: {reason}, and no other has enough. Raise `num_generations` to {needed} or "
            "more, or use `estimator='plugin'` or 'posterior'."
        )
    warnings.warn(
        f"{too_few.size} of {valid.size} problems get weight 0: {reason}. Measure them with more generations, or use "
        "`estimator='plugin'` or 'posterior'.",
        stacklevel=3,
    )
    return np.nan_to_num(weights, nan=0.0)
