"""
When measured shares call for advice, and what it says: an empty frontier, a failing verifier, cut-off completions.

The one place of these thresholds and sentences. `summary.py`, training and the report show them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..text import in_percent
from ..weighting.counts import FrontierShares


# Shares beyond which a user is warned: of problems at the frontier, of completions without a valid verdict, of
# completions that failed because they were cut off, and of all that were cut off in training, right or wrong.
MIN_FRONTIER_SHARE = 0.10
MAX_FAILURE_SHARE = 0.01
MAX_TRUNCATED_SHARE = 0.10
MAX_CLIPPED_SHARE = 0.50


def frontier_advice(shares: FrontierShares) -> str | None:
    """Return advice where nearly no problem is passed sometimes and failed sometimes."""
    if shares.frontier >= MIN_FRONTIER_SHARE:
        return None
    if shares.mastered > shares.out_of_reach:
        remedy = "Most problems are mastered: take harder ones."
    else:
        remedy = (
            "Most problems are out of reach: take easier ones, look at some completions (format, length limit, chat "
            "template), or give the student examples in the prompt (`few_shot`)."
        )
    how_many = (
        f"Only {in_percent(shares.frontier)} of the problems are" if shares.frontier else "None of the problems is"
    )
    return f"{how_many} at the frontier, passed sometimes and not always, so nearly all weights are 0. {remedy}"


def verifier_advice(failed: float, about: str = "") -> str | None:
    """Return advice where the verifier failed on too large a share of the completions (timeout or unverifiable)."""
    if failed <= MAX_FAILURE_SHARE:
        return None
    return (
        f"The verifier failed on {failed:.1%} of the completions{about}, which count neither as passed "
        "nor as failed. Try it with `paced-trl verify`, or read them with `paced-trl inspect STORE --verdict timeout` "
        "(or unverifiable)."
    )


def truncation_advice(truncated: float, about: str = "") -> str | None:
    """Return advice where too large a share of the completions was cut off and has not passed (truncated)."""
    if truncated <= MAX_TRUNCATED_SHARE:
        return None
    return (
        f"{truncated:.1%} of the completions{about} were cut off at the length limit before they had answered. Raise "
        "`max_completion_length`, which may turn failures into passes."
    )


def clipping_advice(clipped: float) -> str | None:
    """Return advice where too large a share of the completions that training makes is cut off, passed or not."""
    if clipped <= MAX_CLIPPED_SHARE:
        return None
    return (
        f"{clipped:.0%} of the completions are cut off at `max_completion_length`: the student never sees its own "
        "ends. Raise it, or check that references end and that student and teacher have the same end-of-sequence "
        "tokens."
    )


def verdict_advice(counts: Mapping[str, int], about: str = "") -> list[str]:
    """Return advice on completions by how many have each verdict; `about` says in the sentences which they are."""
    total = max(sum(counts.values()), 1)
    failed = counts.get("timeout", 0) + counts.get("unverifiable", 0)
    advice = [verifier_advice(failed / total, about), truncation_advice(counts.get("truncated", 0) / total, about)]
    return [text for text in advice if text is not None]
