"""What math-verify read: whether it is anything, and whether the numbers in two values are the same."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any


_RELATIVE_TOLERANCE = 1e-6  # where a number is irrational


def plain(text: str) -> str:
    return re.sub(r"\s|\\(?:left|right|,|!|;|:)", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def is_read(parsed: list[Any]) -> bool:
    return any(not isinstance(value, str) for value in parsed)  # a string is what SymPy could not read


def values(parsed: list[Any]) -> list[str]:
    return [str(value) for value in parsed if not isinstance(value, str)]


def same_numbers(gold: Any, answer: Any) -> bool:
    """Return whether numbers that math-verify takes for equal, by six decimals, are: rational ones exactly."""
    golds, answers = _numbers(gold), _numbers(answer)
    if golds is None or answers is None or len(golds) != len(answers):
        return True
    for one, other in zip(golds, answers, strict=True):
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            # 25\\% is 0.25 and 25 to math-verify.
            if one not in (other, other * 100, other / 100):
                return False
        elif not math.isclose(one, other, rel_tol=_RELATIVE_TOLERANCE, abs_tol=0.0):
            return False
    return True


def _numbers(value: Any) -> list[Fraction | float] | None:
    """Return the numbers that a value is or is made of, a set's in their order; `None` if it is something else."""
    import sympy

    if isinstance(value, str):
        return None
    if isinstance(value, sympy.MatrixBase):
        parts = list(value)
    elif isinstance(value, sympy.Interval):
        parts = [value.start, value.end]
    elif isinstance(value, sympy.FiniteSet | sympy.Tuple):
        parts = list(value.args)
    else:
        parts = [value]
    found: list[Fraction | float] = []
    for part in parts:
        if not getattr(part, "is_number", False) or not part.is_finite or not part.is_real:
            return None
        part = part.doit()
        if isinstance(part, sympy.Float):
            part = sympy.Rational(str(part))
        found.append(Fraction(int(part.p), int(part.q)) if isinstance(part, sympy.Rational) else float(part))
    return sorted(found) if isinstance(value, sympy.FiniteSet) else found
