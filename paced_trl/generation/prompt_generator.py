"""
What the engines share: prompts become rows of token ids, rows of completions become prompts again.

Refuses to know how anything is generated. Not from the paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from .batching import Row, per_prompt
from .completions import Completion, Prompt, SamplingParameters
from .prompts import PromptRenderer, check_prompt_lengths


class PromptGenerator(ABC):
    """
    A [`Generator`] that renders prompts itself.

    Args:
        renderer (`PromptRenderer`):
            Makes token ids of prompts.
        sampling (`SamplingParameters`):
            How completions are drawn.
        batch_size (`int`):
            Completions that the caller should ask for at once, at least.
        context_length (`int`, *optional*):
            Most tokens that the model handles. `None` means no limit that is known here.
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
    def _generate_rows(self, rows: list[Row], seed: int) -> Iterator[tuple[Row, Completion]]:
        """Yield each completion with its row, a row of one generation; in any order."""

    def render(self, prompt: Prompt) -> str:
        """Return the text that the model sees for a prompt, special tokens included."""
        return self.renderer.render(prompt)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """
        Refuse prompts that cannot be completed.

        Args:
            prompts (`Sequence[str]` or `Sequence[list[dict]]`):
                Text or messages.

        Raises:
            ValueError: If a prompt has no tokens, or is too long for the model together with a completion.
        """
        self._checked_ids(prompts, range(len(prompts)))

    def __call__(
        self, prompts: Sequence[Prompt], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """
        Complete prompts.

        Args:
            prompts (`Sequence[str]` or `Sequence[list[dict]]`, length P):
                Text or messages.
            num_generations (`int` or `Sequence[int]` of length P):
                Completions per prompt; 0 leaves a prompt out.
            seed (`int`):
                Seed of the draws.

        Yields:
            `tuple[int, list[Completion]]`: index of a prompt and its completions, as prompts are completed. Longest
            prompts are begun first: what does not fit into memory fails at once.

        Raises:
            ValueError: As `check_prompts`; or `num_generations` is negative or has another length than `prompts`.
        """
        counts = per_prompt(num_generations, len(prompts))
        wanted = [index for index, count in enumerate(counts) if count > 0]
        prompt_ids = self._checked_ids([prompts[index] for index in wanted], wanted)
        # Greedy completions of a prompt are all the same: one is enough.
        limit = 1 if self.sampling.temperature == 0 else max(counts, default=0)
        rows = [Row(index, ids, 0, min(counts[index], limit)) for index, ids in zip(wanted, prompt_ids, strict=True)]
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
        prompt_ids = self.renderer.tokenize(prompts)
        check_prompt_lengths(
            prompt_ids,
            indices,
            context_length=self.context_length,
            max_completion_length=self.sampling.max_completion_length,
        )
        return prompt_ids
