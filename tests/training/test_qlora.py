"""Students and teachers of 4 bits on a CPU: what is trained, what is saved, how a run goes on."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from transformers import TrainerCallback
from trl import ModelConfig, get_peft_config

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, problems
from paced_trl.generation.completions import SamplingParameters
from paced_trl.generation.engines import load_generator
from paced_trl.generation.models import load_model
from paced_trl.training.config import PacedConfig
from paced_trl.training.preflight.trainability import keep_four_bit_trainable
from paced_trl.training.run import distill, make_trainer
from paced_trl.training.trainer import PacedTrainer


bitsandbytes = pytest.importorskip("bitsandbytes")
DIMENSIONS = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


@pytest.fixture(autouse=True)
def four_bit_works() -> None:
    try:
        bitsandbytes.functional.quantize_4bit(torch.ones(64, 64), quant_type="nf4")
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"bitsandbytes has no 4-bit kernels for this CPU: {error}")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name, seed in (("student", 0), ("teacher", 1)):
        build_tiny_model(seed=seed, **DIMENSIONS).save_pretrained(tmp_path / name)
        build_tiny_tokenizer().save_pretrained(tmp_path / name)
    return tmp_path


@pytest.fixture
def make(models: Path) -> Callable[..., tuple[PacedConfig, ModelConfig]]:
    def settings(run: str = "run", dtype: str = "float32", **options: Any) -> tuple[PacedConfig, ModelConfig]:
        defaults = {
            "kl": "forward",
            "per_device_train_batch_size": 8,
            "max_completion_length": 6,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "max_steps": 2,
        }
        args = PacedConfig(
            output_dir=str(models / run),
            teacher_model_name_or_path=str(models / "teacher"),
            **CPU,
            **(defaults | options),
        )
        student = str(models / "student")
        model = ModelConfig(model_name_or_path=student, use_peft=True, load_in_4bit=True, lora_r=2, dtype=dtype)
        model.lora_dropout = 0.0
        return args, model

    return settings


class StopAt(TrainerCallback):
    """Ends training after the checkpoint of a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.step:
            raise KeyboardInterrupt


