"""How a command ends: in one line on stderr for what a user can mend, cleanly at Ctrl-C, together in all processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn


_SECONDS_TO_SPEAK_FIRST = 5.0


@contextmanager
def clean_exit(command: str, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Turn what a user can mend into one line on stderr, and Ctrl-C into a clean end, for a command's arguments."""
    from ..store.store import StoreLockedError

    try:
        yield
    except KeyboardInterrupt:
        _end(130, lambda: f"paced-trl {command}: stopped. What is on disk is kept; the same command continues.")
    except (ValueError, OSError, ImportError, TypeError, FloatingPointError, OverflowError, StoreLockedError) as error:
        if os.environ.get("PACED_TRL_TRACEBACK"):
            raise
        text = f"paced-trl {command}: error: {error}"
        _end(2, lambda: text)
    except RuntimeError as error:
        if "out of memory" not in str(error) or os.environ.get("PACED_TRL_TRACEBACK"):
            raise
        reason = str(error).split(". ")[0]
        kept = f"the device ran out of memory ({reason}). What is on disk is kept."
        _end(2, lambda: f"paced-trl {command}: error: {kept} {_what_would_fit(arguments)}")


def _what_would_fit(arguments: Sequence[str]) -> str:
    """Say which settings `plan` would change on this card, where it can count the run."""
    try:
        import torch

        from ..training.plan import what_would_fit
        from .plan import planned_run
        from .recipe import Recipe

        recipe = Recipe.parse("plan", arguments, description="")
        recipe.plan.num_problems = recipe.plan.num_problems or 1
        recipe.plan.card = round(torch.cuda.mem_get_info()[1] / 2**30)
        made = what_would_fit(planned_run(recipe))
    except (Exception, SystemExit):  # settings of another command, models that are not on this disk
        return "`paced-trl plan` with the same file says what takes the memory, and what to change."
    counted = f"By `paced-trl plan`, a card of {recipe.plan.card} GB"
    if made is None:
        return f"{counted} is too small for these models whatever is changed: take smaller ones, or a larger card."
    if not made:
        return f"{counted} is enough, so something else may hold its memory: look with `nvidia-smi`."
    return f"{counted} is enough with: {'; '.join(made)}."


def _end(status: int, text: Callable[[], str]) -> NoReturn:
    """Say `text`, which is made only by a process that comes to speak, and end this process."""
    if int(os.environ.get("RANK", "0")) > 0:
        # A launcher ends the other processes once the first has failed, before they say the same once more.
        time.sleep(_SECONDS_TO_SPEAK_FIRST)
    print(text(), file=sys.stderr)
    # One of several at once, for a plain exit would wait for those it has something to do with.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
