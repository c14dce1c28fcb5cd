"""
PACED training: TRL's `DistillationTrainer` with a weight per problem, a KL schedule and references.

Overrides only; nothing of TRL's is copied. What each override is for:

- `_get_train_sampler`: problems drawn in proportion to their weight; epochs that a resumed run finds again.
- `_generate_single_turn`: completions from the dataset in place of generated ones.
- `_generate_and_score_completions`: per-row loss weights, and verdicts on the student's own completions.
- `_compute_loss`: the divergence of the current stage, multiplied by the rows' weights.

The loss of a generation batch is sum_i w_i sum_t D_it / N, with w_i the problem weight of mean 1 over the *dataset*,
D_it the divergence at completion token t in nats, and N the completion tokens of the whole batch over all processes.
Weights are never normalised over a micro-batch: there, one row has weight w / w = 1 and the method is off. With all
weights 1 this is exactly TRL's loss.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import DistillationTrainer
from trl.trainer import distillation_trainer as trl_distillation

from .config import PacedConfig
from .sampling import FrontierSampler, ResumableRepeatSampler
from .schedule import JSD_COEFFICIENT, KL, completion_source_for, kl_at_step
from .training_data import check_training_columns, end_of_completion_id, problem_weights_of
from .verification import Verdict, Verifier, mark_truncated
from .weighting import effective_sample_size


class _WeightedDivergence:
    """
    Stand-in for TRL's `ChunkedDivergenceFunction` during one loss computation: its per-token divergences, weighted.

    TRL sums per-token divergences inside `_chunked_divergence_loss`, where no argument takes a weight per token. The
    kernel's output is the one place where a weight reaches the gradients of both the backbone and the head, so the
    name that TRL looks up there is bound to this object while `_compute_loss` runs. Every rule of TRL's around it
    (logit scales, soft caps, biases, sharded heads, devices) stays TRL's. Can go when TRL's loss takes token weights.

    Args:
        row_weights (`torch.Tensor`): Weight of each row's tokens, **shape (B,)**.
        loss_mask (`torch.Tensor`): 1 at completion positions in the loss, **shape (B, C)**.
    """

    def __init__(self, row_weights: torch.Tensor, loss_mask: torch.Tensor) -> None:
        self.loss_mask = loss_mask
        self.token_weights = row_weights.unsqueeze(1).expand(loss_mask.shape).reshape(-1)
        self.divergence_sums: torch.Tensor | None = None

    def apply(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        divergence, entropy = self.kernel.apply(*args)
        valid = self.loss_mask.reshape(-1) != 0
        # On Triton devices TRL hands over the valid positions only, elsewhere all B * C of them.
        compact = divergence.numel() != valid.numel()
        weights = (self.token_weights[valid] if compact else self.token_weights).to(divergence.device)
        weighted = divergence * weights
        in_loss = (lambda x: x.detach().sum()) if compact else (lambda x: x.detach()[valid.to(x.device)].sum())
        self.divergence_sums = torch.stack([in_loss(divergence), in_loss(weighted)])
        return weighted, entropy

    @contextmanager
    def in_force(self) -> Iterator[None]:
        self.kernel = trl_distillation.ChunkedDivergenceFunction
        vars(trl_distillation)["ChunkedDivergenceFunction"] = self
        try:
            yield
        finally:
            vars(trl_distillation)["ChunkedDivergenceFunction"] = self.kernel
        if self.divergence_sums is None:
            raise RuntimeError(
                "TRL's `_compute_loss` did not call `ChunkedDivergenceFunction`, so problem weights were not applied. "
                "This version of TRL is not supported; install the `trl` version that `pyproject.toml` names."
            )


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
    _paper = {
        "title": "PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student Competence",
        "id": "2603.11178",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{xu2026paced,
                title        = {{PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student
                                Competence}},
                author       = {Xu and Sang and Zhou and He and Wang},
                year         = 2026,
                eprint       = {arXiv:2603.11178},
            }"""),
    }

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
        loss_weights = self.problem_weights if args.apply_weights == "loss" else np.ones(len(train_dataset))
        if "problem_weight" in train_dataset.column_names:
            train_dataset = train_dataset.remove_columns("problem_weight")
        train_dataset = train_dataset.add_column("problem_weight", loss_weights)
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
        # Evaluation is always on the student's own completions: it asks what the student can do.
        source = completion_source_for(self.kl_in_force, self.args.completion_source) if training else "student"
        if source == "dataset":
            self._dataset_completions = [row["reference"] for row in inputs]
            self._reference_eos_id = end_of_completion_id(self._tokenizer, inputs[0]["prompt"], self.eos_token_ids)
        try:
            outputs = super()._generate_and_score_completions(inputs)
        finally:
            self._dataset_completions = None
        problem_weight = torch.tensor(
            [row.get("problem_weight", 1.0) for row in inputs], device=self.accelerator.device
        )
        outputs["row_weight"] = self._row_weights(problem_weight.float(), outputs["completion_mask"], training)
        metrics = self._metrics["train" if training else "eval"]
        metrics["paced/problem_weight_mean"].append(self.accelerator.gather(problem_weight).mean().item())
        if self.verifier is not None and source == "student":
            self._log_verdicts(self._verify(inputs, outputs), metrics)
        return outputs

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
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key != "solution"}
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
        divergence = _WeightedDivergence(inputs["row_weight"], inputs["completion_mask"])
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
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics[f"paced/{self.kl_in_force}_kl" if self.kl_in_force != "jsd" else "paced/jsd"].append(
            divergence / tokens
        )
        metrics["paced/weighted_divergence"].append(weighted / tokens)
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training and "loss" in logs:
            logs["paced/effective_sample_size"] = effective_sample_size(self.problem_weights)
        super().log(logs, start_time)
