"""Every choice, type and range of every setting, checked in one place from the dataclass that declares it."""

from __future__ import annotations

import contextlib
import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .names import nearest_name


def check_settings(settings: Any) -> None:
    """
    Refuse values of the wrong type, outside their choices or their range, in every setting that this package declares.
    """
    hints = get_type_hints(type(settings))
    for f in fields(settings):
        is_own = any(f.name in inspect.get_annotations(c) for c in type(settings).__mro__ if _is_own(c))
        if is_own and not f.metadata.get("unchecked"):
            _check_value(f.name, getattr(settings, f.name), hints[f.name])
            _check_range(f.name, getattr(settings, f.name), f.metadata)


def check_setting(kind: type, name: str, value: Any) -> None:
    """Refuse the value that a settings file gives to one setting of a dataclass; text may stand for a number."""
    field = next(field for field in fields(kind) if field.name == name)
    if field.metadata.get("unchecked"):
        return
    hint = get_type_hints(kind)[name]
    value = _as_number(value, hint)
    _check_value(name, value, hint)
    _check_range(name, value, field.metadata)


def check_number(name: str, value: Any, hint: Any) -> None:
    """Refuse the value that a settings file gives to a number of another library; infinities are for that library."""
    value = _as_number(value, hint)
    if not (isinstance(value, float) and float in _kinds(hint)):
        _check_value(name, value, hint)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _as_number(value: Any, hint: Any) -> Any:
    """Return the number that a text stands for, where only a number can be meant."""
    kinds = _kinds(hint)
    if isinstance(value, str) and str not in kinds and {int, float} & set(kinds):
        with contextlib.suppress(ValueError):
            return int(value) if int in kinds else float(value)
    return value


def _is_own(declaring: type) -> bool:
    return not declaring.__module__.startswith(("trl.", "transformers.", "builtins"))


def _check_value(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not of the annotated type."""
    kinds = get_args(hint) if isinstance(hint, types.UnionType) or get_origin(hint) is Union else (hint,)
    if value is None and type(None) in kinds:
        return
    for kind in kinds:
        if get_origin(kind) is Literal and any(value == c and type(value) is type(c) for c in get_args(kind)):
            return
        if get_origin(kind) is list and isinstance(value, (list, tuple)):
            for item in value:
                _check_value(name, item, *get_args(kind))
            return
        if get_origin(kind) is dict and isinstance(value, dict):
            return
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return
        if isinstance(kind, type) and type(value) is kind and not isinstance(value, float):
            return
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    nearest = nearest_name(value, choices, cutoff=0.5) if isinstance(value, str) else None
    expected = " or ".join(_in_words(kind) for kind in kinds if kind is not type(None))
    hint_text = f" Did you mean {nearest!r}?" if nearest else ""
    raise ValueError(f"`{name}` is {value!r}, but it must be {expected}.{hint_text}")


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return f"a list, each {_in_words(get_args(kind)[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    return words.get(get_origin(kind) or kind, str(kind))


def _check_range(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    comparisons: dict[str, Callable[[Any, Any], bool]] = {
        "at_least": operator.ge,
        "more_than": operator.gt,
        "at_most": operator.le,
        "less_than": operator.lt,
    }
    choices = metadata.get("choices")
    if choices is not None and value is not None and value not in choices:
        _check_value(name, value, Literal[tuple(choices)])
    for number in value if isinstance(value, (list, tuple)) else [value]:
        for rule, holds in comparisons.items():
            if (
                number is not None
                and not isinstance(number, str)
                and rule in metadata
                and not holds(number, metadata[rule])
            ):
                raise ValueError(f"`{name}` is {value!r}, but it must be {rule.replace('_', ' ')} {metadata[rule]:g}.")


class Settings:
    """Base of the dataclasses of settings: their values are checked when they are made."""

    def __post_init__(self) -> None:
        check_settings(self)
