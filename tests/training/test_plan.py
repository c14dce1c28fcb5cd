"""What a run will take, and what would make it fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trl import ModelConfig

from helpers.model_configs import SMALL, key
from helpers.tiny_models import build_tiny_model
from paced_trl.commands import plan as command
from paced_trl.settings import EstimationArguments, PlanArguments, TrainArguments
from paced_trl.training.config import PacedConfig
from paced_trl.training.memory import config_key
from paced_trl.training.plan import (
    RunShape,
    changes,
    disk,
    figures_of_shape,
    fits,
    hours,
    in_units,
    memory,
    report,
    tokens,
    what_would_fit,
    with_changes,
    with_measured_rates,
)


# peft 0.21 asks transformers 5.23 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def shape(
    card: int = 24, size: dict[str, Any] | None = None, rates: dict[str, float] | None = None, **settings: Any
) -> RunShape:
    args = {"max_completion_length": 512, "per_device_train_batch_size": 4, "max_steps": 100, **settings}
    # Of some 1.5 billion parameters, 3 GB in bfloat16.
    large = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 6, "num_attention_heads": 32}
    config = key(**{**large, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000, **(size or {})})
    return RunShape(
        student=config,
        teacher=config,
        args=PacedConfig(output_dir="unused", **args),
        model_args=ModelConfig(),
        estimation=EstimationArguments(),
        train=TrainArguments(),
        plan=PlanArguments(card=card, **(rates or {})),
        num_problems=1000,
        writes_references=True,
    )


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs of large models, without their weights."""
    from transformers import AutoConfig

    def config_only(architecture: str = "llama", **options: Any) -> str:
        return config_key(AutoConfig.for_model(architecture, **options))

    monkeypatch.setitem(globals(), "key", config_only)


@pytest.mark.slow
@pytest.mark.usefixtures("meta")
def test_the_changes_that_are_named_make_it_fit_and_none_is_idle() -> None:
    run = shape(12)
    assert not fits(run)
    made = what_would_fit(run)
    assert made
    assert what_would_fit(shape(80)) == []
    by_text = {change[0]: change for change in changes(run)}
    needed = [by_text[text] for text in made]
    assert fits(with_changes(run, needed))
    for change in needed:
        assert not fits(with_changes(run, [other for other in needed if other is not change]))
    assert what_would_fit(shape(8, {"vocab_size": 3_000_000})) is None


@pytest.mark.usefixtures("meta")
def test_every_moment_has_what_is_there_then() -> None:
    moments = memory(shape())
    assert set(moments) == {"estimate", "references", "train, a step", "train, the student's completions"}
    assert "optimizer" not in moments["references"] and moments["train, a step"]["optimizer"] > 0
    run = shape()
    exact = replace(run, estimation=EstimationArguments(generation_dtype="float32"))
    assert memory(exact)["estimate"]["weights"] == 2 * moments["estimate"]["weights"]
    served = replace(run, estimation=EstimationArguments(engine="openai"), train=TrainArguments(teacher_engine="vllm"))
    assert "estimate" not in memory(served)
    assert memory(served)["references"]["keys and values"] < moments["references"]["keys and values"]
    whole = moments["train, a step"]["teacher"]
    assert set(memory(shape(kl="forward"))) == {"estimate", "references", "train, a step"}
    assert memory(shape(teacher_load_in_4bit=True))["train, a step"]["teacher"] < 0.45 * whole


@pytest.mark.usefixtures("meta")
def test_tokens_are_those_of_the_settings_and_hours_follow_them() -> None:
    run = shape(num_train_epochs=1, gradient_accumulation_steps=2)
    # Half of 512 tokens each: 8 completions, at most 4 references; 50 of 100 steps generate 8.
    assert tokens(run) == {"estimate": 2_048_000, "references, at most": 1_024_000, "train": 102_400}
    assert disk(shape(save_strategy="no")).keys() < disk(shape()).keys()


