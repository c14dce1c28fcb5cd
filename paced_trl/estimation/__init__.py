"""
Problems + engine + verifier -> pass rates and references.

    pass_rates.py           the table of pass rates
    references.py           the teacher's verified completions
    summary.py              what a person should know of a table of pass rates
    advice.py               when shares call for advice, and what it says
    solution_likelihood.py  the student's log-probability of each solution
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
