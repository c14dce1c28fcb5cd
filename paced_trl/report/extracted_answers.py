"""What a verifier read as the answer of a completion, for people who want to see why it passed or failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..verification.verifier import make_check


MAX_ANSWER = 200  # characters

AnswerReader = Callable[[str], str | None]
_READ = ("math", "numeric", "choice")  # other verifiers compare whole texts, run programs or call a reward function


def answer_reader(record: Mapping[str, Any]) -> AnswerReader | None:
    """Return what reads answers, at most 200 characters each, as the verifier of a store's record does."""
    verifier = record.get("verifier") or {}
    if verifier.get("name") not in _READ:
        return None
    check = make_check(verifier["name"], verifier.get("options") or {})

    def read(completion: str) -> str | None:
        answer = check.stated(completion)
        return answer if answer is None or len(answer) <= MAX_ANSWER else f"{answer[:MAX_ANSWER]}…"

    return read
