"""
PACED training: TRL's `DistillationTrainer` with a weight per problem, a KL schedule and references.

Overrides only; nothing of TRL's is copied. What each override is for:

- `_get_train_sampler`: problems drawn by weight, or all that have one; epochs that a resumed run finds again.
- `_generate_single_turn`: completions from the dataset, or from the engine that estimates pass rates.
- `_generate_and_score_completions`: weights per row, verdicts on the student's completions, refreshed pass rates.
- `_compute_loss`: the divergence of the current stage, multiplied by the rows' weights.
- `_save_state` and `_load_state`: the refreshed pass rates belong to a checkpoint.
- `get_eval_dataloader`, `_get_eval_sampler`: several completions of each held-out problem, and which are whose.
- `create_model_card`, `log`: what was done; figures of the training set, mean@k, completions with verdicts.

Who teaches, and when it runs, is in its base class (`teacher_trainer.py`).

The loss of a generation batch is sum_i w_i sum_t D_it / N, with w_i the problem weight of mean 1 over the *dataset*,
D_it the divergence at completion token t in nats, and N the completion tokens of the whole batch over all processes.
Weights are never normalised over a micro-batch: there, one row has weight w / w = 1 and the method is off. With all
weights 1 this is exactly TRL's loss. Problems of weight 0 add nothing to the sum and are left out of the batches; w_i
is then normalised over the others, which leaves the mean over an epoch what it was.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import ProcessorMixin

from ..problems import with_reference_texts
from ..progress import FirstSamples
from ..settings import FITTED
from ..verification.verdict import Verdict
from ..verification.verifier import Verifier
from .config import PacedConfig, rollout_engine_in_force
from .dataset import ROW_COLUMN as _ROW
from .dataset import check_training_columns, numbered, problem_weights_of
from .in_words import PAPER, add_to_card, training_in_words
from .loss import WeightedDivergence
from .monitoring.advice import Advice
from .monitoring.costs import TokenBudget, TrainingClock, add_cost
from .monitoring.metrics import ProblemFigures, student_verdicts, verdict_metrics
from .monitoring.trackers import EXTRA_COLUMNS, Histograms, write_completions
from .monitoring.validation import RETENTION, StopAtForgetting, Validation, check_forgetting, choose_best_by_accuracy
from .preflight.before_loading import check_before_loading
from .problem_sampler import FrontierSampler, ResumableRepeatSampler, draw_batch, rows_with_weight
from .refresh import STATE_FILE, Refresh, refresh_in_force
from .rollouts import Rollouts
from .schedule import JSD_COEFFICIENT, KL, METRICS, completion_source_for, kl_at_step, stages, switch_step
from .teacher_prompt import with_shuffled_context
from .teacher_trainer import TeacherStatesTrainer


class PacedTrainer(TeacherStatesTrainer):
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
            - `solution` if a `verifier` is given; `eval_dataset` then needs it too;
            - `privileged_context` (text that only the teacher sees, may be empty) with `self_distillation`, where
              `teacher_model` is not given.
        verifier ([`Verifier`], *optional*):
            Judges the student's own completions while it trains; logged as `paced/pass_rate`. The caller closes it.

    Raises:
        ValueError: If a column is missing or wrong, all weights are 0, or models, data and settings do not fit
            together (`preflight.py`): before any model loads.
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
        needs_reference = "dataset" in args.completion_sources
        if needs_reference:
            train_dataset = with_reference_texts(train_dataset, "`train_dataset`")
        check_training_columns(train_dataset, needs_reference=needs_reference, needs_solution=verifier is not None)
        if args.weighting == "beta" and FITTED in (args.weight_alpha, args.weight_beta):
            raise ValueError(
                f"`weight_alpha` is {args.weight_alpha!r} and `weight_beta` {args.weight_beta!r}, and nothing has "
                "fitted them: `paced-trl train` and `compare` do it before training, in Python "
                "`paced_trl.evaluation.with_fitted_exponents`. Or give numbers."
            )
        self.problem_weights = problem_weights_of(
            train_dataset, prior_features=args.prior_features, **args.weighting_arguments
        )
        if args.shuffle_weights:
            self.problem_weights = np.random.default_rng(args.seed).permutation(self.problem_weights)
        if args.shuffle_context:
            train_dataset = with_shuffled_context(train_dataset, args.seed)
        self._first_weights = self.problem_weights
        args.refresh = refresh_in_force(args, train_dataset, verifier)
        self.refresh = None if args.refresh == "never" else Refresh(args, train_dataset, verifier)
        self._measured_problems = train_dataset
        self.figures = ProblemFigures(train_dataset, self.refresh)
        # A row's number finds its weight, whatever became of the weights by then.
        train_dataset = numbered(train_dataset)
        self._train_problems = train_dataset
        self.verifier = verifier
        self._dataset_completions: list[list[int]] | None = None
        self._first_samples = FirstSamples()
        self._validation = Validation(args.num_validation_generations if verifier is not None else 1)
        check_forgetting(args.max_forgetting, eval_dataset, verifier)
        choose_best_by_accuracy(args, eval_dataset, verifier)
        sizes = check_before_loading(
            args,
            model,
            teacher_model,
            train_dataset,
            eval_dataset,
            needs_solution=verifier is not None,
            **{name: kwargs.get(name) for name in ("processing_class", "quantization_config", "peft_config")},
        )
        # Ids beyond are padding of the student's head, which the teacher does not have.
        self._vocab_size = sizes.shared if sizes.shared < sizes.student else None
        super().__init__(
            model=model,
            teacher_model=teacher_model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=numbered(eval_dataset),
            head_size=None if sizes.teacher == sizes.student else sizes.student,
            **kwargs,
        )
        self._rollouts = None
        # Of prompts with images the engine knows nothing.
        if rollout_engine_in_force(args) == "paced" and not isinstance(self.processing_class, ProcessorMixin):
            self._rollouts = Rollouts(args, self._tokenizer, self.eos_token_ids, self.accelerator)
        self._logs |= {name: deque(maxlen=self._logs["prompt"].maxlen) for name in EXTRA_COLUMNS}
        self.clock = TrainingClock()
        self.add_callback(self.clock)
        if args.token_budget is not None:
            self.add_callback(TokenBudget(args.token_budget, self.figures.costs))
        self.add_callback(Advice(len(train_dataset), at_start=self.figures.metrics(step=0)))
        if args.max_forgetting is not None:
            metric = f"eval_paced/{RETENTION}/mean@{self._validation.num_generations}"
            self.add_callback(StopAtForgetting(args.max_forgetting, metric))
        self.add_callback(
            Histograms(lambda: self.figures.histograms(self.problem_weights), self.callback_handler.callbacks)
        )

    def _load_state(self, checkpoint: Path) -> None:
        super()._load_state(checkpoint)
        if self.refresh is not None:
            self.refresh.load(checkpoint)
            if self.refresh.pass_rates.num_observed:
                self.problem_weights = self.refresh.weights(self.problem_weights)

    def _save_state(self, checkpoint: Path) -> None:
        super()._save_state(checkpoint)
        if self.refresh is not None:
            self.refresh.save(checkpoint)

    @property
    def state_files(self) -> list[str]:
        """Names of the files that a checkpoint of this run holds beside those of every run."""
        return [*super().state_files, *([] if self.refresh is None else [STATE_FILE])]

    @property
    def current_kl(self) -> KL:
        """The divergence of the current optimizer step."""
        step, max_steps = self.state.global_step, self.state.max_steps
        return kl_at_step(step, kl=self.args.kl, max_steps=max_steps, kl_switch=self.args.kl_switch)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        accumulation = self.args.gradient_accumulation_steps
        batch_size = self.args.per_device_train_batch_size * self.accelerator.num_processes * accumulation
        # The first weights, so that epochs are as long in a resumed run; `_refreshed` draws by those of the step.
        if self.args.apply_weights == "sampling":
            return FrontierSampler(self._first_weights, batch_size, repeat_count=accumulation, seed=self.args.seed)
        return ResumableRepeatSampler(
            rows_with_weight(self._first_weights, batch_size),
            mini_repeat_count=1,
            batch_size=batch_size,
            repeat_count=accumulation,
            shuffle=bool(self.shuffle_dataset),
            seed=self.args.seed,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler:
        return ResumableRepeatSampler(
            range(len(eval_dataset)), mini_repeat_count=self._validation.num_generations, seed=self.args.seed
        )

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> Any:
        """Return the batches of one evaluation, whose rows know their problem; as in [`~transformers.Trainer`]."""
        self._validation.clear()
        if self._rollouts is not None:
            self._rollouts.begin_evaluation()
        return super().get_eval_dataloader(numbered(eval_dataset))

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> list[list[int]]:
        if self._dataset_completions is not None:
            return self._dataset_completions
        if self._rollouts is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        student = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return self._rollouts.complete(student, prompt_ids, self.state.global_step if self.model.training else None)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = self.model.training
        # Evaluation is always on the student's own completions: it asks what the student can do.
        source = completion_source_for(self.current_kl, self.args.completion_source) if training else "student"
        count = self.args.num_train_generations if training and source == "student" else 1
        inputs = inputs[: len(inputs) // count]
        if training and self.refresh is not None:
            inputs = self._refreshed(inputs)
        inputs = [row for row in inputs for _ in range(count)]
        if source == "dataset":
            self._dataset_completions = self._reference_ids(inputs)
        try:
            outputs = super()._generate_and_score_completions(inputs)
        finally:
            self._dataset_completions = None
        rows = [row.get(_ROW, -1) for row in inputs]
        outputs |= self._teacher_outputs(inputs, outputs, cache_rows=rows if source == "dataset" else None)
        # Held-out rows have no weight, and problems drawn by weight have been weighted.
        is_weighted = training and self.args.apply_weights == "loss"
        share = np.mean(self.problem_weights > 0)
        weights = [self.problem_weights[row[_ROW]] * share if is_weighted else 1.0 for row in inputs]
        problem_weight = torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)
        outputs["row_weight"] = self._row_weights(problem_weight, outputs["completion_mask"], training)
        metrics = self._metrics["train" if training else "eval"]
        metrics["paced/problem_weight_mean"].append(self.accelerator.gather(problem_weight).mean().item())
        if training:
            self._show_first(source, outputs)
            self._count_tokens(source, outputs)
        columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in EXTRA_COLUMNS}
        if training and self.log_completions:
            columns["problem_weight"] = self.problem_weights[rows].tolist()
            columns["pass_rate"] = self.figures.pass_rates_of(rows)
        if self.verifier is not None and source == "student":
            ids, mask = outputs["completion_ids"], outputs["completion_mask"]
            verdicts = student_verdicts(self.verifier, self._tokenizer, inputs, ids, mask, self.eos_token_ids)
            columns["verdict"] = [verdict.value for verdict in verdicts]
            self._observe(gather_object(rows), gather_object(verdicts), metrics)
        if self.log_completions:
            for name, values in columns.items():
                self._logs[name].extend(gather_object(values))
        return outputs

    def _count_tokens(self, source: str, outputs: dict[str, Any]) -> None:
        own = outputs["prompt_mask"].sum() + outputs["completion_mask"].sum()
        tokens = self.accelerator.reduce(torch.stack([own, self._num_teacher_tokens]), reduction="sum")
        num_student, num_teacher = tokens.tolist()
        add_cost(self.state, "student_tokens", num_student)
        add_cost(self.state, "teacher_tokens", num_teacher)
        if source == "student":
            add_cost(self.state, "tokens_generated", int(outputs["num_items_in_batch"]))

    def _show_first(self, source: str, outputs: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            texts = {
                name.replace("_", "'s "): self._tokenizer.decode(
                    outputs[f"{name}_ids"][0][outputs[f"{name}_mask"][0].bool()]
                )
                for name in ("prompt", "teacher_prompt", "completion")
                if f"{name}_ids" in outputs
            }
            self._first_samples.show(source, texts)

    def _refreshed(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Measure pass rates again if it is time; return this process's part of a generation batch."""
        assert self.refresh is not None
        student = self.accelerator.unwrap_model(self.model)
        step, has_two_stages = self.state.global_step, len(stages(self.args.kl, self.args.kl_switch)) == 2
        switch = switch_step(self.state.max_steps, self.args.kl_switch) if has_two_stages else None
        with self.accelerator.autocast():  # in the precision of the loss, prefill and decoding alike
            is_new = self.refresh.estimate_if_due(
                self._measured_problems, student, self._tokenizer, step=step, switch=switch
            )
        if is_new:
            self.problem_weights = self.refresh.weights(self.problem_weights)
        if not self.refresh.pass_rates.num_observed:
            return inputs  # until something new is known, batches are those of a run without refresh
        # Drawn here, by the weights of this step: the sampler's batches are fetched ahead, and it does not know the
        # weights of a resumed run. With weights in the loss, all problems of weight above 0 are drawn alike.
        rates = self.problem_weights if self.args.apply_weights == "sampling" else 1.0 * (self.problem_weights > 0)
        rng = np.random.default_rng([self.args.seed, step])
        rows = draw_batch(rates, len(inputs) * self.accelerator.num_processes, rng)
        first = len(inputs) * self.accelerator.process_index
        return [self._train_problems[int(row)] for row in rows[first : first + len(inputs)]]

    def _observe(self, rows: list[int], verdicts: list[Verdict], metrics: dict[str, list[float]]) -> None:
        """Take note of the verdicts of all processes: in the log, and as evidence of pass rates or of mean@k."""
        for name, value in verdict_metrics(verdicts).items():
            metrics[name].append(value)
        if not self.model.training:
            if -1 not in rows:
                self._validation.observe(rows, verdicts)
        elif self.refresh is not None and self.args.refresh == "online":
            self.refresh.pass_rates.observe(rows, verdicts, self.state.global_step)
            self.problem_weights = self.refresh.weights(self.problem_weights)

    def _row_weights(
        self, problem_weight: torch.Tensor, completion_mask: torch.Tensor, training: bool
    ) -> torch.Tensor:
        """Return the factor of each row's token divergences, **shape (B,)**, before the division by all tokens N."""
        if self.args.loss_aggregation == "token":
            return problem_weight
        # By "sequence" the loss is sum_i w_i mean_t D_it / R for R rows, so a token of row i with T_i tokens has the
        # factor w_i * N / (T_i * R). N and R span all processes in training, as TRL's denominator does, and one
        # micro-batch in evaluation.
        lengths = completion_mask.sum(dim=1)
        mean_length = (self.accelerator.gather(lengths) if training else lengths).float().mean()
        return problem_weight * mean_length / lengths.clamp(min=1)

    def _compute_loss(self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
        kl = self.current_kl
        self.beta = JSD_COEFFICIENT.get(kl, 0.0)
        divergence = WeightedDivergence(
            inputs["row_weight"], inputs["completion_mask"], kl, self._vocab_size, inputs["completion_ids"]
        )
        with divergence.patched():
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
        metrics[METRICS[self.current_kl]].append(divergence / tokens)
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

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write TRL's card with what was done; see [`~trl.DistillationTrainer.create_model_card`]."""
        super().create_model_card(*args, **kwargs)
        if self.is_world_process_zero():
            verifier = self.args.verifier or getattr(self.verifier, "record", {}).get("name")
            settings = vars(self.args) | {"num_problems": len(self._train_problems), "verifier": verifier}
            # Columns of the dataset are all that is known here of references and of where problems come from.
            done = training_in_words(settings, has_references=True)
            add_to_card(Path(str(self.args.output_dir)) / "README.md", done)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training and "loss" in logs:
            logs |= self.figures.log_entry(self.problem_weights, self.state)
        elif not self.model.training:
            sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
            of_set = next((f"{name}/" for name in sets if f"eval_{name}_loss" in logs), "")
            for name, value in self._validation.metrics().items():
                self._metrics["eval"][f"paced/{of_set}{name}"].append(value)
            self._validation.clear()
        # TRL's table has no room for verdicts; ours is written in its place.
        log_completions, self.log_completions = self.log_completions, False
        super().log(logs, start_time)
        self.log_completions = log_completions
        if log_completions and self.accelerator.is_main_process:
            write_completions(self._logs, self.args, self.state.global_step)
