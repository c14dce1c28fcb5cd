"""How tests start several processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def leave_and_list_threads(output: str) -> None:
    """End this process's part of a job, and write to `OUTPUT.threads-RANK` which threads of the group are left."""
    from paced_trl.processes import Processes

    Processes.current().leave()
    list_threads(output, os.environ.get("RANK", "0"))


def list_threads(output: str, rank: str) -> None:
    """Write to `OUTPUT.threads-RANK` which threads that join this process to others there are."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    Path(f"{output}.threads-{rank}").write_text(json.dumps([name for name in names if "gloo" in name]))


def threads_left(output: Path, num_processes: int) -> list[list[str]]:
    """Return what each process of a finished job wrote of the threads that it had left."""
    return [json.loads(Path(f"{output}.threads-{rank}").read_text()) for rank in range(num_processes)]
