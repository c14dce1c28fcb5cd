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

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "evaluation": ["Evaluation", "evaluate_model"],
        "differences": ["compare_runs"],
        "arms": ["PRESETS"],
        "comparison": ["Comparison"],
        "run_comparison": ["run_comparison"],
    },
)

if TYPE_CHECKING:
    from .arms import PRESETS as PRESETS
    from .comparison import Comparison as Comparison
    from .differences import compare_runs as compare_runs
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate_model as evaluate_model
    from .run_comparison import run_comparison as run_comparison
