"""
The prompt that only the teacher sees, in self-distillation.

Responsible for how `privileged_context` (a solution, or a hint) enters the teacher's prompt, and for finding it where
it must not be: in the student's.
"""

from __future__ import annotations

import re

import numpy as np
from datasets import Dataset

from ..problems import Messages, with_column


# Shorter contexts, such as the answer "7", occur in prompts by chance.
_MIN_LEAK_LENGTH = 20
_PLACEHOLDER = re.compile(r"\{(prompt|privileged_context)\}")


def check_template(template: str) -> None:
    """Refuse a template without `{prompt}` or `{privileged_context}`."""
    missing = {"prompt", "privileged_context"} - set(_PLACEHOLDER.findall(template))
    if missing:
        raise ValueError(
            f"`privileged_template` is {template!r}, which has no {{{sorted(missing)[0]}}}. Write both "
            "{prompt} and {privileged_context} where they belong."
        )


def teacher_prompt(prompt: str | Messages, privileged_context: str | None, template: str) -> str | Messages:
    """Return the student's prompt with the privileged context, if there is any, in its last user turn."""
    if not privileged_context:
        return prompt
    if isinstance(prompt, str):
        values = {"prompt": prompt, "privileged_context": privileged_context}
        # One pass: a prompt that has a placeholder's name in it stays as it is.
        return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
    *before, last = prompt
    content = teacher_prompt(last["content"], privileged_context, template)
    assert isinstance(content, str)
    return [*before, {**last, "content": content}]


def check_privileged_context(dataset: Dataset, name: str) -> None:
    """Refuse problems of the dataset `name` without `privileged_context`, and those whose student would see it."""
    if "privileged_context" not in dataset.column_names:
        raise ValueError(
            f"`{name}` has no column `privileged_context` (the solution or a hint, which only the teacher sees); it "
            f"has {', '.join(dataset.column_names)}. Name it with `--privileged_context_column`, e.g. `solution`."
        )
    for row, (prompt, context) in enumerate(zip(dataset["prompt"], dataset["privileged_context"], strict=True)):
        if context is not None and not isinstance(context, str):
            raise ValueError(f"Row {row} of `{name}` has the `privileged_context` {context!r}, which is no text.")
        if not isinstance(prompt, str) and prompt[-1].get("role") != "user":
            raise ValueError(
                f"Row {row} of `{name}` ends with a message of {prompt[-1].get('role')!r}; `privileged_context` goes "
                "into the user's last turn. End prompts with the user's message."
            )
        text = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
        hidden = " ".join((context or "").split())
        if len(hidden) >= _MIN_LEAK_LENGTH and hidden in " ".join(text.split()):
            raise ValueError(
                f"Row {row} of `{name}` has its `privileged_context` in its own prompt, so the student would see what "
                f"only the teacher may: {hidden[:60]!r}. Take it out of the prompt."
            )


def with_shuffled_context(dataset: Dataset, seed: int) -> Dataset:
    """Return problems each of which has another one's `privileged_context`: a control of what the context tells."""
    check_privileged_context(dataset, "train_dataset")
    if len(dataset) < 2:
        raise ValueError(
            f"`shuffle_context` is set, and there are {len(dataset)} problems, none of which could have the "
            "context of another. Give at least 2."
        )
    # Along one ring through all problems nobody keeps its own.
    ring = np.random.default_rng(seed).permutation(len(dataset))
    source = np.empty_like(ring)
    source[ring] = np.roll(ring, 1)
    contexts = dataset["privileged_context"][:]
    return with_column(dataset, "privileged_context", [contexts[row] for row in source])
