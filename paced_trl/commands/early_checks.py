"""
What is wrong with a settings file, found before torch and TRL are imported, which takes seconds.

Names are checked against the settings of all commands: one file may serve several, so a key of another is no mistake.
TRL's names are read from its source files, without importing them.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from .. import settings as ground_settings
from ..evaluation.arms import ComparisonArguments
from ..names import did_you_mean
from ..setting_checks import check_number, check_setting
from ..settings import DROPPED_SETTINGS
from ..training import paced_settings
from .config_files import take_config


# Numbers of TRL's, as its source files annotate them.
_NUMBERS: dict[str, Any] = {"int": int, "float": float, "int | None": int | None, "float | None": float | None}
# The classes whose fields are settings of TRL and transformers, and the files that declare them.
TRL_CLASSES = {
    "TrainingArguments": ("transformers", "training_args.py"),
    "_BaseConfig": ("trl", "trainer/base_config.py"),
    "DistillationConfig": ("trl", "trainer/distillation_config.py"),
    "ModelConfig": ("trl", "trainer/model_config.py"),
}


def check_arguments(arguments: list[str]) -> None:
    """Check the settings file that a command line names, if it names one, and the numbers among its flags."""
    flags, settings = take_config(arguments)
    settings.pop("env", None)
    check_file(settings)
    for flag, value in zip(flags, [*flags[1:], "--"], strict=False):
        name, separator, given = flag.removeprefix("--").partition("=")
        value, key = given if separator else value, name.replace("-", "_")
        if flag.startswith("--") and not value.startswith("--") and _is_number(key):
            check_file({key: value})


def check_file(settings: Mapping[str, Any], further: Collection[str] = ()) -> None:
    """Refuse names that are neither a setting nor in `further`, and values that PACED's own settings cannot have."""
    known, own = known_settings() | set(further), _own_settings()
    for key, value in settings.items():
        if key not in known:
            refuse_unknown(key, known, f"The configuration file has the key {key!r}")
        if key in own:
            check_setting(own[key], key, value)
        elif _trl_settings().get(key) in _NUMBERS:
            check_number(key, value, _NUMBERS[_trl_settings()[key]])


def known_settings() -> set[str]:
    return _own_settings().keys() | _trl_settings().keys()


def refuse_unknown(key: str, known: set[str], given: str) -> NoReturn:
    """Raise what there is to say of a name that is no setting."""
    if key in DROPPED_SETTINGS:
        raise ValueError(f"{given}, which was dropped: {DROPPED_SETTINGS[key]}")
    # `dtype` would be near other names.
    meant = "generation_dtype" if key == "dtype" else key
    hint = did_you_mean(meant, known, quote="`", otherwise=" `--help` lists the settings.", cutoff=0.5)
    raise ValueError(f"{given}, which is no setting of this command.{hint}")


def _is_number(key: str) -> bool:
    own = _own_settings().get(key)
    return (get_type_hints(own)[key] if own else _NUMBERS.get(_trl_settings().get(key, ""))) in _NUMBERS.values()


@functools.cache
def _own_settings() -> dict[str, type]:
    values = [*vars(ground_settings).values(), *vars(paced_settings).values(), ComparisonArguments]
    kinds = [value for value in values if isinstance(value, type) and is_dataclass(value)]
    return {field.name: kind for kind in kinds for field in fields(kind)}


@functools.cache
def _trl_settings() -> dict[str, str]:
    """Return the settings of TRL and transformers with their annotations."""
    found = {"beta": "float"}
    for class_name, (library, file) in TRL_CLASSES.items():
        spec = importlib.util.find_spec(library)  # finds the package without importing it
        assert spec is not None and spec.submodule_search_locations
        tree = ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))
        (declared,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
        annotated = [node for node in declared.body if isinstance(node, ast.AnnAssign)]
        found |= {
            each.target.id: ast.unparse(each.annotation) for each in annotated if isinstance(each.target, ast.Name)
        }
    return found
