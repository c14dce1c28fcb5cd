"""
What is in a store, for a person: settings, numbers, what is wrong with it, and completions with their problems.

Describes only: it changes nothing, takes no lock, and can look at a store that is being written.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..store.counts import OncePerGeneration
from ..store.manifest import dotted
from ..store.shards import NUMBERS, READ_ERRORS, VERDICTS, first_line, read_shard
from ..store.store import PassRateStore
from ..text import in_percent, one_line, printable
from ..verification.check import Check
from ..verification.verifier import make_check
from .pass_rates import read_pass_rates
from .stored_problems import read_problems
from .summary import bars, summarize_pass_rates


_MAX_BARS = 16
_MAX_VALUE = 97
_MAX_TEXT = 600


@dataclass(frozen=True)
class StoreContents:
    """Numbers of a store; corrupt shards are named, with what is wrong with them, and not counted."""

    num_shards: int
    corrupt_shards: dict[str, str]
    unreadable_texts: dict[str, str]
    """Shards that are whole but for the text of their completions."""
    problems_by_generations: dict[int, int]
    """How many problems have so many completions."""
    num_tokens: int
    num_clipped: int
    """Completions that were cut off at the length limit."""
    num_repeated: int
    """Rows of generations that another row has."""

    @property
    def num_problems(self) -> int:
        """Problems with a completion."""
        return sum(self.problems_by_generations.values())

    @property
    def num_completions(self) -> int:
        """Completions of all problems."""
        return sum(generations * problems for generations, problems in self.problems_by_generations.items())


def find_store(path: str | os.PathLike[str]) -> PassRateStore:
    """Open a store, or that of a run directory: its pass rates, else the only one it has."""
    directory = Path(path)
    if not directory.exists():
        raise FileNotFoundError(
            f"There is no directory {str(path)!r}. Check the path; relative paths start at {Path.cwd()}."
        )
    if (directory / "manifest.json").exists():
        return PassRateStore(directory)
    stores = sorted(found.parent for found in directory.rglob("manifest.json") if (found.parent / "shards").is_dir())
    if directory / "pass_rates" in stores:
        return PassRateStore(directory / "pass_rates")
    if len(stores) != 1:
        listed = "".join(f"\n  {store}" for store in stores)
        raise ValueError(
            f"{str(path)!r} is no store and has none below it. Name a directory that `estimate` or `train` wrote."
            if not stores
            else f"{str(path)!r} has no pass rates, and {len(stores)} stores below it. Name one of them:{listed}"
        )
    return PassRateStore(stores[0])


def store_contents(store: PassRateStore) -> StoreContents:
    """Read every shard whole, text included, so that a corrupt one is found wherever it is broken."""
    corrupt: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    generations: Counter[str] = Counter()
    num_tokens = num_clipped = num_repeated = 0
    once, paths = OncePerGeneration(), store.shards()
    for path in paths:
        try:
            rows = read_shard(path, NUMBERS)
        except READ_ERRORS as error:
            corrupt[str(path)] = first_line(error)
            continue
        try:
            read_shard(path, ["completion"])
        except READ_ERRORS as error:
            unreadable[str(path)] = first_line(error)
        table = once(rows)
        num_repeated += len(rows) - len(table)
        for entry in pc.value_counts(table["problem_id"]).to_pylist():
            generations[entry["values"]] += entry["counts"]
        num_tokens += pc.sum(table["num_tokens"]).as_py() or 0
        num_clipped += pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0
    by_generations = dict(sorted(Counter(generations.values()).items()))
    return StoreContents(len(paths), corrupt, unreadable, by_generations, num_tokens, num_clipped, num_repeated)


def describe_store(store: PassRateStore) -> str:
    """Describe a store: who writes to it, its settings and numbers, what is corrupt, and its pass rates."""
    contents = store_contents(store)
    holder = store.lock_holder()
    lines = [
        f"Store {store.path}",
        f"  being written by process {holder}" if holder else "  nobody is writing",
        "",
        "Made under",
        *(f"  {name}: {one_line(value, _MAX_VALUE)}" for name, value in dotted(store.record).items()),
        "",
        f"{contents.num_completions:,} completions of {contents.num_problems:,} problems in "
        f"{contents.num_shards - len(contents.corrupt_shards):,} shards",
    ]
    if contents.num_completions:
        lines.append(
            f"{contents.num_tokens:,} tokens, {contents.num_tokens / contents.num_completions:.1f} per completion; "
            f"{contents.num_clipped:,} completions cut off "
            f"({in_percent(contents.num_clipped / contents.num_completions)})"
        )
    if contents.corrupt_shards:
        lines += ["", f"Corrupt shards, counted as not generated: {len(contents.corrupt_shards)}"]
        lines += [f"  {path}: {reason}" for path, reason in contents.corrupt_shards.items()]
        lines.append("  Restore them from a copy or delete them; the next estimation generates what is missing.")
    if contents.unreadable_texts:
        lines += ["", f"Shards without their text, whose verdicts count: {len(contents.unreadable_texts)}"]
        lines += [f"  {path}: {reason}" for path, reason in contents.unreadable_texts.items()]
        lines.append("  Restore them from a copy; or delete them, and the next run generates their completions anew.")
    if contents.num_repeated:
        lines += ["", f"{contents.num_repeated:,} completions lie here more than once, and count once."]
    if not contents.num_completions:
        return "\n".join(lines)
    lines += ["", "Completions per problem", *_generations(contents.problems_by_generations), ""]
    with warnings.catch_warnings():
        # Corrupt shards are listed above.
        warnings.filterwarnings("ignore", message="The shard .* cannot be read", category=UserWarning)
        ids = store.counts()["problem_id"].to_pylist()
        table = read_pass_rates([{"problem_id": problem_id} for problem_id in ids], store)
    return "\n".join([*lines, summarize_pass_rates(table)])


def describe_completions(
    store: PassRateStore, problem_id: str | None = None, verdict: str | None = None, *, max_completions: int = 10
) -> str:
    """Show stored completions of a problem, or all, with a verdict, or any: problem, gold, what was read, text."""
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
    problems = read_problems(store, {row["problem_id"] for row in rows})
    check = _check_of(store.record)
    blocks = []  # control characters are escaped, so that a completion cannot command the terminal
    for row in rows:
        about = f"{row['verdict']}, {row['num_tokens']} tokens, finish reason {row['finish_reason']}"
        known = _what_is_known(problems.get(row["problem_id"]), row["completion"], check)
        text = textwrap.indent(printable(row["completion"]), "  ", lambda line: True)
        blocks.append("\n".join([f"{printable(row['problem_id'])} #{row['generation_index']}: {about}", *known, text]))
    return "\n\n".join([*blocks, f"{len(rows)} of {total} completions shown."])


def _what_is_known(problem: dict[str, Any] | None, completion: str, check: Check | None) -> list[str]:
    """Return lines about a completion: its problem, the gold and what the verifier read of either."""
    lines = []
    if problem is not None:
        prompt, earlier = problem["prompt"], ""
        if isinstance(prompt, list):
            earlier = f" (after {len(prompt) - 1} earlier messages)" if len(prompt) > 1 else ""
            prompt = prompt[-1].get("content")
        gold = one_line(problem["solution"], _MAX_TEXT)
        read = None if check is None else check.stated_gold(problem["solution"])
        lines += [f"  problem{earlier}: {one_line(prompt, _MAX_TEXT)}"]
        lines += [f"  gold: {gold}" + ("" if read in (None, gold) else f", read as {one_line(read, _MAX_TEXT)}")]
    if check is not None and type(check).stated is not Check.stated:
        answer = check.stated(completion)
        lines.append(f"  the verifier read: {'no answer' if answer is None else one_line(answer, _MAX_TEXT)}")
    return [*lines, "  completion:"] if lines else []


def _check_of(record: dict[str, Any]) -> Check | None:
    """Return the check of the verifier that judged a store, None where it cannot be made here."""
    verifier = record.get("verifier") or {}
    try:
        return make_check(verifier["name"], verifier.get("options") or {})
    except (KeyError, TypeError, ValueError, ImportError):
        return None


def _generations(counts: dict[int, int]) -> list[str]:
    if len(counts) > _MAX_BARS:
        values = np.repeat(list(counts), list(counts.values()))
        return [f"  from {values.min()} to {values.max()}, median {np.median(values):g}, mean {values.mean():.1f}"]
    return bars(counts)
