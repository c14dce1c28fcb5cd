"""
The pass-rate store: every completion with its verdict, on disk before anything depends on it.

Responsible for append-only Parquet shards, the lock that keeps a second writer out, and counting without reading
completion text. Under which settings a store was made is in its manifest (`manifest.py`). A directory looks like this:

    STORE/manifest.json                     the record of the settings, written once
    STORE/shards/000000-3f2a91c0.parquet    columns of `SCHEMA`, one row per completion
    STORE/.lock                             locked while a process writes; holds its process id

`datasets.load_dataset(STORE)`, `polars.read_parquet("STORE/shards/*.parquet")` and DuckDB read it as it lies.

Refuses to know what a pass rate is used for, how completions are made and how they are verified: a record is compared,
never interpreted. The paper (arXiv 2603.11178) needs the counts this module returns and nothing more.
"""

from __future__ import annotations

import os
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .manifest import as_json, differing_fields, publish, read_manifest, write_manifest
from .verification import Verdict


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
_SHARD_NAME = re.compile(r"(\d{6,})-[0-9a-f]{8}\.parquet")


class StoreLockedError(RuntimeError):
    """Another process writes to the store."""


class PassRateStore:
    """
    Append-only directory of completions and verdicts that belong to one record of settings.

    Example:

    ```python
    >>> store = PassRateStore("pass_rates/student", record={"generator": {"model": "student"}})
    >>> with store.writing():
    ...     store.append([{"problem_id": "a", "generation_index": 0, "completion": "4", "num_tokens": 2,
    ...                    "finish_reason": "stop", "verdict": "passed"}])
    >>> store.num_generations()
    {'a': 1}
    ```

    Args:
        path (`str` or `Path`):
            Directory of the store. Created if it is missing or empty and `record` is given.
        record (`dict`, *optional*):
            Every setting that the completions depend on, as JSON values. A store that exists must have the same
            record. `None` opens a store that exists, whatever its record.

    Raises:
        FileNotFoundError: If `record` is `None` and there is no store at `path`.
        ValueError: If `path` holds something else, a store of another record, or one written by a newer version.
        TypeError: If `record` holds a value that JSON has no form for.
    """

    def __init__(self, path: str | os.PathLike[str], record: dict[str, Any] | None = None):
        self.path = Path(path)
        self._lock_file: int | None = None
        if not self._manifest_path.exists():
            self._create(record)
        self.record: dict[str, Any] = read_manifest(self._manifest_path)
        if record is not None:
            self.check_record(record)

    @property
    def _manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def _shard_directory(self) -> Path:
        return self.path / "shards"

    def _create(self, record: dict[str, Any] | None) -> None:
        if record is None:
            raise FileNotFoundError(
                f"There is no pass-rate store at {str(self.path)!r}: it has no `manifest.json`. Give the path of a "
                "store, or run the estimation that creates it."
            )
        # `.lock` and an empty `shards/` are what a process killed while it created the store leaves behind.
        if self.path.is_file() or (self.path.is_dir() and not _is_vacant(self.path)):
            raise ValueError(
                f"{str(self.path)!r} exists and is not a pass-rate store: it has no `manifest.json`. Give a new or "
                "empty directory."
            )
        as_json(record)
        self._shard_directory.mkdir(parents=True, exist_ok=True)
        with self.writing():
            if not self._manifest_path.exists():
                write_manifest(self._manifest_path, record)

    def check_record(self, record: dict[str, Any]) -> None:
        """
        Refuse a record that differs from the store's.

        Args:
            record (`dict`):
                The settings that are about to be used.

        Raises:
            ValueError: If a field differs; the message names each with both values.
        """
        differing = differing_fields(self.record, as_json(record))
        if differing:
            lines = [f"  {name}: {old} in the store, {new} now" for name, old, new in differing]
            raise ValueError(
                f"The store {str(self.path)!r} was written with other settings, and completions made under different "
                "settings are not mixed:\n" + "\n".join(lines) + "\nUse the settings of the store, or give another "
                "directory."
            )

    @contextmanager
    def writing(self) -> Iterator[PassRateStore]:
        """
        Hold the store's lock, so that no other process appends.

        The lock is the kernel's (`flock`): it is released when the process ends, however it ends.

        Raises:
            StoreLockedError: If another process, or another object of this one, is writing; the message names which.
        """
        import fcntl

        lock_file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock_file, 64, 0).decode(errors="replace").strip() or "unknown"
                raise StoreLockedError(
                    f"The store {str(self.path)!r} is being written by process {holder}: two writers would generate "
                    "the same completions twice. Wait until it ends, or end it."
                ) from None
            os.ftruncate(lock_file, 0)
            os.pwrite(lock_file, f"{os.getpid()}\n".encode(), 0)
            # With the lock held nobody else writes: temporary files are what a killed process left.
            for leftover in [*self.path.glob(".*.tmp"), *self._shard_directory.glob(".*.tmp")]:
                leftover.unlink(missing_ok=True)
            self._lock_file = lock_file
            try:
                yield self
            finally:
                self._lock_file = None
        finally:
            os.close(lock_file)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """
        Write rows as one shard that is either complete on disk or not there at all.

        Takes the lock for the duration if `writing()` does not hold it.

        Args:
            rows (`Sequence[dict]`):
                One dict per completion with the columns of `SCHEMA`; `problem_hash` may be left out. No rows, no
                shard.

        Raises:
            ValueError: If a column is missing, has the wrong type or an unknown verdict.
            StoreLockedError: If another process is writing.
        """
        if not rows:
            return
        try:
            table = pa.Table.from_pylist([_storable(row) for row in rows], schema=SCHEMA)
            table.validate(full=True)
            missing = [f.name for f in SCHEMA if not f.nullable and table[f.name].null_count]
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
            raise ValueError(f"Cannot store {len(rows)} rows, because a value has the wrong type: {error}.") from error
        if missing:
            raise ValueError(
                f"Cannot store {len(rows)} rows, because column `{missing[0]}` is missing in one of them."
            )
        unknown = set(pc.unique(table["verdict"]).to_pylist()) - set(VERDICTS)
        if unknown:
            raise ValueError(f"Cannot store the verdict {unknown.pop()!r}: a verdict is one of {', '.join(VERDICTS)}.")
        if self._lock_file is None:
            with self.writing():
                self._write_shard(table)
        else:
            self._write_shard(table)

    def _write_shard(self, table: pa.Table) -> None:
        numbers = [int(match.group(1)) for path in self._shard_directory.iterdir() if (match := _shard_match(path))]
        # The random part keeps names apart when shards of several stores come together.
        name = f"{max(numbers, default=-1) + 1:06d}-{uuid.uuid4().hex[:8]}.parquet"
        temporary = self._shard_directory / f".{name}.tmp"
        try:
            pq.write_table(table, temporary, compression="zstd")
            publish(temporary, self._shard_directory / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def shards(self) -> list[Path]:
        """Return the paths of the shards in the order in which they were written."""
        return sorted(path for path in self._shard_directory.glob("*.parquet") if _shard_match(path))

    def _read(self, columns: Sequence[str], filters: pc.Expression | None = None) -> Iterator[pa.Table]:
        """Yield the named columns shard by shard; a shard that cannot be read is named in a warning and left out."""
        for path in self.shards():
            try:
                if filters is None:
                    # Half the time of `read_table`, which matters for thousands of small shards.
                    with pq.ParquetFile(path) as file:
                        table = file.read(columns=list(columns), use_threads=False)
                else:
                    table = pq.read_table(path, columns=list(columns), filters=filters, partitioning=None)
                yield table.select(columns)
            except (pa.ArrowException, OSError, KeyError) as error:
                warnings.warn(
                    f"The shard {str(path)!r} cannot be read and is left out ({_first_line(error)}). Restore it from "
                    "a copy or delete it; its completions count as not generated.",
                    UserWarning,
                    stacklevel=3,
                )

    def generation_counts(self) -> pa.Table:
        """
        Count the stored completions of each problem.

        Returns:
            `pyarrow.Table`: `problem_id`, `num_generations` (int64), `next_generation_index` (int64, one above the
            highest index in use) and `problem_hash`; one row per problem, in no particular order.
        """
        names = ["problem_id", "num_generations", "next_generation_index", "problem_hash"]
        parts = [
            table.group_by("problem_id", use_threads=False).aggregate(
                [([], "count_all"), ("generation_index", "max"), ("problem_hash", "max")]
            )
            for table in self._read(["problem_id", "generation_index", "problem_hash"])
        ]
        if not parts:
            empty = pa.array([], pa.int64())
            return pa.table([pa.array([], pa.string()), empty, empty, pa.array([], pa.string())], names=names)
        merged = pa.concat_tables(parts).rename_columns(["problem_id", "count", "index", "hash"])
        merged = merged.group_by("problem_id").aggregate([("count", "sum"), ("index", "max"), ("hash", "max")])
        following = pc.add(merged["index_max"].cast(pa.int64()), 1)
        return pa.table([merged["problem_id"], merged["count_sum"], following, merged["hash_max"]], names=names)

    def num_generations(self) -> dict[str, int]:
        """Return the number of stored completions by `problem_id`."""
        table = self.generation_counts()
        return dict(zip(table["problem_id"].to_pylist(), table["num_generations"].to_pylist(), strict=True))

    def counts(self) -> pa.Table:
        """
        Count the verdicts of each problem, without reading completion text.

        Returns:
            `pyarrow.Table`: `problem_id` and one int64 column per verdict: `num_passed`, `num_failed`,
            `num_unparseable`, `num_truncated`, `num_timeout`, `num_unverifiable`; and `num_tokens` of its completions;
            one row per problem, in no particular order.
        """
        names = [*[f"num_{verdict}" for verdict in VERDICTS], "num_tokens"]
        parts = [
            table.group_by(["problem_id", "verdict"], use_threads=False).aggregate(
                [([], "count_all"), ("num_tokens", "sum")]
            )
            for table in self._read(["problem_id", "verdict", "num_tokens"])
        ]
        if not parts:
            return pa.table(
                [pa.array([], pa.string()), *[pa.array([], pa.int64())] * len(names)], ["problem_id", *names]
            )
        merged = pa.concat_tables(parts)
        columns = [pc.if_else(pc.equal(merged["verdict"], verdict), merged["count_all"], 0) for verdict in VERDICTS]
        wide = pa.table([merged["problem_id"], *columns, merged["num_tokens_sum"]], names=["problem_id", *names])
        summed = wide.group_by("problem_id").aggregate([(name, "sum") for name in names])
        return summed.select(["problem_id", *[f"{name}_sum" for name in names]]).rename_columns(wide.column_names)

    def completions(
        self,
        problem_ids: Iterable[str] | None = None,
        verdict: str | None = None,
        *,
        columns: Sequence[str] = tuple(SCHEMA.names),
    ) -> pa.Table:
        """
        Read completions.

        Args:
            problem_ids (`Iterable[str]`, *optional*):
                Problems to read. `None` reads all.
            verdict (`str`, *optional*):
                Verdict to read, such as `"passed"`. `None` reads all.
            columns (`Sequence[str]`, *optional*):
                Columns of `SCHEMA` to read; without `completion` no text is read.

        Returns:
            `pyarrow.Table`: those columns, in the order of generation.
        """
        conditions = []
        if problem_ids is not None:
            conditions.append(pc.field("problem_id").isin(pa.array(list(problem_ids), pa.string())))
        if verdict is not None:
            # `str` of an enum member differs between Python versions; its value does not.
            conditions.append(pc.field("verdict") == str(getattr(verdict, "value", verdict)))
        filters = None
        for condition in conditions:
            filters = condition if filters is None else filters & condition
        return pa.concat_tables([SCHEMA.empty_table().select(list(columns)), *self._read(columns, filters)])


def _storable(row: dict[str, Any]) -> dict[str, Any]:
    """Replace lone surrogates, which some servers emit and UTF-8 has no bytes for: one of them must not end a run."""
    text = row.get("completion")
    if isinstance(text, str) and not text.isascii():
        return {**row, "completion": text.encode("utf-8", "replace").decode("utf-8")}
    return row


def _shard_match(path: Path) -> re.Match[str] | None:
    return _SHARD_NAME.fullmatch(path.name)


def _is_vacant(directory: Path) -> bool:
    """Whether a directory holds nothing but hidden files and an empty `shards/`."""
    visible = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return all(path.name == "shards" and path.is_dir() and not any(path.glob("[!.]*")) for path in visible)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
