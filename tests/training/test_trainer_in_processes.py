"""Training in two processes on a CPU (gloo): the same result as one, and no hang."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers import train_in_processes
from helpers.processes import run_forked, threads_left
from helpers.training import COUNTS, PROMPTS
from paced_trl.training.checkpoints import FILES, SAVING, checkpoints_of


pytestmark = pytest.mark.multiprocess


def launch(num_processes: int, output: Path, batch_size: int, settings: dict[str, Any]) -> dict[str, Any]:
    script = [train_in_processes.__file__, str(output), str(batch_size), json.dumps(settings)]
    finished = run_forked(*script, num_processes=num_processes)
    assert finished.returncode == 0, finished.stderr[-3000:]
    # A thread that is busy when Python ends can end the process with -6.
    assert threads_left(output, num_processes) == [[]] * num_processes
    return json.loads(output.read_text())


@pytest.mark.parametrize(
    "settings",
    [
        {"kl": "forward", "loss_aggregation": "token"},
        # Neither full batches nor as many for each process.
        {"kl": "forward", "num_problems": 13, "dataloader_drop_last": False},
        {"kl": "forward", "loss_aggregation": "sequence", "apply_weights": "sampling"},
        {"kl": "forward", "self_distillation": "base"},
        {"kl": "forward", "self_distillation": "ema", "self_distillation_decay": 0.5},
        {"kl": "forward", "teacher_cache": "cache"},
        {
            "kl": "forward",
            "share_prompt_beginning": True,
            "columns": {"prompt": [f"1+1=2;{prompt}" for prompt in PROMPTS]},
        },
        {"kl": "reverse", "apply_weights": "sampling"},
    ],
)
def test_two_processes_give_the_result_of_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    if "teacher_cache" in settings:
        settings = {**settings, "teacher_cache": str(tmp_path / "cache")}
    one = launch(1, tmp_path / "one.json", 8, settings)
    # The second run makes a cache of its own.
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    two = launch(2, tmp_path / "two.json", 4, settings)
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["divergence"] == pytest.approx(one["divergence"], rel=1e-5)
    assert two["parameters"] == pytest.approx(one["parameters"], rel=1e-4, abs=1e-6)
    assert two["teacher_cached"] == one["teacher_cached"]


def test_the_reverse_stage_runs_on_two_processes(tmp_path: Path) -> None:
    result = launch(2, tmp_path / "two.json", 2, {"kl": "forward_then_reverse", "gradient_accumulation_steps": 2})
    assert result["num_processes"] == 2
    assert len(result["loss"]) == 4 and len(result["divergence"]) == 2


@pytest.mark.parametrize(
    "settings", [{"kl": "reverse", "refresh": "online"}, {"kl": "forward", "refresh": "estimate", "refresh_steps": 2}]
)
def test_refreshed_pass_rates_agree_on_all_processes(tmp_path: Path, settings: dict[str, Any]) -> None:
    result = launch(2, tmp_path / "two.json", 2, settings | {"apply_weights": "sampling"})
    first, second = result["pass_rates"]
    assert first == second
    # The verifier fails everything: what was generated weighs less than before.
    assert sum(first) < sum(count / 8 for count in COUNTS)
    assert len(result["loss"]) == 4


@pytest.mark.parametrize(("refresh", "apply_weights"), [("never", "loss"), ("online", "loss"), ("never", "sampling")])
def test_two_processes_leave_problems_of_weight_zero_out(tmp_path: Path, refresh: str, apply_weights: str) -> None:
    settings = {"kl": "reverse", "refresh": refresh, "loss_aggregation": "sequence", "apply_weights": apply_weights}
    columns = {"num_passed": [4, 8, 0, 6, *[8] * 11, 2]}
    result = launch(2, tmp_path / "two.json", 4, settings | {"columns": columns})
    # Three problems of weight above 0 fill batches of eight; online, the verifier fails them all and none is mastered.
    assert result["num_processes"] == 2 and len(result["loss"]) == 4
    assert min(result["loss"]) > 0


def test_two_processes_go_on_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    settings = {"kl": "reverse", "refresh": "online", "save_strategy": "steps", "save_steps": 1}
    whole = launch(2, tmp_path / "two.json", 4, settings)
    run = tmp_path / "two.json.run"
    assert [path.name for path in checkpoints_of(run)] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    held = json.loads((run / "checkpoint-4" / FILES).read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth", "pass_rates.npz"} <= held.keys()
    assert not (run / "checkpoint-4" / "rng_state.pth").exists() and not list((run / SAVING).glob("*"))
    (run / "checkpoint-4" / "rng_state_1.pth").unlink()
    (run / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    resumed = launch(2, tmp_path / "two.json", 4, settings | {"resumes": True})
    assert resumed["parameters"] == whole["parameters"] and resumed["pass_rates"] == whole["pass_rates"]
    assert resumed["loss"] == whole["loss"]
