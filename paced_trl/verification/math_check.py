"""
The mathematics check: numbers compared exactly, expressions parsed and compared by math-verify.

Responsible for what is handed to math-verify, for whether it read all of it, and for telling its timeouts and failures
from wrong answers. Where answers are stated is in `answers.py`, how numbers and expressions are written in
`numbers.py` and `expressions.py`.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from .answers import (
    CHEERS,
    DENIAL,
    NEGATION,
    Statement,
    bold_answer,
    boxed_answer,
    boxed_span,
    final_text,
    stated_answer,
    statements,
    without_retracted,
)
from .check import Check, Row, cached
from .expressions import (
    DECIMAL_COMMA,
    MAX_LENGTH,
    as_written,
    elements,
    expression,
    factors,
    is_mathematics,
    is_to_be_computed,
    plain_gold,
    readable,
    with_one_part_changed,
)
from .math_limits import BEYOND, bounded, last_part
from .math_values import is_read, plain, same_numbers, values
from .numbers import (
    StatedNumber,
    bold_number,
    is_equation,
    last_number,
    one_side,
    read_number,
    read_numbers,
    read_one_number,
    same_number,
    without_explanation,
    without_remarks,
)
from .verdict import Verdict


_WRONG_ANSWER = "-90817263.5"
_PLAIN_FRACTION = re.compile(r"-?\d{1,300}(?:\.\d{0,300}|/[1-9]\d{0,299})?")
_WORDS = re.compile(r"\$?\\(?:text|textbf|mathrm|mbox)\s?\{([^{}\d\\]{1,100})\}\$?")
_OPENING = re.compile(  # a list's mark, "so", an arrow
    r"(?i)\A(?:(?:[•▪●]|\(?[a-z]\)|\d{1,2}[.)])[ \t]{1,3}(?=\S))?(?:(?:so|thus|hence)\b[\s:,]{0,4})?"
    r"(?:>\s(?=[*A-Z]))?(?:(?:[=-]{1,2}>|→|⇒|∴|\\(?:implies|therefore)(?![a-z]))\s{0,4})?"
)
_APPROXIMATED = re.compile(r"(?<=[\d})])\s*(?:\\approx|\\simeq|≈).{0,60}\Z")
_FORMULA = re.compile(r"\$[^$]{1,300}\$|\\\(.{1,300}?\\\)|\\\[.{1,300}?\\\]", re.DOTALL)
_UNIT_FORMULA = re.compile(r"\$\s?\\(?:text|mathrm|mbox)\s?\{[^{}\d$]{1,30}\}(?:\s?\^\s?\{?\s?-?\d\s?\}?)?\s?\$")
_TAIL = re.compile(r"(?i)\A.{0,200}\b(?:is|are|equals)\s(?!not\b)|\A(?:for\s)?(?:all|every|any)\s")
_SUM_AT_THE_END = re.compile(r"[-\d.,\s+*/×·÷=()$€£%^]*\Z")
_LETTER_AND_WORDS = re.compile(  # n \text{ odd}, \text{all } p
    r"(?:\s|\\[ ,;])*[A-Za-z](?:\\text\s?\{[^{}]*[A-Za-z]{3}[^{}]*\}|\s|\\[ ,;])+"
    r"|\\text\s?\{[^{}]*[A-Za-z]{3}[^{}]*\}\s*[A-Za-z]"
)
_NEGATED = re.compile(r"\\neq?(?![A-Za-z])|≠|!=|\\not(?![A-Za-z])|\bnot\b")


class _Gold(NamedTuple):
    text: str  # as math-verify is to read it
    number: StatedNumber | None  # where all of it is one number


def gold_expression(solution: Any) -> str | None:
    """Return the mathematics of a gold, of GSM8K's behind `####`, without delimiters; `None` where it is none."""
    if isinstance(solution, float) and solution.is_integer():
        solution = int(solution)
    text = ("" if solution is None else str(solution)).rpartition("####")[2].strip()
    if DECIMAL_COMMA.fullmatch(text.strip("$")):
        return text.strip("$")
    found = expression(text)
    if found is not None and (is_mathematics(found) or "$" in text or "\\" in text or re.fullmatch("[a-z]", found)):
        return found
    if plain_gold(text):
        return str(next(number for number in read_numbers(text) if number is not None))
    return None


