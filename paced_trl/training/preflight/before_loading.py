"""
What would fail late, or silently train on the wrong thing, is found before weights load.

Two models, data and settings together; configs and tokenizers are read, and a model is looked at only where the caller
gives one. Each thing works, is warned about, or is refused in a sentence.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers.utils import is_torch_bf16_gpu_available
from trl import ModelConfig, get_peft_config, get_quantization_config

from ...generation.identity import chat_template_checksum
from ...generation.models import load_tokenizer, resolve_model_path
from ...settings import as_mapping, require_model
from ..config import PacedConfig
from ..dataset import check_training_columns
from ..monitoring.trackers import check_trackers
from ..prompt_beginning import check_can_share
from ..teacher_prompt import check_privileged_context
from ..teacher_trainer import own_head_size
from .lengths import check_lengths
from .side import Side, read_side
from .trainability import (
    check_adapter,
    check_base_as_teacher,
    check_head,
    check_other_teacher,
    check_quantization,
    check_sharding,
    check_student_dtype,
    check_teacher,
    warn_of_whole_teacher,
)
from .vllm import check_vllm
from .vocabulary import check_same_vocabulary


# A batch that holds each problem more often than this was not meant.
_MOST_OCCURRENCES = 64


class HeadSizes(NamedTuple):
    """Rows of the two heads, and how many of them, from 0, are ids of both."""

    student: int
    teacher: int
    shared: int


def check_chat_templates(student: Side, teacher: Side | None, prompt: Any) -> None:
    """Refuse messages that no template can render, and warn where student and teacher have different templates."""
    if isinstance(prompt, str) or student.tokenizer is None:
        return
    if student.tokenizer.chat_template is None:
        raise ValueError(
            "The prompts are messages, and the student's tokenizer has no chat template to render them with. Give "
            "prompts as text, or set the tokenizer's `chat_template`."
        )
    if teacher is None or teacher.tokenizer is None:
        return
    if chat_template_checksum(student.tokenizer) != chat_template_checksum(teacher.tokenizer):
        warnings.warn(
            "Student and teacher have different chat templates. The student's renders the prompts of both, so the "
            "teacher may be asked in a form that it was not trained on; compare the two if its answers look odd.",
            stacklevel=2,
        )


def bf16_on_accelerator() -> bool:
    """Return whether there is an accelerator that computes in bfloat16."""
    return torch.accelerator.is_available() and is_torch_bf16_gpu_available()


def models_of(args: PacedConfig, model_args: ModelConfig) -> dict[str, Any]:
    """Return what [`PacedTrainer`] takes of models that settings name, and `model_init_kwargs` for its config."""
    student = require_model(model_args.model_name_or_path)
    # A file that serves several runs may name a teacher which this one does not need.
    teacher = None
    if args.self_distillation == "none":
        teacher = require_model(args.teacher_model_name_or_path, "teacher_model_name_or_path")
    if model_args.load_in_4bit and model_args.dtype in (None, "auto", "float32") and bf16_on_accelerator():
        # TRL computes with 4-bit weights in `dtype`, whose default is float32: several times slower.
        model_args = replace(model_args, dtype="bfloat16")
    if model_args.use_peft and model_args.lora_target_modules is None:
        # All but the head: PEFT leaves it out, and TRL's loss needs it dense.
        model_args = replace(model_args, lora_target_modules=["all-linear"])
    return {
        "model": resolve_model_path(student),
        "teacher_model": None if teacher is None else resolve_model_path(teacher),
        "model_init_kwargs": {
            "revision": model_args.model_revision,
            "attn_implementation": model_args.attn_implementation,
            "dtype": model_args.dtype,
            **as_mapping(args.model_init_kwargs, "model_init_kwargs"),
        },
        "processing_class": load_tokenizer(
            student, revision=model_args.model_revision, trust_remote_code=args.trust_remote_code
        ),
        "quantization_config": get_quantization_config(model_args),
        "peft_config": get_peft_config(model_args),
    }


def check_batch(args: PacedConfig, num_problems: int) -> None:
    """Refuse a batch that is a mistake: one that would hold every problem many times."""
    local = args.per_device_train_batch_size * args.gradient_accumulation_steps // args.num_train_generations
    batch = local * args.world_size
    if batch > _MOST_OCCURRENCES * num_problems:
        raise ValueError(
            f"`per_device_train_batch_size` is {args.per_device_train_batch_size:,}, so that a step takes {batch:,} "
            f"prompts, and there are {num_problems:,} problems: each would be in it {batch // num_problems:,} times. "
            "Lower it, or `gradient_accumulation_steps`."
        )


def check_run(args: PacedConfig, model_args: ModelConfig, problems: Dataset | Sequence[dict[str, Any]] = ()) -> None:
    """Check the settings of a run before anything loads: before pass rates, and before the teacher's references."""
    if args.self_distillation != "none" and isinstance(problems, Dataset):
        check_privileged_context(problems, "train_dataset")
    if len(problems):
        check_batch(args, len(problems))
    models = models_of(args, model_args)
    args = copy.copy(args)
    args.model_init_kwargs = models.pop("model_init_kwargs")
    student, teacher = check_models(args, models.pop("model"), models.pop("teacher_model"), **models)
    if len(problems):
        check_chat_templates(student, teacher, problems[0]["prompt"])


