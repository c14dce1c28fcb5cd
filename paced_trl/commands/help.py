"""What `--help` shows: PACED's settings first, in groups, and TRL's after them, one line each."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import inspect
import re
import shutil
from typing import Any, Literal, get_args, get_origin, get_type_hints

from trl import TrlParser


TRL_GROUP = (
    "settings of TRL and transformers (documented at huggingface.co/docs/trl, DistillationConfig and ModelConfig)"
)
_WIDTH_IN_FILES = 100
# What `check_settings` reads of a field; argparse does not know them.
OWN_METADATA = ("at_least", "at_most", "more_than", "less_than", "may_be_empty", "unchecked")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show a setting under one name with its default; settings of TRL on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=shutil.get_terminal_size((_WIDTH_IN_FILES, 24)).columns)

    def _format_action(self, action: argparse.Action) -> str:
        if not getattr(action, "is_of_trl", False):
            return super()._format_action(action)
        name = self._format_action_invocation(action)
        text = re.split(r"(?<=[.;]) |\n", " ".join((action.help or "").split()))[0]
        line = f"  {name:29} {f'({action.default}) ' if action.default not in (None, '') else ''}{text}"
        return (line if len(line) <= self._width else f"{line[: self._width - 3].rstrip()}...") + "\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        if action.nargs == 0 or getattr(action, "is_of_trl", False):
            return action.option_strings[-1] if action.option_strings[0] == "-h" else action.option_strings[0]
        return f"{action.option_strings[0]} {self._format_args(action, _placeholder(action))}"

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = action.option_strings and action.default not in (None, argparse.SUPPRESS, [], "")
        default = str(action.default).replace("%", "%%").replace("\n", "\\n")
        return f"{action.help or ''}{f' (default: {default})' if has_default else ''}"


def _placeholder(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    kind = getattr(action.type, "__name__", "")
    return {"int": "N", "float": "X", "string_to_bool": "true|false"}.get(kind, "VALUE")


class SettingsParser(TrlParser):
    """TRL's parser, with fields in the group of the class that declares them and errors that are exceptions."""

    def __init__(self, dataclasses: list[Any], *, command: str, description: str) -> None:
        self._groups: dict[str, Any] = {}
        super().__init__(
            dataclasses,
            prog=f"paced-trl {command}",
            usage=f"paced-trl {command} [--config FILE.yaml] [--setting VALUE ...]",
            description=description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        # TRL's parser takes `--config` off the command line itself; it is added here so that the help shows it.
        self.add_argument("--config", metavar="FILE.yaml", help="YAML file of settings; flags override it.")
        if TRL_GROUP in self._groups:
            self._action_groups.remove(self._groups[TRL_GROUP])
            self._action_groups.append(self._groups[TRL_GROUP])

    def error(self, message: str) -> Any:
        """Raise what argparse would print below the usage of all settings."""
        raise ValueError(f"{message[0].upper()}{message[1:]}. `{self.prog} --help` lists the settings.")

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        hints = get_type_hints(dtype)
        for field in dataclasses.fields(dtype):
            if field.init:
                shown: Any = copy.copy(field)
                shown.metadata = {key: value for key, value in field.metadata.items() if key not in OWN_METADATA}
                title = group_title(dtype, field.name)
                if title not in self._groups:
                    self._groups[title] = self.add_argument_group(title)
                group = self._groups[title]
                known = len(group._group_actions)
                words = _words_beside_a_number(hints[field.name])
                shown.type = float if words else hints[field.name]  # argparse takes one type
                self._parse_dataclass_field(group, shown)
                if words:
                    group._group_actions[-1].type = _number_or_word
                    group._group_actions[-1].metavar = "|".join(["X", *words])
                _show_once(group._group_actions[known:], is_of_trl=title == TRL_GROUP)


def _words_beside_a_number(hint: Any) -> list[str]:
    """Return the words that a setting takes in place of a number, e.g. those of `float | Literal["fitted"]`."""
    kinds = get_args(hint)
    return [word for kind in kinds if float in kinds and get_origin(kind) is Literal for word in get_args(kind)]


def _number_or_word(text: str) -> float | str:
    with contextlib.suppress(ValueError):
        return float(text)
    return text  # `check_settings` says which words there are


def group_title(dtype: type, name: str) -> str:
    """Return under which heading a setting stands: that of the class that declares it."""
    declaring = next(cls for cls in dtype.__mro__ if name in inspect.get_annotations(cls))
    if declaring.__module__.startswith(("trl.", "transformers.")):
        return TRL_GROUP
    return str(declaring.__dict__.get("_argument_group_name", "settings"))


def _show_once(actions: list[argparse.Action], *, is_of_trl: bool) -> None:
    """Hide the `--no_X` that goes with a setting X, and mark settings of TRL."""
    for action in actions:
        if action.option_strings[0].startswith("--no_") and action.nargs == 0:
            action.help = argparse.SUPPRESS
        action.is_of_trl = is_of_trl and action.help is not argparse.SUPPRESS  # type: ignore[attr-defined]
