"""
Run a Python program that a model wrote: in a process of its own, isolated, bounded in time and memory.

Responsible for starting the process, for its time limit, for taking what it writes, and for leaving nothing of it
behind. How it isolates itself is in `sandboxed_program.py`. Refuses to know verdicts and verifiers. Nothing in the
standard library or among the package's dependencies isolates a process; container engines do, but need a service and
its rights. Not in the paper (PACED, arXiv 2603.11178); ours.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal


_SCRIPT = Path(__file__).with_name("sandboxed_program.py")
_MAX_OUTPUT_BYTES = 16 * 1024**2
_SECONDS_BETWEEN_LOOKS = 0.05
_START_TIMEOUT_S = 20.0  # to isolate itself, which is no fault of the program
_PROBE = ("import socket\n", "assert True", "passed")

Isolation = Literal["namespaces", "process"]


class SandboxError(Exception):
    """Raised where the sandbox could not be set up, so that nothing was run."""


@dataclass(frozen=True)
class Finished:
    """
    What became of a program.

    Args:
        reason (`str`):
            `"exited"`: it ended by itself. `"time"`: killed at the time limit. `"output"`: killed for writing more
            than 16 MiB.
        exit_code (`int`):
            Its exit code; 0 is success.
        output (`bytes`):
            What it wrote to standard output.
        message (`str`):
            What its tests handed over at their end.
    """

    reason: Literal["exited", "time", "output"]
    exit_code: int
    output: bytes
    message: str


class Sandbox:
    """
    Run programs, each in a fresh process.

    Args:
        isolation (`str`):
            `"namespaces"` (Linux 5.12 or newer): no network, no other process in sight, all files read-only but 64 MiB
            in a temporary directory, at most 16 processes. `"process"`: none of this, only the limits below, the
            temporary directory and the end of the process group; the program can do what the user can do.
        memory_limit (`int`):
            Bytes of address space per process (Linux).
    """

    def __init__(self, isolation: Isolation, memory_limit: int) -> None:
        self._isolation = isolation
        self._memory_limit = memory_limit

    def probe(self) -> None:
        """Run nothing much, so that a sandbox that cannot be had is known at once; raises [`SandboxError`]."""
        program, tests, word = _PROBE
        finished = self.run(program, seconds=30.0, tests=tests, word=word)
        if finished.message != word:
            raise SandboxError(f"Python does not start in it (exit code {finished.exit_code})")

    def run(
        self, program: str, *, seconds: float, tests: str | None = None, word: str = "", stdin: str = ""
    ) -> Finished:
        """
        Run a program.

        Args:
            program (`str`): Its source.
            seconds (`float`): Wall-clock time after which it is killed, with all its processes.
            tests (`str`, *optional*): Source executed after the program, with its names. `None`: run it as a script.
            word (`str`, *optional*): What `message` holds if the last statement of the tests was reached.
            stdin (`str`, *optional*): Its standard input.

        Returns:
            [`Finished`]

        Raises:
            SandboxError: If the isolation could not be set up.
        """
        with (
            tempfile.TemporaryDirectory(prefix="paced_trl_", ignore_cleanup_errors=True) as directory,
            tempfile.TemporaryFile() as request,
            tempfile.TemporaryFile() as given,
        ):
            for text in [program] if tests is None else [program, tests, word]:
                data = text.encode("utf-8", "surrogatepass")
                request.write(b"%-20d" % len(data) + data)
            given.write(stdin.encode("utf-8", "surrogatepass"))
            for file in (request, given):
                file.seek(0)
            return self._run(directory, request, given, seconds, has_tests=tests is not None)

    def _run(
        self, directory: str, request: IO[bytes], given: IO[bytes], seconds: float, *, has_tests: bool
    ) -> Finished:
        ours, theirs = os.pipe()
        settings = {
            "isolation": self._isolation,
            "memory": self._memory_limit,
            "cpu_seconds": math.ceil(seconds) + 1,
            "directory": directory,
            "request": request.fileno(),
            "status": theirs,
            "has_tests": has_tests,
        }
        environment = {"PATH": os.defpath, "HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-X", "utf8", str(_SCRIPT), json.dumps(settings)],
            stdin=given,
            stdout=subprocess.DEVNULL if has_tests else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[request.fileno(), theirs],
            cwd=directory,
            env={**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        os.close(theirs)
        pipes = {ours: bytearray()}
        if process.stdout is not None:
            pipes[process.stdout.fileno()] = bytearray()
        try:
            reason = _collect(process, pipes, ours, seconds)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            exit_code = process.wait()
            os.close(ours)
            if process.stdout is not None:
                process.stdout.close()
        status = bytes(pipes.pop(ours))
        if not status.startswith(b"R"):
            detail = status[1:].decode(errors="replace") or f"it ended with exit code {exit_code} before its start"
            raise SandboxError(detail)
        output = b"".join(bytes(data) for data in pipes.values())
        return Finished(reason, exit_code, output, status[1:].decode(errors="replace"))


def _collect(
    process: subprocess.Popen[bytes], pipes: dict[int, bytearray], status: int, seconds: float
) -> Literal["exited", "time", "output"]:
    """Read the pipes until they are closed and the process has ended, or its time is over, counted from its start."""
    deadline, has_started = time.monotonic() + _START_TIMEOUT_S, False
    with selectors.DefaultSelector() as selector:
        for descriptor in pipes:
            selector.register(descriptor, selectors.EVENT_READ)
        has_ended = False
        while True:
            # A look at the process as well: one that it left behind may hold a pipe open.
            has_ended = process.poll() is not None
            if not has_started and pipes[status]:
                deadline, has_started = time.monotonic() + seconds, True
            left = deadline - time.monotonic()
            if left <= 0 and not has_ended:
                return "time"
            events = selector.select(0 if has_ended else min(left, _SECONDS_BETWEEN_LOOKS))
            if has_ended and not events:
                return "exited"
            for key, _ in events:
                data = os.read(key.fd, 65536)
                pipes[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                if len(pipes[key.fd]) > _MAX_OUTPUT_BYTES:
                    return "output"
            if not selector.get_map():
                time.sleep(0.001)
