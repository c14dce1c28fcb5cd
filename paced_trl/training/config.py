"""
The settings of a PACED run: TRL's `DistillationConfig` plus the fields that the method adds.

A setting that TRL has keeps TRL's name and meaning. Settings that cannot work, alone or together, are refused here,
before any model loads; what depends on data or models is checked in `preflight/`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from trl import DistillationConfig

from ..generation.models import four_bit_settings
from ..setting_checks import check_settings
from ..settings import DROPPED_SETTINGS, FITTED, as_mapping, number_or_1, setting
from ..weighting.weights import check_replay
from .paced_settings import JudgingSettings, RefreshSettings, ScheduleSettings, TeacherSettings, WeightSettings
from .schedule import JSD_COEFFICIENT, completion_source_for, stages
from .teacher_prompt import check_template


@dataclass
class PacedConfig(
    WeightSettings, ScheduleSettings, TeacherSettings, RefreshSettings, JudgingSettings, DistillationConfig
):
    r"""
    Configuration class for the [`PacedTrainer`].

    Extends TRL's [`~trl.DistillationConfig`], whose parameters keep their names, meaning and defaults, except `beta`:
    the divergence is chosen by name (`kl`). On a machine without a GPU, `bf16` defaults to `False` and memory is not
    pinned.

    Parameters:
        > Parameters that control the problem weights

        weighting (`str`, *optional*, defaults to `"beta"`):
            `"beta"` weights problem i by `p_i^weight_alpha * (1 - p_i)^weight_beta` with its pass rate p_i,
            `"uniform"` weights all problems alike (the control), `"hard_filter"` gives weight to pass rates within
            `weight_band` only. `"teacher_gate"` weights by the teacher's pass rate (TGOPD, arXiv 2609.02998), from the
            columns `teacher_num_passed` and `teacher_num_valid`.
        weight_alpha (`float` or `"fitted"`, *optional*, defaults to `1.0`):
            Exponent of the pass rate. `"fitted"` is for `paced-trl train` and `compare`, which replace it by the best
            exponent for the gradients' signal-to-noise ratio ([`with_fitted_exponents`]); the trainer wants a number.
        weight_beta (`float` or `"fitted"`, *optional*, defaults to `1.0`):
            Exponent of the failure rate. `weight_beta > weight_alpha` favours harder problems: the kernel peaks at
            `weight_alpha / (weight_alpha + weight_beta)`.
        weight_estimator (`str`, *optional*, defaults to `"plugin"`):
            How the weight is estimated from counts: `"plugin"` inserts the observed pass rate, `"unbiased"` has the
            right mean over repeated measurements, `"posterior"` averages over a fitted prior.
        weight_gate (`bool`, *optional*, defaults to `True`):
            Whether `"posterior"` gives weight 0 to problems of which only passes or only failures were seen.
        weight_band (`list[float]`, *optional*, defaults to `[0.2, 0.8]`):
            Lowest and highest pass rate that `weighting="hard_filter"` keeps.
        replay_share (`float`, *optional*, defaults to `0.0`):
            Share of the total weight given to mastered problems, so that what the student can do is rehearsed; with
            `apply_weights="sampling"`, their share of the draws.
        prior_features (`list[str]`, *optional*):
            What the prior of `"posterior"` may depend on: columns of the dataset that tell how hard a problem may be,
            or `"prompt_length"`; see [`problem_features`].
        shuffle_weights (`bool`, *optional*, defaults to `False`):
            A control with an equal effective sample size: the same weights, permuted over the problems by `seed`.
        apply_weights (`str`, *optional*, defaults to `"loss"`):
            `"loss"` multiplies each problem's loss by its weight; an epoch is every problem of weight above 0 once.
            `"sampling"` draws problems in proportion to their weight, with loss weight 1; an epoch is as many draws
            as there are problems. Both have the same expected gradient; `"sampling"` spends little on weights near 0.
            With `refresh`, each batch is drawn by the weights of its step (with `"loss"`, alike among those above 0).
        loss_aggregation (`str`, *optional*, defaults to `"token"`):
            `"token"` divides the weighted sum of divergences by the number of completion tokens, as TRL does;
            `"sequence"` takes each completion's token mean first, so that long completions do not count more.

        > Parameters that control the schedule

        kl (`str`, *optional*, defaults to `"forward_then_reverse"`):
            `"forward"` KL(teacher || student), `"reverse"` KL(student || teacher), `"jsd"`, `"akl"` (adaptive KL,
            arXiv 2404.02657: forward where the student is wrong about the teacher's likeliest tokens, reverse
            elsewhere), `"cross_entropy"` of the references' tokens (supervised fine-tuning, no teacher is run), or
            the two stages `"forward_then_reverse"`.
        kl_switch (`float`, *optional*, defaults to `0.5`):
            Length of the first stage of `"forward_then_reverse"`: up to 1 the fraction of the optimizer steps, above 1
            their number. Optimizer state and learning-rate schedule go on across the switch.
        completion_source (`str`, *optional*, defaults to `"auto"`):
            `"dataset"` trains on the column `reference`, `"student"` on completions the student generates; `"auto"` is
            `"dataset"` while the divergence is forward or adaptive and `"student"` otherwise.
        token_budget (`int`, *optional*):
            The run ends after the optimizer step at which so many tokens have been generated by the student for
            training, refreshes included, and run through student and teacher for the loss. The learning rate and
            `kl_switch` follow `max_steps`, which should lie beyond.
        num_train_generations (`int`, *optional*, defaults to `1`):
            Completions per prompt in stages on the student's completions. Must divide `per_device_train_batch_size *
            gradient_accumulation_steps`; a generation batch then holds that many fewer problems.
            (`num_generations` is the number that estimates a pass rate.)
        rollout_engine (`str`, *optional*, defaults to `"auto"`):
            What makes the student's own completions. `"paced"` is the engine that estimates pass rates: finished rows
            leave the batch, and completions do not depend on the number of processes. `"trl"` leaves them to TRL
            (transformers' `generate`, or vLLM with `use_vllm`). `"auto"` is `"trl"` with `use_vllm`,
            `generation_kwargs`, `cache_implementation`, FSDP or DeepSpeed ZeRO-3, else `"paced"`; a run that was begun
            otherwise goes on as it began.
        share_prompt_beginning (`bool`, *optional*, defaults to `False`):
            Whether what all prompts of a batch begin with (system prompt, few-shot examples) is run once in the
            forward pass of the loss and not in each row: the same loss and gradients, up to rounding. Needs
            `activation_checkpointing=False` and models that keep nothing but keys and values; not with FSDP or
            DeepSpeed ZeRO-3.

        > Parameters that control the teacher

        self_distillation (`str`, *optional*, defaults to `"none"`):
            Who teaches where no `teacher_model` is given, with `privileged_context` in its prompt: `"base"` the
            student with its adapter off (no second copy of the weights), `"ema"` the student with an average of its
            adapter over the steps, `"copy"` a frozen copy of the student as it starts. Known to make completions
            shorter, and to hurt models that think long: watch `completions/mean_length` and `entropy`.
        self_distillation_decay (`float`, *optional*, defaults to `0.99`):
            With `"ema"`, the share of the averaged adapter that stays at each optimizer step, in [0, 1).
        privileged_template (`str`, *optional*):
            The last user turn as the teacher sees it, with `{prompt}` and `{privileged_context}`.
        shuffle_context (`bool`, *optional*, defaults to `False`):
            A control: each problem has another problem's `privileged_context`, by `seed`.
        teacher_cache (`str`, *optional*):
            Directory that keeps the teacher's final hidden states of the references, in their own number format. From
            the second pass on, the stage on references needs only the teacher's head. The size is logged before it is
            written. `None` computes them at every pass.
        teacher_load_in_4bit (`bool`, *optional*, defaults to `False`):
            Whether the teacher's weights are quantised to 4 bits (NF4, bitsandbytes) as they load, except its head and
            embeddings; its references come from the quantised model, too. `paced-trl teacher-gap` measures what that
            changes.

        > Parameters that control pass rates and evaluation during training

        refresh (`str`, *optional*, defaults to `"auto"`):
            `"never"` keeps the pass rates measured before training. `"online"` counts each verified completion of the
            student as one more observation, lets older ones fade, and updates the weights of the next batch; it
            collects no evidence in a stage on references. `"estimate"` measures pass rates again, with adaptive
            allocation, at the switch of `kl` and every `refresh_steps` steps; completions are kept in
            `output_dir/refresh`. Both need a `verifier`. `"auto"` is `"online"` if the estimator takes fading counts,
            the dataset has counts and no `problem_weight`, and there is a `verifier` and a stage on the student's
            completions; else `"never"`. The trainer replaces it by what it became.
        refresh_steps (`int`, *optional*):
            With `"estimate"`, optimizer steps between re-estimations. `None`: at the switch only.
        refresh_share (`float`, *optional*, defaults to `1.0`):
            With `"estimate"`, share of the problems measured each time, in turn.
        refresh_num_generations (`int`, *optional*, defaults to `4`):
            With `"estimate"`, most generations per measured problem, on average.
        refresh_half_life (`float`, *optional*, defaults to `100.0`):
            With `"online"`, optimizer steps after which an observation counts half.
        verifier (`str`, *optional*):
            Verifier that judges the student's completions during training, e.g. `"math"`; logged as
            `paced/pass_rate`. `None`: completions are not judged.
        verifier_kwargs (`dict[str, Any]`, *optional*):
            Options of the verifier.
        ddp_timeout (`int`, *optional*, defaults to `604800`):
            Seconds after which a process that waits for the others gives up. TRL's 30 minutes would end a run whose
            first process evaluates or writes references meanwhile.
        num_validation_generations (`int`, *optional*, defaults to `1`):
            With a `verifier`, completions per problem of `eval_dataset` (k): an evaluation during training logs
            `eval_paced/mean@k` and `eval_paced/pass@k` (`eval_paced/NAME/mean@k` if there are several sets).
        max_forgetting (`float`, *optional*):
            Ends the run at the first evaluation whose mean@k on the set `"retention"` of `eval_dataset` is more than
            this below that of the base student, which is evaluated first. Choose a set large enough for the
            difference to be seen.
    """

    _VALID_DICT_FIELDS = [*DistillationConfig._VALID_DICT_FIELDS, "verifier_kwargs"]

    ddp_timeout: int = setting(  # TRL's 30 minutes end a run whose first process estimates or evaluates meanwhile
        7 * 24 * 3600, "Seconds after which a process that waits for the others gives up.", at_least=1
    )
    beta: float | None = setting(None, "Not used here: choose the divergence with `kl`.")  # type: ignore[assignment]

    def __new__(cls, *args: Any, **kwargs: Any) -> PacedConfig:
        for name in kwargs.keys() & DROPPED_SETTINGS.keys():
            raise ValueError(f"`{name}` is given, which was dropped in 0.2: {DROPPED_SETTINGS[name]}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check_settings(self)
        _check_switch_step(self.kl_switch)
        first_kl = stages(self.kl, self.kl_switch)[0]
        coefficient = JSD_COEFFICIENT.get(first_kl, 0.0)
        if self.beta is not None and self.beta != coefficient:
            raise ValueError(
                f"`beta` is {self.beta}, but the divergence is chosen by name here, and `kl` is {self.kl!r}. Remove "
                "`beta` and set `kl`: 'forward' (beta 0), 'reverse' (beta 1), 'jsd', 'akl', 'cross_entropy' or "
                "'forward_then_reverse'."
            )
        self.beta = coefficient
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False
            if self.bf16 is None:
                self.bf16 = False  # TRL's default of True is refused on a CPU
        if self.max_forgetting is not None:
            self.eval_on_start = True  # the base student is what is compared with
        check_precision(bf16=self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        if self.activation_checkpointing is None:
            # The new name in transformers; TRL 1.16 still sets its default under the deprecated one, with a warning.
            self.activation_checkpointing = self.gradient_checkpointing
        DistillationConfig.__post_init__(self)
        _check_inherited(self)
        _check_weights(self)
        _check_completions(self)
        _check_refresh(self)
        _check_teacher_settings(self)
        if self.teacher_load_in_4bit:
            options = as_mapping(self.teacher_model_init_kwargs, "teacher_model_init_kwargs")
            self.teacher_model_init_kwargs = {**options, "quantization_config": four_bit_settings()}

    @property
    def weighting_arguments(self) -> dict[str, Any]:
        """The arguments of [`problem_weights`] that these settings mean."""
        return {
            "kind": self.weighting,
            "weight_alpha": number_or_1(self.weight_alpha),
            "weight_beta": number_or_1(self.weight_beta),
            "estimator": self.weight_estimator,
            "gate": self.weight_gate,
            "band": tuple(self.weight_band),
            "replay_share": self.replay_share,
        }

    @property
    def uses_pass_rates(self) -> bool:
        """Whether problems are weighted by how often the student passes them."""
        return self.weighting in ("beta", "hard_filter")

    @property
    def completion_sources(self) -> set[str]:
        """All sources of completions that the run passes through, of `{"dataset", "student"}`."""
        return {completion_source_for(kl, self.completion_source) for kl in stages(self.kl, self.kl_switch)}


def check_precision(*, bf16: bool | None, fp16: bool, use_cpu: bool) -> None:
    """Refuse half precision where there is no accelerator to compute in it, unless bfloat16 on the CPU is meant."""
    if not use_cpu and torch.accelerator.is_available():
        return
    if fp16:
        raise ValueError(
            "`fp16` is set, and training is on the CPU, where accelerate ignores it silently. Leave `fp16` out; the "
            "CPU trains in float32."
        )
    if bf16 and not use_cpu:
        raise ValueError(
            "`bf16` is set, and there is no accelerator. Leave it out, or set `use_cpu` as well if slow bfloat16 on "
            "the CPU is what you want."
        )


def _check_inherited(config: PacedConfig) -> None:
    """Refuse values of settings of TRL and transformers that these accept and that mean nothing, or something else."""
    if config.temperature <= 0:
        raise ValueError(
            f"`temperature` is {config.temperature}, and the loss divides the logits of both models by it, so it must "
            "be above 0. For greedy evaluations set it in `paced-trl evaluate` only."
        )
    if config.save_total_limit is not None and config.save_total_limit < 1:
        raise ValueError(
            f"`save_total_limit` is {config.save_total_limit}, but it must be at least 1. Leave it out to keep all "
            "checkpoints, or set `save_strategy` to 'no' to write none."
        )
    resume = config.resume_from_checkpoint
    if isinstance(resume, str) and resume.lower() not in ("true", "false") and not Path(resume).is_dir():
        raise ValueError(
            f"`resume_from_checkpoint` is {resume!r}, which is no directory. Leave it out: a run goes on by itself "
            "from the newest whole checkpoint in `output_dir`."
        )
    if config.train_sampling_strategy != "random":
        raise ValueError(
            f"`train_sampling_strategy` is {config.train_sampling_strategy!r}, but which problems a batch holds "
            "follows from the problem weights, so it would have no effect. Leave it out; `apply_weights` says how "
            "they are drawn."
        )
    if config.use_vllm and config.self_distillation in ("base", "ema"):
        raise ValueError(
            f"`use_vllm` is set with `self_distillation`={config.self_distillation!r}: each transfer to vLLM merges "
            "the adapter into the base and takes it out again, which moves the base that teaches. Leave out "
            "`use_vllm`, or set `self_distillation` to 'copy'."
        )


def uses_fsdp(config: PacedConfig) -> bool:
    """Return whether FSDP is asked for, by the settings or by the launcher."""
    return bool(config.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def shards_weights(config: PacedConfig) -> str | None:
    """Return what shards the student's weights, "FSDP" or "DeepSpeed ZeRO-3"; None where each process has them all."""
    deepspeed = config.deepspeed_plugin
    if deepspeed is not None and deepspeed.zero_stage == 3:
        return "DeepSpeed ZeRO-3"
    return "FSDP" if uses_fsdp(config) else None


def refuse_sharding(config: PacedConfig, given: str, remedy: str) -> None:
    """
    Refuse what lets the student generate in the middle of training where its weights are sharded.

    Processes would run the model differently often, and each forward pass waits for the shards of all: it hangs.
    """
    sharded_by = shards_weights(config)
    if sharded_by is not None:
        raise ValueError(
            f"{given}, so the student generates while it trains, and {sharded_by} shards its weights: processes that "
            f"generate differently long would wait for each other for ever. {remedy}, or train with DDP or ZeRO-2, "
            "which shard no weights."
        )


def why_left_to_trl(config: PacedConfig) -> str | None:
    """Return which setting leaves the student's completions to TRL; None if the own engine can make them."""
    if config.use_vllm:
        return "`use_vllm` is set"
    for name in ("generation_kwargs", "cache_implementation"):
        if getattr(config, name):
            return f"`{name}` is {getattr(config, name)!r}, which is for transformers' `generate`"
    if config.max_completion_length is None:
        return "`max_completion_length` is not given"
    sharded_by = shards_weights(config)
    return None if sharded_by is None else f"{sharded_by} shards the student's weights"


def rollout_engine_in_force(config: PacedConfig) -> Literal["paced", "trl"]:
    """Return what `rollout_engine` is: `"auto"` is `"paced"` unless a setting leaves completions to TRL."""
    if config.rollout_engine == "auto":
        return "paced" if why_left_to_trl(config) is None else "trl"
    return config.rollout_engine


def _check_switch_step(kl_switch: float) -> None:
    """Refuse a switch that is neither a fraction nor a number of steps."""
    if kl_switch < 0.0 or (kl_switch > 1.0 and not float(kl_switch).is_integer()):
        raise ValueError(
            f"`kl_switch` is {kl_switch}; it is a fraction of the steps in [0, 1], or a whole number of steps above 1."
        )


def _check_weights(config: PacedConfig) -> None:
    check_replay(config.weighting, config.replay_share)
    if FITTED in (config.weight_alpha, config.weight_beta) and config.weight_estimator == "unbiased":
        raise ValueError(
            "`weight_estimator` is 'unbiased', which needs whole-numbered exponents, and one is 'fitted', which is a "
            "fraction. Use 'plugin' or 'posterior', or give whole numbers."
        )
    if config.replay_share and config.weighting == "teacher_gate":
        raise ValueError(
            f"`replay_share` is {config.replay_share}, and `weighting` is 'teacher_gate', which does not know what "
            "the student has mastered. Leave one of them out."
        )
    if len(config.weight_band) != 2:
        raise ValueError(f"`weight_band` is {config.weight_band}; it takes two pass rates, lowest and highest.")


def _check_completions(config: PacedConfig) -> None:
    if config.kl == "cross_entropy" and config.completion_sources != {"dataset"}:
        raise ValueError(
            "`kl` is 'cross_entropy' and `completion_source` is 'student', which would teach the student its own "
            "completions, right or wrong. Leave `completion_source` out: cross-entropy is on references."
        )
    if config.kl == "cross_entropy" and config.teacher_cache is not None:
        raise ValueError(
            f"`teacher_cache` is {config.teacher_cache!r}, and with `kl`='cross_entropy' the teacher is not run. "
            "Leave one of them out."
        )
    if config.use_vllm and config.completion_sources == {"dataset"}:
        raise ValueError(
            f"`use_vllm` is set, but with `kl`={config.kl!r} and `completion_source`={config.completion_source!r} all "
            "completions come from the dataset, so vLLM would only hold memory. Remove `use_vllm`."
        )
    reason = why_left_to_trl(config)
    if config.rollout_engine == "paced" and reason is not None:
        raise ValueError(
            f"`rollout_engine` is 'paced', and {reason}, which that engine cannot do. Leave `rollout_engine` out, or "
            "set it to 'trl'."
        )
    reason = "`activation_checkpointing` computes layers again without keys and values that are shared"
    if not config.activation_checkpointing:
        sharded_by = shards_weights(config)
        reason = sharded_by and f"{sharded_by} shards the weights, which are gathered for one forward pass a batch"
    if config.share_prompt_beginning and reason:
        raise ValueError(f"`share_prompt_beginning` is set, and {reason}. Leave out one of them.")
    local_batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if config.num_train_generations < 1 or local_batch % config.num_train_generations:
        raise ValueError(
            f"`num_train_generations` is {config.num_train_generations}, which does not divide the {local_batch} "
            "completions that a process trains on in a step (`per_device_train_batch_size * "
            "gradient_accumulation_steps`). Choose one that does."
        )


