"""
The settings of a PACED run: TRL's `DistillationConfig` plus the few fields that the method adds.

A setting that TRL has keeps TRL's name and manners. What cannot work is refused here, before any model loads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from trl import DistillationConfig

from ..generation.models import four_bit_settings
from ..settings import as_mapping
from .config_checks import check_config, check_switch_step
from .preflight.trainability import check_precision
from .schedule import JSD_COEFFICIENT, CompletionSourceSchedule, KLSchedule, completion_source_for, stages
from .teacher_prompt import DEFAULT_TEMPLATE


_REFRESHED = {"refresh": "estimate", "refresh_steps": 50}

# One flag each for the method and the controls every comparison needs; the paper measures pass rates once. "sampling"
# draws problems in proportion to their weight; the hard filter is drawn too, which is what filtering a dataset does.
PRESETS: dict[str, dict[str, Any]] = {
    "uniform": {"weighting": "uniform", "replay_share": 0.0, "refresh": "never"},
    "hard_filter": {"weighting": "hard_filter", "apply_weights": "sampling", "refresh": "never"},
    "paced": {"weighting": "beta", "apply_weights": "loss", "refresh": "never"},
    "paced_sampling": {"weighting": "beta", "apply_weights": "sampling", "refresh": "never"},
    # The paper's two stages, where the other arms have one.
    "paced_forward_then_reverse": {
        "weighting": "beta",
        "apply_weights": "loss",
        "kl": "forward_then_reverse",
        "refresh": "never",
    },
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
    "akl": {"weighting": "uniform", "replay_share": 0.0, "kl": "akl", "refresh": "never"},
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
            or `"prompt_length"`; see [`problem_features`].
        weight_band (`list[float]`, *optional*, defaults to `[0.2, 0.8]`):
            Lowest and highest pass rate that `weighting="hard_filter"` keeps.
        replay_share (`float`, *optional*, defaults to `0.0`):
            Share of all weight that mastered problems have together, so that what the student can do is rehearsed;
            with `"sampling"`, their share of the draws.
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
            `eval_paced/mean@k` and `eval_paced/pass@k` beside the loss (`eval_paced/NAME/mean@k` if there are several
            sets).
        max_forgetting (`float`, *optional*):
            End the run at the first evaluation at which mean@k on the set `"retention"` of `eval_dataset` is more than
            this below the untouched student's, who is evaluated first. It is a mean over so many completions: choose
            a set large enough for the difference to be seen.
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
    replay_share: float = field(
        default=0.0, metadata={"help": "Share of all weight that mastered problems have together, to rehearse them."}
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
    max_forgetting: float | None = field(
        default=None,
        metadata={"help": "End the run when mean@k on `retention_set` has fallen by more than this, e.g. 0.02."},
    )
    beta: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Not used here: choose the divergence with `kl`."}
    )

    def __post_init__(self) -> None:
        check_switch_step(self.kl_switch)
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
        if self.max_forgetting is not None:
            self.eval_on_start = True  # the untouched student is what is compared with
        check_precision(bf16=self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        if self.activation_checkpointing is None:
            # The new name in transformers; TRL 1.16 still sets its default under the deprecated one, with a warning.
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        check_config(self)
        if self.teacher_load_in_4bit:
            options = as_mapping(self.teacher_model_init_kwargs, "teacher_model_init_kwargs")
            self.teacher_model_init_kwargs = {**options, "quantization_config": four_bit_settings()}

    @property
    def weighting_arguments(self) -> dict[str, Any]:
        """The arguments of [`problem_weights`] that these settings mean."""
        return {
            "kind": self.weighting,
            "weight_alpha": self.weight_alpha,
            "weight_beta": self.weight_beta,
            "estimator": self.weight_estimator,
            "gate": self.weight_gate,
            "band": tuple(self.weight_band),
            "replay_share": self.replay_share,
        }

    @property
    def completion_sources(self) -> set[str]:
        """All sources of completions that the run passes through, of `{"dataset", "student"}`."""
        return {completion_source_for(kl, self.completion_source) for kl in stages(self.kl, self.kl_switch)}
