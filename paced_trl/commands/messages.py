"""What a command says beside its results: every warning, of this program or a library, as `Warning: text`."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from ..progress import clear_bars


_WORDS = {logging.WARNING: "Warning: ", logging.ERROR: "Error: ", logging.CRITICAL: "Error: "}
# Libraries with a form of their own, once they are loaded.
_LIBRARIES = ("transformers", "datasets", "huggingface_hub", "diffusers", "peft")


def quieten_libraries() -> None:
    """Leave the terminal to this program's own progress: no bar per loaded file, no notes meant for developers."""
    warnings.filterwarnings("ignore", message=".*is deprecated and will be removed in v6", category=FutureWarning)
    # Read when the library is imported.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # bitsandbytes, which PEFT imports, says that it looked for a kernel of the Hub and goes without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def speak_in_one_form() -> None:
    """Show Python's warnings and those of loggers, the libraries' loaded by now included, in one form on stderr."""
    warnings.formatwarning = _as_text
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Form())
    for name in _LIBRARIES:
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:  # not one that somebody put there to keep what is logged
                handler.setFormatter(_Form())


class _Form(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        _start_a_line()
        return f"{_WORDS.get(record.levelno, '')}{super().format(record)}"


def _as_text(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    _start_a_line()
    return f"Warning: {message}\n"


def _start_a_line() -> None:
    if sys.stderr.isatty():
        clear_bars()
