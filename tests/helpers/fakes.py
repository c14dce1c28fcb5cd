"""A generator and a verifier without a model, for tests of what is around them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from paced_trl.generation.completions import Completion


class FakeGenerator:
    """
    Answer with the prompt's own text (right) or with a text unique to (seed, prompt, number) (wrong).

    Args:
        pass_rates (`dict[str, float]`): Probability that an answer to a prompt is right; 0.5 for prompts not named.
        delay (`float`): Seconds per prompt.
        record (`dict`): The generator's record.
        before_prompt (`Callable[[int], None]`): Called with the number of prompts answered so far.
    """

    def __init__(
        self,
        pass_rates: dict[str, float] | None = None,
        *,
        delay: float = 0.0,
        record: dict[str, Any] | None = None,
        before_prompt: Callable[[int], None] = lambda answered: None,
    ):
        self.pass_rates = pass_rates or {}
        self.delay = delay
        self.record = record or {"model": "fake"}
        self.before_prompt = before_prompt
        self.calls: list[tuple[list[Any], int | Sequence[int], int]] = []
        self.answered = 0

    def __call__(
        self, prompts: Sequence[Any], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        self.calls.append((list(prompts), num_generations, seed))
        counts = [num_generations] * len(prompts) if isinstance(num_generations, int) else num_generations
        # Backwards: nobody may rely on the order.
        for index in reversed(range(len(prompts))):
            self.before_prompt(self.answered)
            time.sleep(self.delay)
            self.answered += 1
            if counts[index]:
                yield index, [self.complete(prompts[index], seed, number) for number in range(counts[index])]

    def complete(self, prompt: Any, seed: int, number: int) -> Completion:
        digest = hashlib.sha256(f"{seed}|{prompt}|{number}".encode()).hexdigest()
        is_right = int(digest[:8], 16) / 16**8 < self.pass_rates.get(str(prompt), 0.5)
        return Completion(str(prompt) if is_right else digest[:12], 5, "stop")


def exact_verifier(completions: Sequence[str], solutions: Sequence[Any], **columns: Any) -> list[str]:
    """Pass a completion that equals the solution."""
    return [
        "passed" if completion == solution else "failed"
        for completion, solution in zip(completions, solutions, strict=True)
    ]


def make_problems(count: int, prefix: str = "p") -> list[dict[str, Any]]:
    """Return problems whose right answer is their prompt."""
    return [{"problem_id": f"id-{i}", "prompt": f"{prefix}{i}", "solution": f"{prefix}{i}"} for i in range(count)]
