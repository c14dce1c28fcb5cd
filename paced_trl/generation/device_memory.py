"""How large a batch the free memory of a device allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .attention_cache import ROOM, held_layers, prefill_beginning


# Where nothing is known of memory: on a CPU, and of models whose cache does not grow by the token.
DEFAULT_ROWS, DEFAULT_TOKENS = 64, 65536
# More rows than these hardly make a step cheaper per row.
_MOST_ROWS = 256
# The rest is for activations of prompts, and for what allocators lose between tensors.
_SHARE_OF_FREE = 0.7
# Scores of one token in float32, as often as processors and the draw hold them at once.
_BYTES_PER_SCORE = 4 * 8


@dataclass(frozen=True)
class BatchLimits:
    """Most rows, and most tokens: of each row its padded prompt, `max_completion_length` and `tokens_per_row`."""

    rows: int
    tokens: int
    tokens_per_row: int = 0


def free_memory(device: torch.device) -> int | None:
    """Return the bytes of a device that new tensors can have; None where nothing tells."""
    backend: Any = getattr(torch, device.type, None)
    if device.type == "cpu" or not hasattr(backend, "mem_get_info"):
        return None
    # What the allocator keeps and nothing uses is free too.
    kept = backend.memory_reserved(device) - backend.memory_allocated(device)
    return int(backend.mem_get_info(device)[0]) + int(kept)


@torch.no_grad()
def bytes_per_token(model: Any, base_model: Any) -> int:
    """Return what keys and values of a token take, of a model whose cache can be cut."""
    layers = held_layers(prefill_beginning(model, base_model, [0]))
    held = [each for layer in layers for each in (layer.keys, layer.values) if each is not None]
    return sum(each.numel() * each.element_size() for each in held)


def limits_of(
    device: torch.device, per_token: int | None, vocab_size: int, batch_size: int | None, batch_tokens: int | None
) -> BatchLimits:
    """Return the limits of a batch: as set, else by the free memory if that and the bytes `per_token` are known."""
    free = None if per_token is None or batch_tokens is not None else free_memory(device)
    if free is None:
        return BatchLimits(batch_size or DEFAULT_ROWS, batch_tokens or DEFAULT_TOKENS)
    assert per_token is not None
    tokens_per_row = ROOM + -(-_BYTES_PER_SCORE * vocab_size // per_token)
    return BatchLimits(batch_size or _MOST_ROWS, max(1, int(_SHARE_OF_FREE * free) // per_token), tokens_per_row)
