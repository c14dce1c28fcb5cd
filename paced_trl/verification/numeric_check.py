"""The check of one number: read where the completion states its answer, equal within a tolerance."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, ClassVar

from .answers import boxed_answer, final_text, statements, without_retracted
from .check import Check, Row
from .numbers import StatedNumber, equal_numbers, last_number, one_side, read_number, read_numbers, read_one_number
from .verdict import Verdict


_MAX_READ_LENGTH = 20_000  # characters, counted from the end of the completion
_DEFAULT_RELATIVE_TOLERANCE = Fraction(1, 10**6)


def stated_number(completion: str) -> StatedNumber | bool | None:
    """
    Return the number that is boxed, behind `####` or behind "the answer is", else the last one.

    `None` and `False` are as in [`read_one_number`].
    """
    text = _read(completion)
    for statement in statements(text):
        number = read_one_number(statement.text)
        if number is not False:
            return number
    whole = one_side(text) if len(text) < 200 and "\n" not in text.strip() else None
    return last_number(text) if whole is None else whole


def gold_number(solution: Any) -> StatedNumber | None:
    """Return a gold's one number: it is finite, or text with one in it ("18 dollars"; GSM8K: behind `####`)."""
    if isinstance(solution, bool) or solution is None:
        return None
    if isinstance(solution, int | float):
        return StatedNumber(Fraction(str(solution))) if math.isfinite(solution) else None
    text = str(solution)[-_MAX_READ_LENGTH:].rpartition("####")[2]
    text = boxed_answer(text) or text
    whole = read_number(text)
    if whole is not None:
        return whole
    stated = read_one_number(text)
    return stated if isinstance(stated, StatedNumber) and len(read_numbers(text)) == 1 else None


def _read(completion: str) -> str:
    return without_retracted(final_text(completion)[-_MAX_READ_LENGTH:])


class NumericCheck(Check):
    """
    Compare one number with a tolerance: see [`stated_number`] for where it is read, and the README for how.

    Several different numbers, and a number of more than 400 digits or with an exponent beyond 999, are never right. A
    `relative_tolerance` of `None` means 1e-6 of the gold, and 0 for two whole numbers.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(self, *, relative_tolerance: float | None = None, absolute_tolerance: float = 0.0) -> None:
        for name, value in (("relative_tolerance", relative_tolerance), ("absolute_tolerance", absolute_tolerance)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be a finite number of at least 0, not {value!r}.")
        self._relative = None if relative_tolerance is None else Fraction(relative_tolerance)
        self._absolute = Fraction(absolute_tolerance)

    def answer(self, completion: str) -> str | None:
        number = stated_number(completion)
        return number.as_answer if isinstance(number, StatedNumber) else None

    def stated(self, completion: str) -> str | None:
        number = stated_number(completion)
        if number is None:  # not one number: shown as it stands
            return next((statement.text for statement in statements(_read(completion))), None)
        return str(number) if isinstance(number, StatedNumber) else None

    def stated_gold(self, solution: Any) -> str | None:
        number = gold_number(solution)
        return None if number is None else str(number)

    def verdict(self, row: Row) -> Verdict:
        gold = gold_number(row.solution)
        if gold is None:
            return Verdict.UNVERIFIABLE
        answer = stated_number(str(row.completion))
        if answer is False:
            return Verdict.UNPARSEABLE
        if isinstance(answer, StatedNumber) and any(self._close(*pair) for pair in equal_numbers(answer, gold)):
            return Verdict.PASSED
        return Verdict.FAILED

    def _close(self, answer: Fraction, gold: Fraction) -> bool:
        relative = self._relative
        if relative is None:
            relative = Fraction(0) if answer.denominator == gold.denominator == 1 else _DEFAULT_RELATIVE_TOLERANCE
        return abs(answer - gold) <= max(self._absolute, relative * abs(gold))
