"""Choices, types and ranges of settings, from YAML, flags and Python alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from paced_trl.commands.parsing import parse
from paced_trl.settings import EstimationArguments, PlanArguments, ProblemArguments, SamplingArguments


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
        (EstimationArguments, "engine_kwargs", ["a"], "a mapping or text"),
        (SamplingArguments, "top_p", 1.5, "it must be at most 1"),
        (SamplingArguments, "temperature", "warm", "a number"),
        (ProblemArguments, "dataset_name", 3, "text"),
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
