"""Worker processes that hang, crash, run out of memory or are killed: what the others get, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paced_trl.verification.worker_pool import Failure, WorkerPool


PROBE = "helpers.worker_probe:Probe"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(PROBE, num_workers=2, timeout=1.0, max_memory=4 * 1024**3)
    yield pool
    pool.close()


def test_results_keep_the_order_of_the_rows(pool: WorkerPool) -> None:
    assert pool.map("square", range(1000)) == [row * row for row in range(1000)]
    assert pool.map("square", range(1000), rows_per_call=7) == [row * row for row in range(1000)]
    durations = [0.03 * (row % 3 == 0) for row in range(40)]
    assert pool.map("sleep", durations) == durations
    assert pool.map("square", []) == []


@pytest.mark.parametrize(
    ("rows_per_call", "bad"),
    [
        (1, {3: "freeze", 4: "loop", 17: "exit", 30: "stop", 31: "memory", 59: "raise"}),
        (8, {4: "loop", 17: "exit", 59: "raise"}),
    ],
)
def test_misbehaving_rows_fail_alone_and_their_workers_are_replaced(
    pool: WorkerPool, rows_per_call: int, bad: dict[int, str]
) -> None:
    reasons = {"freeze": "timeout", "loop": "timeout", "stop": "timeout", "exit": "died", "raise": "raised"}
    rows = [bad.get(index, "fine") for index in range(60)]
    results = pool.map("misbehave", rows, rows_per_call=rows_per_call)
    for index, result in enumerate(results):
        if index not in bad:
            assert result == "fine"
        else:
            assert isinstance(result, Failure) and result.reason == reasons.get(bad[index], bad[index])
            assert result.reason != "died" or "exit code 3" in result.detail
            assert result.reason != "raised" or "SystemExit: not a way" in result.detail


def test_fatal_error_ends_the_map_and_the_pool_goes_on(pool: WorkerPool) -> None:
    with pytest.raises(ValueError, match="wrong as such"):
        pool.map("misbehave", ["loop", "fatal", "loop"])
    assert pool.map("square", [5]) == [25]


def test_worker_that_cannot_start_is_an_error() -> None:
    pool = WorkerPool(PROBE, {"start": "raise"}, num_workers=2, timeout=1.0)
    with pytest.raises(RuntimeError, match=rf"(?s){PROBE}.*could not start.*the probe cannot start"):
        pool.map("square", [1])


def test_workers_are_reused_and_replaced_when_killed_while_idle(pool: WorkerPool) -> None:
    before = {pid for pid, _ in pool.map("process", range(40))}
    assert {pid for pid, _ in pool.map("process", range(40))} == before and len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    after = {pid for pid, _ in pool.map("process", range(40))}
    assert len(after) == 2 and not after & before


def test_workers_have_a_session_of_their_own_and_import_nothing_heavy(pool: WorkerPool) -> None:
    [(pid, session)] = pool.map("process", [0])
    assert session == pid != os.getsid(0)
    assert pool.map("modules", ["torch", "transformers", "sympy", "numpy"]) == [False] * 4


def test_close_ends_the_workers_and_a_later_call_starts_new_ones(pool: WorkerPool) -> None:
    [(pid, _)] = pool.map("process", [0])
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert pool.map("square", [3]) == [9]


def test_from_threads_which_take_turns(pool: WorkerPool) -> None:
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        results[number] = pool.map("misbehave", ["fine", "loop"] if number == 0 else ["fine"] * number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results[0][0] == "fine" and results[0][1].reason == "timeout"
    assert [results[number] for number in (1, 2, 3)] == [["fine"] * number for number in (1, 2, 3)]


PARENT = """
    import signal
    # A suite run in the background of a shell inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from paced_trl.verification.worker_pool import WorkerPool

    pool = WorkerPool("helpers.worker_probe:Probe", num_workers=2, timeout={timeout})
    print(*(pid for pid, _ in pool.map("process", range(8))), flush=True)
    pool.map("misbehave", ["loop", "loop"])
"""


def run_parent(timeout: float) -> tuple[subprocess.Popen[str], list[int]]:
    script = textwrap.dedent(PARENT.format(timeout=timeout))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert pids
    time.sleep(0.5)
    return process, pids


def assert_gone(pids: list[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end, "a worker process is still there"
        time.sleep(0.05)


def test_ctrl_c_leaves_no_worker_and_no_traceback_of_one() -> None:
    process, pids = run_parent(timeout=60.0)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    assert_gone(pids, 5)


def test_killed_parent_leaves_no_worker_that_spins_for_ever() -> None:
    process, pids = run_parent(timeout=0.5)
    process.kill()
    process.communicate(timeout=20)
    assert_gone(pids, 20)
