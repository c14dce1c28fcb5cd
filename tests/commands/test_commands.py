"""The command line: what help says, and what is missing is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paced_trl.commands import COMMANDS, main


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "paced_trl", *arguments], capture_output=True, text=True)


def test_the_program_runs_and_shows_its_commands() -> None:
    overview = run_command("--help")
    assert overview.returncode == 0
    assert all(name in overview.stdout for name in COMMANDS)


def test_a_command_that_does_not_exist_is_refused() -> None:
    result = run_command("estimat")
    assert result.returncode == 2
    assert "'estimat' is no command" in result.stderr


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Run a command in this process; returns its exit status, what it printed, and what it said was wrong."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(call, command: str) -> None:
    status, printed, _ = call(command, "--help")
    assert status == 0
    assert f"paced-trl {command} " in printed.partition("\n\n")[2]
    assert {"inspect": "STORE", "publish": "--run"}.get(command, "--output_dir") in printed


def test_help_of_train_shows_the_settings_of_paced_first(call) -> None:
    _, printed, _ = call("train", "--help")
    assert printed.count("\n") <= 450
    own, heading, of_trl = printed.partition("settings of TRL and transformers")
    assert heading
    for setting in ("--dataset_name", "--weighting", "--kl", "--self_distillation", "--refresh", "--verifier"):
        assert f"  {setting} " in own
    for setting in ("--learning_rate", "--max_steps", "--lora_r"):
        assert f"  {setting} " in of_trl


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
        (["train", "--max_steps", "abc"], "`max_steps` is 'abc', but it must be a whole number."),
    ],
)
def test_what_is_missing_is_named_before_any_model_loads(call, arguments: list[str], message: str) -> None:
    status, _, error = call(*arguments)
    assert status == 2
    assert message in error and error.count("\n") == 1
    assert "Traceback" not in error


def test_a_module_in_the_working_directory_hides_no_library(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("paced-trl")
    (tmp_path / "json.py").write_text("raise SystemExit('executed')")
    (tmp_path / "yaml.py").write_text("raise SystemExit('executed')")
    command = [program, "estimate", "--config", "none.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "'none.yaml', which does not exist" in ended.stderr
