"""How far training is: a bar with a few figures on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

from ...progress import SECONDS_BETWEEN_LINES, clock


_SHOWN = {"loss": "loss", "paced/pass_rate": "pass rate"}


class TrainingProgress(ProgressCallback):
    """transformers' bar with a few figures in place of a line of all of them for every log; no bar in a log file."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, str] = {}
        self._started = self._last_line = 0.0
        self._first_step = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._started = self._last_line = time.monotonic()
        self._first_step = state.global_step
        if sys.stderr.isatty():
            super().on_train_begin(args, state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.training_bar is not None:
            super().on_step_end(args, state, control)
            return
        is_due = time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        if is_due and state.is_world_process_zero and state.global_step < state.max_steps:
            self._write_line(state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        self._figures |= {name: f"{logs[key]:.3g}" for key, name in _SHOWN.items() if logs and key in logs}
        if self.training_bar is not None and self._figures:
            self.training_bar.set_postfix(self._figures)

    def on_prediction_step(self, *args: Any, **options: Any) -> None:
        if self.training_bar is not None:
            super().on_prediction_step(*args, **options)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.training_bar is not None:
            super().on_train_end(args, state, control)
        elif state.is_world_process_zero:
            self._write_line(state)

    def _write_line(self, state: TrainerState) -> None:
        self._last_line = time.monotonic()
        seconds, num_done = self._last_line - self._started, state.global_step - self._first_step
        left = (state.max_steps - state.global_step) * seconds / max(num_done, 1)
        figures = "".join(f", {name} {value}" for name, value in self._figures.items())
        when = f"{clock(left)} left" if state.global_step < state.max_steps else f"{clock(seconds)} in all"
        print(f"Training: {state.global_step}/{state.max_steps} steps, {when}{figures}", file=sys.stderr, flush=True)
