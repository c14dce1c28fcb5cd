"""
Trackers that take more than scalars: which of them are on, and how each takes a histogram.

Scalars reach every tracker through transformers' callbacks; this is for tables and histograms. Knows nothing of what
is tracked. Ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def table_trackers(report_to: str | Iterable[str] | None) -> list[Any]:
    """
    Return the modules of the trackers with tables and histograms, `wandb` and `trackio`, that a run reports to.

    Args:
        report_to (`str` or `Iterable[str]`, *optional*): As in [`~transformers.TrainingArguments`].
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    modules = [importlib.import_module(name) for name in ("wandb", "trackio") if name in names]
    return [module for module in modules if module.__name__ != "wandb" or module.run is not None]


def log_histograms(
    values: Mapping[str, npt.NDArray[np.float64]],
    step: int,
    *,
    report_to: str | Iterable[str] | None,
    callbacks: Iterable[Any] = (),
) -> None:
    """
    Log a histogram of each of `values` to every tracker that has histograms.

    Args:
        values (`Mapping[str, np.ndarray]`): Numbers by name; nan is left out.
        step (`int`): Optimizer step.
        report_to (`str` or `Iterable[str]`, *optional*): As in [`~transformers.TrainingArguments`].
        callbacks (`Iterable[TrainerCallback]`, *optional*): The trainer's: TensorBoard's writer is in one of them.
    """
    finite = {name: numbers[np.isfinite(numbers)] for name, numbers in values.items()}
    finite = {name: numbers for name, numbers in finite.items() if numbers.size}
    for tracker in table_trackers(report_to):
        if finite and hasattr(tracker, "Histogram"):
            tracker.log({name: tracker.Histogram(numbers) for name, numbers in finite.items()})
    for writer in [getattr(callback, "tb_writer", None) for callback in callbacks]:
        if writer is not None:
            for name, numbers in finite.items():
                writer.add_histogram(name, numbers, step)


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
