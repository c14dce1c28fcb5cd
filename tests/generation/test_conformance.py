"""A model trained here is the model that is evaluated, for every family that people train."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from trl import DistillationConfig, DistillationTrainer

from helpers.model_families import FAMILIES, save_checkpoint
from helpers.training import CPU
from paced_trl import PacedConfig, PacedTrainer
from paced_trl.generation.completions import SamplingParameters
from paced_trl.generation.identity import weights_fingerprint
from paced_trl.generation.models import base_model_of, load_config, load_model, load_tokenizer, other_than_language
from paced_trl.generation.transformers_engine import TransformersGenerator, _say_why_slow
from paced_trl.training.preflight.trainability import on_language_model


PROMPTS = ["2+2=", "a longer prompt: 3+3=", "abc"]
PROBLEMS = Dataset.from_list(
    [
        {"prompt": prompt, "reference": reference, "num_passed": 1, "num_valid": 2}
        for prompt, reference in zip(PROMPTS[:2], ["4", "6"], strict=True)
    ]
)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def checkpoint(directory: Path, family: str, seed: int = 0) -> Path:
    path = directory / f"{family}-{seed}"
    return path if path.exists() else save_checkpoint(family, path, seed)


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.tensor([[10, 20, 30, 40, 50, 60], [11, 21, 31, 41, 51, 61]])
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits


def make_trainer(student: Path, teacher: Path, output_dir: Path, use_peft: bool) -> PacedTrainer:
    return PacedTrainer(
        model=str(student),
        teacher_model=str(teacher),
        args=PacedConfig(
            output_dir=str(output_dir),
            max_steps=2,
            kl_switch=0.5,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=1,
            max_completion_length=4,
            learning_rate=1e-2,
            gradient_checkpointing=False,
            logging_steps=1,
            **CPU,
        ),
        train_dataset=PROBLEMS,
        processing_class=load_tokenizer(student),
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM") if use_peft else None,
    )


# PEFT's own settings for experts meet its own list of all linear layers.
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.* generates in batches that run until:UserWarning")
@pytest.mark.parametrize("use_peft", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_trained_model_is_the_one_that_loads(
    family: str, use_peft: bool, checkpoints: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(
        checkpoint(checkpoints, family), checkpoint(checkpoints, family, seed=1), tmp_path / "student", use_peft
    )
    before = logits_of(trainer.model)
    trainer.train()
    trainer.save_model()
    trained = trainer.model.eval()
    assert [name for name, parameter in other_than_language(base_model_of(trained)) if parameter.requires_grad] == []
    loaded = load_model(tmp_path / "student", device="cpu")
    assert isinstance(loaded, PeftModel) == use_peft
    assert not torch.allclose(before, logits_of(trained), atol=1e-3)
    torch.testing.assert_close(logits_of(loaded), logits_of(trained), rtol=0, atol=1e-5)
    assert {"paced/forward_kl", "paced/reverse_kl"} <= {key for entry in trainer.state.log_history for key in entry}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_generates_what_generate_does(family: str, checkpoints: Path) -> None:
    directory = checkpoint(checkpoints, family)
    model, tokenizer = load_model(directory, device="cpu"), load_tokenizer(directory)
    sampling = SamplingParameters(temperature=0, max_completion_length=6)
    # What keeps other states than keys and values says once that it is slower, and why.
    _say_why_slow.cache_clear()
    is_slow = family in ("qwen3_5", "qwen3_5_text", "lfm2")
    reason = "states other than keys and values"
    with pytest.warns(UserWarning, match=reason) if is_slow else nullcontext() as caught:
        generators = [TransformersGenerator(model, tokenizer, sampling, batch_size=2) for _ in range(2)]
    assert len(caught or ()) == is_slow
    made = {index: completions[0] for index, completions in generators[0](PROMPTS, 1, seed=0)}
    for index, prompt in enumerate(PROMPTS):
        encoded = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**encoded, max_new_tokens=6, do_sample=False)
        text = tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        assert made[index].text == text


def test_a_multimodal_checkpoint_is_its_language_model(checkpoints: Path) -> None:
    from transformers import AutoModelForImageTextToText

    directory = checkpoint(checkpoints, "qwen3_5")
    whole = AutoModelForImageTextToText.from_pretrained(directory).eval()
    assert type(whole).__name__ == "Qwen3_5ForConditionalGeneration"
    model = load_model(directory, device="cpu")
    assert type(model).__name__ == "Qwen3_5ForCausalLM"
    torch.testing.assert_close(logits_of(model), logits_of(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["gemma3", "gemma4", "mistral3"])
def test_adapters_are_on_the_language_model_only(family: str, checkpoints: Path) -> None:
    model = load_model(checkpoint(checkpoints, family), device="cpu")
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    everywhere = get_peft_model(load_model(checkpoint(checkpoints, family), device="cpu"), config)
    adapted = get_peft_model(model, on_language_model(config, model))
    names = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    others = {name for name, parameter in everywhere.named_parameters() if parameter.requires_grad} - names
    assert names and all("language_model" in name for name in names)
    assert any("vision" in name for name in others) and not any("language_model" in name for name in others)


def adapter_of(directory: Path, path: Path) -> Path:
    torch.manual_seed(1)
    config = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_model(directory, device="cpu"), config).save_pretrained(str(path))
    return path


@pytest.mark.parametrize("kind", ["missing", "unexpected"])
def test_an_adapter_of_another_class_is_refused(kind: str, checkpoints: Path, tmp_path: Path) -> None:
    adapter = adapter_of(checkpoint(checkpoints, "llama"), tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    if kind == "missing":
        del weights[next(iter(weights))]
    else:
        first = next(iter(weights))
        weights[first.replace("model.layers", "model.visual.layers")] = weights[first].clone()
    save_file(weights, file)
    expected = "lacks weights for 1 modules" if kind == "missing" else "has weights for 1 modules"
    with pytest.raises(
        ValueError, match=rf"adapter `.*adapter` {expected} of its base `.*llama-0`, a LlamaForCausalLM"
    ):
        load_model(adapter, device="cpu")


@pytest.mark.parametrize("use_peft", [True, False], ids=["lora", "full"])
def test_an_adapter_can_be_the_student(use_peft: bool, checkpoints: Path, tmp_path: Path) -> None:
    directory = checkpoint(checkpoints, "llama")
    adapter = adapter_of(directory, tmp_path / "adapter")
    says = "stays an adapter, with its own rank and modules" if use_peft else "was merged into its base"
    with pytest.warns(UserWarning, match=rf"adapter` is an adapter and {says}"):
        trainer = make_trainer(adapter, checkpoint(checkpoints, "llama", seed=1), tmp_path / "student", use_peft)
    torch.testing.assert_close(logits_of(trainer.model.eval()), logits_of(load_model(adapter, device="cpu")))
    trainer.train()
    trainer.save_model()
    loaded = load_model(tmp_path / "student", device="cpu")
    assert isinstance(loaded, PeftModel) == use_peft
    torch.testing.assert_close(logits_of(loaded), logits_of(trainer.model.eval()), rtol=0, atol=1e-5)
    assert not torch.allclose(logits_of(loaded), logits_of(load_model(adapter, device="cpu")), atol=1e-3)
    if use_peft:
        assert loaded.peft_config["default"].r == 2
        assert loaded.peft_config["default"].base_model_name_or_path == str(directory)


def test_an_adapter_whose_base_is_gone_names_both(checkpoints: Path, tmp_path: Path) -> None:
    adapter = adapter_of(checkpoint(checkpoints, "llama"), tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    for base in ("gone/base", "/gone/base"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": base}))
        for load in (load_model, load_tokenizer, load_config, weights_fingerprint):
            with pytest.raises(
                FileNotFoundError, match=rf"adapter `.*adapter` was trained on `{base}`, which does not"
            ):
                load(adapter)


def test_llama_4_is_refused(tmp_path: Path) -> None:
    AutoConfig.for_model("llama4").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    for load in (load_model, load_config):
        with pytest.raises(ValueError, match=r"is a Llama 4 model \(`llama4`\), which is not supported"):
            load(tmp_path)


@pytest.mark.parametrize("use_peft", [True, False], ids=["lora", "full"])
def test_models_by_name_lose_what_trl_loses_bit_by_bit(use_peft: bool, checkpoints: Path, tmp_path: Path) -> None:
    student, teacher = (str(checkpoint(checkpoints, "llama", seed)) for seed in (0, 1))
    options: dict[str, Any] = {
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "beta": 1.0,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
    }
    losses = []
    for trainer_class, config_class, further in (
        (DistillationTrainer, DistillationConfig, {}),
        (PacedTrainer, PacedConfig, {"weighting": "uniform", "kl": "reverse", "rollout_engine": "trl"}),
    ):
        trainer = trainer_class(
            model=student,
            teacher_model=teacher,
            args=config_class(output_dir=str(tmp_path / trainer_class.__name__), **options | further),
            train_dataset=PROBLEMS.select_columns(["prompt"]),
            processing_class=load_tokenizer(student),
            peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM") if use_peft else None,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1] and len(losses[0]) == 2 and losses[0][0] != 0
