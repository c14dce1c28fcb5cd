"""
Problems as estimation and references need them: checked, each with an id and a hash of its text.

The hash ties what is stored to what was asked: a user's `problem_id` may come to mean another problem. Knows nothing
of models, and not where problems come from (`data.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset


class ProblemSet:
    """
    Problems with the columns that generation and verification need, each id once.

    Args:
        rows (`datasets.Dataset` or `list[dict]`):
            Problems with `prompt`, `solution`, `problem_id` and further columns, which the verifier gets.

    Raises:
        ValueError: If there are no problems, a column is missing, or a problem id occurs twice.
    """

    def __init__(self, rows: Dataset | Sequence[dict[str, Any]]):
        self.dataset = rows.with_format(None) if isinstance(rows, Dataset) else Dataset.from_list(list(rows))
        if len(self.dataset) == 0:
            raise ValueError("`problems` is empty, so there is nothing to generate. Check the data and its filters.")
        for column in ("prompt", "solution", "problem_id"):
            if column not in self.dataset.column_names:
                raise ValueError(
                    f"`problems` has no column `{column}`; it has {', '.join(self.dataset.column_names)}. Load the "
                    "data with `load_problems`, which makes it."
                )
        self.ids = [str(problem_id) for problem_id in self.dataset["problem_id"]]
        first_row: dict[str, int] = {}
        for row, problem_id in enumerate(self.ids):
            if first_row.setdefault(problem_id, row) != row:
                raise ValueError(
                    f"Rows {first_row[problem_id]} and {row} of `problems` have the same `problem_id` {problem_id!r}, "
                    "so their completions could not be told apart. Remove one, or give them ids of their own."
                )
        prompts = [json.dumps(_without_none(prompt), sort_keys=True, default=str) for prompt in self.dataset["prompt"]]
        solutions = [json.dumps(solution, sort_keys=True, default=str) for solution in self.dataset["solution"]]
        self.prompt_lengths = [len(prompt) for prompt in prompts]
        self.hashes = [
            hashlib.sha256(f"[{prompt}, {solution}]".encode()).hexdigest()[:16]
            for prompt, solution in zip(prompts, solutions, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the columns of some problems, one list per column."""
        return {name: list(values) for name, values in self.dataset[list(indices)].items()}


def _without_none(prompt: Any) -> Any:
    """Drop the empty fields that `datasets` adds to messages: with them a problem's hash depends on its neighbours."""
    if isinstance(prompt, list):
        return [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in prompt]
    return prompt
