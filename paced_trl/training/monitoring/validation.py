"""
Mean@k of held-out problems while a student trains, and the end of a run that forgets too much.

Each problem counts once, and each of its completions once: batches hold parts of a problem, several processes hold
parts of a batch, and a data loader fills its last batches up with rows from the start.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...verification.verdict import Verdict
from ..schedule import stages
from .notes import keep_note


if TYPE_CHECKING:
    from datasets import Dataset

    from ..config import PacedConfig


logger = logging.getLogger(__name__)

VALIDATION, RETENTION = "validation", "retention"  # Names of the sets that settings name.


class Validation:
    """Verdicts of one pass over held-out problems, `num_generations` (k) completions of each."""

    def __init__(self, num_generations: int) -> None:
        self.num_generations = num_generations
        self._verdicts: dict[int, list[Verdict]] = defaultdict(list)

    def clear(self) -> None:
        """Forget everything: another pass begins."""
        self._verdicts.clear()

    def observe(self, rows: Iterable[int], verdicts: Sequence[Verdict | str]) -> None:
        """Count the verdicts of all processes, each of a problem's row; beyond k of one they are copies."""
        for row, verdict in zip(rows, verdicts, strict=True):
            if len(self._verdicts[row]) < self.num_generations:
                self._verdicts[row].append(Verdict(verdict))

    def metrics(self) -> dict[str, float]:
        """Return mean@k and pass@k of the problems with valid verdicts, which count alike, and how many they are."""
        valid = [[v is Verdict.PASSED for v in verdicts if v.is_valid] for verdicts in self._verdicts.values()]
        valid = [passed for passed in valid if passed]
        if not valid:
            return {}
        k = self.num_generations
        metrics = {f"mean@{k}": float(np.mean([np.mean(passed) for passed in valid]))}
        if k > 1:
            metrics[f"pass@{k}"] = float(np.mean([any(passed) for passed in valid]))
        return metrics | {"num_problems": len(valid)}


def check_validation(eval_strategy: str, problems: Dataset, held_out: Mapping[str, Dataset]) -> None:
    """Refuse an evaluation without held-out problems, and these without an evaluation; warn of shared problems."""
    if not held_out:
        if eval_strategy != "no":
            raise ValueError(
                f"`eval_strategy` is {eval_strategy!r}, and there are no held-out problems to evaluate on. Name some "
                "with `--validation_set`, or leave `eval_strategy` out."
            )
        return
    if eval_strategy == "no":
        raise ValueError(
            f"`{next(iter(held_out))}_set` is given, and `eval_strategy` is 'no', so it would never be used. Set, for "
            "example, `--eval_strategy steps --eval_steps 50`."
        )
    for name, validation in held_out.items():
        shared = set(problems["problem_id"]) & set(validation["problem_id"])
        if shared:
            warnings.warn(
                f"{len(shared)} of {len(validation)} problems of the {name} set are training problems (by "
                f"`problem_id`, the first {min(shared)!r}), so its mean@k will look too good. Remove them from one "
                "side.",
                stacklevel=2,
            )


def check_forgetting(max_forgetting: float | None, eval_dataset: Any, verifier: Any) -> None:
    """Refuse to end a run at forgetting that nothing measures: without a set `"retention"` or a verifier."""
    if max_forgetting is None:
        return
    if not (isinstance(eval_dataset, Mapping) and RETENTION in eval_dataset) or verifier is None:
        raise ValueError(
            f"`max_forgetting` is {max_forgetting}, and there is no retention set or no verifier to measure it with. "
            "Set `--retention_set` and `--verifier`; from Python, give `eval_dataset={'retention': problems}` and a "
            "`verifier`."
        )


def choose_best_by_accuracy(args: PacedConfig, eval_dataset: Any, verifier: Any) -> None:
    """Have the best checkpoint of a run with two stages chosen by mean@k; refuse to compare losses of the two."""
    # Also early stopping, `save_strategy: best` and a rate that falls on a plateau compare `metric_for_best_model`.
    if str(args.metric_for_best_model).removeprefix("eval_") != "loss" or len(stages(args.kl, args.kl_switch)) == 1:
        return
    names = [name for name in eval_dataset if name != RETENTION] if isinstance(eval_dataset, Mapping) else [""]
    if eval_dataset is None or verifier is None or len(names) != 1:
        raise ValueError(
            f"The best checkpoint is chosen by the loss (`metric_for_best_model`), and `kl` is {args.kl!r}: losses of "
            "the forward and of the reverse stage are not comparable, and the forward checkpoint would be kept. Give "
            "a validation set and a `verifier`, and it is chosen by mean@k; or name another metric."
        )
    prefix = f"{names[0]}/" if names[0] else ""
    args.metric_for_best_model = f"eval_paced/{prefix}mean@{args.num_validation_generations}"
    args.greater_is_better = True


class StopAtForgetting(TrainerCallback):
    """End training when `metric` has fallen by more than `max_forgetting` from the base student's; keep a note."""

    def __init__(self, max_forgetting: float, metric: str) -> None:
        self.max_forgetting = max_forgetting
        self.metric = metric

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        now = (metrics or {}).get(self.metric)
        if now is None:
            return
        # The log is in the checkpoint, and so a resumed run has the base student's value, too.
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