@pytest.mark.usefixtures("meta")
def test_hours_follow_from_measured_rates_only() -> None:
    assert hours(shape()) == {} and "Hours: unknown, no rate was given" in report(shape())
    generating = hours(shape(rates={"tokens_per_second": 1000.0}))
    assert generating == {
        "estimate (generating)": pytest.approx(2048 / 3600),
        "references, at most (generating)": pytest.approx(1024 / 3600),
        "train (generating)": pytest.approx(51.2 / 3600),
    }
    both = {"tokens_per_second": 1000.0, "trained_tokens_per_second": 500.0}
    run = shape(rates=both)
    # 100 steps of 4 completions, with 256 tokens of prompt and 256 of completion each.
    assert hours(run)["train (optimizer steps)"] == pytest.approx(100 * 4 * 512 / 500 / 3600)
    assert hours(shape(max_steps=200, rates=both))["train (optimizer steps)"] == pytest.approx(
        2 * hours(run)["train (optimizer steps)"]
    )
    assert "Hours, at the rates that were given" in report(run) and "unknown" not in report(run)


@pytest.mark.parametrize(
    ("use_peft", "given", "generating", "training"),
    [(True, None, 900.0, 70.0), (True, 5.0, 5.0, 70.0), (False, None, 900.0, None)],
)
def test_hours_follow_from_the_rates_of_the_self_test(
    tmp_path: Path, use_peft: bool, given: float | None, generating: float, training: float | None
) -> None:
    run = shape(size=SMALL)
    model = figures_of_shape(run.student)
    path = tmp_path / "results.json"
    rates = {"student": model, "generating": {"16": 100.0, "64": 300.0, "256": 900.0}, "training": 70.0}
    path.write_text(json.dumps({"rates": {**rates, "teacher": model}}))
    plan = PlanArguments(measured_rates=str(path), tokens_per_second=given)
    run = replace(run, plan=plan, model_args=ModelConfig(use_peft=use_peft))
    found = with_measured_rates(run).plan
    assert (found.tokens_per_second, found.trained_tokens_per_second) == (generating, training)
    other = replace(run, teacher=shape(size={**SMALL, "num_hidden_layers": 4}).student)
    assert with_measured_rates(other).plan.trained_tokens_per_second is None
    with pytest.raises(ValueError, match=r"are of a model with .* this run's student has .*check_gpu"):
        with_measured_rates(replace(run, student=other.teacher))
    path.write_text("{}")
    with pytest.raises(ValueError, match="holds no rates"):
        with_measured_rates(run)


def test_no_size_is_rounded_to_zero() -> None:
    units = ("B", "kB", "MB", "GB")
    sizes = [3, 4_100, 57_000, 999_400, 1_230_000, 5_000_000_000_000]
    texts = [in_units(size, units, 1000) for size in sizes]
    assert texts == ["3 B", "4.1 kB", "57 kB", "999 kB", "1.23 MB", "5,000 GB"]


@pytest.mark.usefixtures("meta")
def test_the_command_reads_configs_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("student", "teacher"):
        build_tiny_model("qwen3", **SMALL).config.save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").write_text("not there yet")
    settings = ["--model_name_or_path", str(tmp_path / "student"), "--use_peft", "true", "--output_dir", "unused"]
    settings += ["--teacher_model_name_or_path", str(tmp_path / "teacher"), "--dataset_name", "org/data"]
    command.run([*settings, "--num_problems", "100", "--card", "8"])
    printed = capsys.readouterr().out
    assert "Fits 8 GB." in printed and "Hours: unknown" in printed and not re.search(r"\b0(\.0+)?\b", printed)
    assert re.search(r"train, a step: [12]\.\d+ GiB", printed)
    with pytest.raises(ValueError, match="`--num_problems`"):
        command.run(settings)
    assert "Does not fit 8 GB. It would with:" in report(shape(8))


@pytest.mark.usefixtures("meta")
def test_a_teacher_in_4_bits_is_told_to_write_references_without() -> None:
    advice = "teacher_engine_kwargs: {load_in_4bit: false}"
    run = shape(24, teacher_load_in_4bit=True)
    assert advice in report(run)
    whole = replace(run, train=TrainArguments(teacher_engine_kwargs={"load_in_4bit": False}))
    assert advice not in report(whole)
    assert memory(whole)["references"]["weights"] > 2 * memory(run)["references"]["weights"]
    assert advice not in report(shape(24))
    assert advice not in report(shape(4, teacher_load_in_4bit=True))  # it would not fit
