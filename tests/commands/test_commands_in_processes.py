"""Every command under a launcher with two processes: its result once, that of one process, and no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import commands_in_processes
from helpers.fake_hub import TOKEN, FakeHub
from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from helpers.paths import ROOT
from helpers.processes import ENVIRONMENT, free_port, run_forked, threads_left
from helpers.published_runs import make_settings
from helpers.report_runs import make_comparison, make_store
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl import PassRateStore
from paced_trl.commands import COMMANDS, DISTRIBUTED_COMMANDS
from paced_trl.commands.teacher_gap import run as teacher_gap
from paced_trl.evaluation.comparison import Comparison
from paced_trl.evaluation.evaluation import Evaluation, evaluate_model


pytestmark = pytest.mark.multiprocess
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]


def leave_problems(directory: Path, num_problems: int) -> list[str]:
    rows = [{"prompt": f"{n}+1=", "solution": str(n + 1), "problem_id": f"p{n}"} for n in range(num_problems)]
    (directory / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--dataset_name", f"{directory}/problems.jsonl", "--reference_column", "solution", "--use_cpu", "true"]


def undivided(directory: Path) -> dict[str, list[str]]:
    """Make what the commands that are not divided read, and return their arguments."""
    build_tiny_model().save_pretrained(directory / "student")
    build_tiny_tokenizer().save_pretrained(directory / "student")
    make_settings(directory / "student", **{"student.use_peft": False})
    make_comparison(directory / "comparison")
    make_store(directory / "store")
    rows = [{"completion": str(n), "solution": "3"} for n in range(5)]
    (directory / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    diagnose = [*leave_problems(directory, 80), "--pass_rates", f"{directory}/store", "--report_to", "none"]
    diagnose += ["--model_name_or_path", "recipes/demo/student", "--sketch_size", "16"]
    diagnose += ["--teacher_model_name_or_path", "recipes/demo/teacher", "--problems_per_pass_rate", "4"]
    return {
        "plan": ["--config", "recipes/demo/recipe.yaml", "--card", "8"],
        "verify": ["--dataset_name", f"{directory}/completions.jsonl", "--verifier", "exact"],
        "diagnose": [*diagnose, "--bf16", "false", "--output_dir", f"{directory}/diagnosis"],
        "report": ["--output_dir", f"{directory}/comparison"],
        "publish": ["--run", f"{directory}/student", "--repo", "me/student", "--base_model", "org/student"],
        "inspect": [f"{directory}/store"],
        "merge": [f"{directory}/store", "--output_dir", f"{directory}/merged"],
    }


def test_what_two_processes_do_is_done_once_and_what_one_would_have_done(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    commands = undivided(tmp_path)
    assert commands.keys() | DISTRIBUTED_COMMANDS == COMMANDS.keys()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    build_tiny_model(**sizes).save_pretrained(tmp_path / "teacher")
    build_tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    gap = [*leave_problems(tmp_path, 80), "--teacher_model_name_or_path", f"{tmp_path}/teacher", "--bf16", "false"]
    gap += ["--num_gap_references", "5", "--max_completion_length", "16"]
    train = ["--config", "recipes/demo/recipe.yaml", "--use_cpu", "true", "--disable_tqdm", "true"]
    train += ["--weighting", "uniform", "--reference_column", "solution", "--kl", "forward", "--max_steps", "2"]
    train += ["--per_device_train_batch_size", "4", "--max_problems", "32", "--output_dir", f"{tmp_path}/run"]
    called = {"evaluate_model": [], "teacher-gap": [*gap, "--output_dir", f"{tmp_path}/two"], "train": train}
    called |= commands
    with FakeHub().serving() as hub:
        environment = {**ENVIRONMENT, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        ports = {name: free_port() for name in called}
        finished = subprocess.run(
            [*ACCELERATE, commands_in_processes.__file__, str(tmp_path), json.dumps(called), json.dumps(ports)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
        )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert threads_left(tmp_path / "printed", 2) == [[], []]
    first, second = (json.loads((tmp_path / f"printed-{rank}.json").read_text()) for rank in (0, 1))

    # Divided: an evaluation without a store is known to all processes, and the teacher's gap is said once.
    alone = evaluate_model(make_problems(5), FakeGenerator(), exact_verifier, name="test", progress=False)
    told = [Evaluation.from_dict(json.loads(printed.pop("evaluate_model"))) for printed in (first, second)]
    assert told == [alone, alone]
    teacher_gap([*gap, "--output_dir", f"{tmp_path}/one"])
    one, two = ((tmp_path / name / "teacher_gap.json").read_text() for name in ("one", "two"))
    assert two == one and json.loads(one)["num_references"] == 5
    assert first.pop("teacher-gap").count("KL(full || 4 bits)") == 1
    assert first.pop("train").count("Student saved") == 1
    # Two steps of 4 in each of two processes are half of 32 problems; in one process they were a quarter.
    assert json.loads((tmp_path / "run/trainer_state.json").read_text())["epoch"] == 0.5

    # Not divided: the first process does all of it, and says so.
    assert set(second.values()) == {""} and all(first.values())
    for name in commands:
        assert finished.stderr.count(f"paced-trl {name}: works in one process; the other 1 left.") == 1
    # The empty repository, and one commit.
    assert len(hub.repositories["models/me/student"].commits) == 2
    assert (tmp_path / "diagnosis/gradient_snr.json").exists() and (tmp_path / "comparison/report.html").exists()
    assert PassRateStore(tmp_path / "merged").completions().num_rows == 640


def test_the_train_command_runs_on_two_processes(tmp_path: Path) -> None:
    lines = (ROOT / "recipes/demo/data/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:32]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--output_dir", str(tmp_path / "run"), "--weighting", "uniform", "--max_steps", "4"]
    settings += ["--per_device_train_batch_size", "4", "--use_cpu", "true", "--disable_tqdm", "true"]
    finished = run_forked("-m", "paced_trl.commands.train", *settings, num_processes=2)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("Student saved") == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
    completions = PassRateStore(tmp_path / "run" / "references").num_generations()
    assert len(completions) == 32 and sum(completions.values()) <= 34  # made once, not once per process


def test_compare_gives_the_table_of_one_process(tmp_path: Path) -> None:
    for name, count in (("train", 32), ("test", 8), ("retention", 8)):
        lines = (ROOT / f"recipes/demo/data/{name}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:count]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--eval_sets", f"test={tmp_path}/test.jsonl", "--retention_sets", f"kept={tmp_path}/retention.jsonl"]
    settings += ["--num_generations", "4", "--num_eval_generations", "2", "--max_steps", "4", "--kl", "forward"]
    settings += ["--arms", "uniform", "paced", "--curve_points", "1", "--use_cpu", "true", "--disable_tqdm", "true"]
    comparisons = []
    for num_processes in (1, 2):
        output_dir = tmp_path / str(num_processes)
        run = ["--output_dir", str(output_dir), "--per_device_train_batch_size", str(8 // num_processes)]
        finished = run_forked("-m", "paced_trl.commands.compare", *settings, *run, num_processes=num_processes)
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
    lines = (ROOT / "recipes/demo/data/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:101]))
    settings = ["--config", "recipes/demo/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")]
    settings += ["--allocation", allocation, "--num_generations", "4"]
    outputs = []
    for num_processes in (1, 2):
        run = [*settings, "--output_dir", str(tmp_path / str(num_processes))]
        finished = run_forked("-m", "paced_trl.commands.estimate", *run, num_processes=num_processes)
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
