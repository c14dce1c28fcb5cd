"""What a run will take: bytes against real models and a real run, and what would make it fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_tiny_model
from paced_trl.arguments import EstimationArguments, PlanArguments, TrainArguments
from paced_trl.config import PacedConfig
from paced_trl.memory_plan import (
    FOUR_BIT_BYTES,
    LiveStorage,
    adapter_bytes,
    cache_memory,
    config_key,
    forward_memory,
    loss_buffers,
    model_weights,
    most_at_once,
    training_step,
)
from paced_trl.plan import RunShape, changes, fits, memory, report, what_would_fit, with_changes
from paced_trl.run_cost import disk, hours, tokens
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from trl import ModelConfig
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from paced_trl.commands import plan as command


SMALL = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
# peft 0.21 asks transformers 5.23 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def key(architecture: str = "llama", **options: Any) -> str:
    return config_key(build_tiny_model(architecture, **{**SMALL, **options}).config)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_those_of_the_model(architecture: str, tied: bool) -> None:
    options = {**SMALL, "tie_word_embeddings": tied} if architecture != "gpt2" else {"tie_word_embeddings": tied}
    model = build_tiny_model(architecture, **options)
    weights = model_weights(config_key(model.config), torch.float32)
    assert weights.total == sum(p.numel() * 4 for p in model.parameters())
    assert weights.head == model.get_output_embeddings().weight.numel() * 4
    assert weights.largest_quantised == 0
    assert model_weights(config_key(model.config), torch.bfloat16).total * 2 == weights.total


def test_four_bits_are_those_of_bitsandbytes(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from paced_trl.models import load_model

    build_tiny_model(**SMALL).save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu", load_in_4bit=True)
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    real = sum(layer.weight.numel() + layer.weight.quant_state.absmax.numel() * 4 for layer in layers)
    numbers = sum(layer.in_features * layer.out_features for layer in layers)
    assert real == numbers * FOUR_BIT_BYTES
    dense = sum(p.numel() * 4 for p in model.parameters() if p.is_floating_point())
    assert model_weights(key(), torch.float32, in_4bit=True).total == real + dense


def test_adapters_and_caches_are_those_of_the_model() -> None:
    model = build_tiny_model("qwen3", **SMALL)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    trained = sum(p.numel() * 4 for p in adapted.parameters() if p.requires_grad)
    assert adapter_bytes(key("qwen3"), 4) == trained
    step = training_step(
        key("qwen3"), torch.float32, 1, 8, lora_rank=4, in_4bit=False, checkpointing=False, autocast=False
    )
    assert (step.trainable, step.gradients, step.optimizer) == (trained, trained, 2 * trained)
    # 2 layers, keys and values, 2 heads of 16.
    assert cache_memory(key("qwen3"), torch.bfloat16, 3, 50) == 2 * 2 * 2 * 16 * 2 * 3 * 50


def test_checkpointing_and_shorter_batches_take_less() -> None:
    def backward(rows: int, checkpointing: bool) -> int:
        options = {"lora_rank": 4, "in_4bit": False, "checkpointing": checkpointing, "autocast": False}
        return training_step(key(num_hidden_layers=6), torch.float32, rows, 64, **options).backward

    assert backward(4, True) < 0.6 * backward(4, False)
    assert 3.5 < backward(8, False) / backward(2, False) < 4.5
    assert forward_memory(key(num_hidden_layers=6), torch.float32, 4, 64) < 0.2 * backward(4, False)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("head_is_trained", [False, True])
def test_the_divergence_takes_what_the_formula_says(beta: float, head_is_trained: bool) -> None:
    positions, vocabulary, hidden = 512, 40_000, 64
    with FakeTensorMode():
        student, teacher = (torch.empty(1, positions, hidden, requires_grad=grad) for grad in (True, False))
        heads = [torch.empty(vocabulary, hidden, requires_grad=grad) for grad in (head_is_trained, False)]
        mask = torch.ones(1, positions, dtype=torch.long)
        with LiveStorage() as live:
            for tensor in (student, teacher, *heads, mask):
                live.count(tensor)
            before = live.now
            loss, _, _ = _chunked_divergence_loss(student, teacher, *heads, mask, beta)
            loss.backward()
    by_formula = loss_buffers(positions, vocabulary, hidden, head_is_trained=head_is_trained, on_gpu=False)
    assert live.peak - before == pytest.approx(by_formula, rel=0.1)
    # On a GPU there are the two tiles that TRL allocates, and nothing of their size beside them.
    from trl.kernels.chunked_divergence import TOKEN_CHUNK_SIZE, VOCAB_CHUNK_SIZE

    assert loss_buffers(10_000, vocabulary, 0, head_is_trained=False) == 2 * TOKEN_CHUNK_SIZE * VOCAB_CHUNK_SIZE * 4


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("lora_rank", "checkpointing"), [(None, False), (8, True)])
def test_a_real_run_takes_what_was_planned(lora_rank: int | None, checkpointing: bool) -> None:
    model = {"architecture": "qwen3", "vocab_size": 32768, "hidden_size": 512, "intermediate_size": 1536}
    model |= {"num_hidden_layers": 4, "num_attention_heads": 8, "head_dim": 64, "tie_word_embeddings": True}
    rows, length = 2, 240
    settings = {"model": model, "lora_rank": lora_rank, "checkpointing": checkpointing}
    measured = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("measure_training_memory.py"))),
            json.dumps({**settings, "batch_size": rows, "length": length}),
        ],
        # What is freed goes back to the system at once, so that resident memory is what lives.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert measured.returncode == 0, measured.stderr[-2000:]
    config = config_key(build_tiny_model(**model).config)
    weights = model_weights(config, torch.float32)
    options = {"lora_rank": lora_rank, "in_4bit": False, "checkpointing": checkpointing, "autocast": False}
    step = training_step(config, torch.float32, rows, length + 2, **options)
    sizes = (rows * length, weights.vocab_size, weights.hidden_size)
    divergence = loss_buffers(*sizes, head_is_trained=lora_rank is None, on_gpu=False)
    forward = forward_memory(config, torch.float32, rows, length + 2)
    planned = 2 * weights.total + step.trainable + step.optimizer + step.gradients
    planned += most_at_once(step, 0, divergence, forward)
    assert planned == pytest.approx(int(measured.stdout.split()[-1]), rel=0.15)


def shape(card: int = 24, size: dict[str, Any] | None = None, **settings: Any) -> RunShape:
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
        plan=PlanArguments(card=card),
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
    whole = moments["train, a step"]["teacher"]
    assert set(memory(shape(kl="forward"))) == {"estimate", "references", "train, a step"}
    offloaded = memory(shape(teacher_offload=True))
    assert offloaded["train, a step"]["teacher"] < 0.1 * whole
    assert offloaded["train, the teacher's turn"]["teacher"] == whole
    assert memory(shape(teacher_load_in_4bit=True))["train, a step"]["teacher"] < 0.45 * whole


@pytest.mark.usefixtures("meta")
def test_tokens_are_those_of_the_settings_and_hours_follow_them() -> None:
    run = shape(num_train_epochs=1, gradient_accumulation_steps=2)
    # Half of 512 tokens each: 8 completions, at most 4 references; 50 of 100 steps generate 8.
    assert tokens(run) == {"estimate": 2_048_000, "references, at most": 1_024_000, "train": 102_400}
    assert hours(shape(80))["estimate"] < hours(shape(12))["estimate"]
    assert hours(shape(max_steps=200))["train"] == pytest.approx(2 * hours(shape(max_steps=100))["train"])
    assert disk(shape(save_strategy="no")).keys() < disk(shape()).keys()


@pytest.mark.usefixtures("meta")
def test_the_command_reads_configs_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("student", "teacher"):
        build_tiny_model("qwen3", **SMALL).config.save_pretrained(tmp_path / name)
        (tmp_path / name / "model.safetensors").write_text("not there yet")
    settings = ["--model_name_or_path", str(tmp_path / "student"), "--use_peft", "true", "--output_dir", "unused"]
    settings += ["--teacher_model_name_or_path", str(tmp_path / "teacher"), "--dataset_name", "org/data"]
    command.run([*settings, "--num_problems", "100", "--card", "8"])
    printed = capsys.readouterr().out
    assert "Fits 8 GB." in printed and "no measurement" in printed
    assert re.search(r"train, a step: [12]\.\d", printed)
    with pytest.raises(ValueError, match="`--num_problems`"):
        command.run(settings)
    assert "Does not fit 8 GB. It would with:" in report(shape(8))
