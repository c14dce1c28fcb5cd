"""Settings from a YAML file and flags into dataclasses, and a sentence for what is no setting."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..setting_checks import Settings, check_settings
from .config_files import take_config
from .early_checks import check_file, refuse_unknown


def parse(command: str, dataclasses: Sequence[type], arguments: Sequence[str], *, description: str) -> tuple[Any, ...]:
    """Parse a command's YAML file (`--config`) and flags into its dataclasses, with TRL's parser; flags win."""
    rest, settings = take_config(list(arguments))
    environment = settings.pop("env", None)
    if environment is not None and not isinstance(environment, dict):
        raise ValueError(f"`env` is {environment!r}, which is no mapping. Write `env: {{NAME: value}}`.")
    own = {f.name for dataclass in dataclasses for f in fields(dataclass)}
    check_file(settings, own)
    from transformers.utils.logging import disable_progress_bar

    from .help import SettingsParser
    from .messages import speak_in_one_form

    disable_progress_bar()  # a bar per file of weights hides this program's own
    speak_in_one_form()  # the libraries are loaded now
    parser = SettingsParser(list(dataclasses), command=command, description=description)
    os.environ.update({str(name): str(value) for name, value in (environment or {}).items()})
    parser.set_defaults_with_config(**{key: value for key, value in settings.items() if key in own})
    *parsed, _, unknown = parser.parse_args_into_dataclasses(args=rest, return_remaining_strings=True)
    for section in parsed:
        if not isinstance(section, Settings):  # TRL's own, which do not check themselves
            check_settings(section)
    flags = [argument for argument in unknown if argument.startswith("-")]
    if flags:
        refuse_unknown(flags[0].lstrip("-").split("=")[0].replace("-", "_"), own, f"The flag {flags[0]!r} was given")
    if unknown:
        raise ValueError(f"{unknown[0]!r} was given without a flag in front of it. Put `--option` before each value.")
    return tuple(parsed)


def positional_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return an empty parser for a command that takes paths and no settings of runs."""
    return argparse.ArgumentParser(
        prog=f"paced-trl {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
