"""
The pass-rate store: every completion with its verdict, on disk before anything depends on it.

Responsible for the directory as a whole: one record, one writer at a time, shards that are only ever added, and
reading without the completion text where nobody asks for it. Shards are written and read by `shards.py`, counted by
`store_counts.py`; the record is in the manifest (`manifest.py`). A directory looks like this:

    STORE/manifest.json                     the record of the settings, written once
    STORE/shards/000000-3f2a91c0.parquet    columns of `SCHEMA`, one row per completion
    STORE/.lock                             locked while a process writes, and holds its process id then

`datasets.load_dataset(STORE)`, `polars.read_parquet("STORE/shards/*.parquet")` and DuckDB read it as it lies. What is
complete on disk survives any kill, a full disk costs the shard that did not fit, and a shard that breaks later is
named, left out and generated again: all of it is tested, the kills a hundred times at random moments. How long
counting takes is measured by `scripts/bench_store.py`.

Refuses to know what a pass rate is used for, how completions are made and how they are verified: a record is compared,
never interpreted. The paper (arXiv 2603.11178) needs the counts this module returns and nothing more.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .counts import count_generations, count_verdicts
from .manifest import as_json, differing_fields, read_manifest, write_manifest
from .shards import READ_ERRORS, SCHEMA, as_shard, first_line, read_shard, shard_paths, write_shard
from .shards import VERDICTS as VERDICTS


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
        self._has_joined = False
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
                os.ftruncate(lock_file, 0)
        finally:
            os.close(lock_file)

    @contextmanager
    def joining(self) -> Iterator[PassRateStore]:
        """Write beside the process that holds the lock: for the processes of one job, which share its work."""
        self._has_joined = True
        try:
            yield self
        finally:
            self._has_joined = False

    def lock_holder(self) -> str | None:
        """Return the id of the process that is writing to the store, `None` if there is none."""
        import fcntl

        try:
            lock_file = os.open(self.path / ".lock", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            holder = os.pread(lock_file, 64, 0).decode(errors="replace").strip()
            # Whoever ends cleanly empties the file. Trying the lock keeps writers out for a moment, so it is tried
            # only to tell a writer from the trace of a killed one.
            if holder:
                fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return holder
        finally:
            os.close(lock_file)

    def append(self, rows: Sequence[dict[str, Any]] | pa.Table) -> None:
        """
        Write rows as one shard that is either complete on disk or not there at all.

        Takes the lock for the duration if `writing()` does not hold it.

        Args:
            rows (`Sequence[dict]` or `pyarrow.Table`):
                Completions with the columns of `SCHEMA`; `problem_hash` may be left out of dicts. No rows, no shard.

        Raises:
            OSError: If the shard cannot be written, such as on a full disk; nothing of it is left then.
            ValueError: If a column is missing, has the wrong type or an unknown verdict.
            StoreLockedError: If another process is writing.
        """
        if not len(rows):
            return
        table = as_shard(rows)
        if self._lock_file is None and not self._has_joined:
            with self.writing():
                write_shard(table, self._shard_directory)
        else:
            write_shard(table, self._shard_directory)

    def shards(self) -> list[Path]:
        """Return the paths of the shards in the order in which they were written."""
        return shard_paths(self._shard_directory)

    def read(
        self, columns: Sequence[str], filters: pc.Expression | None = None, *, dictionaries: Sequence[str] = ()
    ) -> Iterator[pa.Table]:
        """
        Yield columns shard by shard; a shard that cannot be read is named in a warning and left out.

        Args:
            columns (`Sequence[str]`):
                Columns of `SCHEMA`.
            filters (`pyarrow.compute.Expression`, *optional*):
                Which rows to keep. `None` keeps all.
            dictionaries (`Sequence[str]`, *optional*):
                Columns to yield dictionary-encoded; only without `filters`.

        Returns:
            `Iterator[pyarrow.Table]`: One table per shard, in the order in which they were written.
        """
        for path in self.shards():
            try:
                table = read_shard(path, columns, filters, dictionaries=dictionaries)
            except READ_ERRORS as error:
                warnings.warn(
                    f"The shard {str(path)!r} cannot be read and is left out ({first_line(error)}). Restore it from "
                    "a copy or delete it; its completions count as not generated.",
                    UserWarning,
                    stacklevel=3,
                )
            else:
                yield table

    def generation_counts(self) -> pa.Table:
        """
        Count the stored completions of each problem.

        Returns:
            `pyarrow.Table`: `problem_id`, `num_generations` (int64), `next_generation_index` (int64, one above the
            highest index in use) and `problem_hash`; one row per problem, in no particular order.
        """
        columns = ["problem_id", "generation_index", "problem_hash"]
        return count_generations(self.read(columns, dictionaries=["problem_id", "problem_hash"]))

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
        encoded = ["problem_id", "verdict"]
        return count_verdicts(self.read([*encoded, "num_tokens"], dictionaries=encoded))

    def completions(
        self,
        problem_ids: Iterable[str] | None = None,
        verdict: str | None = None,
        *,
        columns: Sequence[str] = tuple(SCHEMA.names),
        max_completions: int | None = None,
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
            max_completions (`int`, *optional*):
                Read no further than this many. `None` reads all.

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
        tables = [SCHEMA.empty_table().select(list(columns))]
        for table in self.read(columns, filters):
            tables.append(table)
            if max_completions is not None and sum(map(len, tables)) >= max_completions:
                break
        return pa.concat_tables(tables).slice(0, max_completions)


def _is_vacant(directory: Path) -> bool:
    """Whether a directory holds nothing but hidden files and an empty `shards/`."""
    visible = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return all(path.name == "shards" and path.is_dir() and not any(path.glob("[!.]*")) for path in visible)