def check_models(
    args: PacedConfig,
    model: Any,
    teacher_model: Any,
    *,
    processing_class: Any = None,
    quantization_config: Any = None,
    peft_config: Any = None,
) -> tuple[Side, Side | None]:
    """Check what concerns the two models and how they are trained, and return both; needs no data."""
    check_teacher(model, teacher_model, args, peft_config)
    check_sharding(args)
    warn_of_whole_teacher(args)
    check_student_dtype(args, peft_config)
    options = as_mapping(args.model_init_kwargs, "model_init_kwargs")
    quantization_config = quantization_config or options.get("quantization_config")
    check_quantization(args, model, quantization_config, peft_config)
    check_base_as_teacher(args, model, peft_config, options.get("revision"))
    check_vllm(args, peft_config)
    check_other_teacher(args, model, teacher_model, options.get("revision"), quantization_config)
    check_trackers(args.report_to)
    for role, loaded in (("student", model), ("teacher", teacher_model)):
        if isinstance(loaded, torch.nn.Module):
            check_head(role, loaded)
    code = {"trust_remote_code": args.trust_remote_code}
    student = read_side("student", model, processing_class, revision=options.get("revision"), **code)
    check_adapter(student.config, peft_config, **code)
    if args.share_prompt_beginning:
        check_can_share(student.config, student.role, **code)
    if teacher_model is None:
        return student, None
    teacher = read_side("teacher", teacher_model, revision=args.teacher_model_revision, **code)
    if args.share_prompt_beginning:
        check_can_share(teacher.config, teacher.role, **code)
    if student.tokenizer is not None:
        check_same_vocabulary(
            student.tokenizer, teacher.tokenizer or student.tokenizer, student.config, teacher.config
        )
    return student, teacher


def check_before_loading(
    args: PacedConfig,
    model: Any,
    teacher_model: Any,
    train_dataset: Dataset,
    eval_dataset: Any = None,
    *,
    needs_solution: bool = False,
    **loading: Any,
) -> HeadSizes:
    """Check all that can be known of a run before weights load: its models as in [`check_models`], and its data."""
    check_batch(args, len(train_dataset))
    if args.self_distillation != "none":
        check_privileged_context(train_dataset, "train_dataset")
    student, teacher = check_models(args, model, teacher_model, **loading)
    check_chat_templates(student, teacher, train_dataset[0]["prompt"])
    named = {"train_dataset": (train_dataset, args.completion_sources)}
    held_out = eval_dataset if isinstance(eval_dataset, dict) else {"eval_dataset": eval_dataset}
    for name, dataset in held_out.items():
        if isinstance(dataset, Dataset):
            check_training_columns(dataset, needs_reference=False, needs_solution=needs_solution, name=name)
            named[name] = dataset, {"student"}
    longest = 0
    for name, (dataset, sources) in named.items():
        if student.tokenizer is not None and not {"image", "images"} & set(dataset.column_names):
            longest = max(longest, check_lengths(dataset, args, student, teacher, sources=sources, name=name))
    if args.use_vllm and longest and args.vllm_max_model_length is None:
        # Without it, vLLM reserves memory for the model's whole context.
        args.vllm_max_model_length = longest
    if teacher is None:
        return HeadSizes(*[student.vocab_size] * 3)
    shared = min(student.vocab_size, teacher.vocab_size, own_head_size(teacher.config))
    return HeadSizes(student.vocab_size, teacher.vocab_size, shared)
