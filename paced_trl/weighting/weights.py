"""
The weights of a data set from counts of passes: the kernel or a control, replayed mastered problems, mean 1.

Weights are never normalised over a batch, where one row per micro-batch would make w / w = 1 and silently turn the
method off. How the kernel is estimated is in `kernel.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from .counts import Counts, Floats, check_counts, check_evidence, frontier_shares, pass_rates
from .kernel import WeightEstimator, check_exponents, kernel_estimates
from .prior import AnyPrior, as_prior
from .prior_fit import fit_prior


Weighting = Literal["beta", "uniform", "hard_filter"]


def problem_weights(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    kind: Weighting = "beta",
    weight_alpha: float = 1.0,
    weight_beta: float = 1.0,
    estimator: WeightEstimator = "plugin",
    prior: AnyPrior | None = None,
    gate: bool = True,
    band: Sequence[float] = (0.2, 0.8),
    replay_share: float = 0.0,
    discounted: bool = False,
) -> Floats:
    """
    Return each problem's weight, normalised to mean 1 over the dataset: w_i / mean_j w_j.

    The mean is over all problems given, so pass the whole dataset at once, never a batch. A problem without a valid
    generation has weight 0 whatever the kind, and counts in the mean: with `"uniform"` and u of n problems unmeasured,
    the others weigh n / (n - u).

    Args:
        num_passed, num_valid (`ArrayLike`):
            Generations that passed, c, and with a valid verdict, K, of each problem, **shape (P,)** each.
        kind (`str`, *optional*, defaults to `"beta"`):
            `"beta"` is the kernel p^weight_alpha (1 - p)^weight_beta. `"uniform"` weights all measured problems alike
            and `"hard_filter"` those whose pass rate c / K lies in `band`: the controls, which ignore the estimator.
        weight_alpha, weight_beta (`float`, *optional*, defaults to `1.0`):
            Exponents of the pass rate and of the failure rate, at least 0.
        estimator (`str`, *optional*, defaults to `"plugin"`):
            How the kernel is estimated. `"plugin"` takes it at c / K. `"unbiased"` is right on average over repeated
            measurements (see [`unbiased_weight`]); a problem with fewer than weight_alpha + weight_beta generations
            has no such estimate and gets weight 0, with a warning. `"posterior"` is [`posterior_mean_weight`].
        prior ([`Prior`] or pair of `float`, *optional*):
            Distribution of pass rates that `"posterior"` starts from. If `None`, [`fit_prior`] of this table.
        gate (`bool`, *optional*, defaults to `True`):
            Whether `"posterior"` gives weight 0 where only failures or only passes were seen. A prototype that spent
            15 % of its draws on problems never solved trained clearly worse.
        band (pair of `float`, *optional*, defaults to `(0.2, 0.8)`):
            Lowest and highest pass rate that `"hard_filter"` keeps, both included.
        replay_share (`float`, *optional*, defaults to `0.0`):
            Share of all weight that mastered problems (all generations passed) have together, each as much: what the
            student can do is rehearsed. If 0, they have the weight of `kind`. `"uniform"` takes none.
        discounted (`bool`, *optional*, defaults to `False`):
            Whether counts may be fractions, as evidence that has faded is; see [`OnlinePassRates`].

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
    _check_settings(kind, estimator, weight_alpha, weight_beta, band, replay_share)
    given_prior = None if prior is None else as_prior(prior)
    wants_fit = given_prior is None and estimator == "posterior"
    measured = valid > 0
    if kind == "uniform":
        weights = measured.astype(np.float64)
    elif kind == "hard_filter":
        rates = pass_rates(passed, valid)
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
    if weights.any() and replay_share:
        weights = _with_replay(weights, measured & (passed == valid), replay_share)
    total = weights.sum()
    if total == 0.0:
        raise ValueError(_all_zero_message(passed, valid, kind, estimator, gate, band))
    return weights * (weights.size / total)


def _with_replay(weights: Floats, mastered: npt.NDArray[np.bool_], replay_share: float) -> Floats:
    """Give mastered problems their share of the weight, if there are any and others have the rest."""
    others = np.where(mastered, 0.0, weights).sum()
    if not mastered.any() or others == 0.0:
        return weights
    each = replay_share / (1.0 - replay_share) * others / mastered.sum()
    return np.where(mastered, each, weights)


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


def _check_settings(
    kind: str, estimator: str, weight_alpha: float, weight_beta: float, band: Sequence[float], replay_share: float
) -> None:
    for name, value, choices in (
        ("kind", kind, get_args(Weighting)),
        ("estimator", estimator, get_args(WeightEstimator)),
    ):
        if value not in choices:
            raise ValueError(f"`{name}` is {value!r}, which is none of {', '.join(map(repr, choices))}. Choose one.")
    check_exponents(weight_alpha, weight_beta)
    if len(band) != 2 or not 0.0 <= band[0] <= band[1] <= 1.0:
        raise ValueError(
            f"`band` is {band!r}, which is no range of pass rates. Give the lowest and the highest pass rate to keep, "
            "in [0, 1] and in this order."
        )
    check_replay(kind, replay_share)


def check_replay(kind: str, replay_share: float) -> None:
    """Refuse a share of the weight that mastered problems cannot have."""
    if not 0.0 <= replay_share < 1.0:
        raise ValueError(
            f"`replay_share` is {replay_share}; it is the share of the weight that mastered problems have, in [0, 1)."
        )
    if replay_share and kind == "uniform":
        raise ValueError(
            f"`replay_share` is {replay_share}, but uniform weights are the same for mastered problems and others. "
            "Leave it out, or choose another weighting."
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
    shares = astuple(frontier_shares(passed, valid))
    mastered, frontier, out_of_reach, unmeasured = (round(share * valid.size) for share in shares)
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
