"""
Student -> mean@k with intervals; arms compared under one budget.

    evaluation.py      one student on one set of problems
    differences.py     paired differences between evaluations
    arms.py            what the arms of a comparison are
    comparison.py      what came of the arms
    run_comparison.py  several arms trained and evaluated under one budget
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
