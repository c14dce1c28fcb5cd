"""Choices, types and ranges of settings, from YAML, flags and Python alike."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from trl import ModelConfig

from helpers.training import CPU
from paced_trl import PacedConfig
from paced_trl.commands.early_checks import _own_settings
from paced_trl.commands.exits import clean_exit
from paced_trl.commands.parsing import parse
from paced_trl.setting_checks import check_setting, check_settings
from paced_trl.settings import (
    EstimationArguments,
    EvaluateArguments,
    PlanArguments,
    ProblemArguments,
    SamplingArguments,
    as_mapping,
)


@pytest.mark.parametrize(
    ("kind", "setting", "value", "message"),
    [
        (
            EstimationArguments,
            "engine",
            "vllm2",
            r"'vllm2', but it must be one of 'transformers'.* Did you mean 'vllm'\?",
        ),
        (EstimationArguments, "allocation", "Adaptive", "Did you mean 'adaptive'"),
        (EstimationArguments, "num_generations", 0, "it must be at least 1"),
        (EstimationArguments, "num_generations", 2.5, "a whole number"),
        (EstimationArguments, "num_generations", True, "a whole number"),
        (EstimationArguments, "num_generations", math.inf, "a whole number"),
        (EstimationArguments, "generation_batch_size", math.inf, "a whole number"),
        (EstimationArguments, "target_error", math.nan, "a number"),
        (EstimationArguments, "target_error", 0.0, "it must be more than 0"),
        (EstimationArguments, "pass_rates", math.nan, "text"),
        (EstimationArguments, "pass_rates", ["a"], "text"),
        (EstimationArguments, "pass_rates", "", "an empty text. Give a value, or `null` for none"),
        (EstimationArguments, "engine_kwargs", ["a"], "a mapping or text"),
        (SamplingArguments, "top_p", 1.5, "it must be at most 1"),
        (SamplingArguments, "temperature", "warm", "a number"),
        (ProblemArguments, "dataset_name", 3, "text"),
        (ProblemArguments, "prompt_column", " ", r"an empty text. Give a value\.$"),
        (EvaluateArguments, "eval_sets", ["a.jsonl", ""], "an empty text. Give a value"),
        (ProblemArguments, "max_problems", -1, "it must be at least 1"),
        (EstimationArguments, "generation_dtype", "bf16", "Did you mean 'bfloat16'"),
        (PlanArguments, "card", 0, "it must be at least 1"),
        (PlanArguments, "autocast", "yes", "true or false"),
    ],
)
def test_a_wrong_value_names_the_setting_and_what_it_may_be(kind: Any, setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"`{setting}` is .*{message}"):
        kind(**{setting: value})


def test_right_values_pass() -> None:
    EstimationArguments(engine_kwargs={"a": 1}, target_error=1, pass_rates=None)
    ProblemArguments(solution_column="")
    SamplingArguments(temperature=0, min_p=None, chat_template_kwargs='{"a": 1}')
    PlanArguments(card=80)


@pytest.mark.parametrize(
    "text", ["engine: vllm2", "num_generations: .inf", "pass_rates: .nan", "num_generations: [1]"]
)
def test_yaml_is_checked_like_the_command_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"`{text.partition(':')[0]}` is "):
        parse("test", [EstimationArguments], ["--config", str(tmp_path / "c.yaml")], description="")
    with pytest.raises(ValueError, match="engine"):
        parse("test", [EstimationArguments], ["--engine", "vllm2"], description="")


NONSENSE: list[Any] = [math.inf, -math.inf, math.nan, 10**30, 10**400, [[1]], [math.nan], date(2024, 1, 1), "a\0b"]
# Settings of the launcher and of other libraries' objects, and those that are text, a list or a mapping of anything.
OPEN = {"arms", "as_chat", "fsdp", "beta"}


def allowed(hint: Any, value: Any) -> bool:
    """Whether a value of nonsense has the right type after all."""
    return isinstance(value, int) and float in (hint, *getattr(hint, "__args__", ())) and value < 10**31


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:20])
def test_no_setting_of_ours_takes_nonsense(value: Any) -> None:
    for name, kind in _own_settings().items():
        if name in OPEN or allowed(get_type_hints(kind)[name], value):
            continue
        with pytest.raises(ValueError, match=f"`{name}` "):
            check_setting(kind, name, value)
        if kind in (EstimationArguments, SamplingArguments, ProblemArguments, PlanArguments):
            with pytest.raises(ValueError, match=f"`{name}` "):
                kind(**{name: value})


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:20])
def test_no_setting_of_trl_takes_nonsense(tmp_path: Path, value: Any) -> None:
    hints = get_type_hints(PacedConfig) | get_type_hints(ModelConfig)
    for name in sorted({field.name for field in (*fields(PacedConfig), *fields(ModelConfig))} - OPEN):
        if allowed(hints[name], value):
            continue
        with pytest.raises(ValueError, match=f"`{name}` "):
            if name in {field.name for field in fields(PacedConfig)}:
                PacedConfig(**({"output_dir": str(tmp_path)} | CPU | {name: value}))
            else:
                check_settings(ModelConfig(**{name: value}))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("max_grad_norm", None, "it must be a number"),
        ("use_cpu", 1, "it must be true or false"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("gradient_accumulation_steps", -1, "at least 1"),
        ("adam_beta2", 1.0, "less than 1"),
        ("save_steps", 0, "more than 0"),
        ("seed", 2**32, "at most 4,294,967,295"),
        ("max_steps", -5, "at least -1"),
        ("temperature", -0.1, "at least 0"),
        ("lr_scheduler_type", "cosin", "Did you mean 'cosine'"),
        ("save_strategy", "step", "Did you mean 'steps'"),
        ("optim", "adamw_touch", "Did you mean 'adamw_torch'"),
        ("model_revision", "", "an empty text"),
        ("vllm_mode", "colocatte", "Did you mean 'colocate'"),
        ("lora_r", 0, "at least 1"),
        ("lora_dropout", 1.5, "less than 1"),
        ("bnb_4bit_quant_type", "nf5", "Did you mean 'nf4'"),
        ("lora_target_modules", [1], "a list, each text"),
    ],
)
def test_values_of_trl_that_mean_nothing_are_refused(tmp_path: Path, setting: str, value: Any, message: str) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"output_dir": "x", "use_cpu": True, setting: value}))
    with pytest.raises(ValueError, match=rf"`{setting}` is .*{message}"):
        parse("train", [PacedConfig, ModelConfig], ["--config", str(tmp_path / "c.yaml")], description="")


def test_what_trl_makes_of_its_settings_is_right(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "{output_dir: x, use_cpu: true, report_to: [none], debug: underflow_overflow, eval_strategy: epoch, lora_r: 4,"
        "accelerator_config: {split_batches: true}, learning_rate: 1e-5, optim: adamw_torch, warmup_steps: 3}"
    )
    args, model = parse("train", [PacedConfig, ModelConfig], ["--config", str(tmp_path / "c.yaml")], description="")
    assert (args.learning_rate, args.eval_strategy, model.lora_r) == (1e-5, "epoch", 4)
    assert replace(args, seed=1).optim == "adamw_torch"


def test_a_number_too_large_for_a_library_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), clean_exit("test"):
        raise OverflowError("Python int too large to convert to C long")
    assert capsys.readouterr().err.startswith("paced-trl test: error: ")


@pytest.mark.parametrize("text", ["[1]", "[[1, 2]]", "3", "null", "{", "nonsense", "", "[" * 5000])
def test_a_mapping_as_text_is_a_json_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"`engine_kwargs` is .*which is no JSON object"):
        as_mapping(text, "engine_kwargs")
