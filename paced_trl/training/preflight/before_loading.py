"""
Pre-flight of a distillation: what would fail late, or train on the wrong thing without a word, is found before weights
load.

Responsible for what concerns a run as a whole: its two models, its data and its settings together. Each thing works,
is warned about, or is refused in a sentence. Looks at configs and tokenizers; a model is looked at only where the
caller gives one. What a single setting may be is checked in `config.py`, what can be trained in `trainability.py`,
what tokens mean in `vocabulary.py`, what fits in `token_budget.py`. Ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from datasets import Dataset
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from ...generation.identity import chat_template_checksum, declared_eos_token_ids, eos_token_ids
from ...generation.models import load_tokenizer, resolve_model_path
from ...settings import as_mapping
from ..dataset import check_training_columns
from ..teacher_prompt import check_privileged_context
from ..teacher_trainer import own_head_size
from .lengths import check_lengths
from .trainability import (
    check_adapter,
    check_head,
    check_quantization,
    check_sharding,
    check_student_dtype,
    check_teacher,
    warn_of_whole_teacher,
)
from .vocabulary import check_same_vocabulary


if TYPE_CHECKING:
    from ..config import PacedConfig


@dataclass(frozen=True)
class Side:
    """
    What is known of the student or the teacher without its weights.

    Args:
        role (`str`): `"student"` or `"teacher"`.
        config (`PreTrainedConfig`): The model's configuration.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Its tokenizer; `None` where none can be found.
        eos_token_ids (`list[int]`): Every id that ends a completion.
    """

    role: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase | None
    eos_token_ids: list[int]

    @property
    def vocab_size(self) -> int:
        """Rows of the head."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def context_length(self) -> int | None:
        """Most positions, `None` where the model has no such limit."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)


def read_side(
    role: str,
    model: Any,
    processing_class: Any = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Side:
    """
    Read a model's config and tokenizer.

    Args:
        role (`str`): `"student"` or `"teacher"`.
        model (`str` or `PreTrainedModel`): A name as for [`load_model`], or a model.
        processing_class (`PreTrainedTokenizerBase` or `ProcessorMixin`, *optional*): Where the caller has it.
        revision (`str`, *optional*): Branch, tag or commit on the Hub, for a name.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether the model's own code may run.

    Raises:
        OSError: If a name leads to no model.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    name = resolve_model_path(model) if isinstance(model, str) else str(model.name_or_path)
    if isinstance(model, str):
        config = AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=trust_remote_code)
    else:
        config = model.config
    if tokenizer is None and name:
        try:
            tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
        except (OSError, ValueError):
            warnings.warn(
                f"The {role} {name!r} comes without a tokenizer that loads, so whether its tokens are those of the "
                "other model was not checked. Put the tokenizer's files beside its weights.",
                stacklevel=2,
            )
    if tokenizer is None:
        ends: list[int] = []
    elif isinstance(model, str):
        ends = declared_eos_token_ids(name, revision, tokenizer, trust_remote_code=trust_remote_code)
    else:
        ends = eos_token_ids(model, tokenizer)
    return Side(role, config, tokenizer, ends)


def check_chat_templates(student: Side, teacher: Side | None, prompt: Any) -> None:
    """
    Refuse messages that no template can render, and warn where student and teacher have different ones.

    Args:
        student, teacher ([`Side`]): The two models; without a teacher's tokenizer nothing is compared.
        prompt (`str` or `list[dict]`): One of the prompts. Text needs no template.

    Raises:
        ValueError: If the prompt is messages and the student's tokenizer has no chat template.
    """
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


class HeadSizes(NamedTuple):
    """Rows of the two heads, and how many of them, from 0, are ids of both."""

    student: int
    teacher: int
    shared: int


def check_heads(student: Side, teacher: Side | None) -> HeadSizes:
    """
    Refuse models whose tokens are not the same.

    Args:
        student, teacher ([`Side`]): A teacher without a tokenizer is taken to have the student's.

    Raises:
        ValueError: See [`check_same_vocabulary`].
    """
    if teacher is None:
        return HeadSizes(*[student.vocab_size] * 3)
    shared = min(student.vocab_size, teacher.vocab_size, own_head_size(teacher.config))
    if student.tokenizer is not None:
        check_same_vocabulary(
            student.tokenizer, teacher.tokenizer or student.tokenizer, student.config, teacher.config
        )
    return HeadSizes(student.vocab_size, teacher.vocab_size, shared)


def check_before_loading(
    args: PacedConfig,
    model: Any,
    teacher_model: Any,
    train_dataset: Dataset,
    eval_dataset: Any = None,
    *,
    needs_solution: bool = False,
    processing_class: Any = None,
    quantization_config: Any = None,
    peft_config: Any = None,
) -> HeadSizes:
    """
    Check everything that can be known of a run before its weights load.

    Args:
        args ([`PacedConfig`]): The run.
        model, teacher_model (`str` or `PreTrainedModel`): Student and teacher; the teacher may be `None`.
        train_dataset (`datasets.Dataset`): Training problems, whose columns have been checked.
        eval_dataset (`Dataset` or `dict[str, Dataset]`, *optional*): Held-out problems.
        needs_solution (`bool`, *optional*, defaults to `False`): Whether completions are verified.
        processing_class, quantization_config, peft_config (*optional*): As in [`~trl.DistillationTrainer`].

    Returns:
        [`HeadSizes`]

    Raises:
        ValueError: In one or two sentences each: what was given, why it cannot work, what to do.
    """
    check_teacher(model, teacher_model, args, peft_config)
    if args.self_distillation != "none":
        check_privileged_context(train_dataset, "train_dataset")
    check_sharding(args)
    warn_of_whole_teacher(args)
    check_adapter(peft_config)
    check_student_dtype(args, peft_config)
    given = quantization_config or as_mapping(args.model_init_kwargs, "model_init_kwargs").get("quantization_config")
    check_quantization(args, model, given, peft_config)
    for role, loaded in (("student", model), ("teacher", teacher_model)):
        if isinstance(loaded, torch.nn.Module):
            check_head(role, loaded)
    code = {"trust_remote_code": args.trust_remote_code}
    revision = as_mapping(args.model_init_kwargs, "model_init_kwargs").get("revision")
    student = read_side("student", model, processing_class, revision=revision, **code)
    teacher = None
    if teacher_model is not None:
        teacher = read_side("teacher", teacher_model, revision=args.teacher_model_revision, **code)
    sizes = check_heads(student, teacher)
    check_chat_templates(student, teacher, train_dataset[0]["prompt"])
    named = {"train_dataset": (train_dataset, args.completion_sources)}
    held_out = eval_dataset if isinstance(eval_dataset, dict) else {"eval_dataset": eval_dataset}
    for name, dataset in held_out.items():
        if isinstance(dataset, Dataset):
            check_training_columns(dataset, needs_reference=False, needs_solution=needs_solution, name=name)
            named[name] = dataset, {"student"}
    for name, (dataset, sources) in named.items():
        if student.tokenizer is not None and not {"image", "images"} & set(dataset.column_names):
            check_lengths(dataset, args, student, teacher, sources=sources, name=name)
    return sizes
