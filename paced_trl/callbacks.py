"""Callbacks of a training run: a bar with the figures that matter, advice, and a clean end at Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .training_advice import training_advice


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
    Log what a run's figures say is going wrong, each thing once.

    Args:
        num_problems (`int`): Problems in the training set.
    """

    def __init__(self, num_problems: int) -> None:
        self.num_problems = num_problems
        self._given: set[str] = set()

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
        for subject, text in training_advice(logs or {}, self.num_problems).items():
            if subject not in self._given:
                self._given.add(subject)
                logger.warning("Step %d: %s", state.global_step, text)


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
