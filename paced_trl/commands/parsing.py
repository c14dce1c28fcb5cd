"""How every command reads its settings and reports what is wrong with them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..names import nearest_name
from ..processes import leave_to_first_process
from . import DIVIDED


# A launcher ends the other processes once the first has failed and is gone.
_SECONDS_TO_SPEAK_FIRST = 5.0


def known_settings() -> set[str]:
    """Return the settings of all commands: one YAML file may serve several, so a key of another is no mistake."""
    from trl import ModelConfig

    from .. import settings as arguments
    from ..evaluation import arms
    from ..training import config

    dataclasses = [
        *(value for name, value in vars(arguments).items() if name.endswith("Arguments")),
        arms.ComparisonArguments,
        config.PacedConfig,
        ModelConfig,
    ]
    return {f.name for dataclass in dataclasses for f in fields(dataclass)}


def parse(command: str, dataclasses: Sequence[type], arguments: Sequence[str], *, description: str) -> tuple[Any, ...]:
    """
    Parse a command's YAML file (`--config`) and flags into its dataclasses, with TRL's parser; flags win.

    Args:
        command (`str`): Name of the command, for the help.
        dataclasses (`Sequence[type]`): Dataclasses to fill.
        arguments (`Sequence[str]`): The command line after the command's name.
        description (`str`): What `--help` shows above the options; teaches by example.

    Returns:
        `tuple`: One instance per dataclass.

    Raises:
        ValueError: If the file or the command line names a setting that does not exist; the nearest one is named.
    """
    from trl import TrlParser

    parser = TrlParser(
        list[Any](dataclasses),
        prog=f"paced-trl {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # TRL's parser takes `--config` off the command line itself; it is added here so that the help shows it.
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of settings; flags override it.")
    arguments, settings = _read_config(list(arguments))
    own = {f.name for dataclass in dataclasses for f in fields(dataclass)}
    environment = settings.pop("env", {})
    os.environ.update({key: str(value) for key, value in environment.items()})
    foreign = settings.keys() - own
    known = own | known_settings() if foreign else own
    for key in sorted(foreign - known):
        _refuse_unknown(key, known, f"The configuration file has the key {key!r}")
    parser.set_defaults_with_config(**{key: value for key, value in settings.items() if key in own})
    *parsed, _, unknown = parser.parse_args_into_dataclasses(args=arguments, return_remaining_strings=True)
    flags = [argument for argument in unknown if argument.startswith("-")]
    if flags:
        _refuse_unknown(flags[0].lstrip("-").split("=")[0].replace("-", "_"), own, f"The flag {flags[0]!r} was given")
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


def _read_config(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    if "--config" not in arguments:
        return arguments, {}
    position = arguments.index("--config")
    if position + 1 == len(arguments):
        raise ValueError("`--config` was given without a file. Name a YAML file after it.")
    settings = read_settings(Path(arguments[position + 1]))
    return arguments[:position] + arguments[position + 2 :], settings


def read_settings(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """
    Read a YAML file of settings; those of the files that its `include` names come first, so its own win.

    Args:
        path (`Path`): The file. What it includes is found from its own directory.
        including (`tuple[Path, ...]`, *optional*): The files that led here, none of which may come again.

    Raises:
        ValueError: If a file is no mapping, or includes itself.
    """
    given = f"`--config` names {str(path)!r}"
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{given}, which is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{given}, which holds no `key: value` lines. Write one setting a line.")
    if path.resolve() in including:
        raise ValueError(f"{given}, whose `include` leads back to itself. Remove one of the two.")
    names = settings.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names:
        merged |= read_settings(path.parent / name, (*including, path.resolve()))
    return merged | settings


def _refuse_unknown(key: str, known: set[str], given: str) -> NoReturn:
    nearest = nearest_name(key, known, cutoff=0.5)
    hint = f" Did you mean `{nearest}`?" if nearest else " `--help` lists the settings."
    raise ValueError(f"{given}, which is no setting of this command.{hint}")


@contextmanager
def clean_exit(command: str) -> Iterator[None]:
    """
    Turn what a user can mend into one line on stderr, and Ctrl-C into a clean end.

    `PACED_TRL_TRACEBACK=1` shows the traceback as well.
    """
    from ..store.store import StoreLockedError

    try:
        yield
    except KeyboardInterrupt:
        _let_first_process_speak()
        print(f"paced-trl {command}: stopped. What is on disk is kept; the same command continues.", file=sys.stderr)
        _exit(130)
    except (ValueError, OSError, ImportError, TypeError, FloatingPointError, StoreLockedError) as error:
        if os.environ.get("PACED_TRL_TRACEBACK"):
            raise
        _let_first_process_speak()
        print(f"paced-trl {command}: error: {error}", file=sys.stderr)
        _exit(2)


def _exit(status: int) -> NoReturn:
    """End this process; one of several at once, for a plain exit would wait for those it has something to do with."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _let_first_process_speak() -> None:
    """Wait a moment in the other processes of a launcher, which ends them before they say the same once more."""
    if int(os.environ.get("RANK", "0")) > 0:
        time.sleep(_SECONDS_TO_SPEAK_FIRST)


def _quieten_libraries() -> None:
    """Leave the terminal to this program's own progress: no bar per loaded file, no notes meant for developers."""
    warnings.filterwarnings("ignore", message=".*is deprecated and will be removed in v6", category=FutureWarning)
    # Read when the libraries are imported.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes, which PEFT imports, says that it looked for a kernel of the Hub and goes without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def entry_point(command: str, run: Callable[[Sequence[str]], None], arguments: Sequence[str] | None) -> None:
    """
    Run a command on its arguments, those of the process if None, with [`clean_exit`].

    Of several processes the first one works alone, and the others leave, unless the command divides its work.
    """
    num_others = 0 if command in DIVIDED else leave_to_first_process()
    if num_others < 0:
        return
    if num_others > 0:
        print(f"paced-trl {command}: works in one process; the other {num_others} left.", file=sys.stderr)
    with clean_exit(command):
        _quieten_libraries()
        run(sys.argv[1:] if arguments is None else arguments)
