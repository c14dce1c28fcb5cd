"""
Where a run comes from, as `paced-trl train` writes it beside the run's settings when it starts.

Only then is it known which names are models on the Hub and which are directories. What of it is published is for
`run.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..generation.completions import Prompt
from ..names import hub_id, library_versions
from ..run_directory import write_json


PROVENANCE = "provenance.json"
# Prompts that are compared to see what all of them share.
_MANY = 64


def write_provenance(
    output_dir: str | Path,
    *,
    student: str | None,
    teacher: str | None,
    problems: dict[str, Any],
    pass_rates: dict[str, Any],
    references: dict[str, Any],
    prompts: Sequence[Prompt] = (),
) -> None:
    """Write what a run was started with: models as the user names them, settings of the other steps, prompts' form."""
    path = Path(output_dir)
    path.mkdir(parents=True, exist_ok=True)
    write_json(
        path / PROVENANCE,
        {
            "student": hub_id(student),
            "teacher": hub_id(teacher),
            "dataset": hub_id(problems.get("dataset_name")),
            "published_pass_rates": hub_id(pass_rates.get("pass_rates")),
            "problems": problems,
            "pass_rates": pass_rates,
            "references": references,
            "prompt_form": prompt_form(prompts[:_MANY]),
            "versions": library_versions(),
        },
    )


def read_provenance(output_dir: Path) -> dict[str, Any]:
    """Return what [`write_provenance`] wrote; nothing for runs of `compare` and of Python."""
    path = output_dir / PROVENANCE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def prompt_form(prompts: Sequence[Prompt]) -> dict[str, Any] | None:
    """Return what prompts share: messages before the question (`context`), and the text `before` and `after` it."""
    if not prompts:
        return None
    questions = [prompt if isinstance(prompt, str) else str(prompt[-1]["content"]) for prompt in prompts]
    chats = [
        [{"role": turn["role"], "content": turn["content"]} for turn in prompt[:-1]]
        for prompt in prompts
        if not isinstance(prompt, str)
    ]
    context = _shared(chats) if chats else None
    if len(set(questions)) == 1:
        return {"context": context, "before": "", "after": ""}
    # By whole lines, because two questions can begin or end alike by chance.
    lines = [question.splitlines(keepends=True) for question in questions]
    before = _shared(lines)
    after = _shared([rest[len(before) :][::-1] for rest in lines])[::-1]
    frame = {"before": "".join(before), "after": "".join(after)}
    # The line break before the shared lines is shared as well.
    return {"context": context, **frame, "after": "\n" * bool(after) + frame["after"]}


def _shared(sequences: Sequence[Sequence[Any]]) -> list[Any]:
    """Return what all sequences begin with."""
    alike = itertools.takewhile(lambda items: all(item == items[0] for item in items), zip(*sequences, strict=False))
    return [items[0] for items in alike]
