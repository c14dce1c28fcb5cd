"""
What can be trained: number formats, quantisation, adapters, teachers, and how models are spread over devices.

Responsible for combinations that TRL, accelerate or PEFT would refuse late, or leave out without a word. Looks at
settings, and at a model only where the caller gives one. Knows no data and no tokenizer. Ours.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType, is_peft_model

from ...settings import as_mapping


if TYPE_CHECKING:
    from ..config import PacedConfig


def check_adapter(peft_config: Any) -> None:
    """
    Refuse an adapter on the head, which TRL's loss would leave out: it reads `lm_head.weight`.

    `modules_to_save=["lm_head"]` works: the loss then reads the trained copy.

    Raises:
        ValueError: If `target_modules` names the head.
    """
    targets: str | set[str] = getattr(peft_config, "target_modules", None) or set()
    for head in ("lm_head", "embed_out"):
        if re.fullmatch(targets, head) if isinstance(targets, str) else head in targets:
            raise ValueError(
                f"`lora_target_modules` names the head ({head!r}), and the loss reads the head's own weight, so an "
                "adapter there would never be trained. Remove it, or train the head itself: "
                f"`--lora_modules_to_save {head}`."
            )


def check_student_dtype(args: PacedConfig, peft_config: Any) -> None:
    """
    Refuse to train a student's own weights in float16, where updates and gradients underflow.

    Raises:
        ValueError: If `dtype` is float16 and there is no adapter, whose weights are kept in float32.
    """
    dtype = str(as_mapping(args.model_init_kwargs, "model_init_kwargs").get("dtype")).removeprefix("torch.")
    if dtype == "float16" and peft_config is None:
        raise ValueError(
            "`dtype` is 'float16' and all weights of the student are trained, whose gradients underflow in it. Use "
            "'bfloat16', 'float32' (with `fp16` for speed), or LoRA (`use_peft`)."
        )


def check_quantization(args: PacedConfig, model: Any, quantization_config: Any, peft_config: Any) -> None:
    """
    Refuse quantisation that cannot train, or that is left out without a word.

    Args:
        args ([`PacedConfig`]): The run.
        model (`str` or `PreTrainedModel`): The student.
        quantization_config (`BitsAndBytesConfig`, *optional*): As given to the trainer.
        peft_config (`PeftConfig`, *optional*): As given to the trainer.

    Raises:
        ValueError: In one sentence each.
    """
    is_object = not isinstance(model, str)
    is_quantized = quantization_config is not None or any(
        getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8)
    )
    if quantization_config is not None and is_object:
        raise ValueError(
            "`load_in_4bit` or `load_in_8bit` is set, and the student is a model that is loaded already, so it would "
            "be left out. Give the model's name, or load it quantised yourself."
        )
    if is_quantized and args.use_vllm:
        raise ValueError(
            "`use_vllm` is set and the student is quantised with bitsandbytes, whose weights cannot be synchronised "
            "to vLLM. Leave out `use_vllm`, or train LoRA on the 16-bit student."
        )
    if is_quantized and peft_config is None and not hasattr(model, "peft_config"):
        raise ValueError(
            "The student is quantised and there is no adapter, so nothing could be trained. Set `use_peft`."
        )
    teacher_config = as_mapping(args.teacher_model_init_kwargs, "teacher_model_init_kwargs").get("quantization_config")
    for role, config in (("student", quantization_config), ("teacher", teacher_config)):
        skipped = config.get("llm_int8_skip_modules") if isinstance(config, dict) else None
        skipped = skipped or getattr(config, "llm_int8_skip_modules", None)
        if skipped and not {"lm_head", "embed_out"} & set(skipped):
            raise ValueError(
                f"`llm_int8_skip_modules` of the {role} is {skipped} and leaves out the head, which would be "
                "quantised, and the loss reads it as a dense matrix. Add 'lm_head'."
            )


def keep_four_bit_trainable(model: torch.nn.Module) -> None:
    """
    Leave the 4-bit weights of a student as they are when it generates on a CPU.

    bitsandbytes 0.50 repacks them in eval mode on CPUs with AVX512-BF16, for a kernel without a backward pass, and
    leaves them so: once the student has generated, no gradient would pass its layers any more.

    Args:
        model (`torch.nn.Module`): The student; its layers are told not to repack.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_head(role: str, model: Any) -> None:
    """
    Refuse a loaded model whose head is quantised.

    Raises:
        ValueError: If the head's weight is no matrix of floating-point numbers.
    """
    head = model.get_output_embeddings()
    if head is not None and not head.weight.is_floating_point():
        raise ValueError(
            f"The head of the {role} holds {head.weight.dtype}, it is quantised, and the loss reads it as a dense "
            "matrix. Load the model with 'lm_head' in `llm_int8_skip_modules`."
        )


