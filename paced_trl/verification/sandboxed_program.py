"""
What runs inside the sandbox: it isolates itself, then executes one candidate program and, if given, its tests.

Started by `sandbox.py` as a script in a fresh interpreter (`python -I`), so it imports the standard library only. On
Linux it enters namespaces of its own: no network, no other process in sight, every file system read-only but a small
temporary one. It is no virtual machine: the candidate talks to the same kernel, and may read what the user may read.
Refuses to know verdicts. Not in the paper (PACED, arXiv 2603.11178); ours.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import types
from typing import Any, NoReturn


_NEW_MOUNTS, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_PRIVATE_RECURSIVE = (1 << 18) | 0x4000
_NO_SUID_NO_DEVICES = 2 | 4
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1  # the number is the same on all architectures
_DIE_WITH_PARENT, _KEEP_CAPABILITIES, _NO_NEW_PRIVILEGES = 1, 8, 38
_CAP_DAC_READ_SEARCH = 1 << 2
_CAPABILITY_VERSION = 0x20080522
_MAX_FILE_BYTES = 64 * 1024**2
_MAX_OPEN_FILES = 64
_MAX_PROCESSES = 16


class SetUpError(Exception):
    """Raised where the kernel refuses a step of the isolation."""


def _check(result: int, step: str) -> None:
    if result != 0:
        raise SetUpError(f"{step}: {os.strerror(ctypes.get_errno())}")


def _die_with_parent(libc: Any) -> None:
    if sys.platform == "linux":
        _check(libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0), "prctl")


def enter_namespaces(libc: Any, directory: str, user: int) -> None:
    """
    Leave the network, make all mounts read-only and put an empty file system of 64 MiB at `directory`.

    Args:
        libc (`ctypes.CDLL`): The C library.
        directory (`str`): The one place that stays writable.
        user (`int`): Whom it belongs to.
    """
    spaces = _NEW_MOUNTS | _NEW_IPC | _NEW_PIDS | _NEW_NETWORK
    group = os.getgid() if os.getuid() else user
    if os.getuid():  # who is not root may do all this in a user namespace only
        _check(libc.unshare(spaces | _NEW_USER), "unshare")
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)
    else:
        _check(libc.unshare(spaces), "unshare")
    _check(libc.mount(None, b"/", None, _PRIVATE_RECURSIVE, None), "mount --make-rprivate")
    read_only = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    size = ctypes.sizeof(read_only)
    _check(libc.syscall(_MOUNT_SETATTR, _HERE, b"/", _RECURSIVE, read_only, size), "mount_setattr")
    options = f"size={_MAX_FILE_BYTES},nr_inodes=4096,mode=700,uid={user},gid={group}".encode()
    _check(libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", _NO_SUID_NO_DEVICES, options), "mount tmpfs")
    if os.path.isdir("/run"):  # sockets of services such as container engines
        _check(libc.mount(b"tmpfs", b"/run", b"tmpfs", _NO_SUID_NO_DEVICES, b"size=4k,mode=755"), "mount /run")


def drop_privileges(libc: Any, user: int) -> None:
    """Hide the processes outside and give up every privilege; of root's, the right to read files stays."""
    # A kernel may refuse a fresh /proc in a container; then there is none.
    if libc.mount(b"proc", b"/proc", b"proc", _NO_SUID_NO_DEVICES, None) != 0:
        _check(libc.mount(b"tmpfs", b"/proc", b"tmpfs", _NO_SUID_NO_DEVICES, b"size=4k,mode=555"), "mount /proc")
    kept = 0
    if os.getuid() == 0:
        # The kernel counts processes per user and does not count root's. Python itself may lie in root's home.
        kept = _CAP_DAC_READ_SEARCH
        _check(libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0), "prctl")
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)), "capset")
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")


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


def _next_message(descriptor: int) -> str:
    length = int(os.read(descriptor, 20))
    parts = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts).decode("utf-8", "surrogatepass")


def run_tests(request: int, status: int) -> NoReturn:
    """
    Execute the candidate, then its tests, then hand over the word that says that all of them passed.

    That word is read after the last test, so a candidate that ends the process or prints what it likes does not have
    it. What the candidate did to the built-ins is undone before the tests.
    """
    read, write, leave, namespace_of = _next_message, os.write, os._exit, vars(builtins)
    names = dict(namespace_of)
    try:
        module = types.ModuleType("candidate")
        sys.modules["candidate"] = module
        exec(compile(read(request), "candidate.py", "exec"), vars(module))
        namespace_of.clear()
        namespace_of.update(names)
        exec(compile(read(request), "tests.py", "exec"), vars(module))
        write(status, read(request).encode())
    except BaseException:  # SystemExit too: a program that ends itself has not passed its tests
        leave(1)
    leave(0)


def run_program(request: int) -> NoReturn:
    """Execute the candidate as a program that reads standard input and writes standard output."""
    leave, code = os._exit, 1
    try:
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        try:
            exec(compile(_next_message(request), "candidate.py", "exec"), vars(module))
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code in (None, 0) else 1
        sys.stdout.flush()
    except BaseException:
        leave(1)
    leave(code)


def main(settings: dict[str, Any]) -> None:
    """Isolate, fork the process that runs the candidate, wait for it, end as it did."""
    libc = ctypes.CDLL(None, use_errno=True)
    status, directory, isolated = settings["status"], settings["directory"], settings["isolation"] == "namespaces"
    # A user id of its own, so that one sandbox's processes are counted alone; below 65536, as containers map them.
    user = os.getuid() or 60_001 + os.getpid() % 5_000
    try:
        _die_with_parent(libc)
        if isolated:
            enter_namespaces(libc, directory, user)
        os.chdir(directory)
        child = os.fork()
        if child:
            _, result = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(result) & 0xFF)
        if isolated:
            drop_privileges(libc, user)
        _die_with_parent(libc)
        limit_resources(settings["cpu_seconds"], settings["memory"], processes=isolated)
        os.write(status, b"R")
    except (SetUpError, OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.write(status, b"E" + str(error).encode())
        os._exit(1)
    sys.argv = ["candidate.py"]
    if settings["has_tests"]:
        run_tests(settings["request"], status)
    os.close(status)
    run_program(settings["request"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
