"""The command line: settings from YAML and flags, and errors in one sentence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from paced_trl.commands import COMMANDS
from paced_trl.commands.parsing import clean_exit, parse
from paced_trl.run_directory import RunDirectory


@dataclass
class Settings:
    num_generations: int = field(default=8, metadata={"help": "Completions per problem."})
    names: list[str] = field(default_factory=list, metadata={"help": "Names."})


def parse_settings(*arguments: str) -> Settings:
    return parse("test", [Settings], arguments, description="")[0]


def test_flags_override_yaml_which_overrides_defaults(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("num_generations: 4\nnames: [a, b]\n")
    assert parse_settings() == Settings(8, [])
    assert parse_settings("--config", str(config)) == Settings(4, ["a", "b"])
    assert parse_settings("--num_generations", "2", "--config", str(config)) == Settings(2, ["a", "b"])


def test_keys_of_other_commands_are_allowed_in_a_shared_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("num_generations: 4\nweight_alpha: 2.0\neval_sets: [a=b]\nlora_r: 4\narms: {uniform: {}}\n")
    assert parse_settings("--config", str(config)).num_generations == 4


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("num_generation: 4", [], "key 'num_generation', .* Did you mean `num_generations`"),
        ("weight_alhpa: 4", [], "Did you mean `weight_alpha`"),
        ("xyzzy: 4", [], "`--help` lists the settings"),
        ("- a", [], "holds no `key: value` lines"),
        ("a: [", [], "not valid YAML"),
        ("{}", ["--num_generation", "4"], "flag '--num_generation' .* Did you mean `num_generations`"),
        ("{}", ["stray"], "'stray' was given without a flag"),
    ],
)
def test_misspelt_settings_are_refused(tmp_path: Path, text: str, arguments: list[str], message: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_settings("--config", str(config), *arguments)


def test_errors_are_one_line_and_interrupts_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, clean_exit("test"):
        raise ValueError("no such thing")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "paced-trl test: error: no such thing\n"
    with pytest.raises(SystemExit) as stop, clean_exit("test"):
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert "the same command continues" in capsys.readouterr().err


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


def test_import_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, paced_trl; sys.exit(bool({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_can_be_imported() -> None:
    import paced_trl

    for name in paced_trl.__all__:
        assert getattr(paced_trl, name).__name__ == name


def test_a_directory_belongs_to_one_run(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"})
    assert first.status == "new"
    first.mark("started")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "started"
    with pytest.raises(ValueError, match=r"holds a run with `learning_rate`=0.0001, but now it is 0.001"):
        RunDirectory(tmp_path / "run", {"learning_rate": 1e-3, "kl": "forward"})
    first.mark("finished")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "finished"


def test_a_directory_with_a_foreign_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="model or checkpoints of another run"):
        RunDirectory(tmp_path, {})
