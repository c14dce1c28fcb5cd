"""
What no mathematics parser can read in reasonable time, taken out of a completion before one tries.

A timeout says nothing about the student and does not count, yet a student that rambles has not solved the problem. So
how much is read, how deep it may be nested and how large its numbers may be is bounded, in linear time.
"""

from __future__ import annotations

import math
import re


# Some of math-verify's patterns take quadratic time on the repetitions that a small student falls into.
_MAX_READ_LENGTH = 6_000
_MAX_DEPTH = 8
_MAX_EXPONENT = 10_000
_MAX_BOXED_LENGTH = 1_000
BEYOND = "\\Upsilon"  # stands for what was taken out, so that what it stood in equals no gold
_BEYOND = f" {BEYOND} "

_BRACKET = re.compile(r"[(\[{]|[)\]}]|\\begin\b|\\end\b|\n\s*\n")
_LARGE_EXPONENT = re.compile(r"((?:\^|\*\*)[\s{(]{0,3}[-+]?)\d{5,40}(?:[.,]\d{1,40})?")
_LARGE_SCIENTIFIC = re.compile(r"(?<=[\d.])[eE][-+]?\d{4,40}")
_LARGE_ARGUMENT = re.compile(r"\d{5,40}(?=[\s)}]{0,4}!)|(?<=!)[\s)}]{1,4}!|(?<=\\Gamma)[\s{(]{0,3}\d{5,40}")
_LONG_RUN = re.compile(r"\d{1000,}|\|{9,}")
_TO_THE = r"[\s})]{0,3}(?:\^|\*\*)[\s{(]{0,3}"
_TOWER = re.compile(rf"(\d{{1,9}}){_TO_THE}(\d{{1,9}}){_TO_THE}(\d{{1,9}})")
_LOOP = re.compile(r"(?=\D)(.{1,40}?)\1{29,}", re.DOTALL)


def bounded(text: str) -> str:
    """Return a text with what is too deep, too large, too long or said too often replaced by [`BEYOND`]."""
    text = re.sub(r"[^\S\n]{3,}", "  ", text)
    if len(text) > 100:
        text = _LOOP.sub(_two_rounds, text)
    text = _without_deep_groups(text)
    text = _TOWER.sub(lambda match: _BEYOND if _is_large(match) else match[0], text)
    text = _LARGE_EXPONENT.sub(lambda match: match[1] + _BEYOND, text)
    for pattern in (_LARGE_SCIENTIFIC, _LARGE_ARGUMENT, _LONG_RUN):
        text = pattern.sub(lambda match: _BEYOND, text)
    return text


def last_part(text: str) -> str:
    """Return the 6,000 characters in which the answer is looked for: around the last box, else the end."""
    box = text.rfind("\\boxed")
    end = len(text) if box < 0 else min(len(text), box + _MAX_READ_LENGTH // 2)
    return text[max(0, end - _MAX_READ_LENGTH) : end]


def _two_rounds(loop: re.Match[str]) -> str:
    # Of a row of dots or dashes nothing stays: the last one would join the number after it.
    unit = loop[1] if any(character.isalnum() for character in loop[1]) else ""
    return unit + _BEYOND + unit


def _is_large(tower: re.Match[str]) -> bool:
    base, exponent = int(tower[2]), int(tower[3])
    return base > 1 and exponent * math.log10(base) >= math.log10(_MAX_EXPONENT)


def _without_deep_groups(text: str) -> str:
    """Replace what stands in an outermost pair of brackets that is nested too deeply, or is too long a box."""
    pieces: list[str] = []
    done = start = depth = deepest = 0

    def close(end: int) -> None:
        nonlocal done
        is_long_box = end - start > _MAX_BOXED_LENGTH and text.endswith("\\boxed{", 0, start)
        if deepest > _MAX_DEPTH or is_long_box:
            pieces.extend((text[done:start], _BEYOND))
            done = end

    for match in _BRACKET.finditer(text):
        if match[0] in ("(", "[", "{", "\\begin"):
            depth += 1
            if depth == 1:
                start, deepest = match.end(), 0
            deepest = max(deepest, depth)
        elif depth > 0:
            # No mathematics goes on after an empty line, so a bracket that was left open ends there.
            depth = 0 if match[0].isspace() else depth - 1
            if depth == 0:
                close(match.start())
    if depth > 0:
        close(len(text))
    return "".join(pieces) + text[done:]
