"""
The settings of a PACED run: TRL's `DistillationConfig` plus the few fields that the method adds.

A setting that TRL has keeps TRL's name and manners. What cannot work is refused here, before any model loads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from trl import DistillationConfig

from .arguments import as_mapping
from .models import four_bit_settings
from .privileged_prompts import DEFAULT_TEMPLATE, check_template
from .schedule import JSD_COEFFICIENT, CompletionSourceSchedule, KLSchedule, completion_source_for, stages
from .trainability import check_precision


_REFRESHED = {"refresh": "estimate", "refresh_steps": 50}

# One flag each for the method and the controls every comparison needs; the paper measures pass rates once. "sampling"
# draws problems in proportion to their weight; the hard filter is drawn too, which is what filtering a dataset does.
PRESETS: dict[str, dict[str, Any]] = {
    "uniform": {"weighting": "uniform", "refresh": "never"},
    "hard_filter": {"weighting": "hard_filter", "apply_weights": "sampling", "refresh": "never"},
    "paced": {"weighting": "beta", "apply_weights": "loss", "refresh": "never"},
    "paced_sampling": {"weighting": "beta", "apply_weights": "sampling", "refresh": "never"},
    # Ours: pass rates measured again every 50 steps, as in the demo.
    "paced_sampling_refreshed": {"weighting": "beta", "apply_weights": "sampling", **_REFRESHED},
    "hard_filter_refreshed": {"weighting": "hard_filter", "apply_weights": "sampling", **_REFRESHED},
    # SC-SDPO (arXiv 2605.27765) weighs by sqrt(p (1 - p)).
    "sqrt": {
        "weighting": "beta",
        "weight_alpha": 0.5,
        "weight_beta": 0.5,
        "apply_weights": "sampling",
        "refresh": "never",
    },
    # DAPO's dynamic sampling keeps 0 < p < 1: no count of fewer than a million generations is left out otherwise.
    "dapo": {
        "weighting": "hard_filter",
        "weight_band": [1e-6, 1.0 - 1e-6],
        "apply_weights": "sampling",
        "refresh": "never",
    },
    # A baseline of the paper: adaptive KL (arXiv 2404.02657), unweighted.
    "akl": {"weighting": "uniform", "kl": "akl", "refresh": "never"},
}


@dataclass
class PacedConfig(DistillationConfig):
    r"""
    Configuration class for the [`PacedTrainer`].

    Extends TRL's [`~trl.DistillationConfig`], whose parameters keep their names, meaning and defaults, except `beta`:
    the divergence is chosen by name (`kl`). On a machine without a GPU, `bf16` defaults to `False`
    and memory is not pinned.

    Parameters:
        > Parameters that control the problem weights

        weighting (`str`, *optional*, defaults to `"beta"`):
            `"beta"` weights problem i by `p_i^weight_alpha * (1 - p_i)^weight_beta` (the paper's kernel), `"uniform"`
            weights all alike (the control), `"hard_filter"` gives weight to pass rates within `weight_band` only.
        weight_alpha (`float`, *optional*, defaults to `1.0`):
            Exponent of the pass rate.
        weight_beta (`float`, *optional*, defaults to `1.0`):
            Exponent of the failure rate. `weight_beta > weight_alpha` favours harder problems: the kernel peaks at
            `weight_alpha / (weight_alpha + weight_beta)`.
        weight_estimator (`str`, *optional*, defaults to `"plugin"`):
            How the weight is estimated from counts: `"plugin"` (the paper's), `"unbiased"` or `"posterior"`.
        weight_gate (`bool`, *optional*, defaults to `True`):
            Whether `"posterior"` gives weight 0 to problems of which only passes or only failures were seen.
        prior_features (`list[str]`, *optional*):
            What the prior of `"posterior"` may depend on: columns of the dataset that tell how hard a problem may be,
            or `"prompt_length"`; see [`~paced_trl.feature_prior.problem_features`].
        weight_band (`list[float]`, *optional*, defaults to `[0.2, 0.8]`):
            Lowest and highest pass rate that `weighting="hard_filter"` keeps.
        apply_weights (`str`, *optional*, defaults to `"loss"`):
            `"loss"` multiplies each problem's loss by its weight, and an epoch is every problem of weight above 0
            once; `"sampling"` draws problems in proportion to their weight, with loss weight 1, and an epoch is as
            many draws as there are problems: the same expected gradient, spending little on weights near 0. With
            `refresh`, each batch is drawn by the weights of its step, with `"loss"` alike among those above 0.
        loss_aggregation (`str`, *optional*, defaults to `"token"`):
            `"token"` divides the weighted sum of divergences by the number of completion tokens, as TRL does;
            `"sequence"` takes each completion's token mean first, so that long completions count no more.

        > Parameters that control the schedule

        kl (`str`, *optional*, defaults to `"forward_then_reverse"`):
            `"forward"` KL(teacher || student), `"reverse"` KL(student || teacher), `"jsd"`, `"akl"` (adaptive KL,
            arXiv 2404.02657: forward where the student is wrong about the teacher's likeliest tokens, reverse
            elsewhere), or `"forward_then_reverse"`, the paper's two stages.
        kl_switch (`float`, *optional*, defaults to `0.5`):
            The first stage of `"forward_then_reverse"`: up to 1 the fraction of the optimizer steps, above 1 their
            number. Optimizer state and learning-rate schedule go on across the switch: Adam's moments are at first
            those of forward gradients, and the rate is what `lr_scheduler_type` has at that step.
        kl_switch_patience (`int`, *optional*):
            Switch before `kl_switch`, as soon as so many logs in a row (every `logging_steps` steps) did not improve
            the forward divergence. `None`: at `kl_switch` only. Optimizer state and learning rate go on as well; the
            learning-rate schedule knows nothing of an early switch.
        kl_switch_threshold (`float`, *optional*, defaults to `0.01`):
            With `kl_switch_patience`, the share of the best logged divergence by which another must be below it to
            be an improvement. Logs are means of few batches, so that much less is noise.
        completion_source (`str`, *optional*, defaults to `"auto"`):
            `"dataset"` trains on the column `reference`, `"student"` on completions the student generates; `"auto"` is
            `"dataset"` while the divergence is forward or adaptive and `"student"` otherwise.

        num_train_generations (`int`, *optional*, defaults to `1`):
            Completions of the student per prompt, in stages on its completions: the first 1 / `num_train_generations`
            of the problems of a generation batch, each so many times, fill it. Divides `per_device_train_batch_size *
            gradient_accumulation_steps`. (`num_generations` is the number that estimates a pass rate.)

        > Parameters that control the teacher

        self_distillation (`str`, *optional*, defaults to `"none"`):
            Who teaches, where no `teacher_model` is given, with `privileged_context` in its prompt: `"base"` the
            student with its adapter off (no second copy of the weights), `"ema"` the student with an average of its
            adapter over the steps, `"copy"` a frozen copy of the student as it starts. Known to make completions
            shorter, and to hurt models that think long: watch `completions/mean_length` and `entropy`.
        self_distillation_decay (`float`, *optional*, defaults to `0.99`):
            With `"ema"`, how much of the averaged adapter stays at each optimizer step.
        privileged_template (`str`, *optional*):
            The user's last turn as the teacher sees it, with `{prompt}` and `{privileged_context}`.
        teacher_cache (`str`, *optional*):
            Directory in which the teacher's final hidden states of the references are kept, in the number format they
            have. From the second pass on, the stage on references needs of the teacher only its head. The size is
            said before it is written. `None` computes them at every pass.
        teacher_offload (`bool`, *optional*, defaults to `False`):
            Whether teacher and student take turns on the accelerator: the teacher runs over a whole generation batch
            while the student waits in main memory, and the other way round. Only the teacher's head stays. For one
            process.
        teacher_load_in_4bit (`bool`, *optional*, defaults to `False`):
            Whether the teacher's weights are quantised to 4 bits (NF4, bitsandbytes) as they load, all but its head
            and embeddings. It writes its references so, too. `paced-trl teacher-gap` measures what that changes.

        > Parameters that control the on-policy pass rate

        refresh (`str`, *optional*, defaults to `"auto"`):
            `"auto"` is `"online"` where that is free and sound: `weighting="beta"` with an estimator that takes fading
            counts, a `verifier`, counts in the dataset and no `problem_weight`, and a stage on the student's
            completions; else `"never"`. The trainer sets it to what it became.
            `"online"` lets pass rates follow the student: each of its own completions that training verifies is one
            more observation, older ones fade, and the weights of the next batch follow. Stages on the dataset's
            completions observe nothing. `"estimate"` measures the pass rates again, with adaptive allocation, at the
            switch of `kl` and every `refresh_steps` steps; completions are kept in `output_dir/refresh`. Both need a
            `verifier`, and both are in the checkpoint.
        refresh_steps (`int`, *optional*):
            With `"estimate"`, optimizer steps between re-estimations. `None`: at the switch only.
        refresh_share (`float`, *optional*, defaults to `1.0`):
            With `"estimate"`, share of the problems that are measured each time, in turn.
        refresh_num_generations (`int`, *optional*, defaults to `4`):
            With `"estimate"`, most generations per measured problem on average.
        refresh_half_life (`float`, *optional*, defaults to `100.0`):
            Steps after which an observation counts half.
        verifier (`str`, *optional*):
            Verifier that judges the student's own completions during training, e.g. `"math"`; logged as
            `paced/pass_rate`. If `None`, completions are not judged.
        verifier_kwargs (`dict[str, Any]`, *optional*):
            Options of the verifier.
        num_validation_generations (`int`, *optional*, defaults to `1`):
            With a `verifier`, completions of each problem of `eval_dataset` (k): an evaluation during training logs
            `eval_paced/mean@k` and `eval_paced/pass@k` beside the loss.
    """

    _VALID_DICT_FIELDS = [*DistillationConfig._VALID_DICT_FIELDS, "verifier_kwargs"]

    weighting: Literal["beta", "uniform", "hard_filter"] = field(
        default="beta",
        metadata={
            "help": "Problem weights: 'beta' p^a (1-p)^b, 'uniform' (control), 'hard_filter' (keep a band of p)."
        },
    )
    weight_alpha: float = field(default=1.0, metadata={"help": "Exponent a of the pass rate in p^a (1-p)^b."})
    weight_beta: float = field(default=1.0, metadata={"help": "Exponent b of the failure rate in p^a (1-p)^b."})
    weight_estimator: Literal["plugin", "unbiased", "posterior"] = field(
        default="plugin", metadata={"help": "How weights are estimated from pass counts."}
    )
    weight_gate: bool = field(
        default=True,
        metadata={"help": "With 'posterior', weight 0 where only passes or only failures were seen."},
    )
    weight_band: list[float] = field(
        default_factory=lambda: [0.2, 0.8],
        metadata={"help": "Lowest and highest pass rate that 'hard_filter' keeps."},
    )
    prior_features: list[str] = field(
        default_factory=list,
        metadata={"help": "With 'posterior', columns that tell how hard a problem may be; as in `estimate`."},
    )
    apply_weights: Literal["loss", "sampling"] = field(
        default="loss", metadata={"help": "Weights multiply the loss, or are the rate at which problems are drawn."}
    )
    loss_aggregation: Literal["token", "sequence"] = field(
        default="token", metadata={"help": "Mean over all completion tokens (TRL's) or over per-completion means."}
    )
    kl: KLSchedule = field(
        default="forward_then_reverse",
        metadata={"help": "Divergence: forward is KL(teacher || student), reverse is KL(student || teacher)."},
    )
    kl_switch: float = field(
        default=0.5,
        metadata={
            "help": "Forward stage of 'forward_then_reverse': up to 1 a fraction of the steps, above 1 their number."
        },
    )
    kl_switch_patience: int | None = field(
        default=None,
        metadata={"help": "Switch before `kl_switch`, after so many logs without a better forward divergence."},
    )
    kl_switch_threshold: float = field(
        default=0.01,
        metadata={"help": "With `kl_switch_patience`, the least improvement, as a share of the best divergence."},
    )
    completion_source: CompletionSourceSchedule = field(
        default="auto",
        metadata={"help": "Completions trained on: the dataset's references, the student's own, or by stage."},
    )
    num_train_generations: int = field(
        default=1,
        metadata={"help": "Completions of the student per prompt, in stages on its completions."},
    )
    self_distillation: Literal["none", "base", "ema", "copy"] = field(
        default="none",
        metadata={
            "help": "The student teaches itself, with `privileged_context` in the teacher's prompt: 'base' with its "
            "adapter off, 'ema' with an average of its adapter, 'copy' a frozen copy. Known to shorten outputs and to "
            "hurt models that think long."
        },
    )
    self_distillation_decay: float = field(
        default=0.99, metadata={"help": "With 'ema', how much of the averaged adapter stays at each step."}
    )
    privileged_template: str = field(
        default=DEFAULT_TEMPLATE,
        metadata={"help": "The user's last turn as the teacher sees it, with {prompt} and {privileged_context}."},
    )
    teacher_cache: str | None = field(
        default=None,
        metadata={"help": "Directory that keeps the teacher's hidden states of references, computed once."},
    )
    teacher_offload: bool = field(
        default=False,
        metadata={"help": "Teacher and student take turns on the accelerator, a generation batch at a time."},
    )
    teacher_load_in_4bit: bool = field(
        default=False,
        metadata={"help": "Quantise the teacher to 4 bits as it loads; `teacher-gap` measures what that changes."},
    )
    refresh: Literal["auto", "never", "online", "estimate"] = field(
        default="auto",
        metadata={
            "help": "Pass rates during training: 'never' refreshed, 'online' from the student's own verified "
            "completions, or 'estimate': measured again at the switch of `kl` and every `refresh_steps`; 'auto': "
            "'online' where it is free."
        },
    )
    refresh_steps: int | None = field(
        default=None, metadata={"help": "With refresh 'estimate', steps between re-estimations; none: at the switch."}
    )
    refresh_share: float = field(
        default=1.0,
        metadata={"help": "With refresh 'estimate', share of the problems measured each time, in turn."},
    )
    refresh_num_generations: int = field(
        default=4,
        metadata={"help": "With refresh 'estimate', generations per problem, on average at most (adaptive)."},
    )
    refresh_half_life: float = field(
        default=100.0, metadata={"help": "With refresh 'online', steps after which an observation counts half."}
    )
    verifier: str | None = field(
        default=None, metadata={"help": "Verifier of the student's own completions during training, e.g. 'math'."}
    )
    verifier_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the verifier, as JSON on the command line."}
    )
    num_validation_generations: int = field(
        default=1,
        metadata={"help": "Completions per held-out problem in an evaluation during training (k of mean@k)."},
    )
    beta: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Not used here: choose the divergence with `kl`."}
    )

    def __post_init__(self) -> None:
        if self.kl_switch < 0.0 or (self.kl_switch > 1.0 and not float(self.kl_switch).is_integer()):
            raise ValueError(
                f"`kl_switch` is {self.kl_switch}; it is a fraction of the steps in [0, 1], or a whole number of "
                "steps above 1."
            )
        first_kl = stages(self.kl, self.kl_switch)[0]
        coefficient = JSD_COEFFICIENT.get(first_kl, 0.0)
        if self.beta is not None and self.beta != coefficient:
            raise ValueError(
                f"`beta` is {self.beta}, but the divergence is chosen by name here, and `kl` is {self.kl!r}. Remove "
                "`beta` and set `kl`: 'forward' (beta 0), 'reverse' (beta 1), 'jsd', 'akl' or 'forward_then_reverse'."
            )
        self.beta = coefficient
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False
            if self.bf16 is None:
                self.bf16 = False  # TRL's default of True is refused on a CPU
        check_precision(bf16=self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        if self.num_validation_generations < 1:
            raise ValueError(
                f"`num_validation_generations` is {self.num_validation_generations}; a held-out problem needs at "
                "least 1 completion. To have no evaluation, leave out `eval_strategy`."
            )
        if self.activation_checkpointing is None:
            # The new name in transformers; TRL 1.16 still sets its default under the deprecated one, with a warning.
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        if self.use_vllm and self.completion_sources == {"dataset"}:
            raise ValueError(
                f"`use_vllm` is set, but with `kl`={self.kl!r} and `completion_source`={self.completion_source!r} all "
                "completions come from the dataset, so vLLM would only hold memory. Remove `use_vllm`."
            )
        local_batch = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if self.num_train_generations < 1 or local_batch % self.num_train_generations:
            raise ValueError(
                f"`num_train_generations` is {self.num_train_generations}, which does not divide the {local_batch} "
                "completions that a process trains on in a step (`per_device_train_batch_size * "
                "gradient_accumulation_steps`). Choose one that does."
            )
        self._check_switch()
        self._check_refresh()
        self._check_teacher()
        if self.teacher_load_in_4bit:
            self._quantize_teacher()
        if len(self.weight_band) != 2:
            raise ValueError(f"`weight_band` is {self.weight_band}; it takes two pass rates, lowest and highest.")

    def _check_switch(self) -> None:
        if self.kl_switch_patience is None:
            return
        if len(stages(self.kl, self.kl_switch)) == 1:
            raise ValueError(
                f"`kl_switch_patience` is {self.kl_switch_patience}, but with `kl`={self.kl!r} and "
                f"`kl_switch`={self.kl_switch} there is one stage and no switch. Remove it, or set "
                "`kl='forward_then_reverse'` and the latest switch between 0 and 1."
            )
        if self.kl_switch_patience < 1 or not 0.0 <= self.kl_switch_threshold < 1.0:
            raise ValueError(
                f"`kl_switch_patience` is {self.kl_switch_patience} and `kl_switch_threshold` is "
                f"{self.kl_switch_threshold}; the patience is a number of logs from 1, the threshold in [0, 1)."
            )

    def _check_refresh(self) -> None:
        if self.refresh == "online" and self.completion_sources == {"dataset"}:
            raise ValueError(
                f"`refresh` is 'online', but with `kl`={self.kl!r} and "
                f"`completion_source`={self.completion_source!r} the student makes no completions to learn pass rates "
                "from. Set `refresh='estimate'` with `refresh_steps`, or a `kl` with a stage on its completions."
            )
        if self.refresh == "estimate" and self.refresh_steps is None and len(stages(self.kl, self.kl_switch)) == 1:
            raise ValueError(
                f"`refresh` is 'estimate', but `kl`={self.kl!r} has no switch to do it at, and `refresh_steps` is not "
                "given. Set it, e.g. `--refresh_steps 100`."
            )
        if self.refresh in ("online", "estimate") and (
            self.weighting == "uniform" or self.weight_estimator == "unbiased"
        ):
            raise ValueError(
                f"`refresh` is {self.refresh!r}, and `weighting`={self.weighting!r} with "
                f"`weight_estimator`={self.weight_estimator!r} takes no fading pass rates. Use 'plugin' or "
                "'posterior' weights, or `refresh='never'`."
            )
        for name, value, is_possible in (
            ("refresh_half_life", self.refresh_half_life, self.refresh_half_life > 0),
            ("refresh_steps", self.refresh_steps, self.refresh_steps is None or self.refresh_steps > 0),
            ("refresh_share", self.refresh_share, 0.0 < self.refresh_share <= 1.0),
            ("refresh_num_generations", self.refresh_num_generations, self.refresh_num_generations >= 2),
        ):
            if not is_possible:
                raise ValueError(
                    f"`{name}` is {value}, which cannot be: steps and half-life are above 0, the share is in (0, 1], "
                    "and adaptive allocation needs at least 2 generations."
                )

    def _check_teacher(self) -> None:
        check_template(self.privileged_template)
        if not 0.0 <= self.self_distillation_decay < 1.0:
            raise ValueError(
                f"`self_distillation_decay` is {self.self_distillation_decay}; it is a share in [0, 1) that stays."
            )
        if self.teacher_cache is not None and "dataset" not in self.completion_sources:
            raise ValueError(
                f"`teacher_cache` is {self.teacher_cache!r}, but with `kl`={self.kl!r} and "
                f"`completion_source`={self.completion_source!r} nothing is trained on references, and the student's "
                "own completions never come twice. Leave it out."
            )
        shares_weights = self.self_distillation in ("base", "ema")
        for name, value in (("teacher_cache", self.teacher_cache), ("teacher_offload", self.teacher_offload)):
            if value and shares_weights:
                raise ValueError(
                    f"`{name}` is for a teacher with weights of its own, and with "
                    f"`self_distillation`={self.self_distillation!r} the student's are its. Leave `{name}` out."
                )

    def _quantize_teacher(self) -> None:
        for name, value in (("self_distillation", self.self_distillation), ("teacher_offload", self.teacher_offload)):
            if value not in ("none", False):
                raise ValueError(
                    f"`teacher_load_in_4bit` is set, which is for a teacher of its own that stays on its device, and "
                    f"`{name}` is {value!r}. Leave one of them out."
                )
        options = as_mapping(self.teacher_model_init_kwargs)
        if options.get("quantization_config", four_bit_settings()) != four_bit_settings():
            raise ValueError(
                "`teacher_load_in_4bit` is set, and `teacher_model_init_kwargs` has a `quantization_config` as well. "
                "Leave one of them out."
            )
        self.teacher_model_init_kwargs = {**options, "quantization_config": four_bit_settings()}

    @property
    def weighting_arguments(self) -> dict[str, Any]:
        """The arguments of [`~paced_trl.weighting.problem_weights`] that these settings mean."""
        return {
            "kind": self.weighting,
            "weight_alpha": self.weight_alpha,
            "weight_beta": self.weight_beta,
            "estimator": self.weight_estimator,
            "gate": self.weight_gate,
            "band": tuple(self.weight_band),
        }

    @property
    def completion_sources(self) -> set[str]:
        """All sources of completions that the run passes through, of `{"dataset", "student"}`."""
        return {completion_source_for(kl, self.completion_source) for kl in stages(self.kl, self.kl_switch)}
