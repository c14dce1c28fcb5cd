"""
The key-value cache as rows: made once per prompt and copied for its K continuations, widened, cut and appended.

`num_return_sequences=K` runs every prompt K times. Here a prompt runs once and its key-value cache is copied, which
was 2.3 times as fast for 128-token prompts, 24 new tokens and K = 8, with equal greedy completions.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer


if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cache_argument(model: PreTrainedModel) -> str | None:
    """Return how `forward` calls the cache it takes: `cache` since transformers 5.24, `past_key_values` before."""
    accepted = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in accepted), None)


def why_cache_cannot_be_cut(model: PreTrainedModel) -> str | None:
    """
    Return why rows of a model's cache cannot be copied, dropped and moved; None if they can.

    They can when every layer keeps the keys and values of attention, one row per sequence.
    """
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    if cache_argument(model) is None:
        return "its `forward` takes no cache by a name that is known here"
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    known = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)
    others = {type(layer).__name__ for layer in layers if type(layer) not in known}
    # Some models keep recurrent states under layer types that do not say so.
    if others or getattr(model, "_is_stateful", False):
        return f"it keeps states other than keys and values ({', '.join(sorted(others)) or 'recurrent'})"
    return None


def can_cut_cache(model: PreTrainedModel) -> bool:
    """Return whether rows of a model's cache can be copied, dropped and moved."""
    return why_cache_cannot_be_cut(model) is None


def prefill_once(
    model: PreTrainedModel, base_model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, owner: torch.Tensor
) -> DynamicCache:
    """
    Run prompts without their last token and copy the cache for each continuation.

    `generate` gets the cache together with the full prompts, and begins with their last token.

    `ids` and `mask` of shape (P, L), L > 1, are left-padded prompts, last token included; `owner` of shape (B,) says
    which prompt each of the B continuations belongs to. The result has B rows and L - 1 positions. `base_model` is
    `model` or what PEFT wraps: its signature tells what `forward` accepts.
    """
    ids, mask = ids[:, :-1], mask[:, :-1]
    cache = DynamicCache(config=base_model.config.get_text_config(decoder=True))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
    inputs[str(cache_argument(base_model))] = cache
    accepted = inspect.signature(base_model.forward).parameters
    if "position_ids" in accepted:
        inputs["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    if "logits_to_keep" in accepted:
        # No logits are needed, and for all positions they would be the largest tensor of the run.
        inputs["logits_to_keep"] = 1
    model(**inputs)
    # Other than `batch_repeat_interleave`, this allows each prompt its own number of continuations.
    cache.batch_select_indices(owner)
    return cache


def set_width(cache: DynamicCache, width: int) -> None:
    """
    Change the number of positions of a cache at its beginning, where every row has padding.

    New positions are 0, and the attention mask must hide them.
    """
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.is_initialized:
            held = width
            if isinstance(layer, DynamicSlidingWindowLayer):
                # It holds the end of the sequence, and counts all of it.
                held = min(width, layer.sliding_window - 1)
                layer.cumulative_length = width
            assert layer.keys is not None and layer.values is not None
            shift = held - layer.keys.shape[-2]
            # A negative number of positions to pad cuts.
            layer.keys = torch.nn.functional.pad(layer.keys, (0, 0, shift, 0))
            layer.values = torch.nn.functional.pad(layer.values, (0, 0, shift, 0))


def append_rows(cache: DynamicCache, other: DynamicCache) -> None:
    """Add the rows of another cache of the same model and width."""
    for layer, others in zip(cache.layers, other.layers, strict=True):
        if isinstance(layer, DynamicLayer) and isinstance(others, DynamicLayer) and layer.is_initialized:
            assert layer.keys is not None and layer.values is not None
            assert others.keys is not None and others.values is not None
            layer.keys = torch.cat([layer.keys, others.keys])
            layer.values = torch.cat([layer.values, others.values])
