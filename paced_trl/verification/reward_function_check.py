"""
Any TRL reward function as a check: `f(prompts=..., completions=..., **columns) -> list[float | None]`, async or not.

It is called as `GRPOTrainer` does, and rewards become verdicts. A function that breaks its contract (wrong number of
rewards, NaN, outside [0, 1]) is an error for the user to see, never a verdict.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from ..names import did_you_mean
from .check import Check, Messages, Row, completion_text
from .verdict import Verdict
from .worker_pool import FatalCheckError


# What a gold may have to be wrapped in before a reward function accepts it as a completion.
_SOLUTION_TEMPLATES = ("{solution}", "\\boxed{{solution}}", "<answer>{solution}</answer>", "The answer is {solution}.")


class RewardFunctionCheck(Check):
    """
    Turn the rewards of a TRL reward function into verdicts.

    The function is called with `prompts` (where there is a `prompt` column), `completions`, `solution` and every other
    column, as lists; it does not get `completion_ids` or the trainer's state. A row on which it raises, and one of
    which no form of the gold reaches the threshold, is `UNVERIFIABLE`: the form is the function's own business.
    """

    wants_messages: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...] | None] = None
    rows_per_call: ClassVar[int] = 16
    timeout: float = 60.0
    max_memory: ClassVar[int | None] = None  # it may import torch, whose address space is far larger than its memory

    def __init__(
        self,
        path: str,
        *,
        threshold: float = 1.0,
        completion_format: Literal["auto", "messages", "text"] = "auto",
        solution_template: str | None = None,
    ) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"`threshold` must be in (0, 1], not {threshold}.")
        if completion_format not in ("auto", "messages", "text"):
            raise ValueError(f'`completion_format` must be "auto", "messages" or "text", not {completion_format!r}.')
        if solution_template is not None and "{solution}" not in solution_template:
            raise ValueError(f"`solution_template` must contain {{solution}}; {solution_template!r} does not.")
        self._path = path
        self._threshold = threshold
        self._completion_format: str = completion_format
        self._templates = _SOLUTION_TEMPLATES if solution_template is None else (solution_template,)

    def start(self, timeout: float) -> None:
        module, _, name = self._path.partition(":")
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            if not hasattr(function, part):
                functions = [known for known in dir(function) if callable(getattr(function, known))]
                hint = did_you_mean(part, functions, quote="`")
                raise FatalCheckError(
                    f"The module `{module}` has no function `{name}`, so the verifier '{self._path}' cannot be "
                    f"used.{hint}"
                )
            function = getattr(function, part)
        if not callable(function) or inspect.isclass(function):
            raise FatalCheckError(f"`{self._path}` is {function!r}, not a function that returns rewards.")
        self._function: Callable[..., Any] = function
        if self._completion_format == "auto":
            self._completion_format = _annotated_format(function)
        # One event loop for the life of the worker: a function's clients are bound to the loop they began in.
        self._loop = asyncio.new_event_loop()

    def verify(self, rows: list[Row]) -> list[Verdict]:
        return [self._verdict(reward) for reward in self._rewards(rows, [row.completion for row in rows])]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        verdicts = [Verdict.UNVERIFIABLE] * len(rows)
        errors: list[Exception] = []
        for template in self._templates:
            golds = [template.replace("{solution}", str(row.solution)) for row in rows]
            try:
                rewards = self._rewards(rows, golds)
            except FatalCheckError:
                raise
            except Exception as error:
                errors.append(error)
                continue
            for index, reward in enumerate(rewards):
                if self._verdict(reward) is Verdict.PASSED:
                    verdicts[index] = Verdict.PASSED
        if len(errors) == len(self._templates):
            raise errors[0]
        return verdicts

    def _verdict(self, reward: float | None) -> Verdict:
        if reward is None:
            return Verdict.UNVERIFIABLE
        return Verdict.PASSED if reward >= self._threshold else Verdict.FAILED

    def _rewards(self, rows: list[Row], completions: list[Any]) -> list[float | None]:
        arguments: dict[str, Any] = {name: [row.columns[name] for row in rows] for name in rows[0].columns}
        prompts = arguments.pop("prompt", None)
        if prompts is not None:
            arguments["prompts"] = prompts
        arguments["completions"] = [
            self._formatted(completion, None if prompts is None else prompts[index])
            for index, completion in enumerate(completions)
        ]
        arguments["solution"] = [row.solution for row in rows]
        try:
            inspect.signature(self._function).bind(**arguments)
        except TypeError as error:
            raise FatalCheckError(
                f"The reward function `{self._path}` cannot be called with what there is, "
                f"{', '.join(f'`{name}`' for name in sorted(arguments))}: {error}. Add the column, or let the "
                "function take `**kwargs`."
            ) from error
        rewards = self._function(**arguments)
        if inspect.isawaitable(rewards):
            rewards = self._loop.run_until_complete(rewards)
        return self._checked(rewards, len(rows))

    def _formatted(self, completion: str | Messages, prompt: Any) -> str | Messages:
        wants_messages = self._completion_format == "messages" or (
            self._completion_format == "auto" and (isinstance(prompt, list) or not isinstance(completion, str))
        )
        if not wants_messages:
            return completion_text(completion)
        return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion

    def _checked(self, rewards: Any, num_rows: int) -> list[float | None]:
        try:
            values = [None if reward is None else float(reward) for reward in rewards]
        except (TypeError, ValueError) as error:
            raise FatalCheckError(
                f"The reward function `{self._path}` returned {str(rewards)[:200]}; it must return a list with one "
                "number in [0, 1] or None per completion."
            ) from error
        if len(values) != num_rows:
            raise FatalCheckError(
                f"The reward function `{self._path}` returned {len(values)} rewards for {num_rows} completions; it "
                "must return one per completion."
            )
        for value in values:
            if value is not None and not 0 <= value <= 1:  # nor NaN
                raise FatalCheckError(
                    f"The reward function `{self._path}` returned {value}; a reward that decides passing must be in "
                    "[0, 1], or None for a row to leave out. Rescale it in a function of your own."
                )
        return values


def _annotated_format(function: Callable[..., Any]) -> str:
    parameter = inspect.signature(function).parameters.get("completions")
    annotation = "" if parameter is None or parameter.annotation is parameter.empty else str(parameter.annotation)
    if "dict" in annotation.lower():
        return "messages"
    return "text" if "str" in annotation else "auto"
