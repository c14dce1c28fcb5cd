"""
Counts of passed completions -> problem weights. numpy and scipy only.

    counts.py          passed and valid completions per problem; mastered, frontier, out of reach
    prior.py           Beta priors, posteriors, credible intervals
    prior_fit.py       priors fitted to a table of counts
    prior_features.py  priors fitted to a table and to columns known before generating
    kernel.py          the weight of one problem: p^a (1-p)^b and its estimates from counts
    weights.py         the weights of a data set: controls, replay, mean 1, effective sample size
    allocation.py      which problems get the next generations, and when there are enough
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "prior": ["Prior"],
        "prior_fit": ["fit_beta_prior", "fit_prior"],
        "prior_features": ["problem_features"],
        "kernel": ["beta_kernel", "posterior_mean_weight", "unbiased_weight"],
        "weights": ["effective_sample_size", "problem_weights"],
        "allocation": ["AdaptiveAllocation"],
    },
)

if TYPE_CHECKING:
    from .allocation import AdaptiveAllocation as AdaptiveAllocation
    from .kernel import beta_kernel as beta_kernel
    from .kernel import posterior_mean_weight as posterior_mean_weight
    from .kernel import unbiased_weight as unbiased_weight
    from .prior import Prior as Prior
    from .prior_features import problem_features as problem_features
    from .prior_fit import fit_beta_prior as fit_beta_prior
    from .prior_fit import fit_prior as fit_prior
    from .weights import effective_sample_size as effective_sample_size
    from .weights import problem_weights as problem_weights
