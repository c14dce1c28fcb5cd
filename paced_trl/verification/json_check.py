"""
The check for structured answers: the JSON value in a completion equals the gold's.

Responsible for finding the value and for what "equal" means. Each character is looked at a bounded number of times, so
that it needs no process that could be killed. Schemas are refused: what is compared is a value. Not in the paper
(PACED, arXiv 2603.11178); ours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NoReturn

from .check import Check, Row
from .text_checks import final_text, stated_answer
from .verdict import Verdict


_MAX_READ_LENGTH = 1_000_000  # characters
_FENCE = re.compile(r"(?m)^[ \t]{0,8}```[ \t]{0,8}([\w+-]{0,20})[ \t]{0,8}$")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STRUCTURE = re.compile(r'[\[\]{}"]')
_OPENING = {"]": "[", "}": "{"}
_NOTHING = object()


def _refuse(token: str) -> NoReturn:
    raise ValueError(f"{token} is no JSON number")


def _finite(token: str) -> float:
    value = float(token)
    return value if math.isfinite(value) else _refuse(token)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    return result if len(result) == len(pairs) else _refuse("an object with one key twice")


def read_json(text: str) -> Any:
    """
    Return the value of a JSON text.

    Raises:
        ValueError: If it is no JSON, or holds NaN, an infinity, an integer beyond Python's limit of digits, or an
            object with one key twice.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_object)


def balanced_spans(text: str) -> list[tuple[int, int]]:
    """Return the outermost balanced `{...}` and `[...]` of a text, in their order; takes linear time."""
    spans: list[tuple[int, int]] = []
    opened: list[int] = []
    position, may_quote = 0, True
    while (match := _STRUCTURE.search(text, position)) is not None:
        character, position = match[0], match.end()
        if character == '"':
            string = _STRING.match(text, match.start()) if opened and may_quote else None
            if string is not None:
                position = string.end()
            elif opened:
                may_quote = False  # no quote ends from here on; looking again at each would take quadratic time
        elif character in "[{":
            opened.append(match.start())
        elif opened and text[opened[-1]] == _OPENING[character]:
            start = opened.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, position))
        else:
            opened.clear()
    return spans


def _texts(completion: str) -> Iterator[str]:
    """Yield the texts that may be the answer, the surest first; each character is in at most five of them."""
    text = final_text(completion)
    if len(text) > _MAX_READ_LENGTH:
        return
    fences = list(_FENCE.finditer(text))
    blocks = [(start[1].lower(), text[start.end() : end.start()]) for start, end in pairwise(fences)]
    yield from (block for language, block in blocks[::-1] if language == "json")
    yield text
    yield from (text[start:end] for start, end in reversed(balanced_spans(text)))
    for statement in (stated_answer(text), text.strip().rpartition("\n")[2]):
        if statement is not None:
            yield statement


def json_answer(completion: str) -> Any:
    """
    Return the JSON value that a completion gives as its answer.

    After the thinking: the last block fenced as JSON, else the text as a whole, else the last balanced object or array
    in it, else what "the answer is" states or the last line, where these are JSON.

    Raises:
        ValueError: If there is none, or the text is longer than a million characters.
    """
    for text in _texts(completion):
        try:
            return read_json(text)
        except (ValueError, RecursionError):
            continue
    raise ValueError("there is no JSON value")


def _canonical(value: Any) -> str:
    """Return a text that two values share exactly if they are equal up to the order of lists."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(sorted(map(_canonical, value))) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


class JsonCheck(Check):
    """
    Compare a JSON value with the gold.

    Objects are equal whatever the order of their keys, numbers as numbers (1 and 1.0; a boolean is no number), lists
    in order. See [`json_answer`] for where the value is read. A completion without one is `UNPARSEABLE`. So is one
    with NaN, an infinity, an object with one key twice, an integer of more than 4,300 digits, or nesting beyond
    Python's limit; a gold of that kind is `UNVERIFIABLE`.

    Args:
        ignore_order (`bool`, *optional*, defaults to `False`):
            Whether lists are equal that hold the same elements in another order.
        keys (`list[str]`, *optional*):
            Compare only these keys of the object. `None` means the whole value.
        float_tolerance (`float`, *optional*, defaults to `0.0`):
            Largest difference of two numbers that are equal. Not together with `ignore_order`.
    """

    in_process: ClassVar[bool] = True

    def __init__(
        self, *, ignore_order: bool = False, keys: Sequence[str] | None = None, float_tolerance: float = 0.0
    ) -> None:
        if not 0 <= float_tolerance < math.inf:
            raise ValueError(f"`float_tolerance` must be a finite number of at least 0, not {float_tolerance!r}.")
        if ignore_order and float_tolerance:
            raise ValueError(
                "`ignore_order` and `float_tolerance` were both given, but which elements of two unordered lists "
                "belong together is not defined when they are only nearly equal. Set one of them."
            )
        if isinstance(keys, str) or (keys is not None and not all(isinstance(key, str) for key in keys)):
            raise ValueError(f'`keys` must be a list of names such as ["name", "age"], not {keys!r}.')
        self._ignore_order = ignore_order
        self._keys = None if keys is None else list(keys)
        self._tolerance = float_tolerance

    def verify(self, rows: list[Row]) -> list[Verdict]:
        return [self._verdict(row) for row in rows]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        return [Verdict.UNVERIFIABLE if self._gold(row.solution) is _NOTHING else Verdict.PASSED for row in rows]

    def _gold(self, solution: Any) -> Any:
        """Return what a completion is compared with, `_NOTHING` if the gold is unusable."""
        if solution is None:
            return _NOTHING
        try:
            # A Python value takes the same way as text, so that the same things are refused in it.
            value = self._selected(read_json(solution if isinstance(solution, str) else json.dumps(solution)))
            return value if value is not _NOTHING and self._equal(value, value) else _NOTHING
        except (ValueError, TypeError, RecursionError):
            return _NOTHING

    def _selected(self, value: Any) -> Any:
        if self._keys is None:
            return value
        if not isinstance(value, dict) or not all(key in value for key in self._keys):
            return _NOTHING
        return {key: value[key] for key in self._keys}

    def _verdict(self, row: Row) -> Verdict:
        gold = self._gold(row.solution)
        if gold is _NOTHING:
            return Verdict.UNVERIFIABLE
        try:
            answer = json_answer(str(row.completion))
        except ValueError:
            return Verdict.UNPARSEABLE
        answer = self._selected(answer)
        try:
            return Verdict.PASSED if answer is not _NOTHING and self._equal(answer, gold) else Verdict.FAILED
        except RecursionError:  # nested almost as deeply as can be read at all, which the gold is not
            return Verdict.FAILED

    def _equal(self, answer: Any, gold: Any) -> bool:
        return _canonical(answer) == _canonical(gold) if self._ignore_order else self._same(answer, gold)

    def _same(self, answer: Any, gold: Any) -> bool:
        if isinstance(gold, dict):
            return (
                isinstance(answer, dict)
                and answer.keys() == gold.keys()
                and all(self._same(answer[key], value) for key, value in gold.items())
            )
        if isinstance(gold, list):
            return isinstance(answer, list) and len(answer) == len(gold) and all(map(self._same, answer, gold))
        if isinstance(gold, bool) or isinstance(answer, bool):
            return answer is gold
        if self._tolerance and isinstance(gold, int | float) and isinstance(answer, int | float):
            try:
                return abs(answer - gold) <= self._tolerance
            except OverflowError:  # an integer beyond the floats
                return answer == gold
        return bool(answer == gold)
