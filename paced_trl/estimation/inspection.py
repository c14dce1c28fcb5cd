"""
What is in a store, for a person: settings, numbers, what is wrong with it, and the completions themselves.

Responsible for describing; changes nothing, takes no lock, and can look at a store that is being written. What the
numbers mean is for the modules that made them. Not part of the paper.
"""

from __future__ import annotations

import json
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..store.shards import READ_ERRORS, SCHEMA, VERDICTS, first_line, read_shard
from ..store.store import PassRateStore
from .pass_rates import read_pass_rates
from .summary import summarize_pass_rates


_BAR_WIDTH = 40
_MAX_BARS = 16
_MAX_VALUE = 100


@dataclass(frozen=True)
class StoreContents:
    """
    Numbers of a store.

    Args:
        num_shards (`int`): Files, corrupt ones included.
        corrupt_shards (`dict[str, str]`): What is wrong with the files that cannot be read, by path.
        problems_by_generations (`dict[int, int]`): How many problems have so many completions.
        num_tokens (`int`): Tokens of all completions.
        num_clipped (`int`): Completions that were cut off at the length limit.
    """

    num_shards: int
    corrupt_shards: dict[str, str]
    problems_by_generations: dict[int, int]
    num_tokens: int
    num_clipped: int

    @property
    def num_problems(self) -> int:
        """Problems with a completion."""
        return sum(self.problems_by_generations.values())

    @property
    def num_completions(self) -> int:
        """Completions of all problems."""
        return sum(generations * problems for generations, problems in self.problems_by_generations.items())


def store_contents(store: PassRateStore) -> StoreContents:
    """
    Read every shard whole, text included, so that a corrupt one is found wherever it is broken.

    Args:
        store ([`PassRateStore`]):
            The store.

    Returns:
        [`StoreContents`]: Its numbers; corrupt shards are named and not counted.
    """
    corrupt: dict[str, str] = {}
    generations: Counter[str] = Counter()
    num_tokens = num_clipped = 0
    paths = store.shards()
    for path in paths:
        try:
            table = read_shard(path, SCHEMA.names)
        except READ_ERRORS as error:
            corrupt[str(path)] = first_line(error)
            continue
        for entry in pc.value_counts(table["problem_id"]).to_pylist():
            generations[entry["values"]] += entry["counts"]
        num_tokens += pc.sum(table["num_tokens"]).as_py() or 0
        num_clipped += pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0
    by_generations = dict(sorted(Counter(generations.values()).items()))
    return StoreContents(len(paths), corrupt, by_generations, num_tokens, num_clipped)


def describe_store(store: PassRateStore) -> str:
    """
    Describe a store for a person.

    Args:
        store ([`PassRateStore`]):
            The store.

    Returns:
        `str`: Who writes to it, the settings it was made under, its numbers, corrupt shards, generations per problem,
        and the pass rates with the counts of verdicts ([`summarize_pass_rates`]).
    """
    contents = store_contents(store)
    holder = store.lock_holder()
    lines = [
        f"Store {store.path}",
        f"  being written by process {holder}" if holder else "  nobody is writing",
        "",
        "Made under",
        *(f"  {name}: {_shortened(value)}" for name, value in _flattened(store.record)),
        "",
        f"{contents.num_completions:,} completions of {contents.num_problems:,} problems in "
        f"{contents.num_shards - len(contents.corrupt_shards):,} shards",
    ]
    if contents.num_completions:
        lines.append(
            f"{contents.num_tokens:,} tokens, {contents.num_tokens / contents.num_completions:.1f} per completion; "
            f"{contents.num_clipped:,} completions cut off ({contents.num_clipped / contents.num_completions:.1%})"
        )
    if contents.corrupt_shards:
        lines += ["", f"Corrupt shards, counted as not generated: {len(contents.corrupt_shards)}"]
        lines += [f"  {path}: {reason}" for path, reason in contents.corrupt_shards.items()]
        lines.append("  Restore them from a copy or delete them; the next estimation generates what is missing.")
    if not contents.num_completions:
        return "\n".join(lines)
    lines += ["", "Completions per problem", *_bars(contents.problems_by_generations), ""]
    with warnings.catch_warnings():
        # Corrupt shards are listed above.
        warnings.filterwarnings("ignore", message="The shard .* cannot be read", category=UserWarning)
        ids = store.counts()["problem_id"].to_pylist()
        table = read_pass_rates([{"problem_id": problem_id} for problem_id in ids], store)
    return "\n".join([*lines, summarize_pass_rates(table)])


def describe_completions(
    store: PassRateStore, problem_id: str | None = None, verdict: str | None = None, *, max_completions: int = 10
) -> str:
    """
    Show stored completions with their verdicts, such as those on which the verifier failed.

    Args:
        store ([`PassRateStore`]):
            The store.
        problem_id (`str`, *optional*):
            Problem to show. `None` shows all.
        verdict (`str`, *optional*):
            Verdict to show, such as `"timeout"`. `None` shows all.
        max_completions (`int`, *optional*, defaults to `10`):
            How many to show.

    Returns:
        `str`: Per completion a line with problem, generation index, verdict, tokens and finish reason, then the text;
        control characters are escaped, so that a completion cannot command the terminal.

    Raises:
        ValueError: If `max_completions` is below 1, or the store does not have the problem.
    """
    if max_completions < 1:
        raise ValueError(f"`max_completions` is {max_completions}, so there is nothing to show. Give at least 1.")
    counts = store.counts()
    if problem_id is not None:
        counts = counts.filter(pc.equal(counts["problem_id"], problem_id))
        if not len(counts):
            raise ValueError(
                f"The store {str(store.path)!r} has no completions for `problem_id` {problem_id!r}. "
                f"`paced-trl inspect {store.path} --max_completions 1` shows what its ids look like."
            )
    total = sum(pc.sum(counts[f"num_{name}"]).as_py() or 0 for name in ([verdict] if verdict else VERDICTS))
    problem_ids = None if problem_id is None else [problem_id]
    rows = store.completions(problem_ids, verdict, max_completions=max_completions).to_pylist()
    blocks = []
    for row in rows:
        about = f"{row['verdict']}, {row['num_tokens']} tokens, finish reason {row['finish_reason']}"
        text = textwrap.indent(_printable(row["completion"]), "  ", lambda line: True)
        blocks.append(f"{_printable(row['problem_id'])} #{row['generation_index']}: {about}\n{text}")
    return "\n\n".join([*blocks, f"{len(rows)} of {total} completions shown."])


def _flattened(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a record with dotted names, as errors name them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flattened(inner, f"{name}.{key}" if name else key)
    else:
        yield name or "record", _printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _bars(counts: dict[int, int]) -> list[str]:
    if len(counts) > _MAX_BARS:
        values = np.repeat(list(counts), list(counts.values()))
        return [f"  from {values.min()} to {values.max()}, median {np.median(values):g}, mean {values.mean():.1f}"]
    scale, width = _BAR_WIDTH / max(counts.values()), len(str(max(counts)))
    return [
        f"  {number:>{width}} {'█' * max(round(count * scale), 1):<{_BAR_WIDTH}} {count}"
        for number, count in counts.items()
    ]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    line = text.replace("\n", "\\n")
    return line if len(line) <= _MAX_VALUE else f"{line[: _MAX_VALUE - 3]}..."
