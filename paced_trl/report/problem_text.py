"""
Prompts and completions prepared for people to read: which ones are shown, and as HTML in which all can be seen.

Text that nobody has checked can hold characters that are invisible, or that reorder what is seen; they are spelled
out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from ..weighting.counts import pass_rate_bins


_Row = TypeVar("_Row")


def choose_samples(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, max_problems: int) -> list[int]:
    """Return rows evenly from all pass rates, in their order, unmeasured last; counts are of shape (P,)."""
    passed, valid = np.asarray(num_passed), np.asarray(num_valid)
    group_of = np.full(passed.size, np.iinfo(np.int64).max)
    group_of[valid > 0] = pass_rate_bins(passed, valid)[0]
    groups = [np.flatnonzero(group_of == value) for value in np.unique(group_of)]
    taken = [0] * len(groups)
    while sum(taken) < min(max_problems, passed.size):
        smallest = min((t, index) for index, t in enumerate(taken) if t < groups[index].size)[1]
        taken[smallest] += 1
    # Evenly spaced within a group: neighbours in a file are often alike.
    chosen = [
        group[[(2 * j + 1) * group.size // (2 * count) for j in range(count)]].tolist()
        for group, count in zip(groups, taken, strict=True)
        if count
    ]
    return [row for rows in chosen for row in rows]


def choose_completions(rows: Sequence[_Row], max_completions: int, verdict: Callable[[_Row], str]) -> list[_Row]:
    """Return one completion of each verdict, then the first others, in the order of generation."""
    first_of_verdict = {verdict(row): index for index, row in reversed(list(enumerate(rows)))}
    first = sorted(first_of_verdict.values())
    order = [*first, *(index for index in range(len(rows)) if index not in first)]
    return [rows[index] for index in sorted(order[:max_completions])]


def visible(text: str) -> Markup:
    """Return text as safe HTML in which every character but line feeds can be seen, hidden ones spelled out."""
    return Markup("").join(
        escape(character)
        if character == "\n" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        else Markup('<span class="unseen" title="U+{:04X}">{}</span>').format(ord(character), _name(character))
        for character in text
    )


def _name(character: str) -> str:
    """Return how a character is spelled out: of ASCII with the picture that Unicode has for it, else as U+XXXX."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"U+{code:04X}"


def last_message(prompt: Any) -> tuple[str | None, int]:
    """Return the text of a prompt, or of its last message, and the number of messages before it."""
    if not isinstance(prompt, list) or not prompt:
        return as_text(prompt), 0
    last = prompt[-1]
    return as_text(last["content"] if isinstance(last, dict) and "content" in last else last), len(prompt) - 1


def as_text(value: Any) -> str | None:
    """Return a text as it is, another value as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
