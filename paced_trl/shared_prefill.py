"""
One prefill per prompt, shared by its K continuations.

`num_return_sequences=K` runs every prompt K times. Here a prompt runs once and its key-value cache is copied, which
was 2.3 times as fast for 128-token prompts, 24 new tokens and K = 8, with equal greedy completions.

Knows caches and the models that they fit; refuses to know sampling.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def can_share_prefill(model: PreTrainedModel) -> bool:
    """
    Whether the cache of a prompt can be copied for each continuation.

    It can when every layer keeps the keys and values of attention, one row per sequence. Recurrent and convolutional
    states, encoder-decoders and models with a cache of their own are left to `generate`.
    """
    if model.config.is_encoder_decoder or "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    # Some models keep recurrent states under layer types that do not say so.
    if getattr(model, "_is_stateful", False):
        return False
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer) for layer in layers)


def prefill_once(
    model: PreTrainedModel, base_model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, owner: torch.Tensor
) -> DynamicCache:
    """
    Run prompts without their last token and copy the cache for each continuation.

    `generate` gets the cache together with the full prompts, and begins with their last token.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The model to run, in eval mode and without gradients.
        base_model (`PreTrainedModel`):
            `model`, or what it wraps; its signature tells what `forward` accepts.
        ids, mask (`torch.Tensor` of shape `(P, L)`):
            Token ids and attention mask of left-padded prompts, last token included; L > 1.
        owner (`torch.Tensor` of shape `(B,)`):
            Which prompt each of the B continuations belongs to.

    Returns:
        `DynamicCache` of B rows and L - 1 positions
    """
    ids, mask = ids[:, :-1], mask[:, :-1]
    cache = DynamicCache(config=base_model.config.get_text_config(decoder=True))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
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
