"""Generation has a number format of its own: one settings file serves commands that train and commands that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU
from paced_trl.commands import compare, estimate, main
from paced_trl.commands.recipe import Recipe
from paced_trl.generation import engines, models
from paced_trl.store.store import PassRateStore


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A settings file for tiny models on three problems."""
    for name, seed in (("student", 0), ("teacher", 1)):
        build_tiny_model(seed=seed).save_pretrained(tmp_path / name)
        build_tiny_tokenizer().save_pretrained(tmp_path / name)
    rows = [{"prompt": f"{a}+1=", "solution": str(a + 1)} for a in range(4)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model_name_or_path": str(tmp_path / "student"),
        "teacher_model_name_or_path": str(tmp_path / "teacher"),
        "dataset_name": str(tmp_path / "train.jsonl"),
        "eval_sets": [f"test={tmp_path / 'train.jsonl'}"],
        "output_dir": str(tmp_path / "run"),
        "verifier": "numeric",
        "dtype": "float32",
        "kl": "reverse",
        "arms": {"uniform": {}},
        "seeds": [0],
        "curve_points": 0,
        "num_generations": 1,
        "num_eval_generations": 1,
        "max_completion_length": 4,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "save_strategy": "no",
        **CPU,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    return ["--config", str(tmp_path / "recipe.yaml")]


def test_estimate_and_compare_share_a_store_where_inference_is_in_bfloat16(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "default_dtype", lambda device: torch.bfloat16)
    estimate.run(arguments)
    compare.run(arguments)
    assert PassRateStore(tmp_path / "run" / "pass_rates").record["generator"]["dtype"] == "bfloat16"
    evaluation = json.loads((tmp_path / "run" / "arms" / "uniform-seed0" / "evaluation" / "test.json").read_text())
    assert evaluation["record"]["generator"]["dtype"] == "bfloat16"
    trained = json.loads((tmp_path / "run" / "arms" / "uniform-seed0" / "config.json").read_text())
    assert trained["dtype"] == "float32"
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["estimate", *arguments, "--generation_dtype", "float32"])
    error = capsys.readouterr().err
    assert all(part in error for part in ("'bfloat16'", "'float32'", "--generation_dtype")), error


def test_the_format_of_training_is_no_flag_of_estimate(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["estimate", *arguments, "--dtype", "float32"])
    assert "'--dtype' was given, which is no setting of this command. Did you mean `generation_dtype`?" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("engine", "use_peft", "trained"),
    [
        ("vllm", "true", "transformers"),  # vLLM loads no adapter
        ("vllm", "false", "vllm"),
        ("openai", "false", "transformers"),  # servers do not have what is trained here
    ],
)
def test_arms_and_base_are_evaluated_by_an_engine_that_loads_both(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, engine: str, use_peft: str, trained: str
) -> None:
    asked: list[tuple[str, Any]] = []

    def load(name: str, **options: Any) -> None:
        asked.append((name, options.get("prompts")))

    monkeypatch.setattr(engines, "load_generator", load)
    recipe = Recipe.parse("compare", [*arguments, "--engine", engine, "--use_peft", use_peft], description="")
    recipe.student(prompts=["1+1="])
    recipe.student(beside_trained=True)
    recipe.student("runs/arm", beside_trained=True)
    assert [name for name, _ in asked] == [engine, trained, trained]
    assert asked[0][1] == (["1+1="] if engine == "vllm" else None)
