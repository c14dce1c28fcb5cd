"""
The manifest of a store: under which settings its content was made, written once and compared ever after.

A record is any dict of JSON values. It is compared field by field and never interpreted: what belongs to it is for the
generator and the verifier to say.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from ..names import dotted as dotted
from ..names import library_versions
from ..run_directory import write_text


# Flags that set the fields of a record; empty: by the name of the field inside.
_FLAGS = {
    "generator.engine": "engine`, or `--teacher_engine",
    "generator.model": "model_name_or_path`, or `--teacher_model_name_or_path",
    "generator.dtype": "generation_dtype`, or of a teacher `--teacher_model_init_kwargs",
    "generator.chat_template_kwargs": "chat_template_kwargs",
    "generator.sampling": "",
    "verifier.name": "verifier",
    "verifier.options": "verifier_kwargs",
    "seed": "seed",
}
FORMAT = "paced_trl pass-rate store"
VERSION = 1


def write_manifest(path: Path, record: dict[str, Any]) -> None:
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "record": as_json(record),
        # For information only: upgrading a library must not orphan a store.
        "information": {"python": platform.python_version(), **library_versions()},
    }
    write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False))


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the record in a manifest; refuse a file that is none, or was written by a newer version."""
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
    """Bring a record into the form in which it comes back from disk: tuples become lists, keys become strings."""
    try:
        return json.loads(json.dumps(record, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"A store's record must consist of JSON values, and this one does not: {error}.") from error


def differing_fields(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the fields in which two records differ: dotted name, old value and new value, as text."""
    before, now = dotted(old), dotted(new)
    names = sorted(before.keys() | now.keys())
    return [
        (name, repr(before[name]) if name in before else "absent", repr(now[name]) if name in now else "absent")
        for name in names
        if name not in before or name not in now or before[name] != now[name]
    ]


def flag_of(name: str) -> str:
    """Return the flag that sets a field of a record, in brackets; nothing where none does."""
    for field, flag in _FLAGS.items():
        if name == field or name.startswith(f"{field}."):
            return f" (`--{flag or name.rpartition('.')[2]}`)"
    return ""
