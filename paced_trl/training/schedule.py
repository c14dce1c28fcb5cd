"""
Which divergence is in force at a step, and whose completions it is measured on.

Pure functions of the step and of what was logged before it, so that nothing about the schedule has to be stored in a
checkpoint: a run that resumes at step 700 is in the stage that step 700 is in. The two-stage schedule, forward KL
first (mode coverage) and reverse KL after (consolidation), is the one PACED (arXiv 2603.11178) reports its best
results with. When to switch it leaves open; switching when the forward divergence is flat is ours.

This module knows nothing of models, data or TRL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args


KL = Literal["forward", "reverse", "jsd", "akl"]
KLSchedule = Literal["forward", "reverse", "jsd", "akl", "forward_then_reverse"]
CompletionSource = Literal["student", "dataset"]
CompletionSourceSchedule = Literal["student", "dataset", "auto"]

# TRL's `beta` of each divergence (arXiv 2306.13649, eq. 4). Forward KL is KL(teacher || student), reverse KL is
# KL(student || teacher). JSD is not a blend of the two: it tends to 0 at both ends of `beta`. Adaptive KL is a blend,
# and no `beta` gives it.
JSD_COEFFICIENT: dict[KL, float] = {"forward": 0.0, "reverse": 1.0, "jsd": 0.5}

# The divergence per token, as it is logged.
METRICS: dict[KL, str] = {
    "forward": "paced/forward_kl",
    "reverse": "paced/reverse_kl",
    "jsd": "paced/jsd",
    "akl": "paced/akl",
}


def switch_step(max_steps: int, kl_switch: float, flat_at: int | None = None) -> int:
    """
    Return the first optimizer step of the second stage, at most `max_steps`.

    Args:
        max_steps (`int`): Optimizer steps of the whole run.
        kl_switch (`float`): What the first stage takes: up to 1 the fraction of the steps, above 1 their number.
        flat_at (`int`, *optional*): Step at which the first stage's divergence had flattened; see [`Flattening`].
    """
    planned = round(kl_switch * max_steps) if kl_switch <= 1.0 else min(round(kl_switch), max_steps)
    return planned if flat_at is None else min(planned, flat_at)


class Flattening:
    """
    When the logged forward divergence stopped improving: what ends the first stage before its time.

    A log improves if it is below the best before by more than the share `threshold` of it; what did not improve is not
    the best, so that many small steps down count in the end. Names as in transformers' `EarlyStoppingCallback`.

    The answer depends on the history alone. What has been read of it is remembered only in order not to read it again
    at every step; with the history of another run it begins anew.

    Example:

    ```python
    >>> logs = [{"step": 10, "paced/forward_kl": 2.0}, {"step": 20, "paced/forward_kl": 1.0}]
    >>> logs += [{"step": 30, "paced/forward_kl": 0.995}, {"step": 40, "paced/forward_kl": 1.1}]
    >>> Flattening(patience=2, threshold=0.01).flat_at(logs)
    40
    ```

    Args:
        patience (`int`): Logs in a row without improvement.
        threshold (`float`): Share of the best divergence, in [0, 1).
    """

    def __init__(self, patience: int, threshold: float) -> None:
        self.patience = patience
        self.threshold = threshold
        self._begin([])

    def _begin(self, log_history: Sequence[Mapping[str, Any]]) -> None:
        self._log_history = log_history
        self._num_read = self._num_flat = 0
        self._best = float("inf")
        self._flat_at: int | None = None

    def flat_at(self, log_history: Sequence[Mapping[str, Any]]) -> int | None:
        """
        Return the step of the log that exhausted the patience, None if none has.

        Args:
            log_history (`Sequence[Mapping]`): As in `TrainerState.log_history`: equal on all processes, and in
                checkpoints.
        """
        if log_history is not self._log_history or len(log_history) < self._num_read:
            self._begin(log_history)
        for entry in log_history[self._num_read :]:
            divergence = entry.get(METRICS["forward"])
            if self._flat_at is not None or divergence is None:
                continue
            if divergence < self._best * (1.0 - self.threshold):
                self._best, self._num_flat = divergence, 0
            else:
                self._num_flat += 1
            if self._num_flat == self.patience:
                self._flat_at = int(entry["step"])
        self._num_read = len(log_history)
        return self._flat_at


def kl_at_step(step: int, *, kl: KLSchedule, max_steps: int, kl_switch: float = 0.5, flat_at: int | None = None) -> KL:
    """
    Return the divergence in force while optimizer step `step` is computed.

    Args:
        step (`int`): Completed optimizer steps, from 0 (`TrainerState.global_step`).
        kl (`str`): `"forward"`, `"reverse"`, `"jsd"`, `"akl"`, or `"forward_then_reverse"`.
        max_steps (`int`): Optimizer steps of the whole run.
        kl_switch (`float`, *optional*, defaults to `0.5`): See [`switch_step`].
        flat_at (`int`, *optional*): See [`switch_step`].

    Example:

    ```python
    >>> [kl_at_step(step, kl="forward_then_reverse", max_steps=4) for step in range(4)]
    ['forward', 'forward', 'reverse', 'reverse']
    ```
    """
    first, *second = stages(kl, kl_switch)
    return second[0] if second and step >= switch_step(max_steps, kl_switch, flat_at) else first


def completion_source_for(kl: KL, completion_source: CompletionSourceSchedule = "auto") -> CompletionSource:
    """
    Return whose completions the divergence `kl` is measured on.

    `"auto"` trains on the dataset's references while the divergence is forward, as the paper's distillation track
    does, or adaptive, as the paper of adaptive KL does; and on the student's own completions otherwise: reverse KL is
    an expectation under the student.
    """
    if completion_source == "auto":
        return "dataset" if kl in ("forward", "akl") else "student"
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
