"""
Prompts that occur several times in a batch of TRL's, run once.

TRL's own path stays what it is, padding, ends and devices included; only the `generate` that it calls is given a cache
with the keys and values of each prompt, computed once and copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from .attention_cache import cache_argument, can_cut_cache, prefill_once
from .models import base_model_of


def can_share_prefill(model: Any, generation_config: GenerationConfig) -> bool:
    """Return whether the cache of a prompt can be copied for its completions; this process holds the model whole."""
    # Prompts that PEFT learns are put before the others in its own `forward`.
    if hasattr(model, "get_base_model") and model.active_peft_config.is_prompt_learning:
        return False
    has_own_cache = generation_config.cache_implementation is not None or generation_config.use_cache is False
    return not has_own_cache and generation_config.num_beams in (None, 1) and can_cut_cache(base_model_of(model))


@contextmanager
def shared_prefill(model: Any, num_generations: int) -> Iterator[None]:
    """
    Let `model.generate` run each prompt once, of batches in which each stands `num_generations` times in a row.

    [`can_share_prefill`] must hold.
    """
    generate, base_model = model.generate, base_model_of(model)

    def generate_from_cache(*, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        # A prompt of one token has nothing to share.
        if input_ids.shape[1] > 1:
            owner = torch.arange(len(input_ids) // num_generations, device=input_ids.device)
            kwargs[str(cache_argument(base_model))] = prefill_once(
                base_model,
                base_model,
                input_ids[::num_generations],
                attention_mask[::num_generations],
                owner.repeat_interleave(num_generations),
            )
        return generate(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    model.generate = generate_from_cache
    try:
        yield
    finally:
        del model.generate
