"""Settings from YAML and flags, and errors in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from paced_trl.commands.early_checks import known_settings
from paced_trl.commands.exits import clean_exit
from paced_trl.commands.parsing import parse


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


def test_names_of_trl_are_those_of_its_dataclasses() -> None:
    from trl import DistillationConfig, ModelConfig

    declared = {f.name for kind in (DistillationConfig, ModelConfig) for f in fields(kind)}
    assert declared <= known_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apply_weights: Sampling", "`apply_weights` is 'Sampling', .* Did you mean 'sampling'"),
        ("loss_aggregation: tokens", "Did you mean 'token'"),
        ("refresh: onlin", "Did you mean 'online'"),
        ("engine: vllm2", "Did you mean 'vllm'"),
        ("weight_estimator: plugn", "Did you mean 'plugin'"),
        ("kl: backward", "`kl` is 'backward'"),
        ("weigting: beta", "Did you mean `weighting`"),
        ("lerning_rate: 1e-5", "Did you mean `learning_rate`"),
        ("weight_alpha: .nan", "`weight_alpha` is nan"),
        ("refresh_steps: 0", "`refresh_steps` is 0, but it must be at least 1"),
        ("teacher_offload: true", "which was dropped"),
        ("max_steps: abc", "`max_steps` is 'abc', but it must be a whole number"),
        ("learning_rate: fast", "`learning_rate` is 'fast', but it must be a number"),
        ("lora_r: 1.5", "`lora_r` is 1.5, but it must be a whole number"),
    ],
)
def test_mistakes_in_a_file_show_before_torch_is_imported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    code = (
        "import sys; from paced_trl.commands import run_command\n"
        "try: run_command('train', sys.argv[1:])\n"
        "finally: assert not {'torch', 'transformers', 'datasets', 'trl'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, "--config", str(tmp_path / "c.yaml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert re.search(message, result.stderr) and "Traceback" not in result.stderr, result.stderr
    assert result.returncode == 2
