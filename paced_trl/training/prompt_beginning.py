"""
What all prompts of a batch begin with, run once in the forward pass of the loss, with gradients.

A system prompt and few-shot examples can be most of a prompt, and are the same in every row. Attention reads keys and
values of earlier positions: those of the shared beginning are computed in one row and expanded to all rows, and the
gradients of the rows add up there. The loss is that of rows without padding, up to rounding.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig

from ..generation.attention_cache import cache_argument, can_share_beginning, copy_rows, why_cache_cannot_be_cut
from ..generation.models import auto_class


def check_can_share(config: PreTrainedConfig, role: str, *, trust_remote_code: bool = False) -> None:
    """Refuse a model whose state after a beginning is more than keys and values; it is built without weights."""
    with torch.device("meta"):
        model: Any = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
    reason = why_cache_cannot_be_cut(model)
    if reason is not None:
        raise ValueError(
            f"`share_prompt_beginning` is set, and the {role} is a {type(model).__name__}, of which the beginning "
            f"cannot be run once: {reason}. Leave it out."
        )


def shared_length(ids: torch.Tensor, mask: torch.Tensor, num_completion_tokens: int) -> int:
    """
    Return how many tokens all rows begin with, at most all but the last one of the shortest prompt.

    `ids` and `mask` of shape (B, L + C) hold left-padded prompts, with completions of C positions behind them.
    """
    width, padding = ids.shape[1], _padding(mask)
    positions = torch.arange(width, device=ids.device)
    aligned = ids.gather(1, (positions + padding).clamp(max=width - 1))
    num_alike = (aligned == aligned[:1]).all(dim=0).long().cumprod(dim=0).sum()
    shortest = width - num_completion_tokens - padding.max()
    return int(torch.minimum(num_alike, shortest - 1))


def completion_states(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, num_completion_tokens: int
) -> torch.Tensor | None:
    """
    Return the last hidden states that predict C completion tokens, **shape (B, C, H)**; None if nothing is shared.

    `model` has passed [`check_can_share`] and is not wrapped by PEFT; `ids` and `mask` as in [`shared_length`].
    """
    num_shared = shared_length(ids, mask, num_completion_tokens) if len(ids) > 1 else 0
    if num_shared < 1 or not can_share_beginning(model, ids.shape[1]):
        return None
    padding = _padding(mask)
    first, config = int(padding[0]), model.config.get_text_config(decoder=True)
    beginning, cache = DynamicCache(config=config), DynamicCache(config=config)
    _run(model, ids[:1, first : first + num_shared], mask.new_ones(1, num_shared), beginning)
    copy_rows(beginning, cache, len(ids))
    # A row keeps its end, so that its padding lies between the beginning and the rest.
    places = torch.arange(ids.shape[1] - num_shared, device=ids.device)
    rest = mask[:, num_shared:] * (places >= padding)
    whole = torch.nn.functional.pad(rest, (num_shared, 0), value=1)
    return _run(model, ids[:, num_shared:], whole, cache)[:, -num_completion_tokens - 1 : -1]


def _padding(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of masked positions before each row, **shape (B, 1)**."""
    return (mask.cumsum(dim=1) == 0).sum(dim=1, keepdim=True)


def _run(model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """Run the model without its head on tokens that follow those of a cache, which takes them in."""
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": True, str(cache_argument(model)): cache}
    if "position_ids" in inspect.signature(model.base_model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    states: torch.Tensor = model.base_model(**inputs).last_hidden_state
    return states
