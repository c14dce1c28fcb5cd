"""
The system calls that a sandboxed program is refused: memory that no limit counts, and ways out of namespaces.

A filter for the kernel (seccomp, in its BPF), for x86-64 and ARM64; elsewhere there is none.
"""

from __future__ import annotations

import platform
import struct


_REFUSED = {
    # memfd_create, memfd_secret, shmget, shmat, shmctl, semget, msgget, io_uring_setup/enter/register, userfaultfd,
    # perf_event_open, bpf, add_key, request_key, keyctl, ptrace, process_vm_readv/writev, unshare, setns, mount,
    # umount2, pivot_root, open_by_handle_at
    "x86_64": "319 447 29 30 31 64 68 425 426 427 323 298 321 248 249 250 101 310 311 272 308 165 166 155 304",
    "aarch64": "279 447 194 196 195 190 186 425 426 427 282 241 280 217 218 219 117 270 271 97 268 40 39 41 265",
}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020000 | 0x80
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _NOT_PERMITTED, _NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x00050026
_CALL, _CALL_ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def refusing_filter() -> bytes | None:
    """Return the filter as the kernel wants it, `None` for a machine whose numbers are not known here."""
    machine = platform.machine()
    if machine not in _REFUSED:
        return None
    program = [
        (_LOAD, 0, 0, _CALL_ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _NOT_PERMITTED),
        (_LOAD, 0, 0, _CALL),
        (_AT_LEAST, 0, 1, 0x40000000),  # x32: other numbers for the same calls
        (_RETURN, 0, 0, _NOT_PERMITTED),
        (_EQUAL, 0, 1, _CLONE3),  # its flags lie in memory; without it the C library takes clone
        (_RETURN, 0, 0, _NO_SUCH_CALL),
    ]
    for number in _REFUSED[machine].split():
        program += [(_EQUAL, 0, 1, int(number)), (_RETURN, 0, 0, _NOT_PERMITTED)]
    program += [
        (_EQUAL, 0, 3, _CLONE[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _NOT_PERMITTED),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
