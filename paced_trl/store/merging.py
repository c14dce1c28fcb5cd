"""
Stores made apart, brought together: problems of several machines, or many small shards written as few.

Responsible for one rule: a generation, that is a problem id with a generation index, is in the result once. Stores are
merged only under equal records, seed included, so the same generation in two of them is the same draw. Where its text
or verdict differs all the same (another GPU, a check that timed out on one machine), the first store in the order
given wins, and the others' rows are counted and left out. Knows nothing of what a record means. Not part of the paper.

Text is held for one shard and one buffer at a time; of the rest, 16 bytes per generation and every problem id.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .manifest import differing_fields
from .shards import SCHEMA
from .store import PassRateStore


# Of completions' text and numbers: large enough that counting opens few files, small enough to hold.
_BYTES_PER_SHARD = 64 * 2**20
_ROWS_PER_SHARD = 2**17
_MIN_RECENT = 2**18

Keys = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MergeCounts:
    """
    What a merge did with the completions of its sources.

    Args:
        added (`int`): Completions that the destination did not have.
        known (`int`): Completions that it had already, with the same text and verdict.
        contradicting (`int`): Completions that it had already with another text or verdict; its own are kept.
    """

    added: int = 0
    known: int = 0
    contradicting: int = 0


def merge_stores(
    sources: Sequence[PassRateStore | str | os.PathLike[str]], destination: PassRateStore | str | os.PathLike[str]
) -> MergeCounts:
    """
    Bring the completions of several stores into one, each generation once.

    The sources are read and never changed. Of a generation that several stores have, the destination's own comes
    first, then the first source's. After a kill the same call goes on, and its result is that of an uninterrupted one.

    Example:

    ```python
    >>> merge_stores(["runs/node-0/pass_rates", "runs/node-1/pass_rates"], "runs/all/pass_rates")
    MergeCounts(added=16000, known=0, contradicting=0)
    ```

    Args:
        sources (`list` of [`PassRateStore`], `str` or `Path`):
            Stores with equal records. Corrupt shards are named in a warning and left out.
        destination ([`PassRateStore`], `str` or `Path`):
            Created if it does not exist. One that exists must have the same record, and keeps what it has.

    Returns:
        [`MergeCounts`]: Numbers of completions.

    Raises:
        FileNotFoundError: If a source is no store.
        ValueError: If there is no source, one of them is the destination, a field of two records differs, or one
            problem id stands for different problems; nothing has been copied then.
        StoreLockedError: If another process writes to the destination.
        OSError: If the destination cannot be written.
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
    with destination.writing():
        _refuse_other_problems([destination, *opened])
        return _copy(opened, destination)


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
    """Refuse a problem id with more than one hash, before anything is copied."""
    columns = ["problem_id", "problem_hash"]
    seen = SCHEMA.empty_table().select(columns)
    for store in stores:
        parts = [table.group_by(columns, use_threads=False).aggregate([]) for table in store.read(columns)]
        seen = pa.concat_tables([seen, *parts]).group_by(columns, use_threads=False).aggregate([])
    seen = seen.filter(pc.is_valid(seen["problem_hash"]))
    per_problem = seen.group_by("problem_id", use_threads=False).aggregate([([], "count_all")])
    ambiguous = per_problem.filter(pc.greater(per_problem["count_all"], 1))["problem_id"]
    if len(ambiguous):
        first = ambiguous[0].as_py()
        holders = [str(s.path) for s in stores if len(s.completions([first], columns=["problem_id"]))]
        raise ValueError(
            f"`problem_id` {first!r} stands for different problems in {', '.join(map(repr, holders))}"
            f" ({len(ambiguous)} such ids): their completions cannot be counted together. Give the problems ids that "
            "change with their text (leave `problem_id` out and they do), and measure them again."
        )


def _copy(sources: Sequence[PassRateStore], destination: PassRateStore) -> MergeCounts:
    generations = _Generations()
    for table in destination.read(SCHEMA.names):
        generations.classify(table)
    new: list[pa.Table] = []
    added = known = contradicting = 0
    for source in sources:
        for table in source.read(SCHEMA.names):
            for part in _slices(table):
                is_new, is_same = generations.classify(part)
                new.append(part.filter(pa.array(is_new)))
                added += int(is_new.sum())
                known += int(is_same.sum())
                contradicting += int((~is_new & ~is_same).sum())
                if sum(map(len, new)) >= _ROWS_PER_SHARD or sum(t.nbytes for t in new) >= _BYTES_PER_SHARD:
                    destination.append(pa.concat_tables(new))
                    new = []
    if new:
        destination.append(pa.concat_tables(new))
    return MergeCounts(added, known, contradicting)


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a shard in parts, so that a shard written by a merge does not double in the next one."""
    for start in range(0, len(table), _ROWS_PER_SHARD // 8):
        yield table.slice(start, _ROWS_PER_SHARD // 8)


class _Generations:
    """The generations that are in the destination: a key for each, and a digest of its text and verdict."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        # Sorted by key; new keys wait in `_recent` until sorting them in is worth while.
        self._keys: Keys = np.zeros(0, np.int64)
        self._digests: Digests = np.zeros(0, np.uint64)
        self._recent: dict[int, int] = {}

    def classify(self, table: pa.Table) -> tuple[Mask, Mask]:
        """Return which rows are new, and which are there already with the same content; remember the new ones."""
        keys, digests = self._keys_of(table), _digests_of(table)
        is_new, is_same = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
        positions = np.searchsorted(self._keys, keys)
        inside = np.flatnonzero(positions < len(self._keys))
        hits = inside[self._keys[positions[inside]] == keys[inside]]
        is_same[hits] = self._digests[positions[hits]] == digests[hits]
        is_unsorted = np.ones(len(keys), np.bool_)
        is_unsorted[hits] = False
        for row in np.flatnonzero(is_unsorted).tolist():
            key, digest = int(keys[row]), int(digests[row])
            is_new[row] = key not in self._recent
            is_same[row] = not is_new[row] and self._recent[key] == digest
            self._recent.setdefault(key, digest)
        if len(self._recent) > max(_MIN_RECENT, len(self._keys) // 8):
            self._sort_in()
        return is_new, is_same

    def _sort_in(self) -> None:
        keys = np.concatenate([self._keys, np.fromiter(self._recent.keys(), np.int64)])
        digests = np.concatenate([self._digests, np.fromiter(self._recent.values(), np.uint64)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._digests, self._recent = keys[order], digests[order], {}

    def _keys_of(self, table: pa.Table) -> Keys:
        encoded = table["problem_id"].combine_chunks().dictionary_encode()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in encoded.dictionary.to_pylist()]
        problems = np.array(numbers, np.int64)[encoded.indices.to_numpy()]
        return (problems << 32) | table["generation_index"].to_numpy().astype(np.uint32)


def _digests_of(table: pa.Table) -> Digests:
    rows = zip(table["verdict"].to_pylist(), table["completion"].to_pylist(), strict=True)
    digests = [hashlib.blake2b(f"{verdict} {text}".encode(), digest_size=8).digest() for verdict, text in rows]
    return np.frombuffer(b"".join(digests), np.uint64)
