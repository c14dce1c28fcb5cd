"""Every command under a launcher with two processes: its result once, and no hang. For the rest, test_multiprocess."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import commands_in_processes
import pytest
from conftest import build_tiny_model, build_tiny_tokenizer
from fake_hub import TOKEN, FakeHub
from fakes import FakeGenerator, exact_verifier, make_problems
from report_runs import make_comparison, make_store
from test_multiprocess import ENVIRONMENT
from test_publication import make_settings

from paced_trl import PassRateStore
from paced_trl.commands import COMMANDS, DIVIDED
from paced_trl.commands.teacher_gap import main as teacher_gap
from paced_trl.evaluation import Evaluation, evaluate_model


pytestmark = pytest.mark.multiprocess
ROOT = Path(__file__).parents[1]
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
    assert commands.keys() | DIVIDED == COMMANDS.keys()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    build_tiny_model(**sizes).save_pretrained(tmp_path / "teacher")
    build_tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    gap = [*leave_problems(tmp_path, 80), "--teacher_model_name_or_path", f"{tmp_path}/teacher", "--bf16", "false"]
    gap += ["--num_gap_references", "5", "--max_completion_length", "16"]
    called = {"evaluate_model": [], "teacher-gap": [*gap, "--output_dir", f"{tmp_path}/two"], **commands}
    with FakeHub().serving() as hub:
        environment = {**ENVIRONMENT, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        finished = subprocess.run(
            [*ACCELERATE, commands_in_processes.__file__, str(tmp_path), json.dumps(called)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
        )
    assert finished.returncode == 0, finished.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"printed-{rank}.json").read_text()) for rank in (0, 1))

    # Divided: an evaluation without a store is known to all processes, and the teacher's gap is said once.
    alone = evaluate_model(make_problems(5), FakeGenerator(), exact_verifier, name="test", progress=False)
    told = [Evaluation.from_dict(json.loads(printed.pop("evaluate_model"))) for printed in (first, second)]
    assert told == [alone, alone]
    teacher_gap([*gap, "--output_dir", f"{tmp_path}/one"])
    one, two = ((tmp_path / name / "teacher_gap.json").read_text() for name in ("one", "two"))
    assert two == one and json.loads(one)["num_references"] == 5
    assert first.pop("teacher-gap").count("KL(full || 4 bits)") == 1

    # Not divided: the first process does all of it, and says so.
    assert set(second.values()) == {""} and all(first.values())
    for name in commands:
        assert finished.stderr.count(f"paced-trl {name}: works in one process; the other 1 left.") == 1
    # The empty repository, and one commit.
    assert len(hub.repositories["models/me/student"].commits) == 2
    assert (tmp_path / "diagnosis/gradient_snr.json").exists() and (tmp_path / "comparison/report.html").exists()
    assert PassRateStore(tmp_path / "merged").completions().num_rows == 640
