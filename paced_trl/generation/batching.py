"""
Rows: a prompt with some of its generations. Which of them are generated together, and the seed of each.

Pure; does not depend on models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PromptRow:
    """A prompt by the caller's number, its token ids without padding, and which of its generations are to be made."""

    prompt_index: int
    prompt_ids: list[int]
    first_generation: int
    num_generations: int
    own_seed: int | None = None  # in place of the seed of the call

    def singles(self) -> list[PromptRow]:
        """Return one row per generation."""
        first = self.first_generation
        return [replace(self, first_generation=first + g, num_generations=1) for g in range(self.num_generations)]

    def cut(self, num_generations: int) -> tuple[PromptRow, list[PromptRow]]:
        """Return the first generations, and what is left of the row."""
        if self.num_generations <= num_generations:
            return self, []
        first, left = self.first_generation + num_generations, self.num_generations - num_generations
        rest = replace(self, first_generation=first, num_generations=left)
        return replace(self, num_generations=num_generations), [rest]

    def seed_digest(self, seed: int) -> bytes:
        """Return 32 bytes that depend on the seed of a call, the prompt, and the number of the first generation."""
        seed = seed if self.own_seed is None else self.own_seed
        text = f"{seed}|{self.first_generation}|{','.join(map(str, self.prompt_ids))}"
        return hashlib.sha256(text.encode()).digest()

    def seed(self, seed: int) -> int:
        """Return the seed of the row in a call with a seed, for engines that draw themselves: 31 bits."""
        return int.from_bytes(self.seed_digest(seed)[:4], "little") >> 1


def per_prompt(num_generations: int | Sequence[int], num_prompts: int) -> list[int]:
    """Return the number of generations of each prompt; raises ValueError where there is not one, or it is negative."""
    counts = [num_generations] * num_prompts if isinstance(num_generations, int) else [int(n) for n in num_generations]
    if len(counts) != num_prompts or min(counts, default=0) < 0:
        raise ValueError(
            f"`num_generations` is {num_generations!r} for {num_prompts} prompts: give one number, or one per prompt, "
            "none below 0."
        )
    return counts


class RowLimit:
    """
    How many rows a batch may have: half of those with which memory ran out, later more again.

    What lacked memory once may fit later, when prompts are shorter or other work has ended. After some steps at the
    limit it grows by a quarter, up to `most`; each time memory runs out again, twice as many steps are waited.
    """

    def __init__(self, most: int):
        self.most = self.now = most
        self._patience, self._num_calm = 4, 0

    def ran_out(self, num_rows: int) -> None:
        """Note that memory ran out with so many rows, at least 2."""
        self.now, self._num_calm = num_rows // 2, 0
        self._patience *= 2

    def went_well(self, num_rows: int) -> None:
        """Note a step with so many rows for which there was memory."""
        self._num_calm += 4 * num_rows >= 3 * self.now
        if self.now < self.most and self._num_calm >= self._patience:
            self.now, self._num_calm = min(self.most, self.now + max(1, self.now // 4)), 0


def capacity(rows: Sequence[PromptRow], batch_size: int, batch_tokens: int, max_completion_length: int) -> int:
    """Return how many completions of some rows (not none) a batch has, each with its padded prompt; at least 1."""
    tokens_per_completion = max(len(row.prompt_ids) for row in rows) + max_completion_length
    return max(1, min(batch_size, batch_tokens // tokens_per_completion))


def split_off(rows: list[PromptRow], room: int) -> tuple[list[PromptRow], list[PromptRow]]:
    """Return the rows, never none, for which there is room (at least 1), and the rest; only a first one is cut."""
    if rows[0].num_generations > room:
        head, rest = rows[0].cut(room)
        return [head], [*rest, *rows[1:]]
    for position, row in enumerate(rows):
        room -= row.num_generations
        if room < 0:
            return rows[:position], rows[position:]
    return rows, []
