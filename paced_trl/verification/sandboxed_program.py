"""
What runs inside the sandbox, as a script in a fresh interpreter (`python -I`): a student's program, or its tests.

As "script" the program reads standard input and writes standard output. As "program" its functions are called by the
tests, which run as "tests" in another sandbox; so the program never shares a process with what it is compared with. It
limits itself before anything else. Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import resource
import sys
import types
from pathlib import Path
from typing import Any, NoReturn


_MAX_FILE_BYTES = 64 * 1024**2
_MAX_OPEN_FILES = 64
_MAX_PROCESSES = 16


def limit_resources(cpu_seconds: int, memory: int, *, processes: bool) -> None:
    """Set the limits that the kernel keeps; `processes` only where the user has no others that would be counted."""
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: _MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        limits[resource.RLIMIT_AS] = memory
    if processes:
        limits[resource.RLIMIT_NPROC] = _MAX_PROCESSES
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _remote_values() -> Any:
    path = Path(__file__).with_name("remote_values.py")
    specification = importlib.util.spec_from_file_location("paced_trl_remote_values", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run_script(source: str) -> NoReturn:
    """Execute the program, which reads standard input and writes standard output."""
    leave, code = os._exit, 1
    try:
        module = _module("__main__")
        try:
            exec(compile(source, "candidate.py", "exec"), vars(module))
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code in (None, 0) else 1
        sys.stdout.flush()
    except BaseException:
        leave(1)
    leave(code)


def run_program(source: str, receiving: int, sending: int) -> NoReturn:
    """Execute the program, then answer calls of what it defines."""
    peer, process = _remote_values().Peer(receiving, sending, guarded=False), os.getpid()
    with contextlib.suppress(BaseException):
        module = _module("candidate")
        exec(compile(source, "candidate.py", "exec"), vars(module))
        if os.getpid() != process:  # a child that the program forked and let go on
            os._exit(1)
        peer.names = vars(module)
        peer.serve()
    os._exit(1)


def run_tests(request: dict[str, Any], receiving: int, sending: int, status: int) -> NoReturn:
    """Execute the tests with the program's names, and write to `status` that all of them passed."""
    remote = _remote_values()
    peer = remote.Peer(receiving, sending, guarded=True)
    try:
        module = _module("candidate")
        found = peer.request("names", [*request["names"], *request["built_in_names"]])
        own = {name: value for name, value in found.items() if name in request["names"]}
        # A built-in is the program's only where the tests use nothing else of it, as in `assert sum([1, 2]) == 3`.
        vars(module).update(own or found)
        for name in set(request["names"]) - set(own):
            if name in remote.SHARED_MODULES:
                vars(module)[name] = importlib.import_module(name)
        vars(module)["_paced_trl_same"] = remote.same_value
        vars(module)["__getattr__"] = lambda name: peer.request("attribute", name)  # import candidate; candidate.f
        exec(compile(request["source"], "tests.py", "exec"), vars(module))
        os.write(status, b"P")
    except BaseException:  # SystemExit too: tests that end early have not passed
        os._exit(1)
    os._exit(0)


def main(settings: dict[str, Any]) -> None:
    """Limit this process, read what is to be run, run it."""
    status, user = settings["status"], settings["user"]
    try:
        if user is not None:
            # The kernel counts processes per user and does not count root's; and what root may read is not for this.
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        limit_resources(settings["cpu_seconds"], settings["memory"], processes=settings["isolated"])
        with os.fdopen(settings["request"], encoding="utf-8", errors="surrogatepass") as file:
            request = json.load(file)
        os.write(status, b"R")
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.write(status, b"E" + str(error).encode())
        os._exit(1)
    sys.argv = ["candidate.py"]
    if settings["role"] == "tests":
        run_tests(request, settings["receiving"], settings["sending"], status)
    os.close(status)
    if settings["role"] == "program":
        run_program(request["source"], settings["receiving"], settings["sending"])
    run_script(request["source"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
