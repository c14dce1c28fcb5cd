"""
Worker processes that can be killed: every call is bounded in time, and on request in memory, whatever it does.

`concurrent.futures` and `loky` cannot end one stuck task; `pebble` can, but its workers re-import the user's
`__main__`, and the death of an idle worker breaks its pool for good. Here a worker is a fresh interpreter that imports
only what the check needs, with a session of its own and a pipe of its own. The parent
uses no signal handler and no thread, so it works from any thread.
"""

from __future__ import annotations

import contextlib
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Literal


# Importing what a check needs takes about a second (sympy); a user's reward function may import torch.
_START_TIMEOUT_S = 180.0
_MAX_CALLS_PER_MESSAGE = 32
# `sys` is built in, so nothing in the working directory can shadow it before the parent's path is in place.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from paced_trl.verification.worker_pool import serve; serve(int(sys.argv[1]))"
)


@dataclass(frozen=True)
class Failure:
    """
    What stands in the results for a row whose call did not return.

    `"timeout"`: killed at the time limit. `"memory"`: ran past the memory limit. `"died"`: it ended by itself.
    `"raised"`: the call raised. `detail` is the traceback or the exit code.
    """

    reason: Literal["timeout", "memory", "died", "raised"]
    detail: str


class FatalCheckError(Exception):
    """Raised by a check that is wrong as such, not for one row: it ends the whole `map` with a `ValueError`."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    is_ready: bool = False
    pending: deque[list[int]] = field(default_factory=deque)  # row indices of the calls sent and not yet answered


class WorkerPool:
    """
    Run the methods of an object on lists of rows, in killable processes.

    Processes start at the first [`WorkerPool.map`], are reused, and end with [`WorkerPool.close`], with the pool or
    with the parent. One that is killed is replaced. `factory` is the `"module:name"` of a callable that each worker
    calls once with `options`; `timeout` is in seconds per call, `max_memory` in bytes of address space. POSIX only.
    """

    def __init__(
        self,
        factory: str,
        options: Mapping[str, Any] | None = None,
        *,
        num_workers: int,
        timeout: float,
        max_memory: int | None = None,
    ) -> None:
        self._setup = (factory, dict(options or {}), timeout, max_memory)
        self._num_workers = num_workers
        self._timeout = timeout
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _stop, self._workers, self._owner)

    def map(self, method: str, rows: Sequence[Any], *, rows_per_call: int = 1) -> list[Any]:
        """
        Return the results of `method(rows)` on at most `rows_per_call` consecutive rows at a time, or their failures.

        When a call over several rows fails, its rows are called again one by one, and a row at which the process died
        is tried once more, so that a failure never stands for a row that did not cause it.
        """
        with self._lock:
            if os.getpid() != self._owner:  # a forked child must neither share nor stop its parent's workers
                self._workers, self._owner = [], os.getpid()
                self._finalizer = weakref.finalize(self, _stop, self._workers, self._owner)
            indices = range(len(rows))
            todo = deque(list(indices[start : start + rows_per_call]) for start in indices[::rows_per_call])
            results: list[Any] = [None] * len(rows)
            try:
                while todo or any(worker.pending for worker in self._workers):
                    self._dispatch(method, rows, todo)
                    self._collect(results, todo)
            except BaseException:  # Ctrl-C included: what still runs would answer the next `map`
                for worker in [worker for worker in self._workers if worker.pending or not worker.is_ready]:
                    self._discard(worker)
                raise
            return results

    def close(self) -> None:
        """End the worker processes. A later [`WorkerPool.map`] starts new ones."""
        with self._lock:
            _stop(self._workers, self._owner)

    def _dispatch(self, method: str, rows: Sequence[Any], todo: deque[list[int]]) -> None:
        while len(self._workers) < min(self._num_workers, len(todo)):
            self._workers.append(_start(self._setup))
        for worker in list(self._workers):
            if not todo or worker.pending or not worker.is_ready:
                continue
            # Fewer calls per message towards the end, so that the workers finish together.
            num_calls = min(len(todo), max(1, min(_MAX_CALLS_PER_MESSAGE, len(todo) // (2 * self._num_workers))))
            worker.pending.extend(todo.popleft() for _ in range(num_calls))
            worker.deadline = time.monotonic() + self._timeout
            try:
                worker.connection.send((method, [[rows[index] for index in call] for call in worker.pending]))
            except OSError:  # died while idle, say by the system's out-of-memory killer: no row is to blame
                todo.extendleft(reversed(worker.pending))
                self._discard(worker)

    def _collect(self, results: list[Any], todo: deque[list[int]]) -> None:
        """Take what has arrived, or wait for it until the first deadline; then kill what is past its own."""
        busy = [worker for worker in self._workers if worker.pending or not worker.is_ready]
        if not busy:
            return
        seconds = min(worker.deadline for worker in busy) - time.monotonic()
        arrived = wait([worker.connection for worker in busy], max(0.0, seconds))
        for worker in busy:
            if worker.connection in arrived:
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        worker.process.wait(timeout=1.0)
                    answer = Failure("died", f"the worker process ended with exit code {worker.process.returncode}")
            elif time.monotonic() >= worker.deadline:
                answer = Failure("timeout", f"no result within {self._timeout:g} s")
            else:
                continue
            self._take(worker, answer, results, todo)

    def _take(self, worker: _Worker, answer: Any, results: list[Any], todo: deque[list[int]]) -> None:
        if isinstance(answer, FatalCheckError):
            raise ValueError(str(answer))
        if not worker.is_ready:
            if isinstance(answer, Failure):
                raise RuntimeError(
                    f"A worker process for `{self._setup[0]}` with options {self._setup[1]} could not start "
                    f"({answer.reason}). Make sure that it can be imported and called in a fresh Python process:\n"
                    f"{answer.detail}"
                )
            worker.is_ready = True
            return
        worker.deadline = time.monotonic() + self._timeout
        call = worker.pending.popleft()
        if not isinstance(answer, Failure):
            for index, result in zip(call, answer, strict=True):
                results[index] = result
            return
        if answer.reason != "raised":
            todo.extendleft(reversed(worker.pending))
            self._discard(worker)
        # A death may have come from outside (the system short of memory), so a row is blamed for its second one only.
        if len(call) > 1 or (answer.reason == "died" and results[call[0]] is None):
            todo.extendleft([index] for index in reversed(call))
        if len(call) == 1:
            results[call[0]] = answer

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.kill()  # SIGKILL: a worker that holds the interpreter lock does not react to anything milder
        worker.process.wait()


def _start(setup: tuple[Any, ...]) -> _Worker:
    if os.name != "posix":
        raise RuntimeError(f"Verification in worker processes needs Linux or macOS; this is {sys.platform}.")
    ours, theirs = Pipe()
    try:
        descriptor = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(descriptor), *(path for path in sys.path if isinstance(path, str))],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Workers are the parallelism; threads under each of them would only fight over the same cores.
            env={"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ},
        )
    finally:
        theirs.close()
    ours.send(setup)
    return _Worker(process, ours, deadline=time.monotonic() + _START_TIMEOUT_S)


def _stop(workers: list[_Worker], owner: int) -> None:
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.connection.close()  # an idle worker ends by itself when its pipe is closed
    for worker in workers:
        try:
            worker.process.wait(timeout=1.0 if worker.is_ready and not worker.pending else 0.0)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
    workers.clear()


def serve(descriptor: int) -> None:
    """Be a worker: make the object, answer calls, end when the parent closes the pipe or is gone."""
    connection = Connection(descriptor)
    try:
        factory, options, timeout, max_memory = connection.recv()
        if max_memory is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
        check = _outcome(lambda: pkgutil.resolve_name(factory)(**options))
        if isinstance(check, Failure | FatalCheckError):
            connection.send(check)
            return
        connection.send("ready")
        while True:
            method, calls = connection.recv()
            for call in calls:
                # The parent's kill bounds the wall clock. Should the parent itself be killed meanwhile, the kernel
                # ends this process by CPU time, even if it holds the interpreter lock: no orphan spins for ever.
                signal.setitimer(signal.ITIMER_PROF, 2 * timeout * (os.cpu_count() or 1))
                answer = _outcome(getattr(check, method), call)
                signal.setitimer(signal.ITIMER_PROF, 0)
                connection.send(answer)
                if isinstance(answer, Failure) and answer.reason == "memory":
                    return
    except (EOFError, OSError):
        return


def _outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except FatalCheckError as error:
        return error
    except BaseException as error:  # SystemExit and libraries' own too: a worker ends only by its parent
        reason: Literal["memory", "raised"] = "memory" if isinstance(error, MemoryError) else "raised"
        return Failure(reason, "".join(traceback.format_exception(error)))
