"""
What settings of a run cannot be, alone or together: refused when they are given, in a sentence or two.

Responsible for `PacedConfig` only; what else a run needs is checked in `preflight.py` and `trainability.py`. Knows no
data and no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..generation.models import four_bit_settings
from ..settings import as_mapping
from ..weighting.weights import check_replay
from .schedule import stages
from .teacher_prompt import check_template


if TYPE_CHECKING:
    from .config import PacedConfig


def check_config(config: PacedConfig) -> None:
    """
    Refuse settings that cannot work.

    Raises:
        ValueError: What was given, why it cannot work, what to do.
    """
    check_completions(config)
    check_switch_patience(config)
    check_refresh(config)
    check_teacher_settings(config)
    check_replay(config.weighting, config.replay_share)
    if len(config.weight_band) != 2:
        raise ValueError(f"`weight_band` is {config.weight_band}; it takes two pass rates, lowest and highest.")


def check_switch_step(kl_switch: float) -> None:
    """Refuse a switch that is neither a fraction nor a number of steps."""
    if kl_switch < 0.0 or (kl_switch > 1.0 and not float(kl_switch).is_integer()):
        raise ValueError(
            f"`kl_switch` is {kl_switch}; it is a fraction of the steps in [0, 1], or a whole number of steps above 1."
        )


def check_completions(config: PacedConfig) -> None:
    """Refuse numbers of completions that cannot be made."""
    if config.use_vllm and config.completion_sources == {"dataset"}:
        raise ValueError(
            f"`use_vllm` is set, but with `kl`={config.kl!r} and `completion_source`={config.completion_source!r} all "
            "completions come from the dataset, so vLLM would only hold memory. Remove `use_vllm`."
        )
    local_batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if config.num_train_generations < 1 or local_batch % config.num_train_generations:
        raise ValueError(
            f"`num_train_generations` is {config.num_train_generations}, which does not divide the {local_batch} "
            "completions that a process trains on in a step (`per_device_train_batch_size * "
            "gradient_accumulation_steps`). Choose one that does."
        )
    if config.num_validation_generations < 1:
        raise ValueError(
            f"`num_validation_generations` is {config.num_validation_generations}; a held-out problem needs at "
            "least 1 completion. To have no evaluation, leave out `eval_strategy`."
        )
    if config.max_forgetting is not None and not 0.0 <= config.max_forgetting < 1.0:
        raise ValueError(
            f"`max_forgetting` is {config.max_forgetting}; it is a difference of two accuracies, in [0, 1)."
        )


def check_switch_patience(config: PacedConfig) -> None:
    """Refuse an early switch where there is none, or one that could never come."""
    if config.kl_switch_patience is None:
        return
    if len(stages(config.kl, config.kl_switch)) == 1:
        raise ValueError(
            f"`kl_switch_patience` is {config.kl_switch_patience}, but with `kl`={config.kl!r} and "
            f"`kl_switch`={config.kl_switch} there is one stage and no switch. Remove it, or set "
            "`kl='forward_then_reverse'` and the latest switch between 0 and 1."
        )
    if config.kl_switch_patience < 1 or not 0.0 <= config.kl_switch_threshold < 1.0:
        raise ValueError(
            f"`kl_switch_patience` is {config.kl_switch_patience} and `kl_switch_threshold` is "
            f"{config.kl_switch_threshold}; the patience is a number of logs from 1, the threshold in [0, 1)."
        )


def check_refresh(config: PacedConfig) -> None:
    """Refuse to refresh what cannot be, or from nothing."""
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
    if config.refresh in ("online", "estimate") and (
        config.weighting == "uniform" or config.weight_estimator == "unbiased"
    ):
        raise ValueError(
            f"`refresh` is {config.refresh!r}, and `weighting`={config.weighting!r} with "
            f"`weight_estimator`={config.weight_estimator!r} takes no fading pass rates. Use 'plugin' or "
            "'posterior' weights, or `refresh='never'`."
        )
    for name, value, is_possible in (
        ("refresh_half_life", config.refresh_half_life, config.refresh_half_life > 0),
        ("refresh_steps", config.refresh_steps, config.refresh_steps is None or config.refresh_steps > 0),
        ("refresh_share", config.refresh_share, 0.0 < config.refresh_share <= 1.0),
        ("refresh_num_generations", config.refresh_num_generations, config.refresh_num_generations >= 2),
    ):
        if not is_possible:
            raise ValueError(
                f"`{name}` is {value}, which cannot be: steps and half-life are above 0, the share is in (0, 1], "
                "and adaptive allocation needs at least 2 generations."
            )


def check_teacher_settings(config: PacedConfig) -> None:
    """Refuse what the teacher that is asked for has no use for."""
    check_template(config.privileged_template)
    if not 0.0 <= config.self_distillation_decay < 1.0:
        raise ValueError(
            f"`self_distillation_decay` is {config.self_distillation_decay}; it is a share in [0, 1) that stays."
        )
    if config.teacher_cache is not None and "dataset" not in config.completion_sources:
        raise ValueError(
            f"`teacher_cache` is {config.teacher_cache!r}, but with `kl`={config.kl!r} and "
            f"`completion_source`={config.completion_source!r} nothing is trained on references, and the student's "
            "own completions never come twice. Leave it out."
        )
    shares_weights = config.self_distillation in ("base", "ema")
    for name, value in (("teacher_cache", config.teacher_cache), ("teacher_offload", config.teacher_offload)):
        if value and shares_weights:
            raise ValueError(
                f"`{name}` is for a teacher with weights of its own, and with "
                f"`self_distillation`={config.self_distillation!r} the student's are its. Leave `{name}` out."
            )
    if config.teacher_load_in_4bit:
        check_four_bit_teacher(config)


def check_four_bit_teacher(config: PacedConfig) -> None:
    """Refuse to quantise a teacher that has no weights of its own, or is quantised otherwise."""
    for name, value in (
        ("self_distillation", config.self_distillation),
        ("teacher_offload", config.teacher_offload),
    ):
        if value not in ("none", False):
            raise ValueError(
                f"`teacher_load_in_4bit` is set, which is for a teacher of its own that stays on its device, and "
                f"`{name}` is {value!r}. Leave one of them out."
            )
    options = as_mapping(config.teacher_model_init_kwargs, "teacher_model_init_kwargs")
    if options.get("quantization_config", four_bit_settings()) != four_bit_settings():
        raise ValueError(
            "`teacher_load_in_4bit` is set, and `teacher_model_init_kwargs` has a `quantization_config` as well. "
            "Leave one of them out."
        )
