"""
Prompts to token ids, in one way for estimation, references and evaluation, whatever engine generates.

The rule is TRL's (`DistillationTrainer._tokenize_prompts`, 1.16), so that the student is measured on the tokens it is
trained on: text is tokenised as it is, with the tokenizer's special tokens; messages go through the chat template with
the generation prompt added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .completions import Prompt
from .identity import chat_template_checksum, tokenizer_checksum


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptRenderer:
    """
    Render prompts with a tokenizer and its chat template.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The model's tokenizer.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the chat template, such as `{"enable_thinking": False}`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict[str, Any] | None = None):
        self.tokenizer = tokenizer
        self.chat_template_kwargs = dict(chat_template_kwargs or {})

    @property
    def record(self) -> dict[str, Any]:
        """What the rendering depends on, as JSON values."""
        return {
            "tokenizer": tokenizer_checksum(self.tokenizer),
            "chat_template": chat_template_checksum(self.tokenizer),
            "chat_template_kwargs": self.chat_template_kwargs,
        }

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model sees for a prompt, special tokens included."""
        return str(self.tokenizer.decode(self.tokenize([prompt])[0]))

    def tokenize(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """
        Return the token ids of prompts.

        Args:
            prompts (`Sequence[str]` or `Sequence[list[dict]]`, length P):
                Text or messages.

        Returns:
            `list[list[int]]` of length P, without padding
        """
        ids: list[list[int]] = [[] for _ in prompts]
        texts = {index: prompt for index, prompt in enumerate(prompts) if isinstance(prompt, str)}
        chats = {index: prompt for index, prompt in enumerate(prompts) if not isinstance(prompt, str)}
        if texts:
            encoded: Any = self.tokenizer(text=list(texts.values()))
            for index, prompt_ids in zip(texts, encoded["input_ids"], strict=True):
                ids[index] = prompt_ids
        if chats:
            encoded = self.tokenizer.apply_chat_template(
                list(chats.values()),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                **self.chat_template_kwargs,
            )
            for index, prompt_ids in zip(chats, encoded["input_ids"], strict=True):
                ids[index] = prompt_ids
        return ids


def check_prompt_lengths(
    prompt_ids: Sequence[Sequence[int]],
    indices: Sequence[int],
    *,
    context_length: int | None,
    max_completion_length: int,
) -> None:
    """
    Refuse prompts that cannot be completed, before anything is generated.

    Args:
        prompt_ids (`Sequence[Sequence[int]]` of length P):
            Token ids of the prompts.
        indices (`Sequence[int]` of length P):
            How the caller numbers them.
        context_length (`int`, *optional*):
            Most tokens that the model handles. `None` means no limit.
        max_completion_length (`int`):
            Most tokens of a completion.

    Raises:
        ValueError: If a prompt has no tokens, or is too long for the model together with a completion.
    """
    lengths = [len(ids) for ids in prompt_ids]
    if 0 in lengths:
        raise ValueError(
            f"Prompt {indices[lengths.index(0)]} has no tokens, so there is nothing to complete. Remove empty prompts."
        )
    longest = max(lengths, default=0)
    if context_length is not None and longest + max_completion_length > context_length:
        too_long = sum(length + max_completion_length > context_length for length in lengths)
        raise ValueError(
            f"Prompt {indices[lengths.index(longest)]} has {longest} tokens, which with a `max_completion_length` of "
            f"{max_completion_length} exceeds the model's context of {context_length} tokens ({too_long} of "
            f"{len(lengths)} prompts do). Remove them, or lower `max_completion_length`."
        )
