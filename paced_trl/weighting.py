"""
How much each problem counts: problem weights from counts of passes.

Responsible for the Beta kernel w(p) = p^weight_alpha (1 - p)^weight_beta and the two controls it is compared with, for
estimating a problem's weight from c passes in K generations, and for the one normalisation there is: to mean 1 over
the whole dataset. Weights are never normalised over a batch, where one row per micro-batch would make w / w = 1 and
silently turn the method off.

The kernel and its plug-in estimate are the paper's (PACED, arXiv 2603.11178; `weight_alpha` and `weight_beta` are its
exponents, 1 by default); the unbiased and the posterior estimate are ours. This module knows nothing of losses,
batches or models.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from .pass_rate import Counts, Floats, check_counts, check_evidence
from .prior import Prior, as_prior, posterior_point_masses
from .prior_fit import fit_prior


Weighting = Literal["beta", "uniform", "hard_filter"]
WeightEstimator = Literal["plugin", "unbiased", "posterior"]


def beta_kernel(p: npt.ArrayLike, weight_alpha: float = 1.0, weight_beta: float = 1.0) -> Floats:
    """
    Return the Beta kernel p^weight_alpha (1 - p)^weight_beta, with 0^0 = 1.

    It is highest at p = weight_alpha / (weight_alpha + weight_beta): `weight_beta > weight_alpha` favours harder
    problems.

    Args:
        p (`ArrayLike`): Pass rates in [0, 1], of any shape; nan stays nan.
        weight_alpha (`float`, *optional*, defaults to `1.0`): Exponent of the pass rate, at least 0.
        weight_beta (`float`, *optional*, defaults to `1.0`): Exponent of the failure rate, at least 0.

    Returns:
        `np.ndarray`: Kernel values in [0, 1], float64 of the shape of `p`, not normalised.

    Raises:
        ValueError: If a pass rate is outside [0, 1], or an exponent negative or not finite.

    Example:

    ```python
    >>> beta_kernel([0.0, 0.25, 0.5, 1.0])
    array([0.    , 0.1875, 0.25  , 0.    ])
    ```
    """
    _check_exponents(weight_alpha, weight_beta)
    rates = np.asarray(p, dtype=np.float64)
    outside = rates[(rates < 0.0) | (rates > 1.0)]
    if outside.size:
        raise ValueError(f"`p` holds {outside.flat[0]}, which is no pass rate. Give fractions in [0, 1].")
    return rates**weight_alpha * (1.0 - rates) ** weight_beta


def problem_weights(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    kind: Weighting = "beta",
    weight_alpha: float = 1.0,
    weight_beta: float = 1.0,
    estimator: WeightEstimator = "plugin",
    prior: Prior | Sequence[float] | None = None,
    gate: bool = True,
    band: Sequence[float] = (0.2, 0.8),
    discounted: bool = False,
) -> Floats:
    """
    Return each problem's weight, normalised to mean 1 over the dataset: w_i / mean_j w_j.

    The mean is over all problems given, so pass the whole dataset at once, never a batch. A problem without a valid
    generation has weight 0 whatever the kind, and counts in the mean: with `"uniform"` and u of n problems unmeasured,
    the others weigh n / (n - u).

    Args:
        num_passed (`ArrayLike`): Generations that passed, c, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Generations with a valid verdict, K, per problem, of **shape (P,)**; 0 is unmeasured.
        kind (`str`, *optional*, defaults to `"beta"`):
            `"beta"` is the paper's kernel p^weight_alpha (1 - p)^weight_beta. `"uniform"` weights all measured
            problems alike and `"hard_filter"` those whose pass rate c / K lies in `band`: the controls. Both ignore
            the exponents and the estimator.
        weight_alpha (`float`, *optional*, defaults to `1.0`): Exponent of the pass rate, at least 0.
        weight_beta (`float`, *optional*, defaults to `1.0`): Exponent of the failure rate, at least 0.
        estimator (`str`, *optional*, defaults to `"plugin"`):
            How the kernel is estimated. `"plugin"` takes it at c / K, as the paper does. `"unbiased"` is right on
            average over repeated measurements (see [`unbiased_weight`]); a problem with fewer than weight_alpha +
            weight_beta generations has no such estimate and gets weight 0, with a warning. `"posterior"` is
            [`posterior_mean_weight`].
        prior ([`Prior`] or pair of `float`, *optional*):
            Distribution of pass rates that `"posterior"` starts from. If `None`, [`fit_prior`] of this table.
        gate (`bool`, *optional*, defaults to `True`):
            Whether `"posterior"` gives weight 0 where only failures or only passes were seen, whatever the exponents.
            A prototype that spent 15 % of its draws on problems never solved trained clearly worse.
        band (pair of `float`, *optional*, defaults to `(0.2, 0.8)`):
            Lowest and highest pass rate that `"hard_filter"` keeps, both included.
        discounted (`bool`, *optional*, defaults to `False`):
            Whether counts may be fractions, as evidence that has faded is; see
            [`~paced_trl.online_pass_rates.OnlinePassRates`].

    Returns:
        `np.ndarray`: Problem weights, at least 0, with mean 1; float64 of **shape (P,)**.

    Raises:
        ValueError: If the counts are invalid; if a setting is unknown or out of range; if `"unbiased"` is asked for
            exponents that have no unbiased estimate; or if all weights are 0.

    Example:

    ```python
    >>> problem_weights([0, 1, 2, 4], [4, 4, 4, 4])
    array([0.        , 1.71428571, 2.28571429, 0.        ])
    ```
    """
    passed, valid = (check_evidence if discounted else check_counts)(num_passed, num_valid)
    _check_settings(kind, estimator, weight_alpha, weight_beta, band)
    given_prior = None if prior is None else as_prior(prior)
    wants_fit = given_prior is None and estimator == "posterior"
    measured = valid > 0
    if kind == "uniform":
        weights = measured.astype(np.float64)
    elif kind == "hard_filter":
        rates = np.divide(passed, valid, out=np.full(passed.shape, np.nan), where=measured)
        weights = ((band[0] <= rates) & (rates <= band[1])).astype(np.float64)
    elif measured.any():
        weights = kernel_estimates(
            passed,
            valid,
            weight_alpha=weight_alpha,
            weight_beta=weight_beta,
            estimator=estimator,
            prior=fit_prior(passed, valid, discounted=discounted) if wants_fit else given_prior,
            gate=gate,
        )
    else:
        weights = np.zeros(passed.shape)
    weights = np.where(measured, weights, 0.0)
    total = weights.sum()
    if total == 0.0:
        raise ValueError(_all_zero_message(passed, valid, kind, estimator, gate, band))
    return weights * (weights.size / total)


def kernel_estimates(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    weight_alpha: float = 1.0,
    weight_beta: float = 1.0,
    estimator: WeightEstimator = "plugin",
    prior: Prior | Sequence[float] | None = None,
    gate: bool = True,
) -> Floats:
    """
    Return an estimate of the kernel at each problem's pass rate: the problem weight before it is normalised.

    Args:
        num_passed (`ArrayLike`): Generations that passed, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Generations with a valid verdict, per problem, of **shape (P,)**.
        weight_alpha, weight_beta, estimator, gate: As in [`problem_weights`].
        prior ([`Prior`] or pair of `float`, *optional*):
            Distribution of pass rates; `"posterior"` needs it.

    Returns:
        `np.ndarray`: Estimates in [0, 1], float64 of **shape (P,)**. A problem without a valid generation has 0, but
        with `"posterior"` and no gate the prior's mean.

    Raises:
        ValueError: If the counts or a setting are invalid.
    """
    if estimator == "unbiased":
        passed, valid = check_counts(num_passed, num_valid)
        return _unbiased_where_it_exists(passed, valid, weight_alpha, weight_beta)
    observed, total = check_evidence(num_passed, num_valid)
    if estimator == "plugin":
        rates = np.divide(observed, total, out=np.zeros(observed.shape), where=total > 0)
        return np.where(total > 0, beta_kernel(rates, weight_alpha, weight_beta), 0.0)
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
        num_passed (`ArrayLike`): Generations that passed, c, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Generations with a valid verdict, K, per problem, of **shape (P,)**.
        weight_alpha (`float`, *optional*, defaults to `1.0`): Exponent of the pass rate, a whole number.
        weight_beta (`float`, *optional*, defaults to `1.0`): Exponent of the failure rate, a whole number.

    Returns:
        `np.ndarray`: Estimates in [0, 1], not normalised; float64 of **shape (P,)**; nan where K < a + b.

    Raises:
        ValueError: If the counts are invalid, or an exponent is negative or no whole number.

    Example:

    ```python
    >>> unbiased_weight([2, 2], [4, 8])
    array([0.33333333, 0.21428571])
    ```
    """
    passed, valid = check_counts(num_passed, num_valid)
    _check_exponents(weight_alpha, weight_beta)
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
    prior: Prior | Sequence[float],
) -> Floats:
    """
    Return the posterior mean E[p^a (1 - p)^b | c, K], a = weight_alpha and b = weight_beta, in closed form.

    Under Beta(a0, b0) it is B(c + a0 + a, K - c + b0 + b) / B(c + a0, K - c + b0), B the Beta function. Under an
    inflated [`Prior`] that is multiplied by the posterior probability that p is neither 0 nor 1; the kernel is 0
    there, unless an exponent is 0. The second moment is the same with both exponents doubled, so the posterior
    variance is closed too.

    Args:
        num_passed (`ArrayLike`):
            Generations that passed, c, per problem, of **shape (P,)**; discounted ones need not be whole.
        num_valid (`ArrayLike`): Generations with a valid verdict, K, per problem, of **shape (P,)**; likewise.
        weight_alpha (`float`, *optional*, defaults to `1.0`): Exponent of the pass rate, at least 0.
        weight_beta (`float`, *optional*, defaults to `1.0`): Exponent of the failure rate, at least 0.
        prior ([`Prior`] or pair of `float`): Distribution of pass rates, or plain `(a0, b0)`.

    Returns:
        `np.ndarray`: Posterior means in [0, 1], not normalised; float64 of **shape (P,)**. A problem without a valid
        generation has the prior's mean.

    Raises:
        ValueError: If the counts or the prior are invalid, or an exponent is negative or not finite.

    Example:

    ```python
    >>> posterior_mean_weight([0, 1, 2], [4, 4, 4], prior=(1, 1)).round(3)
    array([0.119, 0.19 , 0.214])
    ```
    """
    passed, valid = check_evidence(num_passed, num_valid)
    _check_exponents(weight_alpha, weight_beta)
    prior = as_prior(prior)
    shape_a, shape_b = passed + prior.a0, valid - passed + prior.b0
    mean = np.exp(betaln(shape_a + weight_alpha, shape_b + weight_beta) - betaln(shape_a, shape_b))
    if not (np.any(prior.mass_at_zero) or np.any(prior.mass_at_one)):
        return mean
    at_zero, at_one = posterior_point_masses(passed, valid, prior)
    at_ends = at_zero * (weight_alpha == 0.0) + at_one * (weight_beta == 0.0)
    return (1.0 - at_zero - at_one) * mean + at_ends


