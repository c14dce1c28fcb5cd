"""
PACED training: TRL's `DistillationTrainer` with a weight per problem, a KL schedule and references.

Overrides only; nothing of TRL's is copied. What each override is for:

- `_get_train_sampler`: problems drawn in proportion to their weight; epochs that a resumed run finds again.
- `_generate_single_turn`: completions from the dataset in place of generated ones.
- `_generate_and_score_completions`: per-row loss weights, verdicts on the student's own completions, and pass rates
  that keep up with it (`refresh.py`).
- `_compute_loss`: the divergence of the current stage, multiplied by the rows' weights.
- `train` and `_save_checkpoint`: the refreshed pass rates belong to a checkpoint.

The loss of a generation batch is sum_i w_i sum_t D_it / N, with w_i the problem weight of mean 1 over the *dataset*,
D_it the divergence at completion token t in nats, and N the completion tokens of the whole batch over all processes.
Weights are never normalised over a micro-batch: there, one row has weight w / w = 1 and the method is off. With all
weights 1 this is exactly TRL's loss.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
from trl import DistillationTrainer

from .callbacks import Advice
from .citation import PAPER
from .config import PacedConfig
from .refresh import Refresh
from .sampling import FrontierSampler, ResumableRepeatSampler, draw_batch
from .schedule import JSD_COEFFICIENT, KL, completion_source_for, kl_at_step
from .training_data import check_training_columns, end_of_completion_id, problem_weights_of
from .verification import Verdict, Verifier, mark_truncated
from .weighted_divergence import WeightedDivergence
from .weighting import effective_sample_size


_ROW = "paced_row"


class PacedTrainer(DistillationTrainer):
    """
    Distill a teacher into a student where the student can learn: PACED (arXiv 2603.11178).

    Example:

    ```python
    >>> from paced_trl import PacedConfig, PacedTrainer

    >>> trainer = PacedTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     teacher_model="Qwen/Qwen3-4B",
    ...     args=PacedConfig(output_dir="runs/qwen", learning_rate=1e-5),
    ...     train_dataset=dataset,  # prompt, reference, num_passed, num_valid
    ... )
    >>> trainer.train()
    ```

    Args:
        model, teacher_model, args, train_dataset, eval_dataset, **kwargs:
            As in [`~trl.DistillationTrainer`], with a [`PacedConfig`]. `train_dataset` needs the columns

            - `prompt` (text or messages);
            - `num_passed` and `num_valid` (counts of the student's verified completions), or `pass_rate` in [0, 1], or
              `problem_weight` (used as it is, normalised to mean 1), unless `weighting="uniform"`;
            - `reference` (completion text to train on) where the schedule has a stage on the dataset's completions;
            - `solution` if a `verifier` is given.
        verifier ([`~paced_trl.verification.Verifier`], *optional*):
            Judges the student's own completions while it trains; logged as `paced/pass_rate`. The caller closes it.

    Raises:
        ValueError: If a column is missing or wrong, or all weights are 0: before any model loads.
    """

    args: PacedConfig
    model: torch.nn.Module

    _tag_names = ["trl", "distillation", "paced"]
    _name = "PACED"
    _paper = PAPER

    def __init__(
        self,
        model: Any,
        teacher_model: Any = None,
        args: PacedConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        verifier: Verifier | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(args, PacedConfig):
            raise TypeError(f"`args` is a {type(args).__name__}; PacedTrainer needs a `PacedConfig`.")
        if not isinstance(train_dataset, Dataset):
            raise TypeError(
                f"`train_dataset` is a {type(train_dataset).__name__}; problem weights are normalised over the whole "
                "dataset, so it must be a `datasets.Dataset` of known length."
            )
        if kwargs.get("tools"):
            raise ValueError("`tools` were given, but references and verdicts cover one turn only. Remove `tools`.")
        if teacher_model is None:
            raise ValueError("`teacher_model` is None, so there is nothing to distill from. Give a model or its name.")
        check_training_columns(
            train_dataset,
            needs_reference="dataset" in args.completion_sources,
            needs_solution=verifier is not None,
        )
        self.problem_weights = problem_weights_of(
            train_dataset, prior_features=args.prior_features, **args.weighting_arguments
        )
        self.refresh = None if args.refresh == "never" else Refresh(args, train_dataset, verifier)
        self._measured_problems = train_dataset
        # A row's number finds its weight, whatever became of the weights by then.
        train_dataset = train_dataset.add_column(_ROW, np.arange(len(train_dataset)))
        self._train_problems = train_dataset
        self.verifier = verifier
        self._dataset_completions: list[str] | None = None
        super().__init__(
            model=model,
            teacher_model=teacher_model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )
        self.add_callback(Advice(len(train_dataset)))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; as in [`~transformers.Trainer`]. A resumed run goes on with the pass rates of its checkpoint."""
        if self.refresh is not None and resume_from_checkpoint:
            latest = get_last_checkpoint(str(self.args.output_dir))
            self.refresh.load(Path(str(latest if resume_from_checkpoint is True else resume_from_checkpoint)))
            self.problem_weights = self.refresh.weights(self.problem_weights)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.refresh is not None and self.args.should_save:
            run = Path(self._get_output_dir(trial=trial))
            self.refresh.save(run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")

    @property
    def kl_in_force(self) -> KL:
        """The divergence of the current optimizer step."""
        return kl_at_step(
            self.state.global_step, kl=self.args.kl, max_steps=self.state.max_steps, kl_switch=self.args.kl_switch
        )

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        accumulation = self.args.gradient_accumulation_steps
        batch_size = self.args.per_device_train_batch_size * self.accelerator.num_processes * accumulation
        if self.args.apply_weights == "sampling":
            return FrontierSampler(self.problem_weights, batch_size, repeat_count=accumulation, seed=self.args.seed)
        return ResumableRepeatSampler(
            self._train_problems if dataset is None else dataset,
            mini_repeat_count=1,
            batch_size=batch_size,
            repeat_count=accumulation,
            shuffle=bool(self.shuffle_dataset),
            seed=self.args.seed,
        )

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> list[list[int]]:
        if self._dataset_completions is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        token_ids = self._tokenizer(self._dataset_completions, add_special_tokens=False)["input_ids"]
        # Always ends in EOS unless cut: a student that never sees EOS never learns to stop.
        return [[*ids, self._reference_eos_id][: self.max_completion_length] for ids in token_ids]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = self.model.training
        if training and self.refresh is not None:
            inputs = self._refreshed(inputs)
        # Evaluation is always on the student's own completions: it asks what the student can do.
        source = completion_source_for(self.kl_in_force, self.args.completion_source) if training else "student"
        if source == "dataset":
            self._dataset_completions = [row["reference"] for row in inputs]
            self._reference_eos_id = end_of_completion_id(self._tokenizer, inputs[0]["prompt"], self.eos_token_ids)
        try:
            outputs = super()._generate_and_score_completions(inputs)
        finally:
            self._dataset_completions = None
        # Held-out rows have no weight, and problems drawn by weight have been weighted.
        is_weighted = training and self.args.apply_weights == "loss"
        weights = [self.problem_weights[row[_ROW]] if is_weighted else 1.0 for row in inputs]
        problem_weight = torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)
        outputs["row_weight"] = self._row_weights(problem_weight, outputs["completion_mask"], training)
        metrics = self._metrics["train" if training else "eval"]
        metrics["paced/problem_weight_mean"].append(self.accelerator.gather(problem_weight).mean().item())
        if self.verifier is not None and source == "student":
            verdicts = self._verify(inputs, outputs)
            self._log_verdicts(verdicts, metrics)
            if training and self.args.refresh == "online":
                self._observe([row[_ROW] for row in inputs], verdicts)
        return outputs

    def _refreshed(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Measure pass rates again if it is time; return this process's part of a generation batch.

        Problems that are drawn by weight are drawn here, by the weights of this step: the sampler's batches are
        fetched ahead, and it knows no weights of a resumed run.
        """
        assert self.refresh is not None
        student = self.accelerator.unwrap_model(self.model)
        step, max_steps = self.state.global_step, self.state.max_steps
        if self.refresh.estimate_if_due(
            self._measured_problems, student, self._tokenizer, step=step, max_steps=max_steps
        ):
            self.problem_weights = self.refresh.weights(self.problem_weights)
        if self.args.apply_weights == "loss":
            return inputs
        rng = np.random.default_rng([self.args.seed, step])
        rows = draw_batch(self.problem_weights, len(inputs) * self.accelerator.num_processes, rng)
        first = len(inputs) * self.accelerator.process_index
        return [self._train_problems[int(row)] for row in rows[first : first + len(inputs)]]

    def _observe(self, rows: list[int], verdicts: list[Verdict]) -> None:
        """Let the verdicts of all processes be known to all, as evidence of pass rates."""
        assert self.refresh is not None
        codes = torch.tensor(
            [[row, list(Verdict).index(verdict)] for row, verdict in zip(rows, verdicts, strict=True)],
            device=self.accelerator.device,
        )
        observed = self.accelerator.gather(codes).tolist()
        kinds = [list(Verdict)[code] for _, code in observed]
        self.refresh.pass_rates.observe([row for row, _ in observed], kinds, self.state.global_step)
        self.problem_weights = self.refresh.weights(self.problem_weights)

    def _row_weights(
        self, problem_weight: torch.Tensor, completion_mask: torch.Tensor, training: bool
    ) -> torch.Tensor:
        """
        Return the factor of each row's token divergences, **shape (B,)**, before the division by all tokens N.

        With `loss_aggregation="sequence"` the loss is sum_i w_i mean_t D_it / R for R rows, so a token of row i with
        T_i tokens has the factor w_i * N / (T_i * R). N and R span all processes in training, as TRL's denominator
        does, and one micro-batch in evaluation.
        """
        if self.args.loss_aggregation == "token":
            return problem_weight
        lengths = completion_mask.sum(dim=1)
        mean_length = (self.accelerator.gather(lengths) if training else lengths).float().mean()
        return problem_weight * mean_length / lengths.clamp(min=1)

    def _verify(self, inputs: list[dict[str, Any]], outputs: dict[str, Any]) -> list[Verdict]:
        assert self.verifier is not None
        lengths = outputs["completion_mask"].sum(dim=1).tolist()
        token_ids = [ids[:n].tolist() for ids, n in zip(outputs["completion_ids"], lengths, strict=True)]
        texts = self._tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key not in ("solution", _ROW)}
        verdicts = self.verifier(texts, [row["solution"] for row in inputs], **columns)
        truncated = [ids[-1] not in self.eos_token_ids for ids in token_ids]
        return mark_truncated(verdicts, truncated)

    def _log_verdicts(self, verdicts: list[Verdict], metrics: dict[str, list[float]]) -> None:
        counts = torch.tensor([sum(v is kind for v in verdicts) for kind in Verdict], device=self.accelerator.device)
        totals = dict(zip(Verdict, self.accelerator.reduce(counts, reduction="sum").tolist(), strict=True))
        num_valid = sum(totals[kind] for kind in Verdict if kind.is_valid)
        if num_valid:
            metrics["paced/pass_rate"].append(totals[Verdict.PASSED] / num_valid)
        for kind, total in totals.items():
            metrics[f"paced/verdicts/{kind.value}"].append(total / sum(totals.values()))

    def _compute_loss(self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        self.beta = JSD_COEFFICIENT[self.kl_in_force]
        divergence = WeightedDivergence(inputs["row_weight"], inputs["completion_mask"])
        with divergence.in_force():
            outputs = super()._compute_loss(unwrapped_student, inputs, num_items_in_batch)
        assert divergence.divergence_sums is not None
        self._divergence_sums = divergence.divergence_sums
        return outputs

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        output = super().compute_loss(model, inputs, *args, **kwargs)
        # Reduced here and not in `_compute_loss`, which runs inside the wrapped forward (as TRL does with entropy).
        sums = torch.cat([self._divergence_sums, inputs["completion_mask"].sum().float().view(1)])
        divergence, weighted, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        if not (math.isfinite(divergence) and math.isfinite(weighted)):
            self._stop_with_batch(inputs, divergence, weighted)
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics[f"paced/{self.kl_in_force}_kl" if self.kl_in_force != "jsd" else "paced/jsd"].append(
            divergence / tokens
        )
        metrics["paced/weighted_divergence"].append(weighted / tokens)
        return output

    def _stop_with_batch(self, inputs: dict[str, Any], divergence: float, weighted: float) -> NoReturn:
        """End the run on all processes, which have the same sums; what each of them computed on is saved."""
        step, index = self.state.global_step, self.accelerator.process_index
        path = Path(str(self.args.output_dir), f"not_finite-step-{step}-process-{index}.pt")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(inputs, path)
        raise FloatingPointError(
            f"The divergence of step {step} is {divergence} ({weighted} when weighted), so the run ends before it "
            f"spoils the student. The batch is in {str(path)!r}. Lower `learning_rate`, or look for broken references "
            "there; in float16, use bfloat16."
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training and "loss" in logs:
            logs["paced/effective_sample_size"] = effective_sample_size(self.problem_weights)
            if self.refresh is not None:
                logs |= {f"paced/refresh/{name}": value for name, value in self.refresh.metrics().items()}
        super().log(logs, start_time)
