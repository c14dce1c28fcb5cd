"""
The check of one number: read where the completion states its answer, equal within a tolerance.

Arithmetic is exact (fractions) and every pattern is bounded, so that it needs no process that could be killed.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from .answers import GSM8K_LINE, boxed_answer, final_text, stated_answer
from .check import Check, Row
from .verdict import Verdict


_MAX_READ_LENGTH = 20_000  # characters, counted from the end of the completion
_MAX_DIGITS = 400
_MAX_EXPONENT = 999
_DEFAULT_RELATIVE_TOLERANCE = Fraction(1, 10**6)
_GROUPED = r"[0-9]{1,3}(?:(?:,[0-9]{3}){1,100}|(?: [0-9]{3}){1,100})(?![0-9])"
_DIGITS = rf"(?:(?:{_GROUPED}|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++)"
_POWER = r"\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?\^\s?\{?\s?([-+]?[0-9]++)\s?\}?|[eE]([-+]?[0-9]++)"
_NUMBER = re.compile(
    # A sign counts where no word, number or bracket precedes it: in "8-3" it is a subtraction, in "A-3" a hyphen.
    r"(?P<sign>(?<![\w)\]}.])[-+](?!\s)|^\s{0,4}[-+]\s)?(?:\\?[$€£¥]\s?)?(?P<inner_sign>(?<=[$€£¥])[-+])?"
    rf"(?:\\[dtc]?frac\s?\{{\s?(?P<top>-?{_DIGITS})\s?\}}\s?\{{\s?(?P<bottom>-?{_DIGITS})\s?\}}"
    rf"|10\s?\^\s?\{{?\s?(?P<ten>[-+]?[0-9]++)\s?\}}?"
    rf"|(?P<number>(?<![A-Za-z_0-9]){_DIGITS})(?:{_POWER})?"
    rf"(?:(?:\s(?P<part>[0-9]{{1,9}}))?\s?/\s?(?P<over>{_DIGITS}))?)"
    r"(?P<percent>\s?\\?%|\s(?:percent|pct)\b)?"
)
_DECIMAL_COMMA = re.compile(r"(?<![0-9,.(\[{])([0-9]{1,15}),([0-9]{1,2})(?![0-9,.)\]}]|\.[0-9])")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_TEN_TO_SUPERSCRIPT = re.compile(r"(?<![0-9])10([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,6})")
# White space that groups digits, and LaTeX's ways to write it; the minus signs that are no hyphen.
_THIN_SPACE = re.compile(r"(?<=[0-9])(?:[\u00a0\u2009\u202f]|\\[,!;:]|\{,\}(?:\\!)?|,\\!)(?=[0-9]{3})")


class StatedNumber(NamedTuple):
    """A number as it was written; `is_percent` says that a percent sign follows it."""

    value: Fraction
    is_percent: bool


def read_numbers(text: str) -> list[StatedNumber | None]:
    """
    Return the numbers in a text, in their order; `None` stands for one that is too large to be meant.

    Example:

    ```python
    >>> from paced_trl.verification.numeric_check import read_numbers
    >>> [str(number.value) for number in read_numbers("$1,234.50, then 3/4 of 2.5e3")]
    ['2469/2', '3/4', '2500']
    ```
    """
    text = re.sub("[\u2212\u2012\u2013\ufe63\uff0d]", "-", text)
    text = _TEN_TO_SUPERSCRIPT.sub(lambda match: "10^" + match[1].translate(_SUPERSCRIPTS), text)
    text = _DECIMAL_COMMA.sub(r"\1.\2", _THIN_SPACE.sub(",", text))
    return [_number(match) for match in _NUMBER.finditer(text)]


def _number(match: re.Match[str]) -> StatedNumber | None:
    power = match["ten"] or match.group(_POWER_GROUP) or match.group(_POWER_GROUP + 1) or "0"
    pieces = [match["number"] or "1", match["top"] or "1", match["bottom"] or "1", match["over"] or "1"]
    if any(len(piece) > _MAX_DIGITS for piece in (*pieces, power)) or abs(int(power)) > _MAX_EXPONENT:
        return None
    number, top, bottom, over = (Fraction(re.sub("[, ]", "", piece)) for piece in pieces)
    if bottom == 0 or over == 0:
        return None
    if match["part"]:  # 2 1/2
        value = number + Fraction(int(match["part"])) / over
    else:
        value = number * top / bottom / over * Fraction(10) ** int(power)
    is_negative = (match["sign"] or "").strip() == "-" or match["inner_sign"] == "-"
    return StatedNumber(-value if is_negative else value, bool(match["percent"]))


_POWER_GROUP = _NUMBER.groupindex["number"] + 1


def stated_number(completion: str) -> StatedNumber | bool | None:
    """
    Return the number that a completion states as its answer.

    Read in this order: `\\boxed{}`, a `#### 18` line, "the answer is ...", and else the last number there is. Of a
    statement that goes on, what follows the last `=` counts, and of that the first number. Only the last 20,000
    characters after the thinking are read.

    Returns:
        [`StatedNumber`]; `None` if the number is too large to be meant; `False` if there is none.
    """
    text = final_text(completion)[-_MAX_READ_LENGTH:]
    lines = GSM8K_LINE.findall(text)
    for statement in (boxed_answer(text), lines[-1] if lines else None, stated_answer(text)):
        if statement is not None:
            numbers = read_numbers(statement.rpartition("=")[2])
            if numbers:
                return numbers[0]
    numbers = read_numbers(text)
    return numbers[-1] if numbers else False


def gold_number(solution: Any) -> StatedNumber | None:
    """
    Return the number of a gold, or `None` if it is not exactly one.

    Args:
        solution (`int`, `float` or `str`):
            A finite number, or text with a single number in it ("18 dollars"); of a GSM8K answer, what follows the
            last `####` counts.
    """
    if isinstance(solution, bool) or solution is None:
        return None
    if isinstance(solution, int | float):
        return StatedNumber(Fraction(str(solution)), False) if math.isfinite(solution) else None
    text = str(solution)[-_MAX_READ_LENGTH:].rpartition("####")[2]
    numbers = read_numbers(boxed_answer(text) or text)
    return numbers[0] if len(numbers) == 1 else None


def _in_decimals(number: StatedNumber) -> str:
    exact = Decimal(number.value.numerator) / Decimal(number.value.denominator)
    text = f"{exact:f}" if Fraction(exact) == number.value else str(number.value)
    return f"{text}%" if number.is_percent else text


class NumericCheck(Check):
    """
    Compare one number with a tolerance.

    Understood are thousands separators, decimals, scientific notation, fractions, mixed numbers, percent, currencies
    and units around the number; see [`stated_number`] for where it is read. `50%` equals both 50 and 0.5, unless the
    gold is a percentage as well. A completion without a number is `UNPARSEABLE`, a gold that is not exactly one finite
    number `UNVERIFIABLE`. A number of more than 400 digits, or with an exponent beyond 999, is never right.

    Args:
        relative_tolerance (`float`, *optional*):
            Largest difference that passes, as a fraction of the gold. `None` means 1e-6, and for two whole numbers 0.
        absolute_tolerance (`float`, *optional*, defaults to `0.0`):
            Largest difference that passes in any case.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(self, *, relative_tolerance: float | None = None, absolute_tolerance: float = 0.0) -> None:
        for name, value in (("relative_tolerance", relative_tolerance), ("absolute_tolerance", absolute_tolerance)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"`{name}` must be a finite number of at least 0, not {value!r}.")
        self._relative = None if relative_tolerance is None else Fraction(relative_tolerance)
        self._absolute = Fraction(absolute_tolerance)

    def is_usable(self, row: Row) -> bool:
        return gold_number(row.solution) is not None

    def answer(self, completion: str) -> str | None:
        number = stated_number(completion)
        return f"{number.value}{'%' * number.is_percent}" if isinstance(number, StatedNumber) else None

    def stated(self, completion: str) -> str | None:
        number = stated_number(completion)
        return _in_decimals(number) if isinstance(number, StatedNumber) else None

    def stated_gold(self, solution: Any) -> str | None:
        number = gold_number(solution)
        return None if number is None else _in_decimals(number)

    def verdict(self, row: Row) -> Verdict:
        gold = gold_number(row.solution)
        if gold is None:
            return Verdict.UNVERIFIABLE
        answer = stated_number(str(row.completion))
        if answer is False:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if isinstance(answer, StatedNumber) and self._equal(answer, gold) else Verdict.FAILED

    def _equal(self, answer: StatedNumber, gold: StatedNumber) -> bool:
        if answer.is_percent == gold.is_percent:
            return self._close(answer.value, gold.value)
        hundredth = Fraction(1, 100)
        if answer.is_percent:
            return any(self._close(answer.value * scale, gold.value) for scale in (1, hundredth))
        return any(self._close(answer.value, gold.value * scale) for scale in (1, hundredth))

    def _close(self, answer: Fraction, gold: Fraction) -> bool:
        relative = self._relative
        if relative is None:
            relative = Fraction(0) if answer.denominator == gold.denominator == 1 else _DEFAULT_RELATIVE_TOLERANCE
        return abs(answer - gold) <= max(self._absolute, relative * abs(gold))