def effective_sample_size(weights: npt.ArrayLike) -> float:
    """
    Return how many equally weighted problems have the same spread: (sum w)^2 / sum w^2.

    Args:
        weights (`ArrayLike`): Problem weights of **shape (P,)**, at least 0, in any unit.

    Returns:
        `float`: Problems, between 1 (one has all the weight) and P (all weigh the same).

    Raises:
        ValueError: If the weights are not flat, or negative, not finite, or all 0.

    Example:

    ```python
    >>> effective_sample_size([0.0, 1.0, 1.0, 2.0])
    2.6666666666666665
    ```
    """
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"`weights` has shape {array.shape}, but takes one weight per problem. Pass a flat list.")
    wrong = array[~(np.isfinite(array) & (array >= 0.0))]
    if wrong.size:
        raise ValueError(f"`weights` holds {wrong[0]}, which is no weight. Give finite numbers of at least 0.")
    if not array.any():
        raise ValueError(
            f"`weights` holds {array.size} weights and none above 0, so no problem counts. Give at least one."
        )
    array = array / array.max()  # squares of very large or small weights would leave the range of floats
    return float(np.clip(array.sum() ** 2 / (array @ array), 1.0, array.size))


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


def _check_settings(kind: str, estimator: str, weight_alpha: float, weight_beta: float, band: Sequence[float]) -> None:
    for name, value, choices in (
        ("kind", kind, get_args(Weighting)),
        ("estimator", estimator, get_args(WeightEstimator)),
    ):
        if value not in choices:
            raise ValueError(f"`{name}` is {value!r}, which is none of {', '.join(map(repr, choices))}. Choose one.")
    _check_exponents(weight_alpha, weight_beta)
    if len(band) != 2 or not 0.0 <= band[0] <= band[1] <= 1.0:
        raise ValueError(
            f"`band` is {band!r}, which is no range of pass rates. Give the lowest and the highest pass rate to keep, "
            "in [0, 1] and in this order."
        )


