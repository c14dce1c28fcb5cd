"""
Callbacks of a training run: a bar with the figures that matter, advice, histograms, and a clean end at Ctrl-C.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .monitoring.advice import training_advice
from .monitoring.notes import keep_note
from .monitoring.trackers import log_histograms
from .schedule import METRICS


logger = logging.getLogger(__name__)


class CompactProgress(ProgressCallback):
    """
    transformers' progress bar with a few figures at its end, in place of a line of all of them for every log.

    Everything that is logged is in `trainer_state.json`, and with the trackers of `report_to`.
    """

    _SHOWN = {"loss": "loss", "paced/pass_rate": "pass rate"}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        figures = {name: f"{logs[key]:.3g}" for key, name in self._SHOWN.items() if logs and key in logs}
        if state.is_world_process_zero and self.training_bar is not None and figures:
            self.training_bar.set_postfix(figures)


class Advice(TrainerCallback):
    """
    Log what a run's figures say is going wrong, each thing once, and keep it in `advice.json` for the report.

    Args:
        num_problems (`int`): Problems in the training set.
        at_start (`Mapping[str, float]`, *optional*): Figures that are known before the first step.
    """

    def __init__(self, num_problems: int, at_start: Mapping[str, float] | None = None) -> None:
        self.num_problems = num_problems
        self.at_start = dict(at_start or {})
        self._given: set[str] = set()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.on_log(args, state, control, self.at_start)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        logs = logs or {}
        # A stage's lengths and entropies are compared with its own: references are no completions of the student.
        stage = next((key for key in METRICS.values() if key in logs), None)
        first = next((entry for entry in state.log_history if stage in entry), {})
        for subject, text in training_advice(logs, self.num_problems, first).items():
            if subject not in self._given:
                self._given.add(subject)
                logger.warning("Step %d: %s", state.global_step, text)
                keep_note(Path(str(args.output_dir)), subject, text, state.global_step)


class Histograms(TrainerCallback):
    """
    Log histograms of the problems' weights and pass rates, at the first log and whenever they have changed.

    Args:
        values (`Callable[[], dict[str, np.ndarray]]`): Gives the numbers, by the name they are logged under.
        callbacks (`list[TrainerCallback]`): The trainer's callbacks, in one of which TensorBoard's writer is.
    """

    def __init__(
        self, values: Callable[[], dict[str, npt.NDArray[np.float64]]], callbacks: list[TrainerCallback]
    ) -> None:
        self.values = values
        self.callbacks = callbacks
        self._logged: dict[str, npt.NDArray[np.float64]] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        changed = {
            name: numbers
            for name, numbers in self.values().items()
            if name not in self._logged or not np.array_equal(numbers, self._logged[name], equal_nan=True)
        }
        if changed:
            log_histograms(changed, state.global_step, report_to=args.report_to, callbacks=self.callbacks)
            self._logged |= {name: numbers.copy() for name, numbers in changed.items()}


class StopAtForgetting(TrainerCallback):
    """
    End training when mean@k on problems of another kind has fallen too far; say so, and keep it in `advice.json`.

    Args:
        max_forgetting (`float`): How far it may fall below its first value, that of the untouched student.
        metric (`str`): What it is logged as.
    """

    def __init__(self, max_forgetting: float, metric: str) -> None:
        self.max_forgetting = max_forgetting
        self.metric = metric

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        now = (metrics or {}).get(self.metric)
        if now is None:
            return
        # The log is in the checkpoint, and so a resumed run has the untouched student's value, too.
        first = next((entry[self.metric] for entry in state.log_history if self.metric in entry), now)
        if first - now <= self.max_forgetting:
            return
        control.should_training_stop = True
        if state.is_world_process_zero:
            text = (
                f"The run ended at step {state.global_step} of {state.max_steps}: accuracy on the retention set fell "
                f"from {first:.3f} to {now:.3f}, by more than `max_forgetting` {self.max_forgetting}."
            )
            logger.warning(text)
            keep_note(Path(str(args.output_dir)), "forgetting", text, state.global_step)


class StopCleanly(TrainerCallback):
    """
    Let the first Ctrl-C end training after the current optimizer step, with a checkpoint; the second one interrupts.

    With several processes all stop after the same step, whichever of them received the signal.

    Attributes:
        stopped (`bool`): Whether training was ended by Ctrl-C.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._requested = False
        self._previous: Any = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        print("\nStopping after this step, with a checkpoint. Ctrl-C again stops at once.", flush=True)
        self._requested = True
        signal.signal(signal.SIGINT, self._previous)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # handlers cannot be set elsewhere
            self._previous = signal.signal(signal.SIGINT, self._handle)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        requested = self._requested
        if PartialState().num_processes > 1:
            flag = torch.tensor(int(requested), device=args.device)
            torch.distributed.all_reduce(flag)
            requested = flag.item() > 0
        if requested and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
