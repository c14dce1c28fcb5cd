"""
How tests start processes.

A new interpreter takes seconds to import what a command needs, a process that is forked from one that has imported it
(`preloaded.py`) does not. Launchers and interpreters start where the start is what is tested.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["helpers.preloaded"])


@dataclass
class Finished:
    """What became of processes: the first exit status that is not 0, and what all of them wrote."""

    returncode: int
    stdout: str
    stderr: str


def free_port() -> str:
    """Return a port of this machine where a job's processes can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start_forked(
    *command: str, stdout: Path, stderr: Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> multiprocessing.context.ForkServerProcess:
    """Start `python COMMAND`, as in `-m module arguments` or `file.py arguments`, and append what it writes."""
    process = _CONTEXT.Process(
        target=_run, args=(command, str(stdout), str(stderr), str(cwd), {**ENVIRONMENT, **(environment or {})})
    )
    process.start()
    return process


def run_forked(
    *command: str,
    num_processes: int | None = None,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    timeout: float = 240,
) -> Finished:
    """Run `python COMMAND`, with `num_processes` as `torchrun` would start it, and wait for the end."""
    with tempfile.TemporaryDirectory() as directory:
        stdout, stderr = Path(directory) / "stdout", Path(directory) / "stderr"
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        job |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
        ranks = [job | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes or 0)]
        processes = [
            start_forked(*command, stdout=stdout, stderr=stderr, cwd=cwd, environment={**(environment or {}), **rank})
            for rank in ranks or [{}]
        ]
        deadline = time.monotonic() + timeout
        statuses: list[int | None] = [None]
        while None in statuses and not any(statuses) and time.monotonic() < deadline:
            time.sleep(0.01)
            statuses = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
            process.join()
        assert None not in statuses or any(statuses), f"not over after {timeout} s: {stderr.read_text()[-3000:]}"
        return Finished(next(filter(None, statuses), 0), stdout.read_text(), stderr.read_text())


def _run(command: tuple[str, ...], stdout: str, stderr: str, cwd: str, environment: dict[str, str]) -> None:
    """Become what a new interpreter would be that runs a command, and end as it does."""
    import numpy

    numpy.random.seed()
    # A shell's background jobs, and their children, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    status = 0
    try:
        if command[0] == "-m":
            sys.argv = list(command[1:])
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Not `os._exit`, with which `multiprocessing` ends: threads that are left and functions `atexit` are to show.
    ctypes.pythonapi.Py_Exit(status)


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
