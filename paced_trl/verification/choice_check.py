"""The check of a multiple choice: which letter the completion states."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from .answers import final_text
from .check import Check, Row
from .verdict import Verdict


class ChoiceCheck(Check):
    """
    Compare the letter of a multiple choice.

    The last stated choice counts: "The answer is B.", "Answer: (B)", "Option B is correct", `\\boxed{B}`; else a last
    line of a letter alone; else the one letter that opens a line ("B) because ...") or is marked ("(B)", "**B**"). A
    completion that states none, or several at once ("A or B"), is `UNPARSEABLE`.

    Args:
        choices (`str`, *optional*, defaults to `"ABCDE"`):
            The letters.
        index_base (`int`, *optional*):
            Set it where golds are numbers: 0 if 0 means the first choice, 1 if 1 does. `None` means golds are letters.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(self, *, choices: str = "ABCDE", index_base: int | None = None) -> None:
        if not re.fullmatch("[A-Za-z]+", choices) or len(set(choices.upper())) != len(choices):
            raise ValueError(f'`choices` must be different letters such as "ABCD", not {choices!r}.')
        if index_base not in (None, 0, 1):
            raise ValueError(f"`index_base` must be 0, 1 or None, not {index_base!r}.")
        self._choices = choices.upper()
        self._index_base = index_base
        self._compile()

    def _compile(self) -> None:
        # Every repetition is bounded: a hostile megabyte must cost linear time, as no process is there to be killed.
        letter = f"[{self._choices}]"
        opening, closing = r"[(\[{*_\"'`$]{0,6}", r"[)\]}*_\"'`$.:,;!]"
        # A small letter, and "A" or "I" before a word, may be prose: "the answer is a prime", "Answer: I think".
        prose = r"[AI]\s+(?!(?:because|since|as|and|or|which|due|for|but)\b)[a-z]"
        stated = rf"{opening}((?!{prose}){letter}(?![\w'])|(?i:{letter})(?={closing}|\s{{0,4}}$))"
        anchor = (
            r"\\boxed\s?\{|^\s{0,4}####\s{0,4}|(?i:\b(?:answer|choice|option)\b"
            r"(?:[^.\n]{0,40}?\bis\b|[*_\s]{0,4}[:=])[*_\s:]{0,4}(?:(?:option|choice)\s)?)"
        )
        self._stated = re.compile(rf"(?m)(?:{anchor})(?:\\(?:text|textbf|mathrm|mathbf)\s?\{{)?{stated}")
        self._called_correct = re.compile(
            rf"(?i:\b(?:option|choice|answer))\s{opening}({letter}){closing}{{0,4}}\sis\s(?:the\s)?(?:correct|right|best)"
        )
        self._alone = re.compile(rf"\s*{opening}({letter}){closing}{{0,6}}\s*", re.IGNORECASE)
        self._leading = re.compile(rf"(?m)^[ \t]{{0,4}}{opening}({letter})[)\].:*]")
        self._marked = re.compile(rf"(?:\(|\*\*\(?)({letter})[).:]{{0,2}}(?:\)|\*\*)?(?!\w)")
        self._another = re.compile(rf"{closing}{{0,6}}\s{{0,4}}(?:or|and|/|,|&|\|)\s{{0,4}}{opening}{letter}(?![\w'])")

    def is_usable(self, row: Row) -> bool:
        return self.stated_gold(row.solution) is not None

    def answer(self, completion: str) -> str | None:
        return self._answer(final_text(completion))

    def stated(self, completion: str) -> str | None:
        return self.answer(completion)

    def verdict(self, row: Row) -> Verdict:
        gold = self.stated_gold(row.solution)
        if gold is None:
            return Verdict.UNVERIFIABLE
        answer = self.answer(str(row.completion))
        if answer is None:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if answer == gold else Verdict.FAILED

    def stated_gold(self, solution: Any) -> str | None:
        text = str(solution).strip()
        if self._index_base is None:
            return self._answer(text)
        index = int(text) - self._index_base if re.fullmatch("[0-9]{1,3}", text) else -1
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def _answer(self, text: str) -> str | None:
        statements = [*self._stated.finditer(text), *self._called_correct.finditer(text)]
        if statements:
            last = max(statements, key=lambda match: match.start(1))
            return None if self._another.match(text, last.end(1)) else last.group(1).upper()
        alone = self._alone.fullmatch(text.rstrip().rpartition("\n")[2])
        if alone is not None:
            return alone.group(1).upper()
        for pattern in (self._leading, self._marked):
            letters = {match.group(1) for match in pattern.finditer(text)}
            if letters:
                return letters.pop() if len(letters) == 1 else None
        return None
