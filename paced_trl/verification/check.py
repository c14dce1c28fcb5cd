"""
What a check is: the part of a verifier that reads one kind of answer and compares it.

Responsible for the shape that all checks share, `math_verifier.py`, `verifiers.py` and `reward_function.py` alike.
Refuses to know where a check runs and how long it may take.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from .verdict import Verdict


Messages = list[dict[str, Any]]


class Row(NamedTuple):
    """One completion with its gold and the columns of its problem; `completion` is `""` where the gold is checked."""

    completion: str | Messages
    solution: Any
    columns: dict[str, Any]


class Check:
    """
    What a verifier does with rows. Subclasses set the class attributes and write the two methods.

    An instance is made in the calling process, where its options are checked, and, unless `in_process`, once more in
    each worker process, where `start` may import what it needs. There a method may raise: its rows are then
    `UNVERIFIABLE`.
    """

    in_process: ClassVar[bool] = False
    wants_messages: ClassVar[bool] = False  # else the text of the last message
    columns: ClassVar[tuple[str, ...] | None] = ()  # the columns that rows must have; None: whatever there is
    optional_columns: ClassVar[tuple[str, ...]] = ()
    states_answers: ClassVar[bool] = False  # whether it has `answers`
    rows_per_call: ClassVar[int] = 1
    timeout: float = 10.0  # seconds per call
    max_memory: ClassVar[int | None] = 2 * 1024**3  # bytes of address space per worker

    def start(self, timeout: float) -> None:
        """Import what the check needs. Called once, in the worker, which is killed when a call takes `timeout` s."""

    def verify(self, rows: list[Row]) -> list[Verdict]:
        """Return one verdict per completion."""
        raise NotImplementedError

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        """Return `PASSED` for each usable gold, `UNVERIFIABLE` for each other one."""
        raise NotImplementedError

    def answers(self, rows: list[Row]) -> list[str | None]:
        """Return what each completion answers, the same text for the same answer; `None` where it states none."""
        raise NotImplementedError


def completion_text(completion: str | Messages) -> str:
    """
    Return what a completion says: its text, or the text of its last message.

    Args:
        completion (`str` or list of messages):
            A message is a dict with `content`, which is text or a list of parts with `text`.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(completion, str):
        return completion
    try:
        content = completion[-1]["content"] if completion else ""
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or [])
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise TypeError(
            f"A completion must be text or a list of messages with `content`, not {type(completion).__name__}: "
            f"{str(completion)[:200]}."
        ) from error
