"""
Counts per problem, from tables of stored rows.

Millions of rows are counted in seconds: ids stay the small numbers of their shard's dictionary until the shard is
counted, and of each generation eight bytes are held.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .shards import VERDICTS


Counts = npt.NDArray[np.int64]


class OncePerGeneration:
    """Keeps the first row of each generation: a shard may be copied, or restored beside what was generated for it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._highest: Counts = np.zeros(0, np.int64)
        self._keys: list[Counts] = []
        self._seen: set[int] | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows of a table with `problem_id` and `generation_index` that no earlier table or row has."""
        ids, indices = _encoded(table["problem_id"]), table["generation_index"].to_numpy()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in ids.dictionary.to_pylist()]
        problems = np.array(numbers, np.int64)[ids.indices.to_numpy()]
        self._highest = np.pad(self._highest, (0, len(self._numbers) - len(self._highest)), constant_values=-1)
        keys, rows = np.unique(problems << 32 | indices, return_index=True)
        # A run writes each problem's generations in ascending order, so that this holds of all rows, or nearly.
        is_new = indices[rows] > self._highest[problems[rows]]
        if not is_new.all():
            if self._seen is None:
                self._seen = set(np.concatenate(self._keys).tolist())
            is_new |= [key not in self._seen for key in keys.tolist()]
        keys, rows = keys[is_new], rows[is_new]
        np.maximum.at(self._highest, problems[rows], indices[rows])
        self._keys.append(keys)
        if self._seen is not None:
            self._seen.update(keys.tolist())
        return table if len(rows) == len(table) else table.take(np.sort(rows))


def count_generations(tables: Iterable[pa.Table]) -> pa.Table:
    """Count the rows of each problem in tables whose ids and hashes are dictionary-encoded."""
    parts = [
        pa.table([pa.array([], pa.string()), *[pa.array([], pa.int64())] * 2, pa.array([], pa.string())], _GENERATIONS)
    ]
    for table in tables:
        ids, hashes = _encoded(table["problem_id"]), _encoded(table["problem_hash"])
        problems, size = ids.indices.to_numpy(), len(ids.dictionary)
        generation_indices = table["generation_index"].to_numpy()
        # The highest is written last; several times faster than `np.maximum.at`.
        ascending = np.argsort(generation_indices)
        highest = np.full(size, -1, np.int64)
        highest[problems[ascending]] = generation_indices[ascending]
        # Any of a problem's rows will do: all have the same hash, or none.
        codes = np.full(size, -1, np.int64)
        row_codes = pc.fill_null(hashes.indices, -1).to_numpy()
        codes[problems[row_codes >= 0]] = row_codes[row_codes >= 0]
        hash_of_problem = hashes.dictionary.take(pa.array(codes, mask=codes < 0))
        counted = np.bincount(problems, minlength=size)
        parts.append(pa.table([ids.dictionary, counted, highest + 1, hash_of_problem], _GENERATIONS))
    sums = ["sum", "max", "max"]
    # One chunk: grouping works chunk by chunk, and shards are small for it.
    merged = pa.concat_tables(parts).combine_chunks().group_by("problem_id", use_threads=False)
    return merged.aggregate(list(zip(_GENERATIONS[1:], sums, strict=True))).rename_columns(_GENERATIONS)


def count_verdicts(tables: Iterable[pa.Table]) -> pa.Table:
    """Count the verdicts and tokens of each problem in tables whose ids and verdicts are dictionary-encoded."""
    ids, counts = [pa.array([], pa.string())], [np.zeros((0, len(VERDICTS) + 1), np.int64)]
    for table in tables:
        problems, verdicts = _encoded(table["problem_id"]), _encoded(table["verdict"])
        codes = pc.index_in(verdicts.dictionary, pa.array(VERDICTS)).to_numpy()
        cells = problems.indices.to_numpy() * len(VERDICTS) + codes[verdicts.indices.to_numpy()]
        size = len(problems.dictionary) * len(VERDICTS)
        ids.append(problems.dictionary)
        by_verdict = np.bincount(cells, minlength=size).reshape(-1, len(VERDICTS))
        # Exact: sums of tokens stay far below 2^53.
        tokens = np.bincount(cells, table["num_tokens"].to_numpy(), minlength=size).reshape(-1, len(VERDICTS))
        counts.append(np.column_stack([by_verdict, tokens.sum(axis=1).astype(np.int64)]))
    stacked = np.concatenate(counts)
    names = ["problem_id", *(f"num_{verdict}" for verdict in VERDICTS), "num_tokens"]
    wide = pa.table([pa.chunked_array(ids), *stacked.T.copy()], names).combine_chunks()
    summed = wide.group_by("problem_id", use_threads=False).aggregate([(name, "sum") for name in names[1:]])
    return summed.rename_columns(names)


def verdict_totals(counts: Any) -> dict[str, int]:
    """Return how many completions have each verdict, from a store's `counts()` or a dataset with such columns."""
    return {verdict: int(np.asarray(counts[f"num_{verdict}"][:]).sum()) for verdict in VERDICTS}


_GENERATIONS = ["problem_id", "num_generations", "next_generation_index", "problem_hash"]


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return a column as one array with one dictionary of strings."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    array = encoded.unify_dictionaries().combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
