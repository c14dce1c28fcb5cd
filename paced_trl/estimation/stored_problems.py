"""
What the completions of a store answer: prompts, golds, and the settings that shaped the prompts.

The store itself holds ids and hashes. This file beside its shards lets a person read a completion with its problem,
and tells a changed `system_prompt` from new problems. A store without it, of version 0.1.0, is read as before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from ..problems import ProblemSet, chat_prompts
from ..store.store import PassRateStore


# Hidden, so that `datasets.load_dataset(STORE)` reads the shards only.
_FILE = ".problems.parquet"
_SETTINGS = b"prompt_settings"


def keep_problems(store: PassRateStore, problems: ProblemSet) -> None:
    """Write what a store does not know of problems yet; a disk that refuses it ends nothing."""
    path = store.path / _FILE
    known = pq.read_table(path) if path.exists() and store.shards() else None
    ids = pa.array(problems.ids, pa.string())
    if known is not None and pc.all(pc.is_in(ids, known["problem_id"].combine_chunks())).as_py():
        return
    settings = stored_prompt_settings(store.path)
    if settings is None and problems.prompt_settings is not None:
        known_hashes = set(store.generation_counts()["problem_hash"].to_pylist())
        # Else what the store holds is of other problems, whose settings nobody knows.
        if not known_hashes or known_hashes & set(problems.hashes):
            settings = _settings_of(problems)
    texts = {
        name: [json.dumps(value, ensure_ascii=False, default=str) for value in problems.dataset[name]]
        for name in ("prompt", "solution")
    }
    table = pa.table({"problem_id": ids, **texts})
    if known is not None:
        others = known.filter(pc.invert(pc.is_in(known["problem_id"], ids)))
        table = pa.concat_tables([others, table.cast(others.schema)])
    table = table.replace_schema_metadata(None if settings is None else {_SETTINGS: json.dumps(settings)})
    temporary = store.path / f"{_FILE}.{os.getpid()}.tmp"
    try:
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)


def read_problems(store: PassRateStore, problem_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return `prompt` and `solution` by `problem_id`, of those that the store, or the file beside it, knows."""
    rows: list[dict[str, Any]] = []
    wanted = pc.field("problem_id").isin(pa.array(list(problem_ids), pa.string()))
    columns = ["problem_id", "prompt", "solution"]
    # Of a store made by version 0.1.0, `estimate` and `evaluate` wrote the problems beside it.
    evaluated = store.path.name.removesuffix("_completions")
    beside = store.path.with_name(f"{evaluated}_problems.parquet")
    if evaluated == store.path.name:
        beside = store.path.with_suffix(".parquet")
    if (store.path / _FILE).exists():
        for row in pq.read_table(store.path / _FILE, columns=columns, filters=wanted).to_pylist():
            rows.append({"problem_id": row.pop("problem_id")} | {name: json.loads(text) for name, text in row.items()})
    elif beside.is_file() and set(columns) <= set(pq.read_schema(beside).names):
        rows = pq.read_table(beside, columns=columns, filters=wanted).to_pylist()
    return {row["problem_id"]: row for row in rows}


def stored_prompt_settings(path: Path) -> dict[str, Any] | None:
    """Return the settings that shaped the prompts of a store, None where it does not say or holds nothing yet."""
    file = path / _FILE
    is_begun = (path / "manifest.json").exists() and bool(PassRateStore(path).shards())
    metadata = pq.read_schema(file).metadata or {} if file.exists() and is_begun else {}
    return json.loads(metadata[_SETTINGS]) if _SETTINGS in metadata else None


def check_prompt_settings(store: PassRateStore, problems: ProblemSet) -> None:
    """Refuse problems whose prompts were shaped by other settings than those of the store."""
    stored = stored_prompt_settings(store.path)
    if stored is None or problems.prompt_settings is None:
        return
    now = _settings_of(problems)
    differing = [
        f"\n  `{name}` was {stored.get(name)!r} and is {now.get(name)!r} now (`--{name}`)"
        for name in sorted(stored.keys() | now.keys())
        if stored.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError(
            f"The store {str(store.path)!r} was filled with other prompt settings, and completions of other prompts "
            f"are not mixed:{''.join(differing)}\nUse the settings of the store, or another directory."
        )


def settle_as_chat(problems: Dataset, *, has_chat_template: bool, store: Path | None) -> bool:
    """Whether text prompts, as they were loaded, become user messages where `as_chat` is "auto"."""
    # What a store holds decides, so that it is continued as it was begun, also one of version 0.1.0, whose default was
    # text; then whether the tokenizer has a chat template.
    if not all(isinstance(prompt, str) for prompt in problems["prompt"]):
        return False
    if store is None:
        return has_chat_template
    stored = stored_prompt_settings(store)
    if stored is not None:
        return bool(stored.get("as_chat"))
    if (store / "manifest.json").exists():
        known = set(PassRateStore(store).generation_counts()["problem_hash"].to_pylist())
        if known & set(ProblemSet(problems).hashes):
            return False
        if known & set(ProblemSet(chat_prompts(problems)).hashes):
            return True
    return has_chat_template


def _settings_of(problems: ProblemSet) -> dict[str, Any]:
    is_chat = any(isinstance(prompt, list) for prompt in problems.dataset["prompt"])
    return {"as_chat": is_chat, **(problems.prompt_settings or {})}
