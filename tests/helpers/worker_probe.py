"""What worker processes run in tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from paced_trl.verification.worker_pool import FatalCheckError


class Probe:
    """What the workers of the tests below run: well-behaved methods and every way to go wrong."""

    def __init__(self, start: str = "well") -> None:
        if start == "raise":
            raise RuntimeError("the probe cannot start")

    def square(self, rows: list[int]) -> list[int]:
        return [row * row for row in rows]

    def sleep(self, rows: list[float]) -> list[float]:
        time.sleep(sum(rows))
        return rows

    def process(self, rows: list[Any]) -> list[tuple[int, int]]:
        time.sleep(0.02)
        return [(os.getpid(), os.getsid(0)) for _ in rows]

    def modules(self, rows: list[str]) -> list[bool]:
        return [row in sys.modules for row in rows]

    def misbehave(self, rows: list[str]) -> list[str]:
        for row in rows:
            if row == "freeze":  # big integers: C code that holds the interpreter lock
                str(7 ** (10**8))
            elif row == "loop":
                while True:
                    pass
            elif row == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif row == "exit":
                os._exit(3)
            elif row == "memory":
                bytearray(10**12)
            elif row == "raise":
                raise SystemExit("not a way to leave a worker")
            elif row == "fatal":
                raise FatalCheckError("this check is wrong as such")
        return list(rows)
