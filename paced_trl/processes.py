"""
The processes that work on one job: `accelerate launch` or `torchrun` starts them, this module tells them apart.

Responsible for the share of each process and for waiting on the others. One process needs neither torch nor
accelerate. Knows nothing of what the job is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar


T = TypeVar("T")

# Shares are of like size, but nothing says that they take a like time.
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """
    This process among those of its job.

    Args:
        index (`int`, *optional*, defaults to `0`): Number of this process.
        count (`int`, *optional*, defaults to `1`): Number of processes.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Return the processes that a launcher started, joined to each other; one where there is no launcher."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        import torch
        from accelerate import PartialState

        # Whoever asks first sets up the group; what is given here is ignored afterwards.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_LONGEST_WAIT)
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes what is written once."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every n-th item, so that shares of sorted items are of like weight."""
        return items[self.index :: self.count]

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """Take the processes apart at the end of a command; without it the launcher complains."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()
