"""
What a training run's figures say is going wrong, and what to do about it.

Responsible for the thresholds and the words. Knows no trainer: figures come in as they are logged. Ours; the paper
(PACED, arXiv 2603.11178) has no such list.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...estimation.advice import MAX_FAILURE_SHARE, MIN_FRONTIER_SHARE


MIN_EFFECTIVE_SHARE = 0.05
MAX_CLIPPED_RATIO = 0.5
# Of the first value that the stage logged: below it, completions or distributions have collapsed.
MIN_SHARE_OF_FIRST = 0.5


def training_advice(
    logs: Mapping[str, float], num_problems: int, first: Mapping[str, float] | None = None
) -> dict[str, str]:
    """
    Return advice, by what it is about.

    Args:
        logs (`Mapping[str, float]`): What one call of the trainer's `log` has.
        num_problems (`int`): Problems in the training set.
        first (`Mapping[str, float]`, *optional*): The first that was logged in the same stage.

    Returns:
        `dict[str, str]`: One or two sentences each; empty when all is well.
    """
    advice = {}
    effective = logs.get("paced/effective_sample_size")
    if effective is not None and effective < MIN_EFFECTIVE_SHARE * num_problems:
        advice["effective_sample_size"] = (
            f"The problem weights are worth {effective:.0f} equally weighted problems of {num_problems}, so few "
            "problems decide every step. Lower `weight_alpha` and `weight_beta`, or measure with more generations."
        )
    frontier = logs.get("paced/problems/frontier")
    if frontier is not None and frontier < MIN_FRONTIER_SHARE:
        advice["frontier"] = (
            f"Only {frontier:.1%} of the problems are at the frontier, passed sometimes and not always, so there is "
            "little to learn from these. Take harder ones (easier ones, if the student passes none)."
        )
    clipped = logs.get("completions/clipped_ratio")
    if clipped is not None and clipped > MAX_CLIPPED_RATIO:
        advice["clipped_ratio"] = (
            f"{clipped:.0%} of the completions are cut off at `max_completion_length`: the student never sees its own "
            "ends. Raise it, or check that references end and that student and teacher have the same end-of-sequence "
            "tokens."
        )
    failures = logs.get("paced/verdicts/timeout", 0.0) + logs.get("paced/verdicts/unverifiable", 0.0)
    if failures > MAX_FAILURE_SHARE:
        advice["verifier"] = (
            f"The verifier failed on {failures:.1%} of the completions, which count neither as passed nor as failed. "
            "Try it with `paced-trl verify`."
        )
    return advice | _collapse(logs, first or {})


def _collapse(logs: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    advice = {}
    for key, subject, what in (
        ("completions/mean_length", "length", "The mean completion length"),
        ("entropy", "entropy", "The entropy of the student's next token"),
    ):
        value, start = logs.get(key), first.get(key)
        if value is not None and start is not None and value < MIN_SHARE_OF_FIRST * start:
            advice[subject] = (
                f"{what} has fallen from {start:.3g} to {value:.3g} in this stage: the student may be collapsing "
                "onto a few short or certain answers. Look at its completions (`log_completions`) and at held-out "
                "problems; lower `learning_rate`, or train with `kl='forward'` for longer."
            )
    return advice
