"""
What a verifier read as the answer of a completion, for people who want to see why it passed or failed.

Responsible for asking each built-in verifier's own reading rules again. Verifiers that compare whole texts, run
programs or call a reward function read no answer: there the verdict stands alone. Judges nothing. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..verification.check import Row
from ..verification.json_check import json_answer
from ..verification.math_check import answer_expressions
from ..verification.numeric_check import stated_number
from ..verification.text_checks import ChoiceCheck, boxed_answer, final_text
from ..verification.verdict import Verdict


MAX_ANSWER = 200  # characters

AnswerReader = Callable[[str], str | None]


def answer_reader(record: Mapping[str, Any]) -> AnswerReader | None:
    """
    Return what reads the answer of a completion as a verifier does.

    Args:
        record (`Mapping[str, Any]`): The record of a store; its `verifier` names the verifier and its options.

    Returns:
        `Callable[[str], str | None]` or `None`: Gives the answer, at most 200 characters of it, or None where the
        completion states none. None for a verifier that reads none.

    Example:

    ```python
    >>> read = answer_reader({"verifier": {"name": "numeric", "options": {}}})
    >>> read("5 and 7 make 12, so the answer is 12.")
    '12'
    ```
    """
    verifier = record.get("verifier") or {}
    readers: dict[str, AnswerReader] = {"math": _math, "numeric": _number, "json": _json}
    if verifier.get("name") == "choice":
        reader: AnswerReader | None = _choice_reader(verifier.get("options") or {})
    else:
        reader = readers.get(str(verifier.get("name")))
    if reader is None:
        return None

    def read(completion: str) -> str | None:
        answer = reader(completion)
        return answer if answer is None or len(answer) <= MAX_ANSWER else f"{answer[:MAX_ANSWER]}…"

    return read


def _math(completion: str) -> str | None:
    boxed = boxed_answer(final_text(completion))
    if boxed is not None:
        return boxed
    *stated, _ = answer_expressions(completion)  # the last one is the whole text
    return stated[0] if stated else None


def _number(completion: str) -> str | None:
    number = stated_number(completion)
    if number is None or isinstance(number, bool):
        return None
    exact = Decimal(number.value.numerator) / Decimal(number.value.denominator)
    text = f"{exact:f}" if Fraction(exact) == number.value else str(number.value)
    return f"{text}%" if number.is_percent else text


def _json(completion: str) -> str | None:
    try:
        return json.dumps(json_answer(completion), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _choice_reader(options: Mapping[str, Any]) -> AnswerReader:
    choices = str(options.get("choices", "ABCDE")).upper()
    check = ChoiceCheck(choices=choices)

    def read(completion: str) -> str | None:
        # The letter with which the completion would pass.
        verdicts = check.verify([Row(completion, letter, {}) for letter in choices])
        return next((one for one, verdict in zip(choices, verdicts, strict=True) if verdict is Verdict.PASSED), None)

    return read
