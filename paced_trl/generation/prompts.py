"""
Prompt -> token ids -> rows -> completions of a prompt, in one way for every engine.

The rule is TRL's (`DistillationTrainer._tokenize_prompts`, 1.16), so that the student is measured on the tokens it is
trained on: text is tokenised as it is, with the tokenizer's special tokens; messages go through the chat template with
the generation prompt added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..text import one_line
from .batching import PromptRow, per_prompt
from .completions import Completion, Prompt, SamplingParameters
from .identity import chat_template_checksum, tokenizer_checksum


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_SHOWN = 80


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
        for group, encode in ((texts, self._encode_texts), (chats, self._encode_chats)):
            if group:
                try:
                    encoded = encode(list(group.values()))
                except Exception as error:  # tokenizers and templates raise whatever they like
                    raise self._refusal(group, encode, error) from error
                for index, prompt_ids in zip(group, encoded, strict=True):
                    ids[index] = with_one_bos(prompt_ids, self.tokenizer.bos_token_id)
        return ids

    def _encode_texts(self, texts: list[Any]) -> list[list[int]]:
        encoded: Any = self.tokenizer(text=texts)
        return list(encoded["input_ids"])

    def _encode_chats(self, chats: list[Any]) -> list[list[int]]:
        encoded: Any = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, tokenize=True, return_dict=True, **self.chat_template_kwargs
        )
        return list(encoded["input_ids"])

    def _refusal(
        self, prompts: dict[int, Any], encode: Callable[[list[Any]], list[list[int]]], error: Exception
    ) -> ValueError:
        """Return the error of prompts that cannot be encoded, in one sentence about the first of them."""
        first, cause = next(iter(prompts)), error
        for index, prompt in prompts.items():
            try:
                encode([prompt])
            except Exception as own:
                first, cause = index, own
                break
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
        prompt = prompts[first]
        if isinstance(prompt, str):
            return ValueError(
                f"The tokenizer cannot encode prompt {first}, {one_line(prompt, _MAX_SHOWN)!r} ({reason}). It may "
                "have a character that the vocabulary lacks: remove it, or take a tokenizer that falls back to bytes."
            )
        if not self.tokenizer.chat_template:
            return ValueError(
                f"Prompt {first} is a list of messages, and the tokenizer has no chat template to render it with. "
                "Give text prompts (`as_chat: false`, no `system_prompt` or `few_shot`), or a model that has one."
            )
        roles = [message.get("role") for message in prompt]
        advice = "Check its roles: they are " + ", ".join(map(str, roles)) + "."
        if "system" in roles:
            advice = "Many templates, such as Gemma's, have no system role: put its text into the user's message."
        return ValueError(f"The chat template refuses prompt {first} ({reason}). {advice}")


def with_one_bos(prompt_ids: list[int], bos_token_id: int | None) -> list[int]:
    """Drop the second of two beginning-of-sequence tokens: a text may begin with one that the tokenizer adds again."""
    has_two = bos_token_id is not None and prompt_ids[:2] == [bos_token_id, bos_token_id]
    return prompt_ids[1:] if has_two else prompt_ids


class PromptGenerator(ABC):
    """
    A [`Generator`] that renders prompts itself; `context_length` is how many tokens the model handles, if it is known.
    """

    takes_seeds = True

    def __init__(self, renderer: PromptRenderer, sampling: SamplingParameters, *, context_length: int | None):
        self.renderer = renderer
        self.sampling = sampling
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
        self, prompts: Sequence[Prompt], num_generations: int | Sequence[int], *, seed: int | Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """
        Complete P prompts (text or messages), each as often as `num_generations` says (one number, or one per prompt).

        `seed` is one number, or one per prompt, whose completions are those of a call with that one.

        Yields the index of a prompt and its completions, as prompts are completed. Longest prompts are begun first:
        what does not fit into memory fails at once. Raises as `check_prompts`, or where `num_generations` is negative
        or of another length than `prompts`.
        """
        counts = per_prompt(num_generations, len(prompts))
        wanted = [index for index, count in enumerate(counts) if count > 0]
        prompt_ids = self._checked_ids([prompts[index] for index in wanted], wanted)
        # Greedy completions of a prompt are all the same: one is enough.
        limit = 1 if self.sampling.temperature == 0 else max(counts, default=0)
        own_seeds: Sequence[int | None] = seed if isinstance(seed, Sequence) else [None] * len(prompts)
        rows = [
            PromptRow(index, ids, 0, min(counts[index], limit), own_seeds[index])
            for index, ids in zip(wanted, prompt_ids, strict=True)
        ]
        rows.sort(key=lambda row: (-len(row.prompt_ids), row.prompt_index))
        missing = {row.prompt_index: row.num_generations for row in rows}
        made: dict[int, dict[int, Completion]] = {index: {} for index in missing}
        for row, completion in self._generate_rows(rows, 0 if isinstance(seed, Sequence) else seed):
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
