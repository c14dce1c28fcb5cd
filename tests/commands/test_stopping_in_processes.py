"""Ctrl-C with two processes: whoever gets it, all of them end, what is finished stays, and it is said how to go on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from helpers.paths import ROOT
from helpers.processes import ENVIRONMENT, TORCHRUN, free_port
from paced_trl import PassRateStore


pytestmark = pytest.mark.multiprocess
# For the shared core of a busy machine; a hang has no end.
MOST_SECONDS_TO_BEGIN, MOST_SECONDS_TO_END = 180.0, 60.0
SETTINGS = {
    "estimate": ["--num_generations", "256", "--generation_batch_size", "64"],
    "train": [
        *("--weighting", "uniform", "--reference_column", "solution", "--kl", "forward", "--use_cpu", "true"),
        *("--per_device_train_batch_size", "4", "--max_steps", "5000", "--logging_steps", "5000"),
    ],
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program whose output goes to `tmp_path/output`; neither it nor its processes outlive the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        # A shell's background jobs, and their children, ignore Ctrl-C.
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with (tmp_path / "output").open("ab") as output:
                process = subprocess.Popen(
                    command, env=ENVIRONMENT | environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
                )
        finally:
            signal.signal(signal.SIGINT, previous)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            for alive in [*psutil.Process(process.pid).children(recursive=True), process]:
                alive.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return when the process has come so far; fail if it ends before."""
    deadline = time.monotonic() + MOST_SECONDS_TO_BEGIN
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "interrupted"), [("estimate", "1"), ("train", "1"), ("train", "launcher")])
def test_ctrl_c_ends_all_processes(
    command: str, interrupted: str, tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    run, output = tmp_path / "run", tmp_path / "output"
    launcher = start(
        [
            *(*TORCHRUN, "--nproc_per_node=2", "-m", f"paced_trl.commands.{command}", *SETTINGS[command]),
            *("--config", "recipes/demo/recipe.yaml", "--output_dir", str(run)),
        ]
    )
    if command == "estimate":
        wait_for(lambda: len(list((run / "pass_rates/shards").glob("[!.]*"))) >= 4, launcher)
    else:
        # The bar is not drawn at every step.
        wait_for(lambda: re.search(r" (\d\d+|[3-9])/5000 ", output.read_text()) is not None, launcher)
    workers = {process.environ()["RANK"]: process for process in psutil.Process(launcher.pid).children()}
    assert workers.keys() == {"0", "1"}
    (launcher if interrupted == "launcher" else workers[interrupted]).send_signal(signal.SIGINT)
    # `TimeoutExpired` where one of them hangs.
    assert launcher.wait(MOST_SECONDS_TO_END) != 0
    said = output.read_text()
    # The launcher kills, 30 seconds later, what does not end by itself.
    assert "SIGKILL" not in said and not any(process.is_running() for process in workers.values())
    assert f"paced-trl {command}: stopped. What is on disk is kept; the same command continues." in said
    if command == "estimate":
        store = PassRateStore(run / "pass_rates")
        with store.writing():
            assert store.completions().num_rows >= 4 * 64
    else:
        (checkpoint,) = run.glob("checkpoint-*")
        assert (checkpoint / "model.safetensors").exists() and (checkpoint / "trainer_state.json").exists()


def test_a_process_that_waits_for_another_can_be_interrupted(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    program = (
        "import time; from paced_trl.commands.exits import clean_exit; from paced_trl.processes import Processes\n"
        "processes = Processes.current()\n"
        "with clean_exit('estimate'):\n"
        "    print('has joined', flush=True)\n"
        "    time.sleep(600) if processes.index else processes.wait()"
    )
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    first, _ = (
        start([sys.executable, "-c", program], RANK=rank, LOCAL_RANK=rank, **environment) for rank in ("0", "1")
    )
    wait_for(lambda: (tmp_path / "output").read_text().count("has joined") == 2, first)
    first.send_signal(signal.SIGINT)
    assert first.wait(MOST_SECONDS_TO_END) == 130
    assert "the same command continues" in (tmp_path / "output").read_text()
