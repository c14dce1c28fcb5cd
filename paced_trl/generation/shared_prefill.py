"""
Prompts that occur several times in a batch, run once.

Responsible for TRL's generation of n completions per prompt: the prompts' keys and values are computed once per prompt
and copied. TRL's own path stays what it is, padding, ends and devices included; only the `generate` that it calls is
given a cache. Ours; the paper (PACED, arXiv 2603.11178) draws one completion per prompt.

Knows models and caches (`attention_cache.py`); refuses to know trainers and sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from .attention_cache import can_cut_cache, prefill_once


def can_share_prefill(model: Any, generation_config: GenerationConfig) -> bool:
    """
    Whether the cache of a prompt can be copied for its completions.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Held whole by this process.
        generation_config (`GenerationConfig`): How completions are generated.
    """
    # Prompts that PEFT learns are put before the others in its own `forward`.
    if hasattr(model, "get_base_model") and model.active_peft_config.is_prompt_learning:
        return False
    has_own_cache = generation_config.cache_implementation is not None or generation_config.use_cache is False
    return not has_own_cache and generation_config.num_beams in (None, 1) and can_cut_cache(_base_model(model))


@contextmanager
def shared_prefill(model: Any, num_generations: int) -> Iterator[None]:
    """
    Let `model.generate` run each prompt once, of batches in which each stands `num_generations` times in a row.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model for which [`can_share_prefill`] holds.
        num_generations (`int`): Completions per prompt.
    """
    generate, base_model = model.generate, _base_model(model)

    def generate_from_cache(*, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        # A prompt of one token has nothing to share.
        if input_ids.shape[1] > 1:
            owner = torch.arange(len(input_ids) // num_generations, device=input_ids.device)
            kwargs["past_key_values"] = prefill_once(
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


def _base_model(model: Any) -> Any:
    """Return what a PEFT model wraps, adapters included: `generate` runs that."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
