"""
What reaches trackers and files beside scalars: histograms of the problems, and the table of completions.

Scalars reach every tracker through transformers' callbacks.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from trl.trainer.utils import print_prompt_completions_sample

from ...names import did_you_mean
from ...progress import clear_bars


if TYPE_CHECKING:
    from ..config import PacedConfig

# Beside TRL's `prompt` and `completion`; `None` where a completion has none.
EXTRA_COLUMNS = ("verdict", "problem_weight", "pass_rate")


def table_trackers(report_to: str | Iterable[str] | None) -> list[Any]:
    """Return the modules of the trackers with tables and histograms, `wandb` and `trackio`, that a run reports to."""
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    modules = [importlib.import_module(name) for name in ("wandb", "trackio") if name in names]
    return [module for module in modules if module.__name__ != "wandb" or module.run is not None]


def check_trackers(report_to: str | Iterable[str] | None) -> None:
    """Refuse a tracker that is not known or not installed, which transformers does once the models are loaded."""
    for name in [report_to] if isinstance(report_to, str) else list(report_to or []):
        if name in ("all", "none"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            hint = did_you_mean(name, INTEGRATION_TO_CALLBACK)
            raise ValueError(f"`report_to` has {name!r}, which is no tracker of transformers.{hint}")
        if name not in sys.modules and name not in get_available_reporting_integrations():
            raise ValueError(
                f"`report_to` has {name!r}, which is not installed. Install it, e.g. `pip install {name}`, or set "
                "`report_to: none`."
            )


def log_histograms(
    values: Mapping[str, npt.NDArray[np.float64]],
    step: int,
    *,
    report_to: str | Iterable[str] | None,
    callbacks: Iterable[Any] = (),
) -> None:
    """Log a histogram of each of `values`, nan left out, to every tracker that has them: TensorBoard by a callback."""
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
    """Log histograms of what `values` returns, by name, at the first log and whenever it has changed."""

    def __init__(
        self, values: Callable[[], dict[str, npt.NDArray[np.float64]]], callbacks: list[TrainerCallback]
    ) -> None:
        self.values = values
        self.callbacks = callbacks
        self._logged: dict[str, npt.NDArray[np.float64]] = {}

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
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


def write_completions(columns: Mapping[str, Sequence[Any]], args: PacedConfig, step: int) -> Path:
    """Print a sample of the latest completions; write all, with what PACED knows of each, to a file and trackers."""
    # In place of TRL's table, with the same file names, print and trackers, until that takes further columns.
    rows = {name: list(values) for name, values in columns.items()}
    shown = {name: [_in_short(value) for value in rows[name]] for name in EXTRA_COLUMNS}
    num_shown = len(rows["prompt"]) if args.num_completions_to_print is None else args.num_completions_to_print
    clear_bars()
    print_prompt_completions_sample(rows["prompt"], rows["completion"], {}, None, step, num_shown, extra=shown)
    table = pd.DataFrame({"step": [step] * len(rows["prompt"]), **rows})
    path = Path(str(args.output_dir), "completions", f"completions_{step:05d}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    if args.log_unique_prompts:
        table = table.drop_duplicates(subset=["prompt"])
    for tracker in table_trackers(args.report_to):
        tracker.log({"completions": tracker.Table(dataframe=table)})
    return path


def _in_short(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
