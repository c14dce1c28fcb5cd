"""The files of recipes/accelerate: what accelerate reads in them, and two processes on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from helpers import train_in_processes
from helpers.paths import ROOT
from helpers.training import settings
from paced_trl.processes import Processes
from paced_trl.training.preflight.trainability import check_sharding, warn_of_whole_teacher


@pytest.mark.parametrize(
    ("name", "kind", "num_processes"),
    [
        ("single_gpu", "NO", 1),
        ("multi_gpu", "MULTI_GPU", 4),
        ("fsdp2", "FSDP", 4),
        ("zero2", "DEEPSPEED", 4),
        ("cpu", "MULTI_GPU", 2),
    ],
)
def test_accelerate_reads_what_the_file_means(name: str, kind: str, num_processes: int) -> None:
    config = load_config_from_file(str(ROOT / f"recipes/accelerate/{name}.yaml"))
    assert (config.distributed_type.value, config.num_processes) == (kind, num_processes)
    assert config.mixed_precision == ("no" if name == "cpu" else "bf16")
    assert (config.fsdp_config or {}).get("fsdp_version") == (2 if name == "fsdp2" else None)
    assert (config.deepspeed_config or {}).get("zero_stage") == (2 if name == "zero2" else None)


def launch(name: str, output: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Train in two processes on a CPU with a file of recipes/accelerate; return what was measured, and said."""
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"recipes/accelerate/{name}.yaml"),
            *("--num_processes", "2", "--mixed_precision", "no", train_in_processes.__file__),
            *(str(output), "4", json.dumps(settings)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(output.read_text()), finished.stderr


def train_in_one_process(output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    train_in_processes.main(str(output), 8, json.dumps(settings))
    return json.loads(output.read_text())


BOTH_STAGES = {"kl": "forward_then_reverse", "loss_aggregation": "sequence"}


@pytest.mark.multiprocess
def test_the_fsdp2_file_shards_the_student_and_leaves_the_teacher_whole(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}
    two, said = launch("fsdp2", tmp_path / "two.json", BOTH_STAGES | saving | {"is_sharded": True})
    one = train_in_one_process(tmp_path / "one.json", BOTH_STAGES)
    assert "Under FSDP only the student is sharded: each device holds the whole teacher" in said
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    num_parameters = len(one["parameters"])
    assert two["num_held"] == [num_parameters // 2, num_parameters]
    # The first stage is on references; what students sample in the second one differs between processes.
    assert len(two["loss"]) == len(one["loss"]) == 4
    assert two["loss"][:2] == pytest.approx(one["loss"][:2], rel=1e-5)
    assert two["divergence"][:2] == pytest.approx(one["divergence"][:2], rel=1e-5)
    saved = load_file(tmp_path / "two.json.student/model.safetensors")
    assert sum(weight.numel() for weight in saved.values()) == num_parameters
    assert {path.name for path in (tmp_path / "two.json.run").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}


@pytest.mark.multiprocess
def test_the_zero2_file_trains_as_one_process_does(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed; the package does not need it")
    # With `use_cpu` accelerate would leave DeepSpeed out.
    two, said = launch("zero2", tmp_path / "two.json", BOTH_STAGES | {"use_cpu": False, "ddp_backend": "gloo"})
    one = train_in_one_process(tmp_path / "one.json", BOTH_STAGES)
    assert "DeepSpeed ZeRO-2 shards no weights: each device holds the whole teacher" in said
    assert (one["num_processes"], two["num_processes"]) == (1, 2)
    assert len(two["loss"]) == len(one["loss"]) == 4
    assert two["loss"][:2] == pytest.approx(one["loss"][:2], rel=1e-5)
    assert two["divergence"][:2] == pytest.approx(one["divergence"][:2], rel=1e-5)
    saved = load_file(tmp_path / "two.json.student/model.safetensors")
    assert sum(weight.numel() for weight in saved.values()) == len(one["parameters"])


@pytest.mark.parametrize(("stage", "is_said"), [(2, True), (3, False)])
def test_a_teacher_that_is_not_sharded_is_said_at_the_start(
    stage: int, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    args = settings()
    args.deepspeed_plugin = SimpleNamespace(zero_stage=stage)
    if not is_said:
        warn_of_whole_teacher(args)
        return
    with pytest.warns(UserWarning, match="ZeRO-2 shards no weights: each device holds the whole teacher"):
        warn_of_whole_teacher(args)


@pytest.mark.parametrize("asked", ["FSDP", "DeepSpeed"])
def test_what_accelerate_would_not_shard_on_a_cpu_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    args = settings()
    check_sharding(args)
    if asked == "FSDP":
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    else:
        args.deepspeed_plugin = SimpleNamespace(zero_stage=2)
    with pytest.raises(ValueError, match=f"^{asked} is asked for, and training is on the CPU"):
        check_sharding(args)


def test_processes_that_accelerate_does_not_join_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As `accelerate launch` without `use_cpu` where there is no accelerator: the settings find each process alone.
    settings()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, and accelerate knows of one"):
        Processes.current()