def quantized(trainer: PacedTrainer) -> list[torch.nn.Module]:
    return [module for module in trainer.model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_gradients_reach_the_adapter_only_and_the_head_stays_dense(
    make: Callable[..., Any], dtype: str, kl: str
) -> None:
    args, model_args = make(dtype=dtype, kl=kl)
    trainer = make_trainer(args, model_args, problems())
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    # All linear layers of both blocks, seven each; of them the adapters, a pair of matrices each, and nothing else.
    assert len(quantized(trainer)) == 14
    trained = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert trained == {name for name in before if "lora_" in name} and len(trained) == 28
    head = trainer.model.get_output_embeddings()
    assert type(head) is torch.nn.Linear and head.weight.dtype == getattr(torch, dtype)


def dense_copy(model: PeftModel) -> PeftModel:
    """The same student with every 4-bit weight written out in float32."""
    dense = copy.deepcopy(model)
    for layer in [module for module in dense.modules() if hasattr(module, "lora_A")]:
        weight = layer.base_layer.weight
        values = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
        layer.base_layer = torch.nn.Linear(values.shape[1], values.shape[0], bias=False)
        layer.base_layer.weight = torch.nn.Parameter(values.float(), requires_grad=False)
        layer.forward = LoraLinear.forward.__get__(layer)
    return dense


@pytest.mark.parametrize("generates_first", [False, True])
def test_gradients_are_those_of_the_dequantised_student(models: Path, generates_first: bool) -> None:
    base = load_model(models / "student", device="cpu", load_in_4bit=True)
    torch.manual_seed(0)
    config = get_peft_config(ModelConfig(use_peft=True, lora_r=2, lora_target_modules=["all-linear"]))
    config.lora_dropout, config.init_lora_weights = 0.0, False
    student = get_peft_model(base, config)
    dense = dense_copy(student)
    keep_four_bit_trainable(student)
    tokens = torch.arange(24).view(2, 12)
    if generates_first:
        student.eval()
        with torch.no_grad():
            student(input_ids=tokens)
    gradients = []
    for model in (student, dense):
        model.train()
        model(input_ids=tokens, labels=tokens).loss.backward()
        gradients.append([p.grad for name, p in model.named_parameters() if "lora_" in name])
    for ours, naive in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 1e-3


def test_a_run_saves_its_adapter_and_goes_on_from_a_checkpoint(make: Callable[..., Any], models: Path) -> None:
    student = (models / "student" / "model.safetensors").read_bytes()
    losses = {}
    for run, steps in (("whole", [4]), ("stopped", [2, 4])):
        for max_steps in steps:
            args, model_args = make(
                run, max_steps=4, save_strategy="steps", save_steps=2, kl_switch=0.5, kl="forward_then_reverse"
            )
            trainer = make_trainer(args, model_args, problems())
            last = models / run / "checkpoint-2"
            if max_steps == 2:
                trainer.add_callback(StopAt(2))
            with contextlib.suppress(KeyboardInterrupt):
                trainer.train(resume_from_checkpoint=str(last) if last.exists() else None)
        losses[run] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses["whole"] == pytest.approx(losses["stopped"], rel=1e-5) and len(losses["whole"]) == 4
    args, model_args = make("saved")
    distilled = distill(args, model_args, problems())
    files = {path.name for path in distilled.path.iterdir()}
    assert "adapter_model.safetensors" in files and not files & {"model.safetensors", "pytorch_model.bin"}
    assert json.loads((distilled.path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        models / "student"
    )
    assert (models / "student" / "model.safetensors").read_bytes() == student
    # The adapter stands on the base as it is, in 16 or 32 bits, too.
    assert isinstance(load_model(distilled.path, device="cpu"), PeftModel)


def test_a_teacher_of_four_bits_teaches_and_writes_its_references_so(make: Callable[..., Any], models: Path) -> None:
    args, model_args = make(teacher_load_in_4bit=True, teacher_cache=str(models / "cache"))
    trainer = make_trainer(args, model_args, problems())
    teacher = trainer.teacher_model
    assert sum(isinstance(module, bitsandbytes.nn.Linear4bit) for module in teacher.modules()) == 14
    assert teacher.get_output_embeddings().weight.is_floating_point()
    trainer.train()
    options = {"model_name_or_path": str(models / "teacher"), "sampling": SamplingParameters(max_completion_length=4)}
    full, quantised = (load_generator(load_in_4bit=bits, **options) for bits in (False, True))
    assert "quantization" not in full.record and quantised.record["quantization"] == "nf4"
    assert len(next(iter(quantised(["1+1?"], 4, seed=0)))[1]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"self_distillation": "base"}, "`self_distillation` is 'base'"),
        ({"teacher_model_init_kwargs": {"quantization_config": {"load_in_8bit": True}}}, "as well"),
    ],
)
def test_what_a_teacher_of_four_bits_excludes(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PacedConfig(output_dir=str(tmp_path), teacher_load_in_4bit=True, **CPU, **options)


def test_settings_with_a_teacher_of_four_bits_are_json_and_can_be_copied(tmp_path: Path) -> None:
    args = PacedConfig(output_dir=str(tmp_path), teacher_load_in_4bit=True, **CPU)
    again = replace(args, beta=None, seed=7)
    assert json.loads(again.to_json_string())["teacher_model_init_kwargs"]["quantization_config"]["load_in_4bit"]


@pytest.mark.parametrize(
    ("has_bf16", "given", "computed"),
    [(True, "float32", "bfloat16"), (True, "float16", "float16"), (False, "float32", "float32")],
)
def test_four_bit_weights_are_computed_with_in_bfloat16_where_that_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_bf16: bool, given: str, computed: str
) -> None:
    from paced_trl.training import run
    from paced_trl.training.preflight import before_loading

    made: dict[str, Any] = {}
    monkeypatch.setattr(before_loading, "bf16_on_accelerator", lambda: has_bf16)
    monkeypatch.setattr(run, "PacedTrainer", lambda **given: made.update(given))
    monkeypatch.setattr(before_loading, "load_tokenizer", lambda *args, **kwargs: None)
    args = PacedConfig(output_dir=str(tmp_path), teacher_model_name_or_path="teacher", **CPU)
    student = ModelConfig(model_name_or_path="student", load_in_4bit=True, use_peft=True, dtype=given)
    monkeypatch.setattr(before_loading, "resolve_model_path", lambda name: name)
    run.make_trainer(args, student, problems())
    assert str(made["quantization_config"].bnb_4bit_compute_dtype) == f"torch.{computed}"
    assert args.model_init_kwargs["dtype"] == computed
