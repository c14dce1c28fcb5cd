"""
Where in a completion the answer is stated: what all checks read alike.

After the thinking, between answer tags, in the last box, behind `####`, or behind "the answer is".
"""

from __future__ import annotations

import re


# The completions of a problem come one after the other, so a full cache may simply be cleared.
MAX_CACHED_GOLDS = 10_000
GSM8K_LINE = re.compile(r"(?m)^[ \t]*+####[ \t]*+([^\n]{1,200})$")
MARKUP = " \t\r\n*_`~\"'"

_ANSWER_IS = re.compile(r"(?i)\banswer\b(?:[^.\n]{0,60}?\b(?:is|are)\b|[*_\s]{0,4}[:=])[*_\s:]{0,4}|(?m:^)a\s?:")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)")


def final_text(completion: str) -> str:
    """Return what follows the thinking, and of that what stands between the last answer tags, where there are any."""
    text = completion.rpartition("</think>")[2]
    answer = tagged_answer(text)
    return text if answer is None else answer


def tagged_answer(text: str) -> str | None:
    """Return what stands between the last `<answer>` and `</answer>`."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end] if start >= 0 else None


def boxed_span(text: str) -> tuple[int, int] | None:
    """Return where the content of the last `\\boxed{...}` starts and ends; a box left open goes on to the end."""
    start = text.rfind("\\boxed{") + len("\\boxed{")
    if start < len("\\boxed{"):
        return None
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start, start + brace.start()
    return start, len(text)


def boxed_answer(text: str) -> str | None:
    """Return what stands in the last `\\boxed{...}`."""
    span = boxed_span(text)
    return None if span is None else text[slice(*span)]


def stated_answer(text: str) -> str | None:
    """Return the rest of the line after the last "answer is", "Answer:" or "A:", up to the end of its sentence."""
    ends = [match.end() for match in _ANSWER_IS.finditer(text)]
    if not ends:
        return None
    line = text[ends[-1] :].partition("\n")[0]
    return _SENTENCE_END.split(line, maxsplit=1)[0].strip(MARKUP) or None
