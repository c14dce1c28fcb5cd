"""How a command ends: in one line on stderr for what a user can mend, cleanly at Ctrl-C, together in all processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


# A launcher ends the other processes once the first has failed and is gone.
_SECONDS_TO_SPEAK_FIRST = 5.0


@contextmanager
def clean_exit(command: str) -> Iterator[None]:
    """Turn what a user can mend into one line on stderr, and Ctrl-C into a clean end."""
    from ..store.store import StoreLockedError

    try:
        yield
    except KeyboardInterrupt:
        _let_first_process_speak()
        print(f"paced-trl {command}: stopped. What is on disk is kept; the same command continues.", file=sys.stderr)
        _exit(130)
    except (ValueError, OSError, ImportError, TypeError, FloatingPointError, OverflowError, StoreLockedError) as error:
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
