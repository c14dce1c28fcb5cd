"""
The manifest of a store: under which settings its content was made, written once and compared ever after.

A record is any dict of JSON values. It is compared field by field and never interpreted, so that what belongs to it is
for the generator and the verifier to say.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..names import library_versions


FORMAT = "paced_trl pass-rate store"
VERSION = 1


def write_manifest(path: Path, record: dict[str, Any]) -> None:
    """
    Write a manifest, whole or not at all.

    Raises:
        TypeError: If `record` holds a value that JSON has no form for.
    """
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "record": as_json(record),
        # For information only: upgrading a library must not orphan a store.
        "information": {"python": platform.python_version(), **library_versions()},
    }
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
    publish(temporary, path)


def read_manifest(path: Path) -> dict[str, Any]:
    """
    Return the record in a manifest.

    Raises:
        ValueError: If the file is no manifest, or was written by a newer version.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        version, record = manifest["version"], manifest["record"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{str(path)!r} is not the manifest of a pass-rate store ({type(error).__name__}: {error}). Restore it "
            "from a copy, or give another directory."
        ) from error
    if version > VERSION:
        raise ValueError(
            f"{str(path)!r} has version {version}, and this paced_trl reads up to {VERSION}: the store was written by "
            "a newer release. Upgrade paced_trl."
        )
    return record


def as_json(record: dict[str, Any]) -> dict[str, Any]:
    """
    Bring a record into the form in which it comes back from disk: tuples become lists, keys become strings.

    Raises:
        TypeError: If it holds a value that JSON has no form for.
    """
    try:
        return json.loads(json.dumps(record, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"A store's record must consist of JSON values, and this one does not: {error}.") from error


def differing_fields(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    """
    List the fields in which two records differ.

    Returns:
        `list[tuple[str, str, str]]`: Dotted name, old value and new value, as text.

    Example:

    ```python
    >>> differing_fields({"sampling": {"top_p": 1.0, "top_k": 0}}, {"sampling": {"top_p": 0.9, "top_k": 0}})
    [('sampling.top_p', '1.0', '0.9')]
    ```
    """
    return list(_differences(old, new, ""))


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            child = f"{name}.{key}" if name else key
            if key not in old:
                yield child, "absent", repr(new[key])
            elif key not in new:
                yield child, repr(old[key]), "absent"
            else:
                yield from _differences(old[key], new[key], child)
    elif old != new:
        yield name, repr(old), repr(new)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name, so that it survives a power cut as well as a kill."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    directory = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
