"""Every choice, type and range of every setting, checked in one place from the dataclass that declares it."""

from __future__ import annotations

import contextlib
import inspect
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .names import did_you_mean


_LARGEST = 2**63 - 1
# What TRL and transformers do not say of their settings, and accept.
_RANGES: list[tuple[dict[str, Any], str]] = [
    (
        {"at_least": 1},
        "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps max_completion_length "
        "lora_r lora_alpha eval_accumulation_steps vllm_tensor_parallel_size vllm_max_model_length "
        "torch_empty_cache_steps",
    ),
    (
        {"at_least": 0},
        "learning_rate max_grad_norm weight_decay warmup_steps eval_delay adam_epsilon dataloader_num_workers "
        "neftune_noise_alpha temperature top_k",
    ),
    (
        {"more_than": 0},
        "num_train_epochs logging_steps save_steps eval_steps repetition_penalty vllm_server_timeout",
    ),
    ({"at_least": 0, "less_than": 1}, "adam_beta1 adam_beta2 lora_dropout label_smoothing_factor"),
    ({"more_than": 0, "at_most": 1}, "top_p vllm_gpu_memory_utilization"),
    ({"at_least": 0, "at_most": 1}, "min_p"),
    ({"at_least": 0, "at_most": 2**32 - 1}, "seed data_seed"),
    ({"at_least": 1, "at_most": 65535}, "vllm_server_port vllm_group_port"),
    ({"at_least": -1}, "max_steps"),
    ({"choices": ["server", "colocate"]}, "vllm_mode"),
    ({"choices": ["CAUSAL_LM"]}, "lora_task_type"),
]
_INHERITED = {name: rules for rules, names in _RANGES for name in names.split()}


def check_settings(settings: Any) -> None:
    """Refuse values of the wrong type, outside their choices or their range."""
    hints = get_type_hints(type(settings))
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.metadata.get("unchecked"):
            continue
        if any(f.name in inspect.get_annotations(c) for c in type(settings).__mro__ if _is_own(c)):
            _check(f.name, value, hints[f.name], f.metadata)
        # TRL's and transformers' defaults are right as they are, and so are objects that these make of a value.
        elif type(value).__module__ in ("builtins", "datetime") and not _is_default(f, value):
            if f.name == "fsdp" and isinstance(value, (bool, list)):
                continue  # of which its annotation says nothing
            choices = {"choices": list(f.metadata["choices"])} if "choices" in f.metadata else {}
            _check(f.name, value, hints[f.name], choices | _INHERITED.get(f.name, {}))


def _is_default(field: Any, value: Any) -> bool:
    default = field.default_factory() if field.default is MISSING else field.default
    # TRL's parser turns an empty text into None.
    return (type(value) is type(default) and bool(value == default)) or (value is None and default == "")


def check_setting(kind: type, name: str, value: Any) -> None:
    """Refuse the value that a settings file gives to one setting of a dataclass; text may stand for a number."""
    field = next(field for field in fields(kind) if field.name == name)
    if field.metadata.get("unchecked"):
        return
    hint = get_type_hints(kind)[name]
    _check(name, _as_number(value, hint), hint, field.metadata)


def _check(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> None:
    check_value(name, value, hint)
    _check_range(name, value, metadata)
    if "may_be_empty" not in metadata and any(isinstance(text, str) and not text.strip() for text in _items(value)):
        or_none = ", or `null` for none" if type(None) in _kinds(hint) else ""
        raise ValueError(f"`{name}` is {_shown(value)}, an empty text. Give a value{or_none}.")


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def check_number(name: str, value: Any, hint: Any) -> None:
    """Refuse the value that a settings file gives to a number of another library; infinities are for that library."""
    value = _as_number(value, hint)
    if not (isinstance(value, float) and float in _kinds(hint)):
        check_value(name, value, hint)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, types.UnionType) or get_origin(hint) is Union else (hint,)


def _as_number(value: Any, hint: Any) -> Any:
    """Return the number that a text stands for, where only a number can be meant."""
    kinds = _kinds(hint)
    if isinstance(value, str) and str not in kinds and {int, float} & set(kinds):
        with contextlib.suppress(ValueError):
            return int(value) if int in kinds else float(value)
    return value


def _is_own(declaring: type) -> bool:
    return not declaring.__module__.startswith(("trl.", "transformers.", "builtins"))


def check_value(name: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not of the annotated type; the error names the setting and what it may be."""
    kinds = _kinds(hint)
    if value is None and type(None) in kinds:
        return
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"`{name}` is {value!r}, which has the character NUL. Remove it.")
    # Of `SchedulerType | str`, the text is the value of a member.
    members = tuple(member.value for kind in kinds if _is_enum(kind) for member in kind)
    if members:
        kinds = (Literal[members], *(kind for kind in kinds if _is_enum(kind) or kind is type(None)))
    for kind in kinds:
        if get_origin(kind) is Literal and any(value == c and type(value) is type(c) for c in get_args(kind)):
            return
        if get_origin(kind) is Sequence and isinstance(value, (list, tuple)):
            return
        if get_origin(kind) is list and isinstance(value, (list, tuple)):
            for item in value:
                check_value(name, item, *get_args(kind))
            return
        if get_origin(kind) is dict and isinstance(value, dict):
            return
        if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return
        if kind is int and type(value) is int and abs(value) > _LARGEST:
            raise ValueError(f"`{name}` is {_shown(value)}, but it must be at most {_LARGEST:,}.")
        if isinstance(kind, type) and type(value) is kind and not isinstance(value, float):
            return
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    question = did_you_mean(value, choices, cutoff=0.5) if isinstance(value, str) else ""
    expected = " or ".join(_in_words(kind) for kind in kinds if kind is not type(None) and not _is_enum(kind))
    raise ValueError(f"`{name}` is {_shown(value)}, but it must be {expected}.{question}")


def _shown(value: Any) -> str:
    return text if len(text := repr(value)) <= 200 else f"{text[:200]}..."


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return f"a list, each {_in_words(get_args(kind)[0])}"
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    words |= {dict: "a mapping", Sequence: "a list"}
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
        check_value(name, value, Literal[tuple(choices)])
    for number in _items(value):
        for rule, holds in comparisons.items():
            is_number = number is not None and not isinstance(number, str)
            if is_number and rule in metadata and not holds(number, metadata[rule]):
                limit = metadata[rule]
                limit = f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"
                raise ValueError(f"`{name}` is {value!r}, but it must be {rule.replace('_', ' ')} {limit}.")


class Settings:
    """Base of the dataclasses of settings: their values are checked when they are made."""

    def __post_init__(self) -> None:
        check_settings(self)
