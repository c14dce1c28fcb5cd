"""
Prompt -> token ids -> rows -> completions of a prompt, in one way for every engine.

The rule is TRL's (`DistillationTrainer._tokenize_prompts`, 1.16), so that the student is measured on the tokens it is
trained on: text is tokenised as it is, with the tokenizer's special tokens; messages go through the chat template with
the generation prompt added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .batching import PromptRow, per_prompt
from .completions import Completion, Prompt, SamplingParameters
from .identity import chat_template_checksum, tokenizer_checksum


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptRenderer:
    """Render prompts with a tokenizer and its chat template, `chat_template_kwargs` being the template's variables."""

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
        """Return the token ids of P prompts (text or messages), without padding."""
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


class PromptGenerator(ABC):
    """
    A [`Generator`] that renders prompts itself.

    `batch_size` says how many completions the caller should ask for at once, at least; `context_length` how many
    tokens the model handles, None if no limit is known here.
    """

    def __init__(
        self, renderer: PromptRenderer, sampling: SamplingParameters, *, batch_size: int, context_length: int | None
    ):
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}: it must be at least 1.")
        self.renderer = renderer
        self.sampling = sampling
        self.batch_size = batch_size
        self.context_length = context_length

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Everything that the completions depend on, as JSON values; part of a store's record."""

    @abstractmethod
    def _generate_rows(self, rows: list[PromptRow], seed: int) -> Iterator[tuple[PromptRow, Completion]]:
        """Yield each completion with its row, a row of one generation; in any order."""

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model sees for a prompt, special tokens included."""
        return self.renderer.render(prompt)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts without tokens, and those that are too long for the model together with a completion."""
        self._checked_ids(prompts, range(len(prompts)))

    def __call__(
        self, prompts: Sequence[Prompt], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """
        Complete P prompts (text or messages), each as often as `num_generations` says (one number, or one per prompt).

        Yields the index of a prompt and its completions, as prompts are completed. Longest prompts are begun first:
        what does not fit into memory fails at once. Raises as `check_prompts`, or where `num_generations` is negative
        or of another length than `prompts`.
        """
        counts = per_prompt(num_generations, len(prompts))
        wanted = [index for index, count in enumerate(counts) if count > 0]
        prompt_ids = self._checked_ids([prompts[index] for index in wanted], wanted)
        # Greedy completions of a prompt are all the same: one is enough.
        limit = 1 if self.sampling.temperature == 0 else max(counts, default=0)
        rows = [
            PromptRow(index, ids, 0, min(counts[index], limit)) for index, ids in zip(wanted, prompt_ids, strict=True)
        ]
        rows.sort(key=lambda row: (-len(row.prompt_ids), row.prompt_index))
        missing = {row.prompt_index: row.num_generations for row in rows}
        made: dict[int, dict[int, Completion]] = {index: {} for index in missing}
        for row, completion in self._generate_rows(rows, seed):
            index = row.prompt_index
            made[index][row.first_generation] = completion
            if len(made[index]) == missing[index]:
                completions = [completion for _, completion in sorted(made.pop(index).items())]
                yield index, completions * (counts[index] // len(completions))

    def _checked_ids(self, prompts: Sequence[Prompt], indices: Sequence[int]) -> list[list[int]]:
        """Return the token ids of prompts that can be completed; `indices` is how the caller numbers them."""
        prompt_ids = self.renderer.tokenize(prompts)
        lengths = [len(ids) for ids in prompt_ids]
        if 0 in lengths:
            raise ValueError(
                f"Prompt {indices[lengths.index(0)]} has no tokens, so there is nothing to complete. Remove empty "
                "prompts."
            )
        longest, most = max(lengths, default=0), self.sampling.max_completion_length
        if self.context_length is not None and longest + most > self.context_length:
            too_long = sum(length + most > self.context_length for length in lengths)
            raise ValueError(
                f"Prompt {indices[lengths.index(longest)]} has {longest} tokens, which with a `max_completion_length` "
                f"of {most} exceeds the model's context of {self.context_length} tokens ({too_long} of {len(lengths)} "
                "prompts do). Remove them, or lower `max_completion_length`."
            )
        return prompt_ids
