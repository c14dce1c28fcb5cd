"""
Problems + engine + verifier -> pass rates and references.

    pass_rates.py           the table of pass rates
    references.py           the teacher's verified completions
    summary.py              what a person should know of a table of pass rates
    advice.py               when shares call for advice, and what it says
    solution_likelihood.py  the student's log-probability of each solution
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


__getattr__, __all__ = lazy_names(
    __name__,
    {
        "pass_rates": ["estimate_pass_rates", "read_pass_rates"],
        "references": ["generate_references"],
        "summary": ["summarize_pass_rates"],
        "solution_likelihood": ["solution_log_probabilities"],
    },
)

if TYPE_CHECKING:
    from .pass_rates import estimate_pass_rates as estimate_pass_rates
    from .pass_rates import read_pass_rates as read_pass_rates
    from .references import generate_references as generate_references
    from .solution_likelihood import solution_log_probabilities as solution_log_probabilities
    from .summary import summarize_pass_rates as summarize_pass_rates