def check_sharding(args: PacedConfig) -> None:
    """
    Refuse to shard on a CPU, where accelerate 1.15 leaves it out without a word and each process holds everything.

    Raises:
        ValueError: If FSDP or DeepSpeed is asked for and accelerate does neither.
    """
    state = args.distributed_state
    if state is None or state.distributed_type not in (DistributedType.MULTI_CPU, DistributedType.NO):
        return
    asked = "DeepSpeed" if args.deepspeed_plugin is not None else "FSDP" if _uses_fsdp(args) else None
    if asked is not None:
        raise ValueError(
            f"{asked} is asked for, and training is on the CPU or in a single process, where accelerate leaves it out "
            "without a word. Use one GPU per process, or start it with `recipes/accelerate/cpu.yaml`, which shards "
            "nothing."
        )


def _uses_fsdp(args: PacedConfig) -> bool:
    return bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def warn_of_whole_teacher(args: PacedConfig) -> None:
    """Say what leaves the teacher whole: FSDP, for which TRL 1.16 does not prepare it, and DeepSpeed below ZeRO-3."""
    if _uses_fsdp(args):
        warnings.warn(
            "Under FSDP only the student is sharded: each device holds the whole teacher. If it does not fit, use "
            "DeepSpeed ZeRO-3, which shards both, or load it with fewer bits (`teacher_load_in_4bit`).",
            stacklevel=2,
        )
    deepspeed = args.deepspeed_plugin
    if deepspeed is not None and deepspeed.zero_stage < 3 and args.self_distillation not in ("base", "ema"):
        warnings.warn(
            f"DeepSpeed ZeRO-{deepspeed.zero_stage} shards no weights: each device holds the whole teacher, and the "
            "student. If they do not fit, use ZeRO-3, or load the teacher with fewer bits (`teacher_load_in_4bit`).",
            stacklevel=2,
        )


def check_teacher(model: Any, teacher_model: Any, args: PacedConfig, peft_config: Any) -> None:
    """
    Refuse a teacher that cannot be had.

    Args:
        model, teacher_model (`str`, `PreTrainedModel` or `PeftModel`): What the trainer was given.
        args ([`PacedConfig`]): Settings.
        peft_config (`PeftConfig`, *optional*): The student's adapter.

    Raises:
        ValueError: If there is none, or two, or it could not do what the settings ask of it.
    """
    if args.self_distillation == "none" and teacher_model is None:
        raise ValueError(
            "`teacher_model` is None, so there is nothing to distill from. Give a model or its name, or set "
            "`self_distillation`."
        )
    if args.self_distillation != "none" and teacher_model is not None:
        raise ValueError(
            f"`self_distillation` is {args.self_distillation!r}, and a `teacher_model` was given as well. Remove "
            "one of them."
        )
    if args.self_distillation in ("base", "ema") and peft_config is None and not is_peft_model(model):
        raise ValueError(
            f"`self_distillation` is {args.self_distillation!r}, which needs an adapter to switch off or to "
            "average, and all of the student is trained. Set `use_peft` (`peft_config`), or "
            "`self_distillation='copy'`."
        )
    deepspeed = args.deepspeed_plugin
    if args.teacher_cache is not None and deepspeed is not None and deepspeed.zero_stage == 3:
        raise ValueError(
            "`teacher_cache` is set, and under DeepSpeed ZeRO-3 all processes must run the teacher equally often, "
            "which a cache does not. Use ZeRO-2, or leave it out."
        )
