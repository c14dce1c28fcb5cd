"""
Run Python programs that a model wrote: in processes of their own, isolated by bubblewrap, bounded in time and memory.

Responsible for starting them, for their limits, for taking what they write, and for leaving nothing of them behind.
What runs inside is `sandboxed_program.py`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .system_calls import refusing_filter


_SCRIPT = Path(__file__).with_name("sandboxed_program.py")
_VALUES = Path(__file__).with_name("remote_values.py")
_BOX = "/box"
_BOX_BYTES = 64 * 1024**2
_MAX_OUTPUT_BYTES = 16 * 1024**2
_SECONDS_BETWEEN_LOOKS = 0.05
_START_TIMEOUT_S = 20.0  # to isolate itself, which is no fault of the program
_NAMESPACES = ("--unshare-ipc", "--unshare-net", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try")
_SYSTEM = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share/zoneinfo")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")

Isolation = Literal["namespaces", "process"]
Reason = Literal["exited", "time", "output", "memory"]  # output of more than 16 MiB, memory of all its processes


class SandboxError(Exception):
    """Raised where the sandbox could not be set up, so that nothing was run."""


@dataclass(frozen=True)
class Finished:
    """What became of a program: it ended by itself, or why it was killed; and what it wrote to standard output."""

    reason: Reason
    exit_code: int
    output: bytes


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    pipes: dict[int, bytearray] = field(default_factory=dict)
    status: int = -1

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in self.pipes:
            os.close(descriptor)

    def require_start(self, code: int) -> None:
        status = bytes(self.pipes[self.status])
        if not status.startswith(b"R"):
            detail = status[1:].decode(errors="replace") or f"it ended with exit code {code} before its start"
            raise SandboxError(detail)


class Sandbox:
    """
    Run programs, each in fresh processes.

    With `isolation="namespaces"` (Linux, bubblewrap) a program has no network, sees no other process and of the files
    only Python's own, read-only, beside 64 MiB in a temporary directory; it may start 16 processes, and for root it
    runs as another user. With `"process"` there are only limits, and the program can do what the user can do; refused
    for root. `memory_limit` is in bytes: of address space per process, and of memory for all of them.
    """

    def __init__(self, isolation: Isolation, memory_limit: int) -> None:
        self._isolation = isolation
        self._memory_limit = memory_limit
        self._with_proc = True

    def probe(self) -> None:
        """Run nothing much, so that a sandbox that cannot be had is known at once; raises [`SandboxError`]."""
        if self._isolation == "process" and os.geteuid() == 0:
            raise SandboxError("without namespaces, a program run as root could end every process of the machine")
        try:
            finished = self.run_script("import socket", seconds=30.0)
        except SandboxError:
            if self._isolation == "process":
                raise
            self._with_proc = False  # a container may refuse a fresh /proc
            finished = self.run_script("import socket", seconds=30.0)
        if finished.exit_code != 0:
            raise SandboxError(f"Python does not start in it (exit code {finished.exit_code})")

    def run_script(self, program: str, *, seconds: float, stdin: str = "") -> Finished:
        """Run a program that reads standard input and writes standard output, for so many seconds by the clock."""
        with contextlib.ExitStack() as stack:
            given = _file(stack, stdin.encode("utf-8", "surrogatepass"))
            started = self._start(stack, "script", {"source": program}, seconds, stdin=given)
            reason, code = self._finish([started], seconds)
            output = b"".join(data for descriptor, data in started.pipes.items() if descriptor != started.status)
            return Finished(reason, code, output)

    def run_tests(
        self, program: str, tests: str, names: list[str], built_in_names: list[str], *, seconds: float
    ) -> bool:
        """Return whether tests pass on a program, of which they use `names`; each runs in a sandbox of its own."""
        request = {"source": tests, "names": names, "built_in_names": built_in_names}
        with contextlib.ExitStack() as stack:
            to_tests, to_program = os.pipe(), os.pipe()
            ends = {"program": (to_program[0], to_tests[1]), "tests": (to_tests[0], to_program[1])}
            try:
                started = [
                    self._start(stack, "tests", request, seconds, ends["tests"]),
                    self._start(stack, "program", {"source": program}, seconds, ends["program"]),
                ]
            finally:
                for descriptor in (*to_tests, *to_program):
                    os.close(descriptor)
            self._finish(started, seconds)
            return started[0].pipes[started[0].status] == b"RP"

    def _start(
        self,
        stack: contextlib.ExitStack,
        role: str,
        request: dict[str, Any],
        seconds: float,
        connection: tuple[int, int] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> _Process:
        file = _file(stack, json.dumps(request).encode())
        ours, theirs = os.pipe()
        descriptors = [file, theirs, *(connection or ())]
        isolated = self._isolation == "namespaces"
        # A user of its own, so that one sandbox's processes are counted alone; below 65536, as containers map them.
        user = 60_001 + time.monotonic_ns() // 1000 % 5_000 if isolated and os.geteuid() == 0 else None
        settings = {
            "role": role,
            "isolated": isolated,
            "user": user,
            "memory": self._memory_limit,
            "cpu_seconds": math.ceil(seconds) + 1,
            "request": file,
            "status": theirs,
            "receiving": connection[0] if connection else None,
            "sending": connection[1] if connection else None,
        }
        if isolated:
            directory, script = _BOX, "/sandbox/sandboxed_program.py"
            prefix, filter_file = self._bubblewrap(stack)
            descriptors += [filter_file] if filter_file is not None else []
        else:
            made = tempfile.TemporaryDirectory(prefix="paced_trl_", ignore_cleanup_errors=True)
            directory, script, prefix = stack.enter_context(made), str(_SCRIPT), []
        environment = {"PATH": os.defpath, "HOME": directory, "TMPDIR": directory, "LANG": "C.UTF-8"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        for name, value in environment.items() if isolated else ():
            prefix += ["--setenv", name, value]
        try:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-I", "-B", "-X", "utf8", script, json.dumps(settings)],
                stdin=stdin,
                stdout=subprocess.PIPE if role == "script" else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                cwd=None if isolated else directory,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            os.close(ours)
            raise SandboxError(str(error)) from error
        finally:
            os.close(theirs)
        started = _Process(process, {ours: bytearray()}, ours)
        if process.stdout is not None:
            started.pipes[os.dup(process.stdout.fileno())] = bytearray()
            process.stdout.close()
        stack.callback(started.end)
        return started

    def _bubblewrap(self, stack: contextlib.ExitStack) -> tuple[list[str], int | None]:
        """Return the command that isolates, and the file of its filter, which it is to inherit."""
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxError("bubblewrap, the program `bwrap`, is not installed")
        command = [program, "--die-with-parent", "--clearenv"]
        if os.geteuid() == 0:
            # Root needs no user namespace; the script inside becomes another user, whose processes the kernel counts.
            command += [*_NAMESPACES, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            command += ["--unshare-all"]
        made: set[str] = set()
        for source, target in _python_files():
            for parent in reversed(Path(target).parents[:-1]):
                if str(parent) not in made:
                    made.add(str(parent))
                    command += ["--perms", "0755", "--dir", str(parent)]
            if os.path.dirname(source) == "/" and os.path.islink(source):
                command += ["--symlink", os.readlink(source), target]
            else:
                command += ["--ro-bind-try", source, target]
            made.add(target)
        command += ["--proc", "/proc"] if self._with_proc else ["--dir", "/proc"]
        command += ["--dev", "/dev", "--size", str(_BOX_BYTES), "--perms", "1777", "--tmpfs", _BOX]
        command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _BOX]
        content = refusing_filter()
        if content is None:
            return command, None
        file = _file(stack, content)
        return [*command, "--seccomp", str(file)], file

    def _finish(self, started: list[_Process], seconds: float) -> tuple[Reason, int]:
        """Wait for the first process, and end all; raises [`SandboxError`] if one did not start."""
        reason = _collect(started, self._memory_limit, seconds)
        code = started[0].process.wait() if reason == "exited" else -1
        for each in started:
            if reason == "exited" or each.pipes[each.status]:
                each.require_start(code)
        return reason, code


def _file(stack: contextlib.ExitStack, content: bytes) -> int:
    """Return the descriptor of a file without a name, at its start."""
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    os.fchmod(file.fileno(), 0o444)  # a program that opens /dev/stdin is another user
    file.write(content)
    file.seek(0)
    return file.fileno()


def _python_files() -> Iterator[tuple[str, str]]:
    """Yield what Python needs of this machine's files, and where in the sandbox it lies."""
    for top in ("/lib", "/lib32", "/lib64"):
        if os.path.lexists(top):
            yield top, top
    directories = [*_SYSTEM]
    for prefix in (sys.base_prefix, sys.prefix):
        is_system = prefix in ("/usr", "/usr/local", "/")
        directories += [os.path.join(prefix, part) for part in ("bin", "lib", "lib64")] if is_system else [prefix]
    executable = sys.executable
    while os.path.islink(executable):  # as in a virtual environment
        executable = os.path.join(os.path.dirname(executable), os.readlink(executable))
        directories.append(os.path.dirname(os.path.normpath(executable)))
    kept: list[str] = []
    for directory in sorted(dict.fromkeys(directories), key=len):
        if os.path.isdir(directory) and not any(Path(directory).is_relative_to(other) for other in kept):
            kept.append(directory)
            yield directory, directory
    yield from ((file, file) for file in _SYSTEM_FILES if os.path.exists(file) and not os.path.islink(file))
    yield str(_SCRIPT), "/sandbox/sandboxed_program.py"
    yield str(_VALUES), "/sandbox/remote_values.py"


