"""Bytes of weights, adapters, caches, the loss and a whole run, against real models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from helpers import measure_training_memory
from helpers.model_configs import SMALL, key
from helpers.tiny_models import build_tiny_model
from paced_trl.training.memory import (
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


# peft 0.21 asks transformers 5.23 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_those_of_the_model(architecture: str, tied: bool) -> None:
    options = {**SMALL, "tie_word_embeddings": tied} if architecture != "gpt2" else {"tie_word_embeddings": tied}
    model = build_tiny_model(architecture, **options)
    weights = model_weights(config_key(model.config), torch.float32)
    assert weights.total == sum(p.numel() * 4 for p in model.parameters())
    assert (weights.vocab_size, weights.hidden_size) == model.get_output_embeddings().weight.shape
    assert weights.largest_quantised == 0
    assert model_weights(config_key(model.config), torch.bfloat16).total * 2 == weights.total


def test_four_bits_are_those_of_bitsandbytes(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from paced_trl.generation.models import load_model

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
            *(sys.executable, measure_training_memory.__file__),
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
