"""
Counts per problem, from tables of stored rows.

Responsible for counting millions of rows in seconds without holding more than the counts. Knows nothing of where the
tables come from. The paper (arXiv 2603.11178) needs passes and generations per problem; the other counts are ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from .shards import VERDICTS


def count_generations(tables: Iterable[pa.Table]) -> pa.Table:
    """
    Count the rows of each problem.

    Args:
        tables (`Iterable[pyarrow.Table]`):
            Tables with `problem_id`, `generation_index` and `problem_hash`.

    Returns:
        `pyarrow.Table`: As [`PassRateStore.generation_counts`] returns it.
    """
    names = ["problem_id", "num_generations", "next_generation_index", "problem_hash"]
    parts = [
        table.group_by("problem_id", use_threads=False).aggregate(
            [([], "count_all"), ("generation_index", "max"), ("problem_hash", "max")]
        )
        for table in tables
    ]
    if not parts:
        empty = pa.array([], pa.int64())
        return pa.table([pa.array([], pa.string()), empty, empty, pa.array([], pa.string())], names=names)
    merged = pa.concat_tables(parts).rename_columns(["problem_id", "count", "index", "hash"])
    merged = merged.group_by("problem_id").aggregate([("count", "sum"), ("index", "max"), ("hash", "max")])
    following = pc.add(merged["index_max"].cast(pa.int64()), 1)
    return pa.table([merged["problem_id"], merged["count_sum"], following, merged["hash_max"]], names=names)


def count_verdicts(tables: Iterable[pa.Table]) -> pa.Table:
    """
    Count the verdicts of each problem.

    Args:
        tables (`Iterable[pyarrow.Table]`):
            Tables with `problem_id` and `verdict`.

    Returns:
        `pyarrow.Table`: As [`PassRateStore.counts`] returns it.
    """
    names = [f"num_{verdict}" for verdict in VERDICTS]
    parts = [
        table.group_by(["problem_id", "verdict"], use_threads=False).aggregate([([], "count_all")])
        for table in tables
    ]
    if not parts:
        return pa.table([pa.array([], pa.string()), *[pa.array([], pa.int64())] * len(names)], ["problem_id", *names])
    merged = pa.concat_tables(parts)
    columns = [pc.if_else(pc.equal(merged["verdict"], verdict), merged["count_all"], 0) for verdict in VERDICTS]
    wide = pa.table([merged["problem_id"], *columns], names=["problem_id", *names])
    summed = wide.group_by("problem_id").aggregate([(name, "sum") for name in names])
    return summed.select(["problem_id", *[f"{name}_sum" for name in names]]).rename_columns(wide.column_names)
