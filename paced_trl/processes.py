"""
The processes that work on one job: `accelerate launch` or `torchrun` starts them, this module tells them apart.

It has the share of each process, waiting on the others, and jobs that only the first of them does. One process needs
neither torch nor accelerate.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar


T = TypeVar("T")

# Shares are of like size, but nothing says that they take a like time.
_LONGEST_WAIT = timedelta(days=7)
_SECONDS_BETWEEN_LOOKS = 0.02
# By these, torch, accelerate and transformers know that there are others to wait for or to shard with.
_LAUNCHERS_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_DEEPSPEED",
)


def run_on_first_process_only() -> int:
    """Let the first process go on as if it were alone; return how many it goes on without, -1 in those."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and int(os.environ["RANK"]) > 0:
        return -1
    if count > 1:
        for name in _LAUNCHERS_VARIABLES:
            os.environ.pop(name, None)
    return count - 1


@dataclass(frozen=True)
class Processes:
    """This process among those of its job."""

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Return the processes that a launcher started, joined to each other; one where there is no launcher."""
        num_started = int(os.environ.get("WORLD_SIZE", "1"))
        if num_started == 1:
            return cls()
        import torch
        import torch.distributed.nn.functional
        from accelerate import PartialState

        # The module above is loaded first, because its functions keep the group that there is when it is loaded, as a
        # default argument: `leave` could not end the threads of that one.
        # Whoever asks first sets up the group; what is given here is ignored afterwards.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_LONGEST_WAIT)
        if state.num_processes == 1:
            raise ValueError(
                f"{num_started} processes were started, and accelerate knows of one: there is no accelerator, and "
                "each would do all the work over again. Set `use_cpu`, or start one process."
            )
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes what is written once."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every n-th item, so that shares of sorted items are of like weight."""
        return items[self.index :: self.count]

    def join(self, results: Sequence[T]) -> list[T]:
        """Return the results of all items in their order, in every process, from those of each process's share."""
        if self.count == 1:
            return list(results)
        import torch

        shares: list[list[T]] = [[]] * self.count
        torch.distributed.all_gather_object(shares, list(results))
        joined: list[T | None] = [None] * sum(map(len, shares))
        for index, share in enumerate(shares):
            joined[index :: self.count] = share
        return joined  # type: ignore[return-value]

    def wait(self) -> None:
        """Return when all processes have come here; Ctrl-C ends the waiting."""
        if self.count > 1:
            import torch
            from accelerate import PartialState

            # A barrier that blocks would hold signals back until the slowest process comes.
            barrier = torch.distributed.barrier(async_op=True, device_ids=[PartialState().local_process_index])
            assert barrier is not None
            while not barrier.is_completed():
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            barrier.wait()

    @contextmanager
    def temporary_directory(self, prefix: str) -> Iterator[str]:
        """Make one directory for all processes of a machine, and delete it when all of them have left it."""
        if self.count > int(os.environ.get("LOCAL_WORLD_SIZE", self.count)):
            raise ValueError(
                f"{self.count} processes run on several machines, which share no temporary directory. Name one that "
                "all of them see."
            )
        if self.is_main:
            with tempfile.TemporaryDirectory(prefix=prefix) as name:
                yield self._told_by_main(name)
                self.wait()
        else:
            yield self._told_by_main("")
            self.wait()

    def _told_by_main(self, value: str) -> str:
        if self.count == 1:
            return value
        import torch

        told = [value]
        torch.distributed.broadcast_object_list(told)
        return told[0]

    def leave(self) -> None:
        """End the threads that join this process to the others, at the end of a command."""
        torch = sys.modules.get("torch")
        # Also of a single process: accelerate makes a group whenever a launcher started it.
        if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            from torch.distributed import distributed_c10d

            groups = list(distributed_c10d._world.pg_map)
            torch.distributed.destroy_process_group()
            # Its threads go on while anything refers to the group, such as a trainer that refers to itself. One that
            # lets go of a tensor when Python has ended ends the process with "terminate called without an active
            # exception", for it cannot have the interpreter's lock any more.
            gc.collect()
            # Last of all references: this one is let go without the interpreter's lock. Were it that of a trainer, the
            # group would wait with the lock for a thread of its own that waits for the lock, and the process hang.
            groups.clear()
