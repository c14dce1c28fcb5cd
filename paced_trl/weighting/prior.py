"""
The distribution of pass rates over a table's problems, and what it says about one problem after some generations.

The prior is a Beta with point masses at 0 and 1; posteriors and intervals are closed. Every parameter may be one
number for all problems or one per problem. How a prior is fitted to a table is in `prior_fit.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Union

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, betaln, gammaln

from .counts import Counts, Floats, check_counts, check_evidence


Parameter = float | Floats
AnyPrior = Union["Prior", Sequence[float]]


@dataclass(frozen=True)
class Prior:
    """
    Zero-one-inflated Beta distribution of pass rates.

    A pass rate is 0 with probability `mass_at_zero`, 1 with probability `mass_at_one`, and otherwise drawn from
    Beta(`a0`, `b0`). Each parameter is one number, or an array of **shape (P,)** where problems have priors of their
    own.

    Args:
        a0, b0 (`float` or `np.ndarray`): Shape parameters of the Beta, above 0.
        mass_at_zero, mass_at_one (`float` or `np.ndarray`, *optional*, defaults to `0.0`):
            Probabilities, in [0, 1), that a problem never and always passes; their sum is below 1.

    Raises:
        ValueError: If a shape parameter is not positive and finite, a mass is negative, or the masses reach 1.
    """

    a0: Parameter
    b0: Parameter
    mass_at_zero: Parameter = 0.0
    mass_at_one: Parameter = 0.0

    def __post_init__(self) -> None:
        for name, shape in (("a0", self.a0), ("b0", self.b0)):
            if not np.all((np.asarray(shape) > 0.0) & np.isfinite(shape)):
                raise ValueError(
                    f"`{name}` of the prior is {shape}; a Beta distribution needs it positive and finite."
                )
        for name, mass in (("mass_at_zero", self.mass_at_zero), ("mass_at_one", self.mass_at_one)):
            if not np.all((np.asarray(mass) >= 0.0) & (np.asarray(mass) < 1.0)):
                raise ValueError(f"`{name}` of the prior is {mass}; it is a probability. Give it in [0, 1).")
        if np.any(np.asarray(self.mass_at_zero) + self.mass_at_one >= 1.0):
            raise ValueError(
                f"`mass_at_zero` and `mass_at_one` of the prior are {self.mass_at_zero} and {self.mass_at_one}, which "
                "leaves no probability for pass rates in between. Lower them to a sum below 1."
            )

    def at(self, rows: npt.NDArray[np.intp]) -> Prior:
        """Return the prior of some problems, where problems have priors of their own."""
        return Prior(*(value if np.ndim(value) == 0 else np.asarray(value)[rows] for value in astuple(self)))


@dataclass(frozen=True)
class DistinctCounts:
    """The S distinct counts of P problems, or all where problems have priors of their own, and each problem's row."""

    passed: Counts
    valid: Counts
    prior: Prior
    multiplicity: Floats
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, passed: Counts, valid: Counts, prior: Prior) -> DistinctCounts:
        """Return the distinct counts: a million problems have few."""
        if any(np.ndim(value) for value in astuple(prior)):
            return cls(passed, valid, prior, np.ones(passed.size), np.arange(passed.size))
        base = int(valid.max()) + 1  # below 2^31 + 1, so that the codes fit into 64 bits
        codes, rows, multiplicity = np.unique(passed * base + valid, return_inverse=True, return_counts=True)
        return cls(codes // base, codes % base, prior, multiplicity.astype(np.float64), rows)


def as_prior(prior: AnyPrior) -> Prior:
    """Return a [`Prior`] from what users may give for one: a `Prior`, or a plain pair `(a0, b0)`."""
    if isinstance(prior, Prior):
        return prior
    try:
        a0, b0 = (float(shape) for shape in prior)
    except (TypeError, ValueError):
        raise ValueError(
            f"`prior` is {prior!r}, which is no distribution of pass rates. Give a `Prior` or a pair (a0, b0)."
        ) from None
    return Prior(a0, b0)


def log_marginal_likelihood(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, prior: AnyPrior) -> Floats:
    """Return the log-probability of each problem's passes, **shape (P,)**, in nats: inflated beta-binomial."""
    passed, valid = check_counts(num_passed, num_valid)
    log_choose = gammaln(valid + 1.0) - gammaln(passed + 1.0) - gammaln(valid - passed + 1.0)
    return log_choose + np.logaddexp.reduce(log_joint(passed, valid, as_prior(prior)))


def posterior_point_masses(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, prior: AnyPrior
) -> tuple[Floats, Floats]:
    """Return the posterior probabilities that each pass rate is exactly 0 and exactly 1, **shape (P,)** each."""
    passed, valid = check_evidence(num_passed, num_valid)
    parts = log_joint(passed, valid, as_prior(prior))
    at_zero, at_one, _ = np.exp(parts - np.logaddexp.reduce(parts))
    return at_zero, at_one


def posterior(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, prior: AnyPrior) -> Prior:
    """Return each problem's posterior, parameters of **shape (P,)**: of the prior's own form, by conjugacy."""
    passed, valid = check_evidence(num_passed, num_valid)
    prior = as_prior(prior)
    at_zero, at_one = posterior_point_masses(passed, valid, prior)
    # The masses of a Prior leave room for the Beta, be it ever so little.
    largest = 1.0 - 2.0 * np.finfo(float).eps
    scale = np.minimum(1.0, largest / np.maximum(at_zero + at_one, largest))
    return Prior(prior.a0 + passed, prior.b0 + valid - passed, at_zero * scale, at_one * scale)


def posterior_mean_pass_rate(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, prior: AnyPrior) -> Floats:
    """Return the probability that a problem's next valid generation passes, **shape (P,)**: the posterior mean."""
    passed, valid = check_evidence(num_passed, num_valid)
    prior = as_prior(prior)
    at_zero, at_one = posterior_point_masses(passed, valid, prior)
    return at_one + (1.0 - at_zero - at_one) * (passed + prior.a0) / (valid + prior.a0 + prior.b0)


def credible_intervals(
    num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, prior: AnyPrior, *, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the lower and upper ends of equal-tailed credible intervals of pass rates, **shape (P,)** each."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"`level` is {level}; the probability of an interval lies between 0 and 1, such as 0.95.")
    distinct = DistinctCounts.of(*check_counts(num_passed, num_valid), as_prior(prior))
    passed, valid = distinct.passed, distinct.valid
    at_zero, at_one = posterior_point_masses(passed, valid, distinct.prior)
    in_between = np.maximum(1.0 - at_zero - at_one, np.finfo(float).tiny)
    ends = []
    for probability in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        within = np.clip((probability - at_zero) / in_between, 0.0, 1.0)
        ends.append(betaincinv(passed + distinct.prior.a0, valid - passed + distinct.prior.b0, within))
    # As in the Jeffreys interval (Brown, Cai and DasGupta, 2001): such counts never speak against the end itself.
    low, high = np.where(passed == 0, 0.0, ends[0]), np.where(passed == valid, 1.0, ends[1])
    return low[distinct.rows], high[distinct.rows]


def log_joint(passed: Counts | Floats, valid: Counts | Floats, prior: Prior) -> Floats:
    """Return log P(part, c | K) without the binomial coefficient, parts p = 0, p = 1 and Beta, **shape (3, P)**."""
    # The coefficient is 1 wherever a point mass can be, and cancels in posteriors elsewhere.
    with np.errstate(divide="ignore"):
        at_zero = np.where(passed == 0, np.log(prior.mass_at_zero), -np.inf)
        at_one = np.where(passed == valid, np.log(prior.mass_at_one), -np.inf)
    log_beta_mass = np.log1p(-np.asarray(prior.mass_at_zero) - prior.mass_at_one)
    log_ratio = betaln(passed + prior.a0, valid - passed + prior.b0) - betaln(prior.a0, prior.b0)
    return np.stack([at_zero, at_one, log_beta_mass + log_ratio])
