"""
Stores made apart, brought together: problems of several machines in one store, each generation once.

Stores are merged only under equal records, seed included, so the same generation in two of them is the same draw.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from .counts import OncePerGeneration
from .manifest import differing_fields
from .shards import SCHEMA
from .store import PassRateStore


@dataclass(frozen=True)
class MergeCounts:
    """How many completions of the sources the destination did not have, and how many it had already."""

    added: int = 0
    known: int = 0


def merge_stores(
    sources: Sequence[PassRateStore | str | os.PathLike[str]], destination: PassRateStore | str | os.PathLike[str]
) -> MergeCounts:
    """
    Add to a store, new or not, the completions of others that it does not have; after a kill the same call goes on.

    Of a generation that several stores have, the destination's own is kept, then the first source's.
    """
    opened = [source if isinstance(source, PassRateStore) else PassRateStore(source) for source in sources]
    if not opened:
        raise ValueError("No store to merge was given. Name at least one.")
    path = destination.path if isinstance(destination, PassRateStore) else destination
    for store in opened:
        if os.path.realpath(store.path) == os.path.realpath(path):
            raise ValueError(
                f"{str(path)!r} is the destination and a source. Leave it out of the sources: a destination keeps "
                "what it has."
            )
        _refuse_other_record(opened[0], store)
    if not isinstance(destination, PassRateStore):
        is_new = not os.path.exists(os.path.join(destination, "manifest.json"))
        destination = PassRateStore(destination, opened[0].record if is_new else None)
    _refuse_other_record(destination, opened[0])
    added = known = 0
    with destination.writing():
        _refuse_other_problems([destination, *opened])
        once = OncePerGeneration()
        for table in destination.read([]):
            once(table)
        for table in (table for source in opened for table in source.read(SCHEMA.names)):
            new = once(table)
            destination.append(new)
            added, known = added + len(new), known + len(table) - len(new)
    return MergeCounts(added, known)


def _refuse_other_record(first: PassRateStore, second: PassRateStore) -> None:
    differing = differing_fields(first.record, second.record)
    if differing:
        lines = [f"  {name}: {a} in {str(first.path)!r}, {b} in {str(second.path)!r}" for name, a, b in differing]
        raise ValueError(
            "Completions made under different settings are not mixed, and these stores differ:\n"
            + "\n".join(lines)
            + "\nMerge only stores of one model, verifier, sampling and seed."
        )


def _refuse_other_problems(stores: Sequence[PassRateStore]) -> None:
    """Refuse a problem id with more than one hash."""
    known = pa.concat_tables(store.generation_counts().select(["problem_id", "problem_hash"]) for store in stores)
    known = known.filter(pc.is_valid(known["problem_hash"]))
    hashes = known.group_by("problem_id", use_threads=False).aggregate([("problem_hash", "count_distinct")])
    ambiguous = hashes.filter(pc.greater(hashes["problem_hash_count_distinct"], 1))["problem_id"]
    if len(ambiguous):
        first = ambiguous[0].as_py()
        holders = [str(store.path) for store in stores if first in store.num_generations()]
        raise ValueError(
            f"`problem_id` {first!r} stands for different problems in {', '.join(map(repr, holders))}"
            f" ({len(ambiguous)} such ids): their completions cannot be counted together. Give the problems ids that "
            "change with their text (leave `problem_id` out and they do), and measure them again."
        )
