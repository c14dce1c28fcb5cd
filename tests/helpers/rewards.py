"""Reward functions that worker processes import by name."""

from __future__ import annotations

import asyncio
from typing import Any


def reward_seeing_all(
    completions: list[str], prompts: list[str], solution: list[str], answer: list[str], bonus: list[float], **_: Any
) -> list[float]:
    assert (completions, prompts, solution, answer) == (["x"], ["?"], ["x"], ["x"])
    return bonus


def reward_by_text(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float | None]:
    return [
        None if text == "skip" else float(text == str(gold)) for text, gold in zip(completions, solution, strict=True)
    ]


def reward_by_messages(completions: list[list[dict[str, str]]], solution: list[Any], **kwargs: Any) -> list[float]:
    return [float(message[0]["content"] == str(gold)) for message, gold in zip(completions, solution, strict=True)]


def reward_as_prompted(prompts, completions, **kwargs):  # type: ignore[no-untyped-def]
    return [
        float(isinstance(prompt, list) == isinstance(text, list))
        for prompt, text in zip(prompts, completions, strict=True)
    ]


async def reward_async(completions: list[str], bonus: list[float], **kwargs: Any) -> list[float]:
    await asyncio.sleep(0.01)
    return list(bonus)


def reward_or_raise(completions: list[str], **kwargs: Any) -> list[float]:
    if "raise" in completions:
        raise KeyError("no such key in the reward function")
    return [1.0 for _ in completions]


def reward_or_hang(completions: list[str], **kwargs: Any) -> list[float]:
    while "hang" in completions:
        pass
    return [1.0 for _ in completions]


def reward_boxed(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float]:
    return [float(f"\\boxed{{{gold}}}" in text) for text, gold in zip(completions, solution, strict=True)]


def reward_broken(completions: list[str], kind: list[str], **kwargs: Any) -> Any:
    broken = {"short": [1.0] * (len(completions) - 1), "scalar": 0.5, "text": ["good"] * len(completions)}
    return broken.get(kind[0], [float(kind[0])] * len(completions) if kind[0] not in broken else None)


NO_FUNCTION = 1.0
