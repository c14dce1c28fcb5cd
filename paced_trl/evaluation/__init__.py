"""
Student -> mean@k with intervals; arms compared under one budget.

    evaluation.py      one student on one set of problems
    differences.py     paired differences between evaluations
    arms.py            what the arms of a comparison are
    comparison.py      what came of the arms
    run_comparison.py  several arms trained and evaluated under one budget
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "evaluation": ["Evaluation", "evaluate_model"],
        "differences": ["compare_runs"],
        "comparison": ["Comparison"],
        "run_comparison": ["run_comparison"],
    },
)

if TYPE_CHECKING:
    from .comparison import Comparison as Comparison
    from .differences import compare_runs as compare_runs
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate_model as evaluate_model
    from .run_comparison import run_comparison as run_comparison