def _collect(started: list[_Process], memory_limit: int, seconds: float) -> Reason:
    """Read the pipes until the first process has ended, or its time is over, counted from the start of all."""
    first, deadline, has_started = started[0], time.monotonic() + _START_TIMEOUT_S, False
    pipes = {descriptor: data for each in started for descriptor, data in each.pipes.items()}
    with selectors.DefaultSelector() as selector:
        for descriptor in pipes:
            selector.register(descriptor, selectors.EVENT_READ)
        next_count = 0.0
        while True:
            # A look at the process as well: one that it left behind may hold a pipe open.
            has_ended = first.process.poll() is not None
            now = time.monotonic()
            if not has_started and all(each.pipes[each.status] for each in started):
                deadline, has_started = now + seconds, True
            if now >= deadline and not has_ended:
                return "time"
            if now >= next_count:
                if sum(memory_of(each.process.pid) for each in started) > memory_limit:
                    return "memory"
                next_count = now + 2 * (time.monotonic() - now) + _SECONDS_BETWEEN_LOOKS
            events = selector.select(0 if has_ended else min(deadline - now, _SECONDS_BETWEEN_LOOKS))
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


def memory_of(process: int) -> int:
    """Return the bytes of memory of a process and all its descendants, shared ones once where the kernel says so."""
    total, waiting = 0, [process]
    seen: set[int] = set()
    while waiting and len(seen) < 1000:
        number = waiting.pop()
        seen.add(number)
        try:
            total += _resident(number)
            for task in os.listdir(f"/proc/{number}/task"):
                with open(f"/proc/{number}/task/{task}/children") as file:
                    waiting += [int(child) for child in file.read().split()]
        except (OSError, ValueError):
            continue
    return total


def _resident(process: int) -> int:
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            shares = [line.split()[1] for line in file if line.startswith("Pss:")]
        return int(shares[0]) * 1024
    except (OSError, IndexError):
        with open(f"/proc/{process}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
