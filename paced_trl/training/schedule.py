"""
Which divergence is used at a step, and whose completions it is measured on.

Pure functions of the step, so that no checkpoint has to hold the schedule: a run that resumes at step 700 is in the
stage that step 700 is in. No torch: the report reads this module too.
"""

from __future__ import annotations

from typing import Literal, get_args


KL = Literal["forward", "reverse", "jsd", "akl", "cross_entropy"]
KLSchedule = Literal["forward", "reverse", "jsd", "akl", "cross_entropy", "forward_then_reverse"]
CompletionSource = Literal["student", "dataset"]
CompletionSourceSchedule = Literal["student", "dataset", "auto"]

# TRL's `beta` of each divergence (arXiv 2306.13649, eq. 4). Forward KL is KL(teacher || student), reverse KL is
# KL(student || teacher). JSD is not a blend of the two: it tends to 0 at both ends of `beta`. Adaptive KL is a blend,
# and no `beta` gives it. Cross-entropy is the forward KL to a teacher that is sure of the reference, and has none.
JSD_COEFFICIENT: dict[KL, float] = {"forward": 0.0, "reverse": 1.0, "jsd": 0.5}

# The divergence per token, as it is logged.
METRICS: dict[KL, str] = {
    "forward": "paced/forward_kl",
    "reverse": "paced/reverse_kl",
    "jsd": "paced/jsd",
    "akl": "paced/akl",
    "cross_entropy": "paced/cross_entropy",
}


def switch_step(max_steps: int, kl_switch: float) -> int:
    """Return the first optimizer step of the second stage, at most `max_steps`."""
    return round(kl_switch * max_steps) if kl_switch <= 1.0 else min(round(kl_switch), max_steps)


def kl_at_step(step: int, *, kl: KLSchedule, max_steps: int, kl_switch: float = 0.5) -> KL:
    """Return the divergence while optimizer step `step`, counted from 0, is computed."""
    first, *second = stages(kl, kl_switch)
    return second[0] if second and step >= switch_step(max_steps, kl_switch) else first


def completion_source_for(kl: KL, completion_source: CompletionSourceSchedule = "auto") -> CompletionSource:
    """Return whose completions the divergence `kl` is measured on."""
    if completion_source == "auto":
        # As the papers of forward and adaptive KL do; reverse KL is an expectation under the student.
        return "dataset" if kl in ("forward", "akl", "cross_entropy") else "student"
    if completion_source not in get_args(CompletionSource):
        raise ValueError(
            f"`completion_source` is {completion_source!r}, which names no source. Choose one of "
            f"{', '.join(get_args(CompletionSourceSchedule))}."
        )
    return completion_source


def stages(kl: KLSchedule, kl_switch: float = 0.5) -> tuple[KL, ...]:
    """Return the divergences a run passes through, in order; a stage of no steps is left out."""
    if kl not in get_args(KLSchedule):
        raise ValueError(
            f"`kl` is {kl!r}, which names no divergence. Choose one of {', '.join(get_args(KLSchedule))}."
        )
    if kl != "forward_then_reverse":
        return (kl,)
    if kl_switch <= 0.0:
        return ("reverse",)
    return ("forward",) if kl_switch == 1.0 else ("forward", "reverse")
