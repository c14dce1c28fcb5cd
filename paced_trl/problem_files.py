"""
Rows of problems from files, directories and the Hub, each value as it was written.

JSON, CSV and TSV are read here and not by a library that guesses types: the golds `007`, "2024-01-01" and one of 30
digits arrive as they stand. What cannot be read is named by file and line.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import re
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa
from datasets import Dataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetNotFoundError


_LINES, _DOCUMENT, _TABLE = (".jsonl", ".ndjson"), (".json",), (".csv", ".tsv")
SUFFIXES = (*_LINES, *_DOCUMENT, *_TABLE, ".parquet")
_LARGEST = 2**63 - 1
_INTEGER, _NUMBER = re.compile(r"[+-]?\d+"), re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|NaN")


class _Rounded(float):
    """A number that Python writes otherwise than the file does, such as 1.50 or one of 30 digits, with its text."""

    text: str


def read_dataset(name: str, *, config: str | None = None, split: str = "train", exact: Collection[str]) -> Dataset:
    """
    Read a file (`SUFFIXES`, also with `.gz`), a directory of `save_to_disk`, or a dataset on the Hub.

    Columns in `exact` keep what was written: they are text where their numbers would not all come out as they stand.
    """
    path = Path(name).expanduser()
    if _suffix(path) is not None:
        if _suffix(path) == ".parquet":
            return _without_traceback(name, "parquet", data_files=str(_existing(path)), split="train")
        rows = _rows(path)
        names = dict.fromkeys(key for row in rows for key in row)
        # A gold inside objects keeps what was written as well, in a column of its dotted name.
        for field in [key for key in exact if key not in names and "." in key]:
            values = find_column({key: [row.get(key) for row in rows] for key in names}, field)
            for row, value in zip(rows, values or [], strict=False):
                row[field] = value
            names |= {} if values is None else {field: None}
        is_table = _suffix(path) in _TABLE
        return Dataset(
            pa.table(
                {key: _typed([row.get(key) for row in rows], key in exact, is_table=is_table) for key in names}
                or {"prompt": pa.array([], pa.string())}
            )
        )
    if path.is_dir() and ((path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()):
        loaded = load_from_disk(str(path))
        if isinstance(loaded, Dataset):
            return loaded
        if split not in loaded:
            raise ValueError(f"{name!r} has no split {split!r}; it has {', '.join(loaded)}. Name one of them.")
        return loaded[split]
    return _from_hub(name, config, split)


def read_columns(name: str, *, config: str | None = None, split: str = "train") -> dict[str, list[Any]]:
    """Return the columns of what [`read_dataset`] reads, which may hold values of different types."""
    path = Path(name).expanduser()
    if _suffix(path) in (None, ".parquet"):
        return read_dataset(name, config=config, split=split, exact=()).to_dict()
    rows = _rows(path)
    if not rows:
        raise ValueError(f"{name!r} holds no rows. It must hold one object with its columns per completion.")
    names = dict.fromkeys(key for row in rows for key in row)
    return {key: [_as_written(row.get(key)) for row in rows] for key in names}


def find_column(columns: Mapping[str, Any] | Dataset, name: str) -> list[Any] | None:
    """Return the values of a column, or of a field of a column of objects (`reward_model.ground_truth`), else None."""
    names = columns.column_names if isinstance(columns, Dataset) else list(columns)
    if name in names:
        return list(columns[name][:])
    outer = max((key for key in names if name.startswith(f"{key}.")), key=len, default=None)
    if outer is None:
        return None
    values = list(columns[outer][:])
    for key in name[len(outer) + 1 :].split("."):
        if not any(isinstance(value, dict) and key in value for value in values):
            return None
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return values


def _suffix(path: Path) -> str | None:
    """Return the suffix of a file that is read here, in small letters and without `.gz`, else None."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _existing(path: Path) -> Path:
    if not path.is_file():
        but = " (it is a directory)" if path.is_dir() else ""
        raise FileNotFoundError(
            f"There is no file {str(path)!r}{but}. Check the path; relative paths start at {Path.cwd()}."
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{str(path)!r} is an empty file: it holds no rows. Put one problem on each line.")
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON, CSV or TSV file."""
    lines = _lines(_existing(path))
    if _suffix(path) in _TABLE:
        return list(_cells(path, lines))
    if _suffix(path) in _DOCUMENT:
        text = "\n".join(lines)
        try:
            document = _parsed(path, 1, text)
        except ValueError as error:
            # Several objects, one on each line, are often called .json as well.
            cause = error.__cause__
            if not isinstance(cause, json.JSONDecodeError) or cause.msg != "Extra data" or cause.lineno == 1:
                raise
        else:
            rows = document if isinstance(document, list) else [document]
            return [_checked(path, number, row, text, "object") for number, row in enumerate(rows, start=1)]
    return [
        _checked(path, number, _parsed(path, number, line), line, "line")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer, parse_float=_rounded, parse_constant=_rounded)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON ({error.msg} at column {error.colno})"
        raise _broken(path, number + error.lineno - 1, problem) from error
    except RecursionError as error:
        raise _broken(path, number, "is nested too deeply to be read") from error


def _checked(path: Path, number: int, row: Any, text: str, what: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        kind = "null" if row is None else json.dumps(row, default=str)[:40]
        raise _broken(path, number, f"is no object with columns, but {kind}", what)
    try:
        if "\\u" in text:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _broken(path, number, "has half of a character (a lone surrogate, \\ud800 to \\udfff)", what) from error
    return row


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} cannot be read ({error}). Copy or compress it again.") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:1000]:
        raise ValueError(f"{str(path)!r} is no text in UTF-8, but in UTF-16 or binary. Save it as UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        byte = error.start - before.rfind(b"\n")
        raise _broken(path, before.count(b"\n") + 1, f"is not in UTF-8 (its byte {byte})") from error


def _integer(text: str) -> int | str:
    # Beyond 64 bits Arrow has no integers, and a float would lose digits. Python refuses more than 4,300 of them.
    return text if len(text) > 20 or abs(int(text)) > _LARGEST else int(text)


def _rounded(text: str) -> float:
    number = float(text)
    if repr(number) != text:
        number = _Rounded(number)
        number.text = text
    return number


def _cells(path: Path, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table in text, empty cells as None."""
    csv.field_size_limit(sys.maxsize)
    delimiter = "\t" if _suffix(path) == ".tsv" else ","
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 1
    try:
        for cells in reader:
            if header is None and cells:
                header = cells
                twice = next((cell for cell in cells if cells.count(cell) > 1), None)
                if twice is not None:
                    raise _broken(path, number, f"names the column {twice!r} twice")
            elif header is not None and cells:
                if len(cells) != len(header):
                    raise _broken(path, number, f"has {len(cells)} cells, and the header names {len(header)} columns")
                yield dict(zip(header, (cell or None for cell in cells), strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise _broken(path, number, f"is no row of the table ({error}; is a quotation mark left open?)") from error


def _broken(path: Path, number: int, problem: str, what: str = "line") -> ValueError:
    return ValueError(f"{str(path)!r}: {what} {number} {problem}. Mend or remove it.")


def _as_written(value: Any) -> Any:
    """Return a gold as it was written: NaN is none."""
    if isinstance(value, _Rounded):
        return None if value != value else value.text
    return None if isinstance(value, float) and value != value else value


def _typed(values: list[Any], exact: bool, *, is_table: bool) -> pa.Array:
    """Return a column as Arrow has it; of several kinds of values it becomes text."""
    if is_table:
        values = _numbers(values, exact)
    elif exact:
        if any(isinstance(value, _Rounded) and value == value for value in values) or len(_kinds(values)) > 1:
            values = [value if value is None else _text(value) for value in map(_as_written, values)]
        values = [_as_written(value) for value in values]
    elif _kinds(values) == {int, float}:
        values = [value if value is None else float(value) for value in values]
    if len(_kinds(values)) <= 1:
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass  # lists or objects whose inner values are of several kinds
    return pa.array([value if value is None else _text(value) for value in values], pa.string())


def _kinds(values: Sequence[Any]) -> set[type]:
    return {float if isinstance(value, _Rounded) else type(value) for value in values} - {type(None)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _numbers(cells: list[str | None], exact: bool) -> list[Any]:
    """Return cells as numbers, where all are numbers and, if `exact`, written as Python writes them."""
    given = [cell for cell in cells if cell is not None]
    if any(_INTEGER.fullmatch(cell) and len(cell) > 18 for cell in given):
        return cells  # too long for 64 bits, and a float would lose digits
    if all(map(_INTEGER.fullmatch, given)):
        kind: type = int
    elif all(map(_NUMBER.fullmatch, given)):
        kind = float
    else:
        if not exact and all(cell.lower() in ("true", "false") for cell in given):
            return [None if cell is None else cell.lower() == "true" for cell in cells]
        return cells
    if exact and not all(repr(kind(cell)) == cell for cell in given):
        return cells
    return [None if cell is None else kind(cell) for cell in cells]


def _from_hub(name: str, config: str | None, split: str) -> Dataset:
    """Load a dataset on the Hub, or a directory that `datasets` reads itself."""
    repository, _, query = name.partition("?")
    own = dict(parse_qsl(query, strict_parsing=bool(query)))
    unknown = own.keys() - {"split", "config"}
    if unknown:
        raise ValueError(
            f"{name!r} has the option {min(unknown)!r}, and a Hub dataset has `split` and `config` only, e.g. "
            f"{repository}?split=test&config=main."
        )
    path = Path(repository).expanduser()
    if path.is_file():
        raise ValueError(f"{name!r} is no kind of file that is read: {', '.join(SUFFIXES)}, each also with .gz.")
    if not path.exists() and (repository.startswith((".", "/", "~")) or repository.count("/") > 1):
        raise FileNotFoundError(
            f"There is no file or directory {name!r}. Check the path; relative paths start at {Path.cwd()}."
        )
    return _without_traceback(name, repository, own.get("config", config), split=own.get("split", split))


def _without_traceback(name: str, *args: Any, **options: Any) -> Dataset:
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # it says again what is raised
    try:
        return load_dataset(*args, **options)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(
            f"{name!r} is neither a file or directory here nor a dataset on the Hub that can be seen. Check the "
            f"name; relative paths start at {Path.cwd()}."
        ) from error
    except ConnectionError as error:
        raise ConnectionError(
            f"{name!r} is no file or directory here, and the Hub cannot be reached for it ({_first_line(error)}). "
            "Check the path, or go online."
        ) from error
    except Exception as error:  # `datasets` wraps whatever its readers raise
        cause = error.__cause__ or error
        raise ValueError(
            f"{name!r} cannot be read: {_first_line(cause)}. Check its files, split and configuration."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
