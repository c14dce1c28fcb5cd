"""
The pass-rate store: every completion with its verdict, on disk before anything depends on it.

    STORE/manifest.json                     the record of the settings, written once
    STORE/shards/000000-3f2a91c0.parquet    columns of `SCHEMA`, one row per completion, only ever added
    STORE/.lock, STORE/.writer              locked while a process writes; its process id
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from .counts import OncePerGeneration, count_generations, count_verdicts
from .manifest import as_json, differing_fields, flag_of, read_manifest, write_manifest
from .shards import NUMBERS, READ_ERRORS, SCHEMA, as_shard, first_line, read_shard, shard_paths, write_shard
from .shards import VERDICTS as VERDICTS


# Of a file system, of a directory or file of another user's.
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class StoreLockedError(RuntimeError):
    """Another process writes to the store."""


class PassRateStore:
    """
    Append-only directory of completions and verdicts that belong to one record of settings.

    Args:
        path (`str` or `Path`): Directory of the store. Created if it is missing or empty and `record` is given.
        record (`dict`, *optional*):
            Every setting that the completions depend on, as JSON values. A store that exists must have the same
            record. `None` opens a store that exists, whatever its record.

    Raises:
        FileNotFoundError: If `record` is `None` and there is no store at `path`.
        ValueError: If `path` holds something else, a store of another record, or one written by a newer version.
        TypeError: If `record` holds a value that JSON has no form for.

    Example:

    ```python
    >>> store = PassRateStore("runs/mine/pass_rates")
    >>> store.counts().to_pylist()[0]["num_passed"]
    3
    ```
    """

    def __init__(self, path: str | os.PathLike[str], record: dict[str, Any] | None = None):
        self.path = Path(path)
        self._manifest_path, self._writer_path = self.path / "manifest.json", self.path / ".writer"
        self._shard_directory = self.path / "shards"
        self._is_writing = self._has_joined = False
        if not self._manifest_path.exists():
            self._create(record)
        self.record: dict[str, Any] = read_manifest(self._manifest_path)
        if record is not None:
            self.check_record(record)

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

    def begin_again(self, record: dict[str, Any]) -> None:
        """Give a store that holds nothing yet, because its first attempt failed, another record."""
        if self.shards() or not differing_fields(self.record, as_json(record)):
            return
        with self.writing():
            if not self.shards():
                for kept in self.path.glob(".*.parquet"):  # what is kept beside shards
                    kept.unlink()
                write_manifest(self._manifest_path, record)
                self.record = read_manifest(self._manifest_path)

    def check_record(self, record: dict[str, Any]) -> None:
        """Refuse a record that differs from the store's, naming each field with both values."""
        differing = differing_fields(self.record, as_json(record))
        if differing:
            lines = [f"  {name}: {old} in the store, {new} now{flag_of(name)}" for name, old, new in differing]
            raise ValueError(
                f"The store {str(self.path)!r} was written with other settings, and completions made under different "
                "settings are not mixed:\n" + "\n".join(lines) + "\nUse the settings of the store, or give another "
                "directory."
            )

    @contextmanager
    def writing(self) -> Iterator[PassRateStore]:
        """
        Hold the store's lock, so that no other process appends, until the process ends, however it ends.

        On a read-only file system there is no lock, and nothing can be appended.
        """
        lock = FileLock(self.path / ".lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise StoreLockedError(
                f"The store {str(self.path)!r} is being written by process {self._writer() or 'unknown'}: two writers "
                "would generate the same completions twice. Wait until it ends, or end it."
            ) from None
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            yield self
            return
        try:
            self._writer_path.write_text(f"{os.getpid()}\n")
            # With the lock held nobody else writes: temporary files are what a killed process left.
            for leftover in [*self.path.glob(".*.tmp"), *self._shard_directory.glob(".*.tmp")]:
                leftover.unlink(missing_ok=True)
            self._is_writing = True
            yield self
        finally:
            self._is_writing = False
            self._writer_path.unlink(missing_ok=True)
            lock.release()

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
        holder = self._writer()
        if not holder:
            return None
        # Trying the lock keeps writers out for a moment: only to tell a writer from one that was killed.
        try:
            with FileLock(self.path / ".lock", blocking=False):
                return None
        except Timeout:
            return holder

    def _writer(self) -> str:
        """Return the process id that a writer left, of which only the lock tells whether it still runs."""
        return self._writer_path.read_text(errors="replace").strip() if self._writer_path.exists() else ""

    def append(self, rows: Sequence[dict[str, Any]] | pa.Table) -> None:
        """
        Write rows as one shard that is complete on disk or not there at all, under the lock; no rows, no shard.

        Args:
            rows (`Sequence[dict]` or `pyarrow.Table`):
                Completions with the columns of `SCHEMA`; `problem_hash` may be left out of dicts.

        Raises:
            OSError: If the shard cannot be written, such as on a full disk; nothing of it is left then.
            ValueError: If a column is missing, has the wrong type or an unknown verdict.
            StoreLockedError: If another process is writing.
        """
        if not len(rows):
            return
        table = as_shard(rows)
        with nullcontext() if self._is_writing or self._has_joined else self.writing():
            if not self._is_writing and not self._has_joined:
                raise PermissionError(
                    f"The store {str(self.path)!r} is read-only, and {len(table)} completions are to be added. "
                    "Copy it to where you may write, and name the copy."
                )
            write_shard(table, self._shard_directory)

    def shards(self) -> list[Path]:
        """Return the paths of the shards in the order in which they were written."""
        return shard_paths(self._shard_directory)

    def read(self, columns: Sequence[str] = ()) -> Iterator[pa.Table]:
        """
        Yield shard by shard `NUMBERS` and other columns, each generation once, repeating texts dictionary-encoded.

        A shard that cannot be read is named in a warning and left out.
        """
        once = OncePerGeneration()
        # What a shard counts for must not depend on who asks: its numbers are read whole, or not used at all.
        needed = list(dict.fromkeys([*NUMBERS, *columns]))
        for path in self.shards():
            try:
                table = read_shard(path, needed)
            except READ_ERRORS as error:
                warnings.warn(
                    f"The shard {str(path)!r} cannot be read and is left out ({first_line(error)}). Restore it from "
                    "a copy, or delete it and run the command again, which generates its completions anew.",
                    UserWarning,
                    stacklevel=3,
                )
            else:
                yield once(table)

    def generation_counts(self) -> pa.Table:
        """
        Count the stored completions of each problem.

        Returns:
            `pyarrow.Table`: `problem_id`, `num_generations` (int64), `next_generation_index` (int64, one above the
            highest index in use) and `problem_hash`; one row per problem, in no particular order.
        """
        return count_generations(self.read())

    def num_generations(self) -> dict[str, int]:
        """Return the number of completions by `problem_id`."""
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
        return count_verdicts(self.read())

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
            problem_ids (`Iterable[str]`, *optional*): Problems to read. `None` reads all.
            verdict (`str`, *optional*): Verdict to read, such as `"passed"`. `None` reads all.
            columns (`Sequence[str]`, *optional*): Columns of `SCHEMA`; without `completion` no text is read.
            max_completions (`int`, *optional*): Read no further than this many. `None` reads all.

        Returns:
            `pyarrow.Table`: Those columns, in the order of generation.
        """
        ids = None if problem_ids is None else pa.array(list(problem_ids), pa.string())
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        tables = [schema.empty_table()]
        for table in self.read(columns):
            if ids is not None:
                table = table.filter(pc.is_in(table["problem_id"].cast(pa.string()), ids))
            if verdict is not None:
                # `str` of an enum member differs between Python versions; its value does not.
                table = table.filter(pc.equal(table["verdict"], str(getattr(verdict, "value", verdict))))
            tables.append(table.select(list(columns)).cast(schema))
            if max_completions is not None and sum(map(len, tables)) >= max_completions:
                break
        return pa.concat_tables(tables).slice(0, max_completions)


def _is_vacant(directory: Path) -> bool:
    """Whether a directory holds nothing but hidden files and an empty `shards/`."""
    visible = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return all(path.name == "shards" and path.is_dir() and not any(path.glob("[!.]*")) for path in visible)