def _check_refresh(config: PacedConfig) -> None:
    if config.refresh == "estimate":
        refuse_sharding(config, "`refresh` is 'estimate'", "Set `refresh` to 'online' or 'never'")
    if config.refresh == "online" and config.completion_sources == {"dataset"}:
        raise ValueError(
            f"`refresh` is 'online', but with `kl`={config.kl!r} and "
            f"`completion_source`={config.completion_source!r} the student makes no completions to learn pass rates "
            "from. Set `refresh='estimate'` with `refresh_steps`, or a `kl` with a stage on its completions."
        )
    if config.refresh == "estimate" and config.refresh_steps is None and len(stages(config.kl, config.kl_switch)) == 1:
        raise ValueError(
            f"`refresh` is 'estimate', but `kl`={config.kl!r} has no switch to do it at, and `refresh_steps` is not "
            "given. Set it, e.g. `--refresh_steps 100`."
        )
    if config.shuffle_weights and config.refresh in ("online", "estimate"):
        raise ValueError(
            f"`shuffle_weights` is set, and `refresh` is {config.refresh!r}, which would bring the weights back to "
            "their problems. Set `refresh='never'`."
        )
    takes_fading_counts = config.uses_pass_rates and config.weight_estimator != "unbiased"
    if config.refresh in ("online", "estimate") and not takes_fading_counts:
        raise ValueError(
            f"`refresh` is {config.refresh!r}, and `weighting`={config.weighting!r} with "
            f"`weight_estimator`={config.weight_estimator!r} takes no fading pass rates. Use 'plugin' or "
            "'posterior' weights, or `refresh='never'`."
        )


