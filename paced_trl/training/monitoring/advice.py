"""
What a training run's figures say is going wrong, and what to do about it.

Words and thresholds that estimation and the report share are in `estimation/advice.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...estimation.advice import clipping_advice, frontier_advice, verifier_advice
from ...weighting.counts import FrontierShares
from ..schedule import METRICS
from .notes import keep_note


logger = logging.getLogger(__name__)

MIN_EFFECTIVE_SHARE = 0.05
# Completions behind each of the two values that are compared: with fewer, a mean length halves by chance.
_MIN_COMPLETIONS = 32
# Of the first value that the stage logged: below the one, completions or distributions have collapsed; above the
# other, answers have changed their form.
MIN_SHARE_OF_FIRST, MAX_SHARE_OF_FIRST = 0.5, 2.0


def training_advice(
    logs: Mapping[str, float], num_problems: int, first: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Return advice on one call of the trainer's `log`, whose stage began with `first`, by what it is about."""
    advice = {}
    effective = logs.get("paced/effective_sample_size")
    if effective is not None and effective < MIN_EFFECTIVE_SHARE * num_problems:
        advice["effective_sample_size"] = (
            f"The problem weights are worth {effective:.0f} equally weighted problems of {num_problems}, so few "
            "problems decide every step. Lower `weight_alpha` and `weight_beta`, or measure with more generations."
        )
    # As of an estimation.
    mastered, frontier, beyond = (
        logs.get(f"paced/problems/{share}", 0.0) for share in ("mastered", "frontier", "out_of_reach")
    )
    shares = FrontierShares(mastered, frontier, beyond, max(0.0, 1.0 - mastered - frontier - beyond))
    failed = logs.get("paced/verdicts/timeout", 0.0) + logs.get("paced/verdicts/unverifiable", 0.0)
    shared = {
        "frontier": frontier_advice(shares) if "paced/problems/frontier" in logs else None,
        "clipped_ratio": clipping_advice(logs.get("completions/clipped_ratio", 0.0)),
        "verifier": verifier_advice(failed),
    }
    advice |= {subject: text for subject, text in shared.items() if text is not None}
    return advice | _change_of_form(logs, first or {})


# What tells that answers have changed their form: the subject of the advice, and what the figure is.
_FORM = {
    "completions/mean_length": ("length", "The mean completion length"),
    "entropy": ("entropy", "The entropy of the student's next token"),
}


def _first_and_last(
    history: Sequence[Mapping[str, float]], args: TrainingArguments
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the means of a stage's first and last logs with enough completions, empty as long as they overlap."""
    batch_size = getattr(args, "per_device_train_batch_size", _MIN_COMPLETIONS)
    per_log = max(getattr(args, "logging_steps", 1), 1) * batch_size * getattr(args, "gradient_accumulation_steps", 1)
    num_logs = math.ceil(_MIN_COMPLETIONS / (per_log * getattr(args, "world_size", 1)))
    if len(history) < 2 * num_logs:
        return {}, {}
    first, last = (
        {key: sum(logs[key] for logs in part) / num_logs for key in _FORM if all(key in logs for logs in part)}
        for part in (history[:num_logs], history[-num_logs:])
    )
    return first, last


def _change_of_form(logs: Mapping[str, float], first: Mapping[str, float]) -> dict[str, str]:
    advice = {}
    for key, (subject, what) in _FORM.items():
        value, start = logs.get(key), first.get(key)
        if value is not None and start is not None and value < MIN_SHARE_OF_FIRST * start:
            advice[subject] = (
                f"{what} has fallen from {start:.3g} to {value:.3g} in this stage: the student may be collapsing "
                "onto a few short or certain answers. Look at its completions (`log_completions`) and at held-out "
                "problems; lower `learning_rate`, or train with `kl='forward'` for longer."
            )
    length, first_length = (figures.get("completions/mean_length", 0.0) for figures in (logs, first))
    if first_length and length > MAX_SHARE_OF_FIRST * first_length:
        advice["growing_length"] = (
            f"The mean completion length has grown from {first_length:.3g} to {length:.3g} in this stage: the student "
            "may be taking over a wordier form than its own. Compare its completions with the teacher's "
            "(`log_completions`); in self-distillation try another `privileged_template` before you raise "
            "`max_completion_length`."
        )
    return advice


class Advice(TrainerCallback):
    """Log what a run's figures, those `at_start` first, say is going wrong, each thing once; keep it in a file."""

    def __init__(self, num_problems: int, at_start: Mapping[str, float] | None = None) -> None:
        self.num_problems = num_problems
        self.at_start = dict(at_start or {})
        self._given: set[str] = set()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.on_log(args, state, control, self.at_start)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        logs = logs or {}
        # A stage's lengths and entropies are compared with its own: references are no completions of the student.
        stage = next((key for key in METRICS.values() if key in logs), None)
        first, last = _first_and_last([entry for entry in state.log_history if stage in entry], args)
        for subject, text in training_advice(logs | last, self.num_problems, first).items():
            if subject not in self._given:
                self._given.add(subject)
                logger.warning("Step %d: %s", state.global_step, text)
                keep_note(Path(str(args.output_dir)), subject, text, state.global_step)