def _states_words(completion: str, solution: Any) -> bool:
    """Return whether the gold is words, `\\text{Evelyn}`, and the completion states them: "The answer is Evelyn."."""
    words = _WORDS.fullmatch(str(solution).strip())
    if words is None:
        return False
    stated = _stated_words(_text(completion, limits=False))
    return stated.casefold().split() == words[1].casefold().split()


def _stated_words(text: str) -> str:
    return (stated_answer(text) or text).strip().removesuffix(".")


class MathCheck(Check):
    """Compare numbers exactly, and other expressions with math-verify, if it reads all of them: see the README."""

    package: ClassVar[tuple[str, str, str] | None] = ("math_verify", "math-verify", "math")
    states_answers: ClassVar[bool] = True

    def __init__(self) -> None:
        self._golds: dict[str, _Gold | None] = {}
        self._parsed: dict[str, list[Any]] = {}
        self._read_whole: dict[str, bool] = {}

    def start(self, timeout: float) -> None:
        import math_verify
        from math_verify.errors import TimeoutException

        warnings.simplefilter("ignore")  # SymPy compiles what students write: "3(4)" is a SyntaxWarning each time
        self._math_verify, self._timeout_exception = math_verify, TimeoutException
        self._extraction = [
            math_verify.LatexExtractionConfig(boxed_match_priority=0),  # boxed first, as TRL's accuracy_reward has it
            math_verify.ExprExtractionConfig(),
        ]
        # math-verify's alarms end most runaway work without the loss of the process; the kill is for the rest.
        self._seconds = max(1, math.ceil(timeout / 2))

    def verdict(self, row: Row) -> Verdict:
        return self._verdict(str(row.completion), row.solution)

    def is_usable(self, row: Row) -> bool:
        """Whether the gold, written as a student would, passes and another answer fails (9^{9^9}: a timeout)."""
        gold = gold_expression(row.solution)
        return (
            gold is not None
            and self._verdict(f"\\boxed{{{gold}}}", row.solution) is Verdict.PASSED
            and self._verdict(_WRONG_ANSWER, row.solution) is Verdict.FAILED
        )

    def stated(self, completion: str) -> str | None:
        words = _stated_words(_text(completion, limits=True))
        return self._stated_mathematics(completion) or (words if 0 < len(words.split()) <= 3 else None)

    def _stated_mathematics(self, completion: str) -> str | None:
        text = _text(completion, limits=True)
        boxed = boxed_answer(_text(completion, limits=False))
        if boxed is not None and boxed.strip():
            return boxed.strip()
        for statement in statements(text):
            found = expression(statement.text)
            if found is not None and is_mathematics(found):
                return found
            number = read_one_number(statement.text)
            if number is not False:
                return str(number) if isinstance(number, StatedNumber) else statement.text
        found = expression(text)
        if found is not None and is_mathematics(found):
            return found
        number = last_number(text)
        return str(number) if isinstance(number, StatedNumber) else None

    def stated_gold(self, solution: Any) -> str | None:
        found = gold_expression(solution)
        return None if found is None else as_written(found)

    def answer(self, completion: str) -> str | None:
        """Return an answer as SymPy writes it, numbers as fractions, so that 1/2 and 0.5 are one answer."""
        stated = self._stated_mathematics(completion)
        number = None if stated is None else read_number(stated)
        if number is not None:
            return number.as_answer
        try:
            found = None if stated is None else expression(stated)
            parsed = self._parse(_text(completion, limits=True) if found is None else f"${found}$")
        except self._timeout_exception:
            return None
        text = next(iter(values(parsed)), None)
        return str(Fraction(text)) if text is not None and _PLAIN_FRACTION.fullmatch(text) else text

    def _verdict(self, completion: str, solution: Any) -> Verdict:
        gold = self._gold(solution)
        if gold is None:
            return Verdict.UNVERIFIABLE
        if _states_words(completion, solution):
            return Verdict.PASSED
        # Where the gold itself is beyond the limits, so may the right answer be.
        text = _text(completion, limits=bounded(gold.text) == gold.text)
        try:
            for statement in statements(text):
                verdict = self._judge(statement, gold)
                if verdict is not None:
                    return verdict
            return self._judge_whole(text, gold)
        except self._timeout_exception:
            return Verdict.TIMEOUT

    def _gold(self, solution: Any) -> _Gold | None:
        """Return the gold as it is read, `None` if it cannot be, or in part only."""
        return cached(self._golds, repr(solution), lambda: self._read_gold(gold_expression(solution)))

    def _read_gold(self, text: str | None) -> _Gold | None:
        if text is None or _LETTER_AND_WORDS.fullmatch(text) or re.search(r"=[^=,]*=\s*[A-Za-z]\s*\Z", text):
            return None
        number = None if DECIMAL_COMMA.fullmatch(text) else read_number(text)
        if number is not None:
            return _Gold(text, number)
        try:
            return _Gold(text, None) if self._is_read_whole(text) else None
        except self._timeout_exception:
            return None

    def _judge(self, statement: Statement, gold: _Gold) -> Verdict | None:
        """Return the verdict on a stated answer, `None` where it cannot be read, so that the next one counts."""
        if not statement.text.strip():
            return None
        if BEYOND in statement.text:
            return Verdict.FAILED
        if _NEGATED.search(statement.text) and not _NEGATED.search(gold.text):
            return Verdict.FAILED
        if gold.number is None:
            statement = statement._replace(text=_APPROXIMATED.sub("", statement.text))
        found = expression(statement.text)
        if gold.number is None and (found is None or not is_mathematics(found)):
            found = expression(re.sub(r"(?<=[\w$)}])\s(?:and|or)\s(?=[-\w$(\\])", ", ", statement.text))
        is_same = found is not None and plain(found) == plain(gold.text)
        is_prose = found is None or (statement.where != "box" and not is_mathematics(found) and not is_same)
        if gold.number is not None:
            if statement.where != "box":
                statement = statement._replace(text=without_remarks(statement.text))
                found = expression(statement.text) if found is not None else None
            number = read_one_number(readable(statement.text))
            if is_prose:
                return None if number is False else _compared(number, gold.number)
            side = one_side(statement.text) or one_side(found or "")
            if side is not None:
                return _compared(side, gold.number)
            if (
                re.search(r"\d\s\d", found or "")
                or len(elements(found or "")) > 1
                or is_to_be_computed(found or "")
                or is_equation(found or "")
            ):
                return Verdict.FAILED
        if is_prose or found is None:
            return None
        verdict = self._judge_expression(found, gold)
        return Verdict.UNPARSEABLE if verdict is None and statement.where == "box" else verdict

    def _judge_expression(self, text: str, gold: _Gold) -> Verdict | None:
        if plain(text) == plain(gold.text):
            return Verdict.PASSED
        sets = factors(gold.text)
        if sets:
            answers = factors(text)
            same = len(sets) == len(answers) and all(
                self._judge_expression(one, _Gold(other, None)) is Verdict.PASSED
                for one, other in zip(answers, sets, strict=True)
            )
            return Verdict.PASSED if same else Verdict.FAILED
        answer = self._parse(f"${text}$")
        if not is_read(answer):
            return None
        verdict = self._compare(self._parse(f"${gold.text}$"), answer)
        return Verdict.FAILED if verdict is Verdict.PASSED and not self._is_read_whole(text) else verdict

    def _judge_whole(self, text: str, gold: _Gold) -> Verdict:
        """Judge a text that states its answer nowhere: as a whole, by its last number, or as math-verify finds it."""
        text = _OPENING.sub("", text.strip())
        if not text or (boxed_span(text) is not None and boxed_answer(text) is None):
            return Verdict.UNPARSEABLE
        if gold.number is not None:
            text = _UNIT_FORMULA.sub(" ", without_explanation(text))
            if not re.search(r"[\\$]", text) and "!" not in gold.text:
                text = text.rstrip("!")  # no factorial
        else:
            bold = bold_answer(text) or ""
            text = bold if _FORMULA.fullmatch(bold) else text
        formula = next(reversed(list(_FORMULA.finditer(text))), None)
        is_denied = formula is not None and (
            NEGATION.search(text[: formula.start()][-90:]) or DENIAL.match(text, formula.end())
        )
        if gold.number is None and is_denied:
            return Verdict.UNPARSEABLE
        found = expression(text) if len(text) <= MAX_LENGTH else None
        if found is not None and is_mathematics(found):
            verdict = self._judge(Statement(text, "clause"), gold)
            if verdict is not None:
                return verdict
        number = last_number(text)
        if gold.number is not None:
            if "\n" not in text and "=" in text:
                side = read_number(text.rpartition("=")[2])
                if side is not None:
                    return _compared(side, gold.number)
            if number is None or is_to_be_computed(_SUM_AT_THE_END.search(text[-60:])[0]):  # type: ignore[index]
                return Verdict.FAILED
            if number is False:
                return Verdict.UNPARSEABLE
            last = formula[0] if formula is not None and not re.search(r"\d", text[formula.end() :]) else ""
            if (
                not re.search(r"\$|\\\(|\\\[|\\[a-zA-Z]", text.replace("\\$", ""))
                or read_number(text) is not None
                or bold_number(text) is not None
                or same_number(number, one_side(last))
            ):
                return _compared(number, gold.number)
        elif formula is None:
            tail = _TAIL.sub("", text.rpartition("\n")[2])
            verdict = self._judge(Statement(tail, "clause"), gold) if 0 < len(tail) <= MAX_LENGTH else None
            if verdict is not None:
                return verdict
        answer = self._parse(text)
        if any(isinstance(value, str) and BEYOND in value for value in answer):
            return Verdict.FAILED
        if not is_read(answer):
            return Verdict.UNPARSEABLE
        texts = [value for value in answer if isinstance(value, str)]
        if gold.number is not None and any(is_to_be_computed(value) for value in texts):
            return Verdict.FAILED
        verdict = self._compare(self._parse(f"${gold.text}$"), answer)
        is_partial = gold.number is None and not any(
            expression(value) and self._is_read_whole(value) for value in texts
        )
        return Verdict.FAILED if verdict is Verdict.PASSED and is_partial else verdict

    def _is_read_whole(self, text: str) -> bool:
        """Return whether every digit, letter, relation and set sign of an expression changes what is read."""

        def changes() -> bool:
            sets = factors(text)
            if sets:
                return all(map(self._is_read_whole, sets))
            value = values(self._parse(f"${text}$"))
            return bool(value) and all(
                any(values(self._parse(f"${changed}$")) != value for changed in pair)
                for pair in with_one_part_changed(text)
            )

        return cached(self._read_whole, text, changes)

    def _parse(self, text: str) -> list[Any]:
        """Return what math-verify reads: values, and as strings what it took for one."""
        return cached(self._parsed, text, lambda: self._read(text), most=1000)

    def _read(self, text: str) -> list[Any]:
        # "1,5" may be one number or two: what equals either reading is right.
        readings = [text, text.strip("$")] if DECIMAL_COMMA.fullmatch(text.strip("$")) else [text]
        parsed: list[Any] = []
        for reading in readings:
            try:
                # `raise_on_error`, because otherwise a timeout looks like a text without an answer.
                parsed += self._math_verify.parse(
                    reading, self._extraction, parsing_timeout=self._seconds, raise_on_error=True
                )
            except MemoryError:
                raise
            except Exception:
                continue
        return parsed

    def _equal(self, gold: Any, answer: Any) -> bool:
        import sympy

        verify = self._math_verify.verify
        if verify(gold, answer, timeout_seconds=self._seconds, raise_on_error=True):
            return True
        # Of x > 3 and (3, oo) it takes the second for an answer to the first only.
        if not isinstance(gold, sympy.Set) or not isinstance(answer, sympy.Rel | sympy.And | sympy.Or):
            return False
        return bool(verify(answer, gold, timeout_seconds=self._seconds, raise_on_error=True))

    def _compare(self, gold: list[Any], answer: list[Any]) -> Verdict:
        verdict = Verdict.FAILED
        # Pair by pair: an error in one pair must not keep another from matching.
        for pair in itertools.product(gold, answer):
            try:
                if self._equal(*pair) and same_numbers(*pair):
                    return Verdict.PASSED
            except self._timeout_exception:
                verdict = Verdict.TIMEOUT
            except MemoryError:
                raise
            except Exception:
                continue
        return verdict


def _text(completion: str, *, limits: bool) -> str:
    text = CHEERS.sub("", without_retracted(last_part(final_text(completion)))).strip()
    return bounded(text) if limits else text


def _compared(answer: StatedNumber | bool | None, gold: StatedNumber) -> Verdict:
    return Verdict.PASSED if same_number(answer, gold) else Verdict.FAILED