def _check_teacher_settings(config: PacedConfig) -> None:
    check_template(config.privileged_template)
    if config.shuffle_context and config.self_distillation == "none":
        raise ValueError(
            "`shuffle_context` is set without `self_distillation`, so there is no context to exchange. Set "
            "`self_distillation`, or leave `shuffle_context` out."
        )
    if config.teacher_cache is not None and "dataset" not in config.completion_sources:
        raise ValueError(
            f"`teacher_cache` is {config.teacher_cache!r}, but with `kl`={config.kl!r} and "
            f"`completion_source`={config.completion_source!r} nothing is trained on references, and the student's "
            "own completions never come twice. Leave it out."
        )
    if config.teacher_cache is not None and config.self_distillation in ("base", "ema"):
        raise ValueError(
            "`teacher_cache` is for a teacher with weights of its own, and with "
            f"`self_distillation`={config.self_distillation!r} it has the student's. Leave `teacher_cache` out."
        )
    if config.teacher_load_in_4bit and config.self_distillation != "none":
        raise ValueError(
            "`teacher_load_in_4bit` is set, which is for a teacher with weights of its own, and `self_distillation` "
            f"is {config.self_distillation!r}. Leave one of them out."
        )
    options = as_mapping(config.teacher_model_init_kwargs, "teacher_model_init_kwargs")
    is_other = options.get("quantization_config", four_bit_settings()) != four_bit_settings()
    if config.teacher_load_in_4bit and is_other:
        raise ValueError(
            "`teacher_load_in_4bit` is set, and `teacher_model_init_kwargs` has a `quantization_config` as well. "
            "Leave one of them out."
        )
