"""
Whether prompts and completions fit both models: counted in tokens as training renders them, before weights load.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from ...generation.prompts import PromptRenderer
from ...settings import as_mapping
from ..dataset import end_of_completion_id, reference_token_ids
from ..teacher_prompt import teacher_prompt


if TYPE_CHECKING:
    from ..config import PacedConfig
    from .side import Side

Lengths = npt.NDArray[np.int64]
# Rows tokenised at once, so that no more than their tokens are in memory.
_ROWS = 1000


def prompt_lengths(dataset: Dataset, student: Side, args: PacedConfig, *, privileged: bool = False) -> Lengths:
    """Return the tokens of each rendered prompt, **shape (P,)**: the student's, or that with `privileged_context`."""
    assert student.tokenizer is not None
    renderer = PromptRenderer(student.tokenizer, as_mapping(args.chat_template_kwargs, "chat_template_kwargs"))
    lengths: list[int] = []
    for rows in dataset.select_columns(["prompt", *(["privileged_context"] if privileged else [])]).iter(_ROWS):
        prompts = rows["prompt"]
        if privileged:
            pairs = zip(prompts, rows["privileged_context"], strict=True)
            prompts = [teacher_prompt(prompt, context, args.privileged_template) for prompt, context in pairs]
        lengths += [len(ids) for ids in renderer.tokenize(prompts)]
    return np.array(lengths)


def reference_lengths(dataset: Dataset, student: Side) -> Lengths:
    """Return the tokens of each reference, its end included, **shape (P,)**."""
    assert student.tokenizer is not None
    ends = student.eos_token_ids
    end = end_of_completion_id(student.tokenizer, dataset[0]["prompt"], ends)
    lengths: list[int] = []
    for rows in dataset.select_columns("reference").iter(_ROWS):
        lengths += [len(ids) for ids in reference_token_ids(student.tokenizer, rows["reference"], end, ends)]
    return np.array(lengths)


def check_lengths(
    dataset: Dataset, args: PacedConfig, student: Side, teacher: Side | None, *, sources: set[str], name: str
) -> int:
    """Refuse problems that are too long for a model; return the most tokens of a prompt with its completion."""
    most = args.max_completion_length
    if most is None:
        return 0  # unknown, and nothing to check
    prompts = prompt_lengths(dataset, student, args)
    if not prompts.all():
        raise ValueError(
            f"Row {int(np.argmin(prompts))} of `{name}` has a prompt without tokens, so there is nothing to complete. "
            "Remove the row."
        )
    completions: Lengths = np.full(len(prompts), most)
    if "dataset" in sources:
        references = reference_lengths(dataset, student)
        warn_of_cut_references(references, most)
        if sources == {"dataset"}:
            completions = np.minimum(references, most)
    sides = [(student.role, student, prompts)]
    if teacher is not None:
        sides.append((teacher.role, teacher, prompts))
    elif args.self_distillation != "none" and "privileged_context" in dataset.column_names:
        with_context = prompt_lengths(dataset, student, args, privileged=True)
        sides.append(("student as its teacher, with `privileged_context`", student, with_context))
    for role, side, lengths in sides:
        totals, limit = lengths + completions, side.context_length
        row = int(np.argmax(totals))
        if limit is not None and totals[row] > limit:
            raise ValueError(
                f"Row {row} of `{name}` has a prompt of {lengths[row]} tokens, which with a completion of up to "
                f"{completions[row]} (`max_completion_length` {most}) is more than the {limit} positions of the "
                f"{role}; {int((totals > limit).sum())} of {len(totals)} rows are too long. Remove them, or "
                "lower `max_completion_length`."
            )
    return int(prompts.max()) + most


def warn_of_cut_references(lengths: Lengths, max_completion_length: int) -> None:
    """Warn of references that are cut: the student never sees them end."""
    num_cut = int((lengths > max_completion_length).sum())
    if num_cut:
        warnings.warn(
            f"{num_cut} of {len(lengths)} references ({num_cut / len(lengths):.0%}) are longer than "
            f"`max_completion_length`={max_completion_length} (the longest has {lengths.max()} tokens) and are cut, "
            "so the student does not see them end. Raise it, or remove them.",
            stacklevel=2,
        )
