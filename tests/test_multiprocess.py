"""Two processes on a CPU (gloo): the same result as one, and no hang."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paced_trl.comparison import Comparison
from test_trainer import COUNTS

from paced_trl import PassRateStore


pytestmark = pytest.mark.multiprocess


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def launch(num_processes: int, output: Path, batch_size: int, settings: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).with_name("train_in_processes.py")
    finished = subprocess.run(
        [
            *TORCHRUN,
            f"--nproc_per_node={num_processes}",
            str(script),
            str(output),
            str(batch_size),
            json.dumps(settings),
        ],
        env=ENVIRONMENT,
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
        # Neither full batches nor as many for each process.
        {"kl": "forward", "num_problems": 13, "dataloader_drop_last": False},
        {"kl": "forward", "loss_aggregation": "sequence", "apply_weights": "sampling"},
        {"kl": "forward", "self_distillation": "base"},
        {"kl": "forward", "self_distillation": "ema", "self_distillation_decay": 0.5},
        {"kl": "forward", "teacher_cache": "cache"},
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


def test_the_train_command_runs_on_two_processes(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    lines = (root / "recipes/demo/data/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:32]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--output_dir", str(tmp_path / "run"), "--weighting", "uniform", "--max_steps", "4"]
    settings += ["--per_device_train_batch_size", "4", "--use_cpu", "true", "--disable_tqdm", "true"]
    finished = subprocess.run(
        [*TORCHRUN, "--nproc_per_node=2", "-m", "paced_trl.commands.train", *settings],
        env=ENVIRONMENT,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("Student saved") == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
    completions = PassRateStore(tmp_path / "run" / "references").num_generations()
    assert len(completions) == 32 and sum(completions.values()) <= 34  # made once, not once per process


def test_compare_gives_the_table_of_one_process(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    for name, count in (("train", 32), ("test", 8), ("retention", 8)):
        lines = (root / f"recipes/demo/data/{name}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:count]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--eval_sets", f"test={tmp_path}/test.jsonl", "--retention_sets", f"kept={tmp_path}/retention.jsonl"]
    settings += ["--num_generations", "4", "--num_eval_generations", "2", "--max_steps", "4", "--kl", "forward"]
    settings += ["--arms", "uniform", "paced", "--curve_points", "1", "--use_cpu", "true", "--disable_tqdm", "true"]
    comparisons = []
    for num_processes in (1, 2):
        output_dir = tmp_path / str(num_processes)
        finished = subprocess.run(
            [
                *(*TORCHRUN, f"--nproc_per_node={num_processes}", "-m", "paced_trl.commands.compare", *settings),
                *("--output_dir", str(output_dir), "--per_device_train_batch_size", str(8 // num_processes)),
            ],
            env=ENVIRONMENT,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        assert finished.stdout.count("Report:") == finished.stdout.count("paced, seed 0: trained") == 1
        comparisons.append(Comparison.load(output_dir))
    one, two = comparisons
    assert one.arms() == two.arms() == ["base", "uniform", "paced"]
    assert one.shared_tokens == two.shared_tokens
    for run, other in zip(one.runs, two.runs, strict=True):
        assert [run.evaluations[name].num_passed for name in ("test", "kept")] == [
            other.evaluations[name].num_passed for name in ("test", "kept")
        ]
        tokens = [{key: value for key, value in r.costs.items() if key != "seconds"} for r in (run, other)]
        assert tokens[0] == tokens[1]
        assert [(p.step, p.accuracy) for p in run.curve] == [(p.step, p.accuracy) for p in other.curve]


@pytest.mark.parametrize("allocation", ["fixed", "adaptive"])
def test_two_processes_estimate_what_one_does(tmp_path: Path, allocation: str) -> None:
    root = Path(__file__).parents[1]
    lines = (root / "recipes/demo/data/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:101]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--allocation", allocation, "--num_generations", "4"]
    outputs = []
    for num_processes in (1, 2):
        finished = subprocess.run(
            [
                *(*TORCHRUN, f"--nproc_per_node={num_processes}", "-m", "paced_trl.commands.estimate"),
                *(*settings, "--output_dir", str(tmp_path / str(num_processes))),
            ],
            env=ENVIRONMENT,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        outputs.append(finished.stdout.rpartition("Pass rates of")[0])
    assert outputs[0] == outputs[1]
    one, two = (PassRateStore(tmp_path / name / "pass_rates") for name in ("1", "2"))
    columns = ["problem_id", "generation_index", "completion", "verdict"]
    keys = [("problem_id", "ascending"), ("generation_index", "ascending")]
    tables = [store.completions(columns=columns).sort_by(keys) for store in (one, two)]
    assert len(tables[0]) >= 202 and tables[0].equals(tables[1])
    # Each process wrote shards of its own, and both had work.
    assert len(two.shards()) > len(one.shards())
    assert not two.lock_holder()


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
