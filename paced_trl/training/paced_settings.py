"""
The settings that PACED adds to TRL's, in groups. `PacedConfig` puts them together with TRL's.

No torch and no TRL: a mistake in a settings file shows before either is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..setting_checks import Settings
from ..settings import WeightArguments, setting
from .schedule import CompletionSourceSchedule, KLSchedule


# The user's last turn as the teacher sees it in self-distillation. It asks for nothing: a request, such as to solve
# the problem in one's own words, changes the form and length of the answers that the student then learns.
DEFAULT_TEMPLATE = "{prompt} ({privileged_context})"


@dataclass
class WeightSettings(WeightArguments):
    """How problems are weighted, and how the weights are applied."""

    _argument_group_name: ClassVar[str] = "problem weights"

    weighting: Literal["beta", "uniform", "hard_filter", "teacher_gate"] = setting(
        "beta",
        "How problems are weighted by the student's pass rate p: 'beta' p^a (1-p)^b, 'uniform' all alike (control), "
        "'hard_filter' only pass rates within weight_band; 'teacher_gate' by the teacher's pass rate in "
        "num_reference_attempts.",
    )
    weight_band: list[float] = setting(
        [0.2, 0.8], "Lowest and highest pass rate that 'hard_filter' keeps.", at_least=0, at_most=1
    )
    replay_share: float = setting(
        0.0, "Share of the total weight given to problems the student always passes, so that it does not forget them."
    )
    shuffle_weights: bool = setting(
        False, "A control: the weights are permuted over the problems at random, by seed, so that they say nothing."
    )
    apply_weights: Literal["loss", "sampling"] = setting(
        "loss", "Weights multiply the loss, or are the rate at which problems are drawn ('sampling')."
    )
    loss_aggregation: Literal["token", "sequence"] = setting(
        "token", "Mean over all completion tokens, as in TRL, or over the means of completions ('sequence')."
    )


@dataclass
class ScheduleSettings(Settings):
    """Which divergence, on whose completions."""

    _argument_group_name: ClassVar[str] = "divergence and stages"

    kl: KLSchedule = setting(
        "forward_then_reverse",
        "Divergence that is minimised: 'forward' KL(teacher || student), 'reverse' KL(student || teacher), 'jsd', "
        "'akl' (adaptive KL), 'cross_entropy' (supervised fine-tuning on references, no teacher in the loss), or "
        "forward first and reverse after kl_switch.",
    )
    kl_switch: float = setting(
        0.5,
        "Length of the forward stage of 'forward_then_reverse': up to 1 a fraction of the optimizer steps, above 1 "
        "their number.",
    )
    completion_source: CompletionSourceSchedule = setting(
        "auto",
        "Completions trained on: the dataset's references, the student's own, or ('auto') references while the "
        "divergence is forward or adaptive and the student's own otherwise.",
    )
    token_budget: int | None = setting(
        None,
        "Tokens after which the run ends: those that the student generated for it, refreshes included, "
        "and those run through student and teacher for the loss. Set max_steps beyond.",
        at_least=1,
    )
    num_train_generations: int = setting(1, "Completions per prompt while training on the student's own completions.")
    rollout_engine: Literal["auto", "paced", "trl"] = setting(
        "auto",
        "What makes the student's own completions: the engine that estimates pass rates ('paced', faster where "
        "lengths differ) or TRL's ('trl'). 'auto' is TRL's with use_vllm, generation_kwargs, FSDP or ZeRO-3.",
    )
    share_prompt_beginning: bool = setting(
        False,
        "Run what a batch's prompts begin with, e.g. few-shot examples, once for the loss; not with "
        "activation_checkpointing.",
    )


@dataclass
class TeacherSettings(Settings):
    """Who teaches, and what it costs."""

    _argument_group_name: ClassVar[str] = "teacher"

    self_distillation: Literal["none", "base", "ema", "copy"] = setting(
        "none",
        "The student teaches itself, with privileged_context in the teacher's prompt: 'base' with its adapter off, "
        "'ema' with a moving average of its adapter, 'copy' a frozen copy. Known to shorten completions and to hurt "
        "models that think long.",
    )
    self_distillation_decay: float = setting(
        0.99,
        "With 'ema', share of the averaged adapter that stays at each optimizer step.",
        at_least=0,
        less_than=1,
    )
    privileged_template: str = setting(
        DEFAULT_TEMPLATE, "The last user turn as the teacher sees it, with {prompt} and {privileged_context}."
    )
    shuffle_context: bool = setting(
        False, "A control: in self-distillation each problem has another problem's privileged_context, by seed."
    )
    teacher_cache: str | None = setting(
        None, "Directory that keeps the teacher's hidden states of references, so that they are computed once."
    )
    teacher_load_in_4bit: bool = setting(
        False, "Quantise the teacher to 4 bits as it loads; `paced-trl teacher-gap` measures what that changes."
    )


@dataclass
class RefreshSettings(Settings):
    """How pass rates follow the student while it trains."""

    _argument_group_name: ClassVar[str] = "pass rates during training"

    refresh: Literal["auto", "never", "online", "estimate"] = setting(
        "auto",
        "Pass rates during training: 'never' updated, 'online' from the student's own verified completions, "
        "'estimate' measured again at kl_switch and every refresh_steps steps; 'auto' is 'online' where that costs no "
        "further generation.",
    )
    refresh_steps: int | None = setting(
        None,
        "With refresh 'estimate', optimizer steps between re-estimations. Default: at kl_switch only.",
        at_least=1,
    )
    refresh_share: float = setting(
        1.0, "With refresh 'estimate', share of the problems measured each time, in turn.", more_than=0, at_most=1
    )
    refresh_num_generations: int = setting(
        4, "With refresh 'estimate', generations per problem, on average at most (adaptive).", at_least=2
    )
    refresh_half_life: float = setting(
        100.0, "With refresh 'online', optimizer steps after which an observation counts half.", more_than=0
    )


@dataclass
class JudgingSettings(Settings):
    """Who judges the student's completions while it trains, and when the run ends for it."""

    _argument_group_name: ClassVar[str] = "verifier and evaluations during training"

    verifier: str | None = setting(
        None, "Verifier that judges the student's own completions during training, e.g. 'math'."
    )
    verifier_kwargs: dict[str, Any] | str | None = setting(None, "Options of the verifier; JSON on the command line.")
    num_validation_generations: int = setting(
        1, "Completions per held-out problem in an evaluation during training (k of mean@k).", at_least=1
    )
    max_forgetting: float | None = setting(
        None,
        "End the run when mean@k on retention_set has fallen by more than this, e.g. 0.02.",
        at_least=0,
        less_than=1,
    )
