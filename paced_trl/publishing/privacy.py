"""
What must not be published: tokens, e-mail addresses, local paths, the names of the user and of the machine.

Responsible for finding them in the files of a directory, and for refusing the directory by file and line; removes
nothing, because a text that was cut is a text that nobody has read. Knows nothing of the Hub. Not part of the paper.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


# Names of users and machines that say nothing, and are words of the language.
_COMMON_NAMES = {"root", "user", "users", "admin", "ubuntu", "debian", "runner", "jovyan", "home", "localhost", "vm"}
_SECRET_VARIABLE = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$")
_LOCAL_ROOTS = "home|Users|root|tmp|var|mnt|media|opt|srv|scratch|workspace|content"
_TEXT = {".md", ".json", ".jinja", ".txt", ".yaml", ".jsonl"}
# Full of fragments of words and addresses that belong to nobody.
_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"}


@dataclass(frozen=True)
class PrivateText:
    """
    A kind of text that must not be published.

    Args:
        kind (`str`): What it is, for a person.
        pattern (`re.Pattern`): What it looks like.
        is_certain (`bool`): Whether nothing else looks like it, so that vocabularies are searched as well.
    """

    kind: str
    pattern: re.Pattern[str]
    is_certain: bool


def private_texts(*, namespace: str, directories: Sequence[Path] = ()) -> list[PrivateText]:
    """
    Return what is private here and now.

    Args:
        namespace (`str`): Whose repository it will be; public by itself, even if the user has the same name.
        directories (`Sequence[Path]`, *optional*): Directories whose paths are private, beside home and working ones.
    """
    paths = {os.path.abspath(path) for path in (Path.home(), Path.cwd(), *directories)} - {os.sep}
    secrets = {
        value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name.upper()) and len(value) >= 12
    }
    names = {"your user name": getpass.getuser(), "the name of this machine": socket.gethostname()}
    known = _COMMON_NAMES | {namespace.lower()}
    return [
        PrivateText("a Hub token", re.compile(r"\bhf_[A-Za-z0-9]{20,}"), True),
        *(PrivateText("a secret of the environment", re.compile(re.escape(secret)), True) for secret in secrets),
        *(PrivateText("a local path", re.compile(rf"{re.escape(path)}(?![\w-])"), True) for path in paths),
        PrivateText("a local path", re.compile(rf"(?<![\w.:/<~])/(?:{_LOCAL_ROOTS})/\w[\w./-]*"), False),
        PrivateText("a local path", re.compile(r"\b[A-Za-z]:(?:\\+|/)Users(?:\\+|/)\w+"), False),
        PrivateText("an e-mail address", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"), False),
        *(
            PrivateText(kind, re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"), False)
            for kind, name in names.items()
            if len(name) > 2 and name.lower() not in known
        ),
    ]


def check_nothing_private(directory: Path, texts: Sequence[PrivateText], *, allowed: Sequence[str] = ()) -> None:
    """
    Refuse a directory in which a private text stands.

    Args:
        directory (`Path`): What is to be published.
        texts (`Sequence[PrivateText]`): What to look for.
        allowed (`Sequence[str]`, *optional*): Texts that are meant to be published.

    Raises:
        ValueError: If there is one; the message names file and line, and never shows a secret.
    """
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        wanted = [text for text in texts if text.is_certain or path.name not in _VOCABULARIES]
        for place, line in _lines(path):
            for text in wanted:
                for match in text.pattern.finditer(line):
                    if match.group() not in allowed:
                        _refuse(text, match.group(), f"{path.relative_to(directory)}, {place}")


def _refuse(text: PrivateText, found: str, place: str) -> None:
    is_secret = text.kind.startswith(("a Hub token", "a secret"))
    shown = "" if is_secret else f" ({found})"
    remedy = "" if is_secret else f", or say that it is meant with `--not_private {found}`"
    raise ValueError(
        f"{text.kind[0].upper()}{text.kind[1:]}{shown} would be published, in {place}. Remove it from the run's files "
        f"or settings{remedy}."
    )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file with where they stand; of weights what their header says, of a table its texts."""
    if path.suffix == ".safetensors":
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        yield "header", json.dumps(header.get("__metadata__", {}))
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        for column in table.column_names:
            if pa.types.is_string(table.schema.field(column).type):
                for row, value in enumerate(table[column].to_pylist()):
                    yield f"row {row}, column {column}", value or ""
    elif path.suffix in _TEXT:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"line {number}", line
