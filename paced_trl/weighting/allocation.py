"""
Adaptive allocation: which problems get the next generations, and when there are enough.

Every problem is screened first; then, round by round, those get one where one more lowers the error of the problem
weights most. A round depends on the counts before it and on nothing else, so that a run that was interrupted, or is
shared by several processes, takes the same decisions again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .counts import Counts, Floats, check_counts
from .kernel import kernel_estimates, posterior_mean_weight, unbiased_weight
from .prior import DistinctCounts, Prior, log_marginal_likelihood, posterior, posterior_mean_pass_rate


# Two generations are the fewest that can disagree. A round of a sixteenth of the problems costs 1 % more generations
# than rounds of a thirtieth; fewer than 64 at a time would leave engines idle.
SCREENING_GENERATIONS = 2
_ROUND_SHARE = 1 / 16
_MIN_ROUND = 64
_REFIT_GROWTH = 1.1
# No problem gets more than this many times the average allowed: a verifier that fails on it would take everything.
_MAX_MULTIPLE = 8
# What `problem_weights` takes and the estimate of a kernel does not.
_KERNEL_SETTINGS = ("weight_alpha", "weight_beta", "estimator", "gate")


def kernel_settings(weighting: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those arguments of `problem_weights` on which the estimate of the kernel depends."""
    return {name: value for name, value in (weighting or {}).items() if name in _KERNEL_SETTINGS}


def weight_error(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, *, prior: Prior, weighting: Mapping[str, Any] | None = None
) -> float:
    """Return the root mean square of estimated minus true problem weights, both with mean 1; infinite if all are 0."""
    distinct = DistinctCounts.of(*check_counts(num_passed, num_valid), prior)
    moments = _moments(distinct.passed, distinct.valid, distinct.prior, kernel_settings(weighting))
    return _error(distinct.multiplicity, *moments)


def plugin_weight_error(
    num_generations: int,
    prior: Prior,
    weighting: Mapping[str, Any] | None = None,
    *,
    multiplicity: Floats | None = None,
) -> float:
    """Return the [`weight_error`] to expect of the plug-in estimate with K generations of each problem."""
    settings = kernel_settings(weighting) | {"estimator": "plugin"}
    num_priors = max(map(np.size, astuple(prior)))
    probabilities, moments = [], []
    for count in range(num_generations + 1):
        passed, valid = np.full(num_priors, count), np.full(num_priors, num_generations)
        probabilities.append(np.exp(log_marginal_likelihood(passed, valid, prior)))
        moments.append(_moments(passed, valid, prior, settings))
    estimate, mean, second = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    expected = np.stack(probabilities) * (np.ones(num_priors) if multiplicity is None else multiplicity)
    return _error(expected.ravel(), estimate, mean, second)


def attainable_error(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    prior: Prior,
    num_generations: int,
    weighting: Mapping[str, Any] | None = None,
) -> float:
    """Return the error that the plug-in estimate would have with K new generations of each of these problems."""
    distinct = DistinctCounts.of(*check_counts(num_passed, num_valid), prior)
    # What is known of them by now, not what the prior expected: a prior that fits badly would set a goal that nothing
    # reaches, or everything.
    known = posterior(distinct.passed, distinct.valid, distinct.prior)
    return plugin_weight_error(num_generations, known, weighting, multiplicity=distinct.multiplicity)


def expected_gains(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, *, prior: Prior, weighting: Mapping[str, Any] | None = None
) -> Floats:
    """Return how much one more valid generation of each should lower the squared [`weight_error`], **shape (P,)**."""
    distinct = DistinctCounts.of(*check_counts(num_passed, num_valid), prior)
    passed, valid, count = distinct.passed, distinct.valid, distinct.multiplicity
    settings = kernel_settings(weighting)
    estimate, mean, _ = _moments(passed, valid, distinct.prior, settings)
    if not estimate.any():
        # There is nothing yet to lower the error of: look for problems that deserve weight.
        settings = settings | {"estimator": "posterior", "gate": False}
        estimate = mean
    # The effect of a problem on the normalisation of all others is taken to first order.
    total, true_total = count @ estimate, count @ mean
    squares, products = count @ estimate**2, count @ (estimate * mean)
    per_total = 2.0 * products / (total**2 * true_total) - 2.0 * squares / total**3

    def contribution(passed: Counts, valid: Counts) -> Floats:
        estimate, mean, _ = _moments(passed, valid, distinct.prior, settings)
        return estimate**2 / total**2 - 2.0 * estimate * mean / (total * true_total) + per_total * estimate

    probability = posterior_mean_pass_rate(passed, valid, distinct.prior)
    after = probability * contribution(passed + 1, valid + 1) + (1.0 - probability) * contribution(passed, valid + 1)
    return count.sum() * (contribution(passed, valid) - after)[distinct.rows]


