"""
The figures of a training run that belong to its problems rather than to a batch.

Responsible for what `PacedTrainer` adds to every log about the training set: how its pass rates lie, how old they are,
and how the weights are spread. What a batch tells (divergences, verdicts, lengths) is collected where the batch is.
The shares are those of `pass_rate.py`. Ours. Knows no trainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset

from ...weighting.counts import Floats
from ...weighting.weights import effective_sample_size
from .costs import costs_so_far


if TYPE_CHECKING:
    from transformers import TrainerState

    from ..refresh import Refresh


def known_counts(dataset: Dataset) -> tuple[Floats, Floats] | None:
    """
    Return passes and valid generations of each problem, **shape (P,)** each, from the columns of a training set.

    A `pass_rate` without counts counts as one generation that passed to that extent.

    Returns:
        `tuple[np.ndarray, np.ndarray]` or `None`: `None` where no column says how often the student passes.
    """
    if {"num_passed", "num_valid"} <= set(dataset.column_names):
        return np.asarray(dataset["num_passed"], np.float64), np.asarray(dataset["num_valid"], np.float64)
    if "pass_rate" not in dataset.column_names:
        return None
    rates = np.array([np.nan if rate is None else rate for rate in dataset["pass_rate"]], dtype=np.float64)
    return np.nan_to_num(rates), np.isfinite(rates).astype(np.float64)


def observed_rates(num_passed: Floats, num_valid: Floats) -> Floats:
    """Return the pass rates of counts that need not be whole, **shape (P,)**; nan where nothing was observed."""
    return np.divide(num_passed, num_valid, out=np.full(num_valid.shape, np.nan), where=num_valid > 0)


def problem_metrics(num_passed: Floats, num_valid: Floats, staleness: float) -> dict[str, float]:
    """
    Return what there is to say of a training set's pass rates.

    Args:
        num_passed, num_valid (`np.ndarray` of **shape (P,)**): Counts, discounted or not.
        staleness (`float`): Mean number of optimizer steps since a problem was last observed.

    Returns:
        `dict[str, float]`: Mean pass rate over the measured problems (left out where there are none); shares of all
        problems that are mastered (all evidence passed), at the frontier, and out of reach (none passed); staleness.

    Example:

    ```python
    >>> problem_metrics(np.array([4.0, 1.0, 0.0, 0.0]), np.array([4.0, 4.0, 4.0, 0.0]), staleness=7.0)
    {'mastered': 0.25, 'frontier': 0.25, 'out_of_reach': 0.25, 'staleness': 7.0, 'pass_rate': 0.4166666666666667}
    ```
    """
    measured = num_valid > 0
    metrics = {
        "mastered": float(np.mean(measured & (num_passed == num_valid))),
        "frontier": float(np.mean((num_passed > 0) & (num_passed < num_valid))),
        "out_of_reach": float(np.mean(measured & (num_passed == 0))),
        "staleness": float(staleness),
    }
    if measured.any():
        metrics["pass_rate"] = float(np.nanmean(observed_rates(num_passed, num_valid)))
    return metrics


class ProblemFigures:
    """
    What a run knows of its training set, as of now.

    Args:
        dataset (`datasets.Dataset`): The P training problems.
        refresh ([`Refresh`], *optional*): Where pass rates keep up with the student.
    """

    def __init__(self, dataset: Dataset, refresh: Refresh | None = None) -> None:
        self.refresh = refresh
        self._counts = known_counts(dataset)

    @property
    def pass_rates(self) -> Floats | None:
        """Pass rates, **shape (P,)**, nan where nothing was observed; `None` where the dataset has none."""
        if self.refresh is not None:
            return self.refresh.pass_rates.pass_rates()
        return None if self._counts is None else observed_rates(*self._counts)

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
        """
        Return what every log of training has of its problems.

        Args:
            problem_weights (`np.ndarray` of **shape (P,)**): Weights in force, with mean 1.
            state (`TrainerState`): For the step, and for what training has cost so far.
        """
        return {
            **self.metrics(state.global_step),
            "paced/effective_sample_size": effective_sample_size(problem_weights),
            "paced/problem_weight_max": float(np.max(problem_weights)),
            **{f"paced/{name}": value for name, value in self.costs(state).items()},
        }

    def costs(self, state: TrainerState) -> dict[str, float]:
        """Return what training has cost so far, as [`training_costs.costs_so_far`], with the refreshes."""
        costs = costs_so_far(state)
        if self.refresh is not None:
            costs["tokens_generated"] += self.refresh.num_tokens
        return costs
