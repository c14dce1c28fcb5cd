"""
What a training run has cost so far: tokens through the models, and seconds; evaluations are no part of it.

Counts survive a resume: transformers writes them into each checkpoint's `trainer_state.json` and reads them back.
Steps that a kill took away count once, when they are trained again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


# Tokens that the student generated for training; those of prompts and completions, without padding, that were run
# through each model for the loss; seconds of optimizer steps, generation and refreshes included.
Cost = Literal["tokens_generated", "student_tokens", "teacher_tokens", "seconds"]

_KEY = "paced_costs"


def add_cost(state: TrainerState, name: Cost, amount: float) -> None:
    _costs(state)[name] += amount


def costs_so_far(state: TrainerState) -> dict[str, float]:
    return dict(_costs(state))


def _costs(state: TrainerState) -> dict[str, float]:
    none = {"tokens_generated": 0, "student_tokens": 0, "teacher_tokens": 0, "seconds": 0.0}
    costs: dict[str, float] = state.stateful_callbacks.setdefault(_KEY, none)  # type: ignore[union-attr]
    return costs


class TrainingClock(TrainerCallback):
    """Count the seconds from one optimizer step's end to the next one's, without the evaluations between them."""

    def __init__(self) -> None:
        self.restart()

    def restart(self, *args: Any, **kwargs: Any) -> None:
        """Leave out what has happened since the last step ended."""
        self._since = time.perf_counter()

    on_train_begin = on_evaluate = restart

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        add_cost(state, "seconds", time.perf_counter() - self._since)
        self.restart()


def total_tokens(costs: Mapping[str, float]) -> float:
    """Return all tokens together: generated ones, and those of either model's forward passes, whatever each costs."""
    return costs["tokens_generated"] + costs["student_tokens"] + costs["teacher_tokens"]


class TokenBudget(TrainerCallback):
    """End training after the step at which all tokens of `costs`, refreshes included, have reached a budget."""

    def __init__(self, budget: int, costs: Callable[[TrainerState], dict[str, float]]) -> None:
        self.budget = budget
        self.costs = costs

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if total_tokens(self.costs(state)) >= self.budget:
            control.should_training_stop = True
