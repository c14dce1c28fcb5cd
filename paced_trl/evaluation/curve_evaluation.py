"""
Evaluations of the student while an arm trains, for its learning curve: when, and without changing the training.

Completions are kept in a store for each evaluation, so that a kill loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..generation.completions import SamplingParameters
from ..generation.transformers_engine import TransformersGenerator
from ..processes import Processes
from ..training.trainer import PacedTrainer
from ..verification.verifier import Verifier
from .evaluation import evaluate_model
from .learning_curve import DIRECTORY, CurvePoint, curve_steps


@dataclass
class CurveSettings:
    """How a learning curve is measured: `num_points` evaluations on `problems`, by set, between the ends."""

    num_points: int
    problems: dict[str, Dataset]
    verifier: Verifier
    sampling: SamplingParameters
    chat_template_kwargs: dict[str, Any]
    num_generations: int
    batch_size: int | None
    seed: int
    # Of sets that have another than `verifier`.
    verifier_by_set: Mapping[str, Verifier] = field(default_factory=dict)

    def evaluate(self, model: Any, tokenizer: Any, directory: Path) -> dict[str, float]:
        """Return mean@k by set of a model in memory; completions are kept in `directory`."""
        generator = TransformersGenerator(
            model,
            tokenizer,
            self.sampling,
            chat_template_kwargs=self.chat_template_kwargs,
            batch_size=self.batch_size,
        )
        # Other weights at the same step, of a run that was resumed elsewhere, are another student.
        weights = str(generator.record["weights"]).rpartition(":")[2][:8]
        return {
            name: evaluate_model(
                problems,
                generator,
                self.verifier_by_set.get(name, self.verifier),
                name=name,
                num_generations=self.num_generations,
                store=directory / f"{weights}-{name}",
                seed=self.seed,
                majority=False,
                progress=False,
            ).mean_at_k
            for name, problems in self.problems.items()
        }


class CurveEvaluation(TrainerCallback):
    """Evaluate the student at some steps and leave a [`CurvePoint`] of each in the run's directory."""

    def __init__(self, settings: CurveSettings, trainer: PacedTrainer) -> None:
        self.settings = settings
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step not in curve_steps(state.max_steps, self.settings.num_points):
            return
        run = Path(str(args.output_dir))
        model, tokenizer = self.trainer.accelerator.unwrap_model(self.trainer.model), self.trainer.processing_class
        with self.trainer.accelerator.autocast():  # the precision in which the student is trained
            accuracy = self.settings.evaluate(
                model, tokenizer, run / DIRECTORY / f"completions-{state.global_step:06}"
            )
        if Processes.current().is_main:
            CurvePoint(step=state.global_step, **self.trainer.figures.costs(state), accuracy=accuracy).save(run)
        # A callback before this one: evaluations are no part of an arm's seconds.
        self.trainer.clock.restart()
