"""What a check is: the part of a verifier that reads one kind of answer and compares it with the gold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

from .verdict import Verdict


T = TypeVar("T")
Messages = list[dict[str, Any]]
_MAX_CACHED = 10_000


class Row(NamedTuple):
    """One completion with its gold and the columns of its problem; `completion` is `""` where the gold is checked."""

    completion: str | Messages
    solution: Any
    columns: dict[str, Any]


class Check:
    """
    What a verifier does with rows. Subclasses set the class attributes and write `verdict` and `is_usable`, or the
    `answer` and `stated_gold` of which these are made.

    An instance is made in the calling process, where its options are checked, and, unless `in_process`, once more in
    each worker process, where `start` may import what it needs. There a method may raise: its rows are then
    `UNVERIFIABLE`.

    Attributes:
        package (`tuple[str, str, str]`, *optional*):
            What must be installed: the module, its distribution, and the extra of this package that brings it.
        in_process (`bool`): Whether it is plain string work that needs no worker processes.
        wants_messages (`bool`): Whether completions stay lists of messages; else the text of the last one is read.
        columns (`tuple[str, ...]`, *optional*): Columns that rows must have; `None` means whatever there is.
        optional_columns (`tuple[str, ...]`): Further columns, taken where they exist.
        states_answers (`bool`): Whether it has `answer`.
        rows_per_call (`int`): Most rows that a worker is given at once.
        timeout (`float`): Seconds per call.
        max_memory (`int`, *optional*): Bytes of address space per worker.
    """

    package: ClassVar[tuple[str, str, str] | None] = None
    in_process: ClassVar[bool] = False
    wants_messages: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...] | None] = ()
    optional_columns: ClassVar[tuple[str, ...]] = ()
    states_answers: ClassVar[bool] = False
    rows_per_call: ClassVar[int] = 1
    timeout: float = 10.0
    max_memory: ClassVar[int | None] = 2 * 1024**3

    def check_environment(self) -> None:
        """Raise `ValueError` where the check cannot work on this machine. Called once, before any worker starts."""

    def start(self, timeout: float) -> None:
        """Import what the check needs. Called once, in the worker, which is killed when a call takes `timeout` s."""

    def verify(self, rows: list[Row]) -> list[Verdict]:
        """Return one verdict per completion."""
        return [self.verdict(row) for row in rows]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        """Return `PASSED` for each usable gold, `UNVERIFIABLE` for each other one."""
        return [Verdict.PASSED if self.is_usable(row) else Verdict.UNVERIFIABLE for row in rows]

    def answers(self, rows: list[Row]) -> list[str | None]:
        """Return what each completion answers, the same text for the same answer; `None` where it states none."""
        return [self.answer(str(row.completion)) for row in rows]

    def verdict(self, row: Row) -> Verdict:
        """Return the verdict on one completion."""
        gold = self._required_gold(row)
        if gold is None:
            return Verdict.UNVERIFIABLE
        answer = self.answer(str(row.completion))
        if answer is None:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if answer == gold else Verdict.FAILED

    def is_usable(self, row: Row) -> bool:
        """Return whether completions can be compared with the gold of a row."""
        return self._required_gold(row) is not None

    def _required_gold(self, row: Row) -> str | None:
        """Return what a gold states, of a check that says how: else everything would be unverifiable silently."""
        if type(self).stated_gold is Check.stated_gold:
            raise NotImplementedError
        return self.stated_gold(row.solution)

    def answer(self, completion: str) -> str | None:
        """Return what one completion answers, the same text for the same answer; `None` where it states none."""
        raise NotImplementedError

    def stated(self, completion: str) -> str | None:
        """Return the text that is read as an answer, for people; needs no `start`. `None`: there is none."""
        return None

    def stated_gold(self, solution: Any) -> str | None:
        """Return what is read from a gold, for people; needs no `start`. `None`: nothing can be read."""
        return None


def cached(cache: dict[str, T], key: str, make: Callable[[], T], *, most: int = _MAX_CACHED) -> T:
    """Return what a cache holds under a key, made where it is missing."""
    if key not in cache:
        # The completions of a problem come one after the other, so a full cache may simply be cleared.
        if len(cache) >= most:
            cache.clear()
        cache[key] = make()
    return cache[key]


def completion_text(completion: str | Messages) -> str:
    """Return a completion's text, or its last message's: `content` is text or a list of parts with `text`."""
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
