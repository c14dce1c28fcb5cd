"""
Some problems with what the student wrote, chosen and prepared for people to read.

Responsible for which problems and completions are shown, and for making text that nobody has checked safe and honest
to look at: characters that cannot be seen, or that reorder what is seen, are spelled out. Knows nothing of the page.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from ..store.store import PassRateStore
from .contents import RunContents


MAX_PROBLEMS = 30
MAX_COMPLETIONS = 4
# Characters shown of one text, so that the page stays a few hundred kilobytes.
MAX_PROMPT = 1500
MAX_COMPLETION = 900


@dataclass(frozen=True)
class ProblemSample:
    """
    A problem, some of the student's completions before training, and the teacher's.

    Args:
        problem_id (`str`): Id of the problem.
        prompt (`str`, *optional*): The prompt, or its last message.
        num_earlier_messages (`int`): Messages before it, few-shot examples among them.
        solution (`str`, *optional*): The gold solution.
        num_passed (`int`): Completions that passed.
        num_valid (`int`): Completions with a valid verdict.
        problem_weight (`float`, *optional*): Weight in training, mean 1 over the problems.
        completions (`list[dict[str, Any]]`): Some rows of the store, in the order of generation.
        num_completions (`int`): Completions in the store.
        reference (`str`, *optional*): A completion of the teacher's that passed.
    """

    problem_id: str
    prompt: str | None
    num_earlier_messages: int
    solution: str | None
    num_passed: int
    num_valid: int
    problem_weight: float | None
    completions: list[dict[str, Any]]
    num_completions: int
    reference: str | None


def sample_problems(contents: RunContents, problem_weights: npt.ArrayLike | None = None) -> list[ProblemSample]:
    """
    Return training problems of all pass rates, hardest first; none if pass rates were not measured.

    Args:
        contents ([`RunContents`]): The run.
        problem_weights (`ArrayLike`, *optional*): Weights of the problems, of **shape (P,)**, in the table's order.
    """
    table = contents.pass_rates
    if table is None or not table.num_rows:
        return []
    num_passed, num_valid = table["num_passed"].to_numpy(), table["num_valid"].to_numpy()
    chosen = choose_problems(num_passed, num_valid, MAX_PROBLEMS)
    weights = None if problem_weights is None else np.asarray(problem_weights)
    rows = table.take(chosen).to_pylist()
    ids = [row["problem_id"] for row in rows]
    completions, references = (
        completions_by_problem(contents.store, ids),
        completions_by_problem(contents.references, ids, "passed"),
    )
    samples = []
    for index, row in zip(chosen, rows, strict=True):
        prompt, num_earlier = last_message(row.get("prompt"))
        made = completions.get(row["problem_id"], [])
        samples.append(
            ProblemSample(
                problem_id=row["problem_id"],
                prompt=prompt,
                num_earlier_messages=num_earlier,
                solution=as_text(row.get("solution")),
                num_passed=row["num_passed"],
                num_valid=row["num_valid"],
                problem_weight=None if weights is None else float(weights[index]),
                completions=choose_completions(made, MAX_COMPLETIONS),
                num_completions=len(made),
                reference=next((one["completion"] for one in references.get(row["problem_id"], [])), None),
            )
        )
    return samples


def choose_problems(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, max_problems: int) -> list[int]:
    """
    Choose rows evenly from all pass rates, in the order of pass rates: never passed, tenths, always, unmeasured.

    Args:
        num_passed, num_valid (`ArrayLike`): Counts per problem, of **shape (P,)**.
        max_problems (`int`): Rows to choose, at most.

    Returns:
        `list[int]`: Rows, the same ones for the same counts.
    """
    passed, valid = np.asarray(num_passed), np.asarray(num_valid)
    tenth = np.rint(10 * passed / np.maximum(valid, 1)).astype(int)
    inner = (passed > 0) & (passed < valid)
    tenth[inner] = tenth[inner].clip(1, 9)
    tenth[valid == 0] = 11
    groups = [np.flatnonzero(tenth == value) for value in np.unique(tenth)]
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


def choose_completions(completions: Sequence[dict[str, Any]], max_completions: int) -> list[dict[str, Any]]:
    """Return one completion of each verdict, then the first others, in the order of generation."""
    first_of_verdict = {row["verdict"]: index for index, row in reversed(list(enumerate(completions)))}
    order = sorted(first_of_verdict.values())
    order += [index for index in range(len(completions)) if index not in first_of_verdict.values()]
    return [completions[index] for index in sorted(order[:max_completions])]


def elide(text: str, max_length: int) -> str:
    """Shorten a text in the middle: how it begins and what it answers at the end are what readers look for."""
    if len(text) <= max_length:
        return text
    head = max_length * 2 // 3
    tail = max_length - head
    return f"{text[:head]}\n[... {len(text) - max_length:,} characters ...]\n{text[-tail:]}"


def visible(text: str) -> Markup:
    """
    Return text as safe HTML in which every character can be seen.

    Control characters, format characters (which hide or reorder text) and unassigned ones are spelled out as U+XXXX,
    those of ASCII with the picture that Unicode has for them; line feeds remain.
    """
    return Markup("").join(
        escape(character)
        if _is_seen(character)
        else Markup('<span class="unseen" title="U+{:04X}">{}</span>').format(ord(character), _name(character))
        for character in text
    )


def seen(text: str) -> str:
    """Return text for a terminal in which every character can be seen, so that none of them steers it."""
    return "".join(character if _is_seen(character) else _name(character) for character in text)


def _is_seen(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _name(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"U+{code:04X}"


def completions_by_problem(
    store: PassRateStore | None, problem_ids: Sequence[str], verdict: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return a store's completions by problem, in the order of generation."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows = store.completions(problem_ids, verdict).to_pylist() if store is not None else []
    for row in sorted(rows, key=lambda row: row["generation_index"]):
        found.setdefault(row["problem_id"], []).append(row)
    return found


def last_message(prompt: Any) -> tuple[str | None, int]:
    """Return the text of a prompt, or of its last message, and the number of messages before it."""
    if not isinstance(prompt, list) or not prompt:
        return as_text(prompt), 0
    last = prompt[-1]
    return as_text(last["content"] if isinstance(last, dict) and "content" in last else last), len(prompt) - 1


def as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
