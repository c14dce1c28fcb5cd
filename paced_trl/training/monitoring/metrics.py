"""
What `PacedTrainer` logs beside TRL's figures: of the student's verdicts, and of the training set's problems.

Pass rates and shares are those of `weighting/counts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from ...verification.verdict import Verdict, mark_truncated
from ...verification.verifier import Verifier
from ...weighting.counts import Floats, pass_rates
from ...weighting.weights import effective_sample_size
from ..dataset import ROW_COLUMN
from ..online_pass_rates import problem_metrics
from .costs import costs_so_far


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, TrainerState

    from ..refresh import Refresh


def student_verdicts(
    verifier: Verifier,
    tokenizer: PreTrainedTokenizerBase,
    inputs: list[dict[str, Any]],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    eos_token_ids: Sequence[int],
) -> list[Verdict]:
    """Return the verdict of each of B completions, tokens padded on the right, **shape (B, C)**."""
    lengths = completion_mask.sum(dim=1).tolist()
    token_ids = [ids[:n].tolist() for ids, n in zip(completion_ids, lengths, strict=True)]
    texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("solution", ROW_COLUMN)}
    verdicts = verifier(texts, [row["solution"] for row in inputs], **columns)
    return mark_truncated(verdicts, [ids[-1] not in eos_token_ids for ids in token_ids])


def verdict_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Return the pass rate of the valid verdicts, left out where there are none, and the share of each kind."""
    counts = {kind: sum(verdict is kind for verdict in verdicts) for kind in Verdict}
    num_valid = sum(count for kind, count in counts.items() if kind.is_valid)
    metrics = {"paced/pass_rate": counts[Verdict.PASSED] / num_valid} if num_valid else {}
    return metrics | {f"paced/verdicts/{kind.value}": count / len(verdicts) for kind, count in counts.items()}


def known_counts(dataset: Dataset) -> tuple[Floats, Floats] | None:
    """Return passes and valid generations, **shape (P,)** each; a `pass_rate` alone counts as one generation."""
    if {"num_passed", "num_valid"} <= set(dataset.column_names):
        return np.asarray(dataset["num_passed"], np.float64), np.asarray(dataset["num_valid"], np.float64)
    if "pass_rate" not in dataset.column_names:
        return None
    rates = np.array(dataset["pass_rate"][:], dtype=np.float64)
    return np.nan_to_num(rates), np.isfinite(rates).astype(np.float64)


class ProblemFigures:
    """What a run knows of its P training problems; with a `refresh`, pass rates keep up with the student."""

    def __init__(self, dataset: Dataset, refresh: Refresh | None = None) -> None:
        self.refresh = refresh
        self._counts = known_counts(dataset)

    @property
    def pass_rates(self) -> Floats | None:
        """Pass rates, **shape (P,)**, nan where nothing was observed; `None` where the dataset has none."""
        if self.refresh is not None:
            return self.refresh.pass_rates.pass_rates()
        return None if self._counts is None else pass_rates(*self._counts)

    def pass_rates_of(self, rows: list[int]) -> list[float | None]:
        """Return the pass rates of some rows, as JSON values."""
        rates = self.pass_rates
        return [None if rates is None or np.isnan(rates[row]) else float(rates[row]) for row in rows]

    def histograms(self, problem_weights: Floats) -> dict[str, Floats]:
        """Return the numbers whose histograms are worth a look, by the name they are logged under."""
        rates = self.pass_rates
        return {"paced/problem_weights": problem_weights} | ({} if rates is None else {"paced/pass_rates": rates})

    def metrics(self, step: int) -> dict[str, float]:
        """Return the shares of [`problem_metrics`] under their logged names; with refresh, its own figures too."""
        metrics: dict[str, float] = {}
        if self.refresh is not None:
            metrics = self.refresh.metrics()
        elif self._counts is not None:
            metrics = problem_metrics(*self._counts, staleness=step)
        return {
            f"paced/{'refresh' if name == 'estimation_tokens' else 'problems'}/{name}": value
            for name, value in metrics.items()
        }

    def log_entry(self, problem_weights: Floats, state: TrainerState) -> dict[str, float]:
        """Return what every log of training has of its problems; weights in force, **shape (P,)**, have mean 1."""
        return {
            **self.metrics(state.global_step),
            "paced/effective_sample_size": effective_sample_size(problem_weights),
            "paced/problem_weight_max": float(np.max(problem_weights)),
            **{f"paced/{name}": value for name, value in self.costs(state).items()},
        }

    def costs(self, state: TrainerState) -> dict[str, float]:
        """Return what training has cost so far, as [`costs_so_far`], with the refreshes."""
        costs = costs_so_far(state)
        if self.refresh is not None:
            costs["tokens_generated"] += self.refresh.num_tokens
        return costs
