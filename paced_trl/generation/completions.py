"""
What is asked of a generator and what it returns: prompts, sampling parameters, completions.

Every engine speaks these types, and what works with any engine (estimation, references, evaluation) needs nothing else
of generation: this module loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


Prompt = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Completion:
    """
    What a model answered.

    Args:
        text (`str`):
            The completion without special tokens.
        num_tokens (`int`):
            Its length in tokens, the end-of-sequence token included.
        finish_reason (`"stop"` or `"length"`):
            `"length"` if no end-of-sequence token came within the allowed length.
    """

    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParameters:
    """
    How completions are drawn. Nothing is inherited from a checkpoint's `generation_config`: an inherited `top_p` or
    `top_k` would silently measure the pass rates of another policy than the one that is trained.

    Args:
        temperature (`float`, *optional*, defaults to `1.0`):
            Divisor of the logits; 0 means greedy.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the likeliest tokens that are kept, in (0, 1].
        top_k (`int`, *optional*, defaults to `0`):
            Number of likeliest tokens that are kept; 0 keeps all.
        min_p (`float`, *optional*):
            Tokens below this fraction of the likeliest token's probability are dropped, in [0, 1]. `None` drops none.
        repetition_penalty (`float`, *optional*, defaults to `1.0`):
            Divisor (positive logits) or factor (negative logits) for tokens of the prompt and the completion so far.
        max_completion_length (`int`, *optional*, defaults to `512`):
            Most tokens of a completion, the end-of-sequence token included.

    Raises:
        ValueError: If a value is outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float | None = None
    repetition_penalty: float = 1.0
    max_completion_length: int = 512

    @classmethod
    def of(cls, settings: Any) -> SamplingParameters:
        """Return the sampling parameters that any settings with fields of these names have."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})

    def __post_init__(self) -> None:
        limits = {
            "temperature": (self.temperature >= 0, "0 (greedy) or above"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or above"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1, or None"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "max_completion_length": (self.max_completion_length >= 1, "at least 1 token"),
        }
        for name, (is_within, expected) in limits.items():
            if not is_within:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, which cannot be sampled with: it must be {expected}."
                )


class Generator(Protocol):
    """
    Anything that turns prompts into completions.

    Called as `generator(prompts, num_generations, seed=0)`, `num_generations` being one number or one per prompt (0
    allowed), it yields (index of the prompt, its completions) once for every prompt with a number above 0, in any
    order.

    A generator function is asked for everything that is missing at once, and should yield each prompt as soon as it is
    completed: what it has not yielded is lost in a kill. Any other callable is asked for slices of about 10 seconds.

    Four attributes are used where they exist: `record`, a dict of JSON values that says everything the completions
    depend on; `check_prompts(prompts)`, which raises before hours are spent on a set that holds an impossible prompt;
    `render(prompt)`, the text that the model sees; and `takes_seeds`, whether `seed` may be a list, one per prompt.
    """

    def __call__(
        self, prompts: Sequence[Prompt], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterable[tuple[int, list[Completion]]]: ...
