"""
The mathematics check: numbers and expressions, parsed and compared by math-verify.

Responsible for what is handed to math-verify, and for telling its timeouts and failures from wrong answers. Small
students state answers in ways in which math-verify finds nothing ("A:42", "the answer is (1, 2]"), so golds and
plainly stated answers are read here first.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

from .answers import GSM8K_LINE, MAX_CACHED_GOLDS, boxed_answer, boxed_span, final_text, stated_answer
from .check import Check, Row
from .math_limits import BEYOND, bounded, last_part
from .verdict import Verdict


_WRONG_ANSWER = "-90817263.5"
_MAX_BARE_LENGTH = 300  # characters; what is longer is a text, not an answer
_NUMBER = r"(?:[1-9]\d{0,2}(?:[, ]\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_PLAIN_NUMBER = re.compile(rf"(?:[-+]\s*)?(?:\\?[$€£¥]\s*)?(?:[-+]\s*)?(?:{_NUMBER})\s*(?:\\?%)?")
_PLAIN_FRACTION = re.compile(r"-?\d{1,300}(?:\.\d{0,300}|/[1-9]\d{0,299})?")
_SCIENTIFIC_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?[eE][-+]?\d{1,3}")
_MIXED_NUMBER = re.compile(r"([-+]?\d{1,15})\s+(\d{1,15})/(\d{1,15})")
_RECURRING_DECIMAL = re.compile(r"(?<![\d.])(\d{1,15})\.(\d{0,15})\\(?:overline|bar)\{(\d{1,15})\}")
_WORDS = re.compile(r"\$?\\(?:text|textbf|mathrm|mbox)\s?\{([^{}\d\\]{1,100})\}\$?")
_FORMULA = re.compile(r"\${1,2}([^$]+)\${1,2}")
_DECIMAL_COMMA = re.compile(r"\$-?\d+,\d+\$")
_DELIMITER = re.compile(r"\$|\\\(|\\\[|\\boxed")
_TEXT_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mbox|operatorname|begin|end)\s*\{[^{}]*\}")
# Between two numbers; `2 \times 10^3` is one number.
_ARITHMETIC = re.compile(r"\d\.?\s*(?:[+*×·-]|\\(?:times|cdot|div)(?![A-Za-z])(?!\s*10\s*\^))\s*\\?[$(]?\s*\d")
_MATHEMATICS = re.compile(r"[\d\\+*/^=<>-]")
# Letters that mean prose rather than a product of variables.
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|min|max|gcd|lcm|mod)(?![A-Za-z]))"
    r"(?:[A-Za-z]{3,}|an|as|at|be|by|do|if|in|is|it|no|of|on|or|so|to|we|am|pm|cm|mm|km|kg|mg|ft|hr)(?![A-Za-z])"
)


def bare_expression(text: str) -> str | None:
    """
    Return `text` as math-verify wants it if all of it is one number or expression without delimiters, else `None`.

    Example:

    ```python
    >>> from paced_trl.verification.math_check import bare_expression
    >>> [bare_expression(text) for text in ("$1,234", "(1, 2]", "18 dollars")]
    ['1234', '$(1, 2]$', None]
    ```
    """
    text = text.strip()
    if len(text) > _MAX_BARE_LENGTH:
        return None
    if _PLAIN_NUMBER.fullmatch(text):
        return re.sub(r"[\\$€£¥\s,+]", "", text)
    if _SCIENTIFIC_NUMBER.fullmatch(text):
        return f"{Decimal(text):f}"
    mixed = _MIXED_NUMBER.fullmatch(text)
    if mixed is not None:
        return "${}\\frac{{{}}}{{{}}}$".format(*mixed.groups())
    if _DELIMITER.search(text) or "\n" in text:
        return None
    is_prose = _WORD.search(_TEXT_COMMAND.sub(" ", text))
    return f"${text}$" if _MATHEMATICS.search(text) and not is_prose else None


def gold_expression(solution: Any) -> str | None:
    """
    Return the text that math-verify parses for a gold, or `None` if it is not mathematics.

    Args:
        solution (`int`, `float` or `str`):
            A number; an expression with or without delimiters; a GSM8K answer, of which what follows the last `####`
            counts; words with a single number in them ("18 dollars"). Other words are no mathematics, and of several
            numbers nobody can tell which one is the answer.
    """
    if isinstance(solution, float) and solution.is_integer():
        solution = int(solution)
    text = _readable("" if solution is None else str(solution)).rpartition("####")[2].strip().removesuffix(".")
    expression = bare_expression(text)
    if expression is not None:
        return expression
    if _DELIMITER.search(text) or len(re.findall(_NUMBER, text)) == 1:
        return text
    return None


def answer_expressions(completion: str, *, limits: bool = True) -> Iterator[str]:
    """
    Yield the texts that math-verify is to parse for a completion's answer, the surest first.

    A `#### 18` line and a plainly stated answer come first, `\\boxed` excepted; the text as a whole, in which
    math-verify looks for the answer itself, comes last. See [`last_part`] for how much is read,
    and [`bounded`] for what is taken out of it unless `limits` is `False`.
    """
    text = _readable(last_part(final_text(completion))).strip()
    text = bounded(text) if limits else text
    if "\\boxed" not in text:
        lines = GSM8K_LINE.findall(text)
        after_equals = "" if "\n" in text else text.rpartition("=")[2]
        for statement in (lines[-1] if lines else None, stated_answer(text), after_equals.removesuffix(".")):
            expression = None if statement is None else bare_expression(statement.strip().removesuffix("."))
            if expression is not None:
                yield expression
    yield text


def states_words(completion: str, solution: Any) -> bool:
    """Return whether the gold is words, `\\text{Evelyn}`, and the completion states them: "The answer is Evelyn."."""
    words = _WORDS.fullmatch((gold_expression(solution) or "").strip())
    if words is None:
        return False
    text = last_part(final_text(completion))
    stated = (stated_answer(text) or text).strip().removesuffix(".")
    return " ".join(stated.split()).casefold() == " ".join(words[1].split()).casefold()


def _readable(text: str) -> str:
    """Return `text` with notations replaced that math-verify misreads, such as `10\\,000` and `0.\\overline{3}`."""
    text = text.replace("\u2212", "-").replace("\\varnothing", "\\emptyset")
    text = re.sub(r"-\s?\\?\$(?=[\d.])", "-", text)
    text = re.sub(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))", "", text)
    return _RECURRING_DECIMAL.sub(_fraction_of_recurring, text)


def _fraction_of_recurring(match: re.Match[str]) -> str:
    whole, start, period = match.groups()
    numerator = int(whole + start + period) - int(whole + start)
    return f"\\frac{{{numerator}}}{{{'9' * len(period)}{'0' * len(start)}}}"


class MathCheck(Check):
    """
    Compare numbers and expressions with math-verify, both its LaTeX and its plain-text extraction.

    Golds: see [`gold_expression`]; one in words is `UNVERIFIABLE`, use `exact` or `choice` for it. A completion in
    which no answer can be found is `UNPARSEABLE`. Where the gold is a number, an answer that is still to be computed,
    such as the problem's own `78 + 4`, is wrong.
    """

    package: ClassVar[tuple[str, str, str] | None] = ("math_verify", "math-verify", "math")
    states_answers: ClassVar[bool] = True

    def __init__(self) -> None:
        self._golds: dict[str, list[Any]] = {}

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
        return self._tells_right_from_wrong(row.solution)

    def stated(self, completion: str) -> str | None:
        boxed = boxed_answer(final_text(completion))
        if boxed is not None:
            return boxed
        *stated, _ = answer_expressions(completion)  # the last one is the whole text
        return stated[0] if stated else None

    def stated_gold(self, solution: Any) -> str | None:
        return gold_expression(solution)

    def answer(self, completion: str) -> str | None:
        """Return an answer as SymPy writes it, numbers as fractions, so that 1/2 and 0.5 are one answer."""
        try:
            answer = self._answer(completion, limits=True)
        except self._timeout_exception:
            return None
        values = [value for value in answer if not isinstance(value, str)]
        if not values:
            return None
        text = str(values[0])
        return str(Fraction(text)) if _PLAIN_FRACTION.fullmatch(text) else text

    def _tells_right_from_wrong(self, solution: Any) -> bool:
        """Whether the gold, written as a student would, passes and another answer fails (9^{9^9}: a timeout)."""
        return (
            self._verdict(_boxed(solution), solution) is Verdict.PASSED
            and self._verdict(_WRONG_ANSWER, solution) is Verdict.FAILED
        )

    def _verdict(self, completion: str, solution: Any) -> Verdict:
        gold = self._gold(solution)
        if not gold:
            return Verdict.UNVERIFIABLE
        if states_words(completion, solution):
            return Verdict.PASSED
        gold_text = gold_expression(solution) or ""
        try:
            # Where the gold itself is beyond the limits, so may the right answer be.
            answer = self._answer(completion, limits=bounded(gold_text) == gold_text)
        except self._timeout_exception:
            return Verdict.TIMEOUT
        if any(isinstance(value, str) and BEYOND in value for value in answer):
            return Verdict.FAILED
        if _PLAIN_NUMBER.fullmatch(gold_text) and _is_arithmetic(answer):
            # A sum that the problem states equals its answer: whoever repeats it has solved nothing.
            return Verdict.FAILED
        return self._compare(gold, answer) if answer else Verdict.UNPARSEABLE

    def _gold(self, solution: Any) -> list[Any]:
        """Return the parsed gold, empty if it cannot be read."""
        text = gold_expression(solution) or ""
        if text not in self._golds:
            if len(self._golds) >= MAX_CACHED_GOLDS:
                self._golds.clear()
            try:
                parsed = self._parse(text)
            except self._timeout_exception:
                parsed = []
            self._golds[text] = parsed if _is_read(parsed) else []
        return self._golds[text]

    def _answer(self, completion: str, *, limits: bool) -> list[Any]:
        parsed: list[Any] = []
        for text in answer_expressions(completion, limits=limits):
            parsed = self._parse(text)
            if _is_read(parsed):
                break
        return parsed

    def _parse(self, text: str) -> list[Any]:
        text = with_both_signs(text)
        # "1,5" may be one number or two: what equals either reading is right.
        readings = [text, text.strip("$")] if _DECIMAL_COMMA.fullmatch(text) else [text]
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

    def _compare(self, gold: list[Any], answer: list[Any]) -> Verdict:
        verdict = Verdict.FAILED
        # Pair by pair: an error in one pair must not keep another from matching.
        for gold_value, value in ((gold_value, value) for gold_value in gold for value in answer):
            try:
                if self._math_verify.verify(gold_value, value, timeout_seconds=self._seconds, raise_on_error=True):
                    return Verdict.PASSED
            except self._timeout_exception:
                verdict = Verdict.TIMEOUT
            except MemoryError:
                raise
            except Exception:
                continue
        return verdict


def with_both_signs(text: str) -> str:
    """
    Return `text` with each `\\pm` of its answer written out; math-verify reads it in front of a single number only.

    The answer is the last box, or all of a text that is one formula.

    Example:

    ```python
    >>> from paced_trl.verification.math_check import with_both_signs
    >>> with_both_signs("$0, 1 \\pm x$")
    '$0, 1 + x, 1 - x$'
    ```
    """
    formula = _FORMULA.fullmatch(text)
    start, end = boxed_span(text) or (formula.span(1) if formula is not None else (0, 0))
    if "\\pm" not in text[start:end]:
        return text
    signs = ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"})
    written_out = [
        re.sub(r"\\(pm|mp)(?![A-Za-z])", lambda match, sign=sign: sign[match[1]], element)  # type: ignore[misc]
        for element in _elements(text[start:end])
        for sign in signs
    ]
    return text[:start] + ", ".join(dict.fromkeys(written_out)) + text[end:]


def _elements(text: str) -> list[str]:
    """Return the parts of a list, split at the commas outside of brackets."""
    elements, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            elements.append(text[start:position].strip())
            start = position + 1
    return [*elements, text[start:].strip()]


def _is_read(parsed: list[Any]) -> bool:
    return any(not isinstance(value, str) for value in parsed)  # a string is what SymPy could not read


def _is_arithmetic(parsed: list[Any]) -> bool:
    """Whether an answer is numbers that are still to be added, subtracted or multiplied."""
    texts = [value.rpartition("=")[2] for value in parsed if isinstance(value, str)]
    return any(_ARITHMETIC.search(text) for text in texts)


def _boxed(solution: Any) -> str:
    """Return the gold as a student would write it who boxes answers; as it is where it is more than an expression."""
    text = gold_expression(solution) or ""
    return f"\\boxed{{{text[1:-1]}}}" if re.fullmatch(r"\$[^$]+\$", text) else text