def _check_exponents(weight_alpha: float, weight_beta: float) -> None:
    for name, exponent in (("weight_alpha", weight_alpha), ("weight_beta", weight_beta)):
        if not 0.0 <= exponent < np.inf:
            raise ValueError(
                f"`{name}` is {exponent}, which is no exponent of the kernel: the weight would not be bounded. Give a "
                "finite number of at least 0."
            )


def _all_zero_message(
    passed: Counts | Floats,
    valid: Counts | Floats,
    kind: Weighting,
    estimator: WeightEstimator,
    gate: bool,
    band: Sequence[float],
) -> str:
    """Return what the table looks like and what can be done, where no problem has weight."""
    unmeasured = int((valid == 0).sum())
    mastered = int(((passed == valid) & (valid > 0)).sum())
    out_of_reach = int(((passed == 0) & (valid > 0)).sum())
    frontier = valid.size - unmeasured - mastered - out_of_reach
    table = (
        f"All {valid.size} problem weights are 0, so there is nothing to train on: {mastered} problems are mastered "
        f"(all generations passed), {out_of_reach} out of reach (none passed), {frontier} on the frontier (some "
        f"passed) and {unmeasured} unmeasured (no valid verdict)."
    )
    if unmeasured == valid.size:
        return f"{table} Estimate pass rates first; if that was done, check the verifier and the solutions."
    if kind == "hard_filter" and frontier:
        return f"{table} No pass rate is within `band` {tuple(band)}: widen it, or use `kind='beta'`."
    if frontier:
        return f"{table} The exponents leave them none: lower `weight_alpha` and `weight_beta`."
    advice = "Use easier problems" if out_of_reach > mastered else "Use harder problems"
    if mastered and out_of_reach:
        advice = "Use problems of a difficulty in between"
    soft = "set `gate=False`" if estimator == "posterior" and gate else "use `estimator='posterior'` with `gate=False`"
    if kind == "hard_filter":
        soft = "use `kind='beta'`, `estimator='posterior'` with `gate=False`"
    return f"{table} {advice}, raise `num_generations` to find rare passes or failures, or {soft}."
