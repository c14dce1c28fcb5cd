"""The check of whole texts."""

from __future__ import annotations

import unicodedata
from typing import Any, ClassVar, Literal

from .check import Check


class ExactCheck(Check):
    """Compare whole texts: an empty completion is `UNPARSEABLE`, an empty or missing gold `UNVERIFIABLE`."""

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(
        self, *, normalize: Literal["strip", "whitespace", "none"] = "strip", ignore_case: bool = False
    ) -> None:
        if normalize not in ("strip", "whitespace", "none"):
            raise ValueError(f'`normalize` must be "strip", "whitespace" or "none", not {normalize!r}.')
        self._normalize = normalize
        self._ignore_case = ignore_case

    def answer(self, completion: str) -> str | None:
        return self.stated_gold(completion)

    def stated_gold(self, solution: Any) -> str | None:
        text = "" if solution is None else str(solution)
        if self._normalize != "none":  # NFC: however accents are encoded
            text = unicodedata.normalize("NFC", text).strip()
        if self._normalize == "whitespace":
            text = " ".join(text.split())
        return (text.casefold() if self._ignore_case else text) or None
