"""
The outcome of a run in a word and a sentence: did training help, what did it cost, can that be said at all?

Held-out problems count first, then what was forgotten. An arm is called better or worse only where the interval of a
paired difference excludes 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..estimation.advice import MIN_FRONTIER_SHARE
from ..evaluation.comparison import BASE
from ..text import in_percent
from .contents import RunContents
from .findings import against, differences, listed, training_shares


@dataclass(frozen=True)
class Outcome:
    """Which way a run went, the word for it, and the sentence that says why."""

    kind: Literal["better", "mixed", "worse", "open"]
    word: str
    sentence: str


def run_outcome(contents: RunContents) -> Outcome:
    """Judge a run: each arm against the control arm on the held-out sets, a single run against the base student."""
    comparison = contents.comparison
    control = BASE if comparison is None or comparison.control not in contents.arms else comparison.control
    found = differences(contents, contents.eval_sets, control)
    if not found:
        return _without_evaluation(contents)
    better = [arm for _, arm, one in found if one.low > 0]
    worse = [arm for _, arm, one in found if one.high < 0]
    lost = [(arm, name) for name, arm, one in differences(contents, contents.retention_sets, BASE) if one.high < 0]
    parts = [against(contents.evaluations[name], f"On {name}", control) for name in contents.eval_sets]
    for name in dict.fromkeys(name for _, name in lost):
        arms = [arm for arm, other in lost if other == name]
        parts.append(f"Some of {name}, which no arm trains on, was forgotten by {listed(arms)}.")
    if contents.unfinished:
        parts.append(f"Not finished yet: {listed(contents.unfinished)}.")
    sentence = " ".join(filter(None, parts))
    if better and (worse or lost):
        return Outcome("mixed", "Mixed.", sentence)
    if better:
        return Outcome("better", "Better.", sentence)
    if worse:
        return Outcome("worse", "Worse.", sentence)
    return Outcome("open", "No difference shown.", sentence)


def _without_evaluation(contents: RunContents) -> Outcome:
    if contents.unfinished:
        return Outcome("open", "Not finished.", f"Still to end: {listed(contents.unfinished)}.")
    if contents.histories or contents.evaluations:
        return Outcome(
            "open",
            "Not compared.",
            "What training changed was not measured. Run `paced-trl evaluate` for the student before and after it, "
            "with the same problems and settings.",
        )
    shares = training_shares(contents)
    if shares is None:
        return Outcome("open", "Not trained.", "Only the gradients of the student were looked at.")
    words = f"{in_percent(shares.frontier)} of the problems are at the frontier, where PACED's weight lies."
    words = f"{words[0].upper()}{words[1:]}"
    if shares.frontier < MIN_FRONTIER_SHARE:
        return Outcome("worse", "Little to learn.", words)
    return Outcome("open", "Measured.", f"{words} Nothing was trained yet.")
