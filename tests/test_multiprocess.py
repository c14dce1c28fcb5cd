"""Two processes on a CPU (gloo): the same result as one, and no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


pytestmark = pytest.mark.multiprocess


def launch(num_processes: int, output: Path, batch_size: int, settings: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    script = Path(__file__).with_name("train_in_processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, str(script), str(output), str(batch_size), json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(output.read_text())


@pytest.mark.parametrize(
    "settings",
    [
        {"kl": "forward", "loss_aggregation": "token"},
        {"kl": "forward", "loss_aggregation": "sequence", "apply_weights": "sampling"},
    ],
)
def test_two_processes_give_the_result_of_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    one = launch(1, tmp_path / "one.json", 8, settings)
    two = launch(2, tmp_path / "two.json", 4, settings)
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["divergence"] == pytest.approx(one["divergence"], rel=1e-5)
    assert two["parameters"] == pytest.approx(one["parameters"], rel=1e-4, abs=1e-6)


def test_the_reverse_stage_runs_on_two_processes(tmp_path: Path) -> None:
    result = launch(2, tmp_path / "two.json", 2, {"kl": "forward_then_reverse", "gradient_accumulation_steps": 2})
    assert result["num_processes"] == 2
    assert len(result["loss"]) == 4 and len(result["divergence"]) == 2
