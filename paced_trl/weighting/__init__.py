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

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