@dataclass(frozen=True)
class AdaptiveAllocation:
    """
    Rule that says, from the counts so far, how many generations each problem shall have.

    Args:
        num_generations (`int`):
            Most generations per problem on average, and the K whose plug-in error is to be reached.
        target_error (`float`, *optional*):
            [`weight_error`] at which to stop. `None`: that of the plug-in estimate with `num_generations` each.
        weighting (`dict`, *optional*): Arguments of [`problem_weights`]: the estimator whose error is lowered.

    Raises:
        ValueError: If `num_generations` is below 2, or `target_error` is not positive.
    """

    num_generations: int
    target_error: float | None = None
    weighting: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.num_generations < SCREENING_GENERATIONS:
            raise ValueError(
                f"`num_generations` is {self.num_generations}, and adaptive allocation screens each problem with "
                f"{SCREENING_GENERATIONS}. Raise it, or use `allocation='fixed'`."
            )
        if self.target_error is not None and not self.target_error > 0.0:
            raise ValueError(
                f"`target_error` is {self.target_error}; it is the root mean square error of weights with mean 1, "
                "such as 0.5, and has to be positive."
            )

    @staticmethod
    def wants_new_prior(fitted_at: int, num_generations: int) -> bool:
        """Whether a prior fitted to so many generations is out of date: a tenth more move it noticeably."""
        return num_generations >= _REFIT_GROWTH * fitted_at

    def next_targets(
        self, targets: Counts, num_passed: Counts, num_valid: Counts, is_usable: npt.NDArray[np.bool_], prior: Prior
    ) -> Counts | None:
        """Return how many generations each problem shall have next, **shape (P,)**; `None`: there are enough."""
        rows = np.flatnonzero(is_usable)
        generated, passed, valid = targets[rows], num_passed[rows], num_valid[rows]
        prior = prior.at(rows)
        goal = self.target_error or attainable_error(passed, valid, prior, self.num_generations, self.weighting)
        budget = self.num_generations * rows.size - int(generated.sum())
        if budget <= 0 or weight_error(passed, valid, prior=prior, weighting=self.weighting) <= goal:
            return None
        gains = expected_gains(passed, valid, prior=prior, weighting=self.weighting)
        # Of the generations of a problem on which the verifier fails, few tell anything.
        gains *= (valid + 1.0) / (generated + 1.0)
        gains[generated >= _MAX_MULTIPLE * self.num_generations] = -np.inf
        size = min(budget, max(_MIN_ROUND, round(rows.size * _ROUND_SHARE)))
        chosen = np.argsort(-gains, kind="stable")[:size]
        chosen = chosen[np.isfinite(gains[chosen])]
        if not chosen.size:
            return None
        following = targets.copy()
        following[rows[chosen]] += 1
        return following


def _moments(
    passed: Counts, valid: Counts, prior: Prior, settings: Mapping[str, Any]
) -> tuple[Floats, Floats, Floats]:
    """Return the estimate of each problem's kernel, and its first and second posterior moment."""
    alpha, beta = settings.get("weight_alpha", 1.0), settings.get("weight_beta", 1.0)
    if settings.get("estimator") == "unbiased":
        estimate = np.nan_to_num(unbiased_weight(passed, valid, weight_alpha=alpha, weight_beta=beta))
    else:
        estimate = kernel_estimates(passed, valid, prior=prior, **settings)
    mean, second = (
        posterior_mean_weight(passed, valid, weight_alpha=times * alpha, weight_beta=times * beta, prior=prior)
        for times in (1, 2)
    )
    return estimate, mean, second


def _error(multiplicity: Floats, estimate: Floats, mean: Floats, second: Floats) -> float:
    """Return the root of P sum_i (t_i^2 / T^2 - 2 t_i m_i / (T M) + s_i / M^2), with sums T of t_i and M of m_i."""
    total, true_total = multiplicity @ estimate, multiplicity @ mean
    if total == 0.0:
        return float("inf")
    squares, products = multiplicity @ estimate**2 / total**2, multiplicity @ (estimate * mean) / (total * true_total)
    square = multiplicity.sum() * (squares - 2.0 * products + multiplicity @ second / true_total**2)
    return float(np.sqrt(max(square, 0.0)))
