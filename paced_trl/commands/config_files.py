"""YAML files of settings: read strictly, so that nothing a user wrote is lost silently."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


# A settings file is small; what expands to more values than this was not written by hand.
_MAX_VALUES = 100_000


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice; YAML itself keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key, str) and key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise ValueError(
                    f"the key `{key}` is given twice, in lines {seen[key]} and {line}. Remove one of them"
                )
            if isinstance(key, str):
                seen[key] = line
        return super().construct_mapping(node, deep=deep)


def take_config(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Take `--config FILE` or `--config=FILE` off a command line; return the rest and the file's settings."""
    rest: list[str] = []
    files: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            file = next(remaining, None)
            if file is None or file.startswith("--"):
                raise ValueError("`--config` was given without a file. Name a YAML file after it.")
            files.append(file)
        elif argument.startswith("--config="):
            files.append(argument.removeprefix("--config="))
        else:
            rest.append(argument)
    if len(files) > 1:
        raise ValueError(
            f"`--config` was given {len(files)} times ({', '.join(files)}), and only one file is read. Let one file "
            "name the others with `include: [other.yaml]`."
        )
    return rest, read_settings(Path(files[0])) if files else {}


def read_settings(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file of settings; those of the files that its `include` names come first, so its own win."""
    given = f"`--config` names {str(path)!r}"
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise ValueError(f"{given}, which {what}. Name a YAML file of settings.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{given}, which is not UTF-8 text ({error}). Save it as UTF-8.") from error
    try:
        node = yaml.compose(text, Loader=_StrictLoader)
        num_values = 0 if node is None else _count_values(node, {})
        if num_values > _MAX_VALUES:
            raise ValueError(f"it stands for more than {_MAX_VALUES:,} values, by aliases that multiply. Write it out")
        settings = yaml.load(text, Loader=_StrictLoader)
    except RecursionError as error:
        raise ValueError(f"{given}, which is nested too deeply. Settings need a level or two.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{given}, which is not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ValueError(f"{given}, which cannot be read: {error}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{given}, which holds no `key: value` lines. Write one setting a line.")
    for key in settings:
        if not isinstance(key, str):
            raise ValueError(f"{given}, whose key {key!r} is no text. Write the name of a setting.")
    if path.resolve() in including:
        raise ValueError(f"{given}, whose `include` leads back to itself. Remove one of the two.")
    names = settings.pop("include", None) or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{given}, whose `include` is {names!r}. Write a file name, or a list of them.")
    merged: dict[str, Any] = {}
    for name in names:
        merged |= read_settings(path.parent / name, (*including, path.resolve()))
    return merged | settings


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for with its aliases written out."""
    if id(node) not in known:
        known[id(node)] = 1  # an alias to what encloses it
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        known[id(node)] = 1 + sum(_count_values(child, known) for child in children)
    return known[id(node)]
