"""
Shards: the Parquet files of a store, each complete on disk or not there at all.

Responsible for the columns of a row, for checking rows before they are written, and for writing, listing and reading
files. Knows nothing of records, locks and who else writes: that is for the store (`store.py`). The format is ours.
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
READ_ERRORS = (pa.ArrowException, OSError, KeyError)
_SHARD_NAME = re.compile(r"(\d{6,})-[0-9a-f]{8}\.parquet")


def as_shard(rows: Sequence[dict[str, Any]] | pa.Table) -> pa.Table:
    """
    Bring rows into the form in which they are stored.

    Args:
        rows (`Sequence[dict]` or `pyarrow.Table`):
            Completions with the columns of `SCHEMA`; `problem_hash` may be left out of dicts.

    Returns:
        `pyarrow.Table`: The rows with exactly `SCHEMA`.

    Raises:
        ValueError: If a column is missing, has the wrong type or an unknown verdict.
    """
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
    """
    Write a table of `SCHEMA` as the directory's next shard.

    Raises:
        OSError: If it cannot be written, such as on a full disk; nothing of it is left then.
    """
    paths = shard_paths(directory)
    number = max((int(path.name.partition("-")[0]) for path in paths), default=-1) + 1
    # The random part keeps names apart when shards of several stores come together.
    name = f"{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
    temporary = directory / f".{name}.tmp"
    try:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        publish(temporary, directory / name)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _write_error(error, directory, len(table)) from error
        raise


def _write_error(error: OSError, directory: Path, num_rows: int) -> OSError:
    free = shutil.disk_usage(directory).free / 2**20
    described = OSError(
        f"{num_rows} completions could not be written to {str(directory)!r}, where {free:,.1f} MiB are free: "
        f"{str(error).rstrip('.')}. Make room, or mend what else it names, and run the same command again: all "
        "earlier completions are kept."
    )
    described.errno = error.errno
    return described


def read_shard(
    path: Path, columns: Sequence[str], filters: pc.Expression | None = None, *, dictionaries: Sequence[str] = ()
) -> pa.Table:
    """
    Read some columns of a shard, checking the checksums of what is read.

    Args:
        path (`Path`):
            The shard.
        columns (`Sequence[str]`):
            Columns of `SCHEMA`.
        filters (`pyarrow.compute.Expression`, *optional*):
            Which rows to keep. `None` keeps all.
        dictionaries (`Sequence[str]`, *optional*):
            Columns to return dictionary-encoded, as they are stored; only without `filters`.

    Raises:
        pyarrow.ArrowException, OSError, KeyError: If the file is not a whole shard (`READ_ERRORS`).
    """
    if filters is not None:
        table = pq.read_table(
            path, columns=list(columns), filters=filters, partitioning=None, page_checksum_verification=True
        )
        return table.select(columns)
    # Half the time of `read_table`, which matters for thousands of small shards.
    with pq.ParquetFile(path, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
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
