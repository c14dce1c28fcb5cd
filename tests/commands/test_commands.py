"""The command line: what help says, and what is missing is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paced_trl.commands import COMMANDS


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "paced_trl", *arguments], capture_output=True, text=True)


def test_overview_lists_every_command() -> None:
    overview = run_command("--help")
    assert overview.returncode == 0
    assert all(name in overview.stdout for name in COMMANDS)
    assert run_command("estimat").returncode == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    result = run_command(command, "--help")
    assert result.returncode == 0
    assert f"paced-trl {command} " in result.stdout.partition("\n\n")[2]
    assert {"inspect": "STORE", "publish": "--run"}.get(command, "--output_dir") in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "--output_dir", "x"], "`dataset_name` is not given"),
        (["estimate"], "Neither `pass_rates` nor `output_dir` is given"),
        (["estimate", "--output_dir", "x", "--verifier", "maths"], "maths"),
        (["estimate", "--output_dir", "x", "--dataset_name", "none.jsonl"], "There is no file 'none.jsonl'"),
        (["evaluate", "--output_dir", "x"], "`model_name_or_path` is not given"),
        (["report", "--output_dir", "none"], "none"),
        (["publish", "--repo", "me/x"], "`run` is not given"),
        (["publish", "--run", "none", "--repo", "me/x"], "'none' holds no run"),
    ],
)
def test_what_is_missing_is_named_before_any_model_loads(arguments: list[str], message: str) -> None:
    result = run_command(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
