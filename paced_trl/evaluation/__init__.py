"""
Student -> mean@k with intervals; arms compared under one budget.

    evaluation.py      one student on one set of problems
    differences.py     paired differences between evaluations
    intervals.py       the bootstrap behind every interval
    power.py           the smallest difference that could have been found
    tables.py          results for the terminal and Markdown
    arms.py            what the arms of a comparison are
    comparison.py      what came of the arms
    run_comparison.py  several arms trained and evaluated under one budget
    learning_curve.py  accuracy against what training has cost
    curve_evaluation.py  evaluations while an arm trains
    diagnosis.py       gradients of single problems, for the curve behind the weight
    gradient_snr.py    their signal-to-noise ratio over the pass rate
    teacher_gap.py     what quantisation changes in a teacher
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
