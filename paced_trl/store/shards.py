"""
Shards: the Parquet files of a store, each complete on disk or not there at all.

The columns of a row, and how shards are checked, written, listed and read.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..run_directory import publish
from ..verification.verdict import Verdict


SCHEMA = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("generation_index", pa.int32(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        # Ties a row to its problem's text: a user's `problem_id` that now means another problem is noticed.
        pa.field("problem_hash", pa.string()),
    ]
)
VERDICTS = tuple(verdict.value for verdict in Verdict)
# All but the text, beside which they are small: what counting needs.
NUMBERS = tuple(name for name in SCHEMA.names if name != "completion")
_ENCODED = ["problem_id", "finish_reason", "verdict", "problem_hash"]
READ_ERRORS = (pa.ArrowException, OSError, KeyError)
_SHARD_NAME = re.compile(r"(\d{6,})-[0-9a-f]{8}\.parquet")


def as_shard(rows: Sequence[dict[str, Any]] | pa.Table) -> pa.Table:
    """Bring rows into exactly `SCHEMA`; refuse a missing column, a wrong type and an unknown verdict."""
    try:
        if isinstance(rows, pa.Table):
            table = rows.select(SCHEMA.names).cast(SCHEMA)
        else:
            table = pa.Table.from_pylist([_storable(row) for row in rows], schema=SCHEMA)
        table.validate(full=True)
        missing = [f.name for f in SCHEMA if not f.nullable and table[f.name].null_count]
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
        raise ValueError(f"Cannot store {len(rows)} rows, because a value has the wrong type: {error}.") from error
    if missing:
        raise ValueError(f"Cannot store {len(rows)} rows, because column `{missing[0]}` is missing in one of them.")
    unknown = set(pc.unique(table["verdict"]).to_pylist()) - set(VERDICTS)
    if unknown:
        raise ValueError(f"Cannot store the verdict {unknown.pop()!r}: a verdict is one of {', '.join(VERDICTS)}.")
    return table


def shard_paths(directory: Path) -> list[Path]:
    """Return the paths of a directory's shards in the order in which they were written."""
    return sorted(path for path in directory.glob("*.parquet") if _SHARD_NAME.fullmatch(path.name))


def write_shard(table: pa.Table, directory: Path) -> None:
    """Write a table of `SCHEMA` as the directory's next shard; nothing of it is left where that fails."""
    paths = shard_paths(directory)
    number = max((int(path.name.partition("-")[0]) for path in paths), default=-1) + 1
    # The random part keeps names apart when shards of several stores come together.
    name = f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
    temporary = directory / f".{name}.tmp"
    try:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        publish(temporary, directory / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # before what is free is measured
        free = shutil.disk_usage(directory).free / 2**20
        described = OSError(
            f"{len(table)} completions could not be written to {str(directory)!r}, where {free:,.1f} MiB are free: "
            f"{str(error).rstrip('.')}. Make room, or mend what else it names, and run the same command again: all "
            "earlier completions are kept."
        )
        described.errno = error.errno
        raise described from error
    finally:
        temporary.unlink(missing_ok=True)


def read_shard(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a shard, checking checksums; `READ_ERRORS` say that it is not whole. Short texts are encoded."""
    # Half the time of `pyarrow.parquet.read_table`, which matters for thousands of small shards.
    with pq.ParquetFile(path, read_dictionary=_ENCODED, page_checksum_verification=True) as file:
        return file.read(columns=list(columns), use_threads=False).select(columns)


def first_line(error: BaseException) -> str:
    """Return an error in one line: some of Arrow's have many."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _storable(row: dict[str, Any]) -> dict[str, Any]:
    """Replace lone surrogates, which some servers emit and UTF-8 has no bytes for: one of them must not end a run."""
    text = row.get("completion")
    if isinstance(text, str) and not text.isascii():
        return {**row, "completion": text.encode("utf-8", "replace").decode("utf-8")}
    return row
