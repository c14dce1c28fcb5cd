"""
Which completions are generated together: bounded in rows and in tokens, so that the key-value cache fits.

Pure; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """
    One prompt in a batch, and which of its generations the batch makes.

    Args:
        prompt_index (`int`):
            The caller's number of the prompt.
        prompt_ids (`list[int]`):
            Its token ids, without padding.
        first_generation (`int`):
            Number of the first of its generations.
        num_generations (`int`):
            How many of them.
    """

    prompt_index: int
    prompt_ids: list[int]
    first_generation: int
    num_generations: int

    def singles(self) -> list[Row]:
        """Return one row per generation."""
        first = self.first_generation
        return [replace(self, first_generation=first + g, num_generations=1) for g in range(self.num_generations)]


def per_prompt(num_generations: int | Sequence[int], num_prompts: int) -> list[int]:
    """
    Return the number of generations of each prompt.

    Raises:
        ValueError: If there is not one number per prompt, or one is negative.
    """
    counts = [num_generations] * num_prompts if isinstance(num_generations, int) else [int(n) for n in num_generations]
    if len(counts) != num_prompts or min(counts, default=0) < 0:
        raise ValueError(
            f"`num_generations` is {num_generations!r} for {num_prompts} prompts: give one number, or one per prompt, "
            "none below 0."
        )
    return counts


def capacity(rows: Sequence[Row], batch_size: int, batch_tokens: int, max_completion_length: int) -> int:
    """
    Return how many completions fit into a batch.

    Args:
        rows (`Sequence[Row]`):
            What the batch may hold; not empty.
        batch_size (`int`):
            Most completions in a batch.
        batch_tokens (`int`):
            Most tokens in a batch, each completion counted with its padded prompt and `max_completion_length`.
        max_completion_length (`int`):
            Most tokens of a completion.

    Returns:
        `int`, at least 1
    """
    tokens_per_completion = max(len(row.prompt_ids) for row in rows) + max_completion_length
    return max(1, min(batch_size, batch_tokens // tokens_per_completion))


def split_off(rows: list[Row], room: int) -> tuple[list[Row], list[Row]]:
    """
    Split off as many rows as there is room for.

    Args:
        rows (`list[Row]`):
            What is to be generated; not empty.
        room (`int`):
            Most completions, at least 1.

    Returns:
        `tuple[list[Row], list[Row]]`: The rows that fit, never none, and the rest. Prompts stay whole, but for a first
        one that has more generations than there is room.
    """
    if rows[0].num_generations > room:
        head = replace(rows[0], num_generations=room)
        tail = replace(
            rows[0],
            first_generation=rows[0].first_generation + room,
            num_generations=rows[0].num_generations - room,
        )
        return [head], [tail, *rows[1:]]
    for position, row in enumerate(rows):
        room -= row.num_generations
        if room < 0:
            return rows[:position], rows[position:]
    return rows, []
