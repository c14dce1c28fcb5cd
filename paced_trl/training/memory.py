"""
How much memory a model takes, trained and generating, without allocating any: the real modules run on fake tensors.

PyTorch's fake tensors have shapes and no contents. The backbone's own forward and backward pass runs on them, and
every storage is counted from its making to its release, as an allocator would; so any architecture that transformers
can build is covered, from its config alone. By formula are only 4-bit weights, and the buffers of TRL's divergence,
which is no part of the backbone. Settings and cards are the business of `plan.py`.
"""

from __future__ import annotations

import functools
import json
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig


# TRL 1.16: the divergence projects so many positions on so many tokens at a time, for student and teacher.
_POSITIONS, _TOKENS = 4096, 32768
# NF4: half a byte a weight, and a float32 scale for 64 of them.
FOUR_BIT_BYTES = 0.5 + 4 / 64


class LiveStorage(TorchDispatchMode):
    """Count the bytes of all storages that live, and the most there were (`now`, `peak`)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def track(self, model: torch.nn.Module) -> int:
        """Count a model that is there already, gradients included, and return what lives."""
        for tensor in [*model.parameters(), *model.buffers()]:
            self.count(tensor)
            if tensor.grad is not None:
                self.count(tensor.grad)
        self.peak = self.now
        return self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.count, out)
        return out

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once, until it is released."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen and self._seen[key]() is storage:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def released(_: Any) -> None:
            self.now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, released)


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights, and the sizes that buffers depend on."""

    total: int
    largest_quantised: int  # the largest quantised matrix written out, as a 4-bit layer does while it computes
    vocab_size: int
    hidden_size: int


@dataclass(frozen=True)
class TrainingStep:
    """Bytes of a training step of the student, beside its weights."""

    trainable: int  # 0 where the weights themselves are trained
    gradients: int
    optimizer: int
    saved: int  # what the forward pass leaves for the backward pass
    backward: int  # the most at any moment of both, gradients and loss left out


@functools.lru_cache(maxsize=64)
def _config(text: str) -> PreTrainedConfig:
    fields = json.loads(text)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _model(config: str, dtype: torch.dtype, lora: LoraConfig | None = None) -> Any:
    """Return a model, with an adapter in float32 if one is given, whose tensors have no contents."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(_config(config), dtype=dtype)
        return model if lora is None else get_peft_model(model, lora)


def _empty(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device="cpu")


def _put_on_device(model: torch.nn.Module) -> None:
    """Give a model's tensors a device to be on, under a fake mode; what two layers share stays shared."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = torch.nn.Parameter(_empty(parameter), parameter.requires_grad)
                module._parameters[name] = known.setdefault(id(parameter), made)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _empty(buffer)


def config_key(config: PreTrainedConfig) -> str:
    """Return a config as text, which identifies it here."""
    return config.to_json_string(use_diff=False)


@functools.lru_cache(maxsize=64)
def model_weights(config: str, dtype: torch.dtype, in_4bit: bool = False) -> Weights:
    """Return the bytes of a model's weights; `in_4bit` has linear layers but the head in NF4."""
    model = _model(config, dtype)
    head = model.get_output_embeddings().weight
    sizes = {id(p): p.numel() for p in model.parameters()}
    quantised = [
        module.weight.numel()
        for module in model.modules()
        if in_4bit and isinstance(module, torch.nn.Linear) and module.weight is not head
    ]
    dense = sum(sizes.values()) - sum(quantised)
    return Weights(
        total=int(dense * dtype.itemsize + sum(quantised) * FOUR_BIT_BYTES),
        largest_quantised=max(quantised, default=0) * dtype.itemsize,
        vocab_size=head.shape[0],
        hidden_size=head.shape[1],
    )


