"""Names: ids on the Hub and paths, what of them others may see, what was probably meant, and ids that occur twice."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any


_LIBRARIES = ("paced_trl", "trl", "transformers", "torch", "peft", "datasets", "tokenizers", "accelerate", "pyarrow")
_PLAIN_NAME = re.compile(r"\w([\w.@+ -]*[\w.@+-])?")
# Names that would do for a repository, and are files.
_FILES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz", ".gguf")


def hub_id(name: str | None) -> str | None:
    """Return a name that can be a model or dataset on the Hub, `None` for a local path: what exists here is local."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not name or "/" not in name or name.startswith((".", "~")) or name.endswith(_FILES):
        return None
    if Path(name).expanduser().exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def last_part(name: str | None) -> str | None:
    """Return the last part of a name that is no Hub id: of a path its file or directory, of a generator all of it."""
    return name if name is None or ":" in name.split("/")[0] else Path(name).name


def public_value(value: Any) -> Any:
    """Return a setting's value for others: of a local path, which means nothing to them, the last part."""
    if isinstance(value, dict):
        return {key: public_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [public_value(item) for item in value]
    if not isinstance(value, str) or "\n" in value:
        return value
    is_path = os.path.isabs(value) or value.startswith((".", "~")) or (os.sep in value and Path(value).exists())
    return Path(value).name if is_path else value


def dotted(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by dotted name: `{"sampling": {"top_p": 1}}` as `{"sampling.top_p": 1}`."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        # An empty dict has no names inside, and is a value.
        found |= dotted(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return found


def did_you_mean(
    name: str, known: Iterable[str], *, quote: str = "'", otherwise: str = "", cutoff: float = 0.6
) -> str:
    """Return the end of an error: a question after the known name that was probably meant, or else `otherwise`."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {quote}{nearest[0]}{quote}?" if nearest else otherwise


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on, those that are installed."""
    installed = {distribution.metadata["Name"].replace("-", "_") for distribution in metadata.distributions()}
    return {name: metadata.version(name) for name in _LIBRARIES if name in installed}


def check_plain_name(name: str, setting: str) -> None:
    """Refuse a name, of an arm or a set, that could lead out of the directory which it becomes a part of."""
    if not _PLAIN_NAME.fullmatch(name) or len(name) > 100:
        raise ValueError(
            f"`{setting}` has the name {name[:120]!r}, which becomes part of a path in the output directory. Write at "
            "most 100 letters, digits, spaces and `_ - . + @`, beginning with a letter, a digit or `_`."
        )


def check_ids(ids: Iterable[str], name: str) -> None:
    """Refuse problem ids one of which occurs twice: what belongs to the two could not be told apart."""
    first_row: dict[str, int] = {}
    for row, problem_id in enumerate(ids):
        if first_row.setdefault(problem_id, row) != row:
            raise ValueError(
                f"Rows {first_row[problem_id]} and {row} of {name} have the same `problem_id` {problem_id!r}, so "
                "their verdicts could not be told apart. Remove the duplicate, or name a column of unique ids with "
                "`--problem_id_column`."
            )
