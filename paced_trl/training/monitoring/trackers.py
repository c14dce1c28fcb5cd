"""
Trackers that take more than scalars: which of them are on, and how each takes a histogram.

Scalars reach every tracker through transformers' callbacks; this is for tables and histograms. Knows nothing of what
is tracked. Ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


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