@functools.lru_cache(maxsize=64)
def adapter_bytes(config: str, rank: int) -> int:
    """Return the bytes of LoRA adapters in float32 on all linear layers but the head."""
    model = _model(config, torch.bfloat16, LoraConfig(r=rank, target_modules="all-linear"))
    return sum(4 * parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@functools.lru_cache(maxsize=64)
def training_step(
    config: str,
    dtype: torch.dtype,
    batch_size: int,
    num_tokens: int,
    *,
    lora_rank: int | None,
    in_4bit: bool,
    checkpointing: bool,
    autocast: bool,
) -> TrainingStep:
    """Run a student's backbone forward and backward on fake tensors, and return what a micro-batch takes."""
    # On all linear layers but the head, in bfloat16 on a 4-bit base, as TRL has them.
    lora = None if lora_rank is None else LoraConfig(r=lora_rank, target_modules="all-linear", lora_dropout=0.0)
    model = _model(config, dtype, lora)
    base = model if lora is None else model.get_base_model()
    with FakeTensorMode():
        _put_on_device(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            if in_4bit:
                parameter.data = parameter.data.to(torch.bfloat16)
            parameter.grad = torch.zeros_like(parameter)
        if checkpointing:
            base.activation_checkpointing_enable()
            base.enable_input_require_grads()
        model.train()
        with LiveStorage() as live:
            start = live.track(model)
            ids = torch.zeros(batch_size, num_tokens, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                states = base.base_model(input_ids=ids, use_cache=False).last_hidden_state
            saved = live.now - start
            states.backward(torch.zeros_like(states))
            backward = live.peak - start
    size = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return TrainingStep(0 if lora_rank is None else size, size, 2 * size, saved, backward)


@functools.lru_cache(maxsize=64)
def forward_memory(config: str, dtype: torch.dtype, batch_size: int, num_tokens: int) -> int:
    """Return the bytes that a forward pass without gradients takes at most, beside the weights."""
    return _run_forward(config, dtype, batch_size, num_tokens, use_cache=False)[1]


@functools.lru_cache(maxsize=64)
def cache_memory(config: str, dtype: torch.dtype, batch_size: int, num_tokens: int) -> int:
    """Return the bytes of the keys and values of full sequences."""
    return int(_run_forward(config, dtype, 1, 128, use_cache=True)[0] / 128 * batch_size * num_tokens)


def _run_forward(config: str, dtype: torch.dtype, *shape: int, use_cache: bool) -> tuple[int, int]:
    """Return the bytes that lived after a forward pass without gradients, its cache alone, and at most during it."""
    model = _model(config, dtype).eval()
    with FakeTensorMode(), torch.no_grad():
        _put_on_device(model)
        with LiveStorage() as live:
            start = live.track(model)
            output = model.base_model(input_ids=torch.zeros(*shape, dtype=torch.long), use_cache=use_cache)
            cache = output.past_key_values
            del output
            kept = live.now - start
            del cache
    return kept, live.peak - start


def loss_buffers(
    num_positions: int, vocab_size: int, hidden_size: int, *, head_is_trained: bool, on_gpu: bool = True
) -> int:
    """Return the bytes of TRL's divergence of N positions by formula: float32 tiles of logits, and gradients."""
    # On a GPU two tiles (student and teacher, whole whatever the vocabulary); on a CPU, without TRL's kernels, eleven
    # at once, as wide as the vocabulary.
    width = _TOKENS if on_gpu else min(vocab_size, _TOKENS)
    tiles = (2 if on_gpu else 11) * min(num_positions, _POSITIONS) * width
    gradients = num_positions * hidden_size + (vocab_size * hidden_size if head_is_trained else 0)
    return 4 * (tiles + gradients)


def most_at_once(step: TrainingStep, largest_quantised: int, divergence: int, teacher_forward: int) -> int:
    """Return the most bytes of a step beside weights, gradients and optimizer."""
    # The divergence and the teacher come when the student's activations are there, before its backward pass.
    return max(step.backward + largest_quantised, step.saved + divergence, step.saved + teacher_forward)
