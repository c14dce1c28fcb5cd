"""
The table of completions that TRL writes with `log_completions`, with what PACED knows of each.

TRL 1.16 builds its table inside `DistillationTrainer.log`, from prompts and completions only, so the table is written
here in its place: the same file names, the same print, the same trackers. Can go when TRL's table takes further
columns, as that of its GRPO trainer does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from trl.trainer.utils import print_prompt_completions_sample

from .trackers import table_trackers


if TYPE_CHECKING:
    from ..config import PacedConfig


# Beside TRL's `prompt` and `completion`; `None` where a completion has none.
EXTRA_COLUMNS = ("verdict", "problem_weight", "pass_rate")


def write_completions(columns: Mapping[str, Sequence[Any]], args: PacedConfig, step: int) -> Path:
    """
    Print a sample of the latest completions, and write all of them to a file and to the trackers.

    Args:
        columns (`Mapping[str, Sequence]`): `prompt`, `completion` and the extra columns, each of length B.
        args ([`PacedConfig`]): `output_dir`, `report_to`, `num_completions_to_print` and `log_unique_prompts`.
        step (`int`): Optimizer step.

    Returns:
        `Path`: The Parquet file.
    """
    rows = {name: list(values) for name, values in columns.items()}
    shown = {name: [_in_short(value) for value in rows[name]] for name in EXTRA_COLUMNS}
    num_shown = len(rows["prompt"]) if args.num_completions_to_print is None else args.num_completions_to_print
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
