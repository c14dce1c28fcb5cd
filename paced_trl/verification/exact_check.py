"""The check of whole texts."""

from __future__ import annotations

import unicodedata
from typing import Any, ClassVar, Literal

from .check import Check, Row
from .verdict import Verdict


class ExactCheck(Check):
    """
    Compare whole texts.

    An empty completion is `UNPARSEABLE`, an empty or missing gold `UNVERIFIABLE`.

    Args:
        normalize (`str`, *optional*, defaults to `"strip"`):
            `"strip"`: ignore white space at both ends and how accents are encoded (Unicode NFC). `"whitespace"`: also
            let any white space equal one space. `"none"`: compare as it stands.
        ignore_case (`bool`, *optional*, defaults to `False`):
            Whether capital and small letters are equal.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(
        self, *, normalize: Literal["strip", "whitespace", "none"] = "strip", ignore_case: bool = False
    ) -> None:
        if normalize not in ("strip", "whitespace", "none"):
            raise ValueError(f'`normalize` must be "strip", "whitespace" or "none", not {normalize!r}.')
        self._normalize = normalize
        self._ignore_case = ignore_case

    def is_usable(self, row: Row) -> bool:
        return bool(self._text(row.solution))

    def answer(self, completion: str) -> str | None:
        return self._text(completion) or None

    def stated_gold(self, solution: Any) -> str | None:
        return self._text(solution) or None

    def verdict(self, row: Row) -> Verdict:
        solution, completion = self._text(row.solution), self._text(row.completion)
        if not solution:
            return Verdict.UNVERIFIABLE
        if not completion:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if completion == solution else Verdict.FAILED

    def _text(self, value: Any) -> str:
        text = "" if value is None else str(value)
        if self._normalize != "none":
            text = unicodedata.normalize("NFC", text).strip()
        if self._normalize == "whitespace":
            text = " ".join(text.split())
        return text.casefold() if self._ignore_case else text
