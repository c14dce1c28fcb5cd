"""
An adapter merged into its 16-bit base, compared with the adapter on the base, and refused if it is not the same model.

A base in fewer bits is refused before it loads: merging into it rounds the adapter away.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from transformers import AutoConfig
from transformers.utils import ADAPTER_CONFIG_NAME

from ..generation.completions import Prompt
from ..generation.models import load_model, load_tokenizer, resolve_model_path
from ..generation.prompts import PromptRenderer
from ..run_directory import write_json


PARITY = "parity.json"
# Completions may part where the best logits lie this many tolerances apart: each of the two may be off by one.
_NEAR_TIE = 2.0
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "num_beams": 1}


@dataclass(frozen=True)
class Parity:
    """How far the merged model is from the adapter on its base, on prompts and the adapter's greedy completions."""

    # Root mean square over tokens, as a fraction of the logits' standard deviation over the vocabulary.
    logit_difference: float
    tolerance: float
    num_tokens: int
    num_prompts: int
    num_equal: int
    # Of the adapter's two best logits where completions part, in the same unit; 0 where none part.
    largest_margin: float

    @property
    def holds(self) -> bool:
        """Whether the logits are within tolerance, and completions part at near ties only."""
        return self.logit_difference <= self.tolerance and self.largest_margin <= _NEAR_TIE * self.tolerance

    def __str__(self) -> str:
        apart = self.num_prompts - self.num_equal
        margin = f"{self.largest_margin:.2%} or less (tolerance {_NEAR_TIE * self.tolerance:.0%})"
        where = f"; {apart} part where the two best logits lie {margin} apart" if apart else ""
        return (
            f"logits differ by {self.logit_difference:.2%} of their spread over {self.num_tokens} tokens (tolerance "
            f"{self.tolerance:.0%}); {self.num_equal} of {self.num_prompts} greedy completions are equal{where}"
        )


def merge_adapter(
    adapter: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    prompts: Sequence[Prompt],
    base: str | None = None,
    tolerance: float = 0.1,
    max_new_tokens: int = 32,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> Parity:
    """
    Merge an adapter into its base (None: the one it names) in 16 bits, compare the two on prompts, and save the model.

    The tolerance is between what bfloat16 changes on a CPU (0.03 for SmolLM2-135M) and what four bits do (0.4;
    `scripts/measure_merge_parity.py`).
    """
    adapter, output = Path(adapter), Path(output_dir)
    base = base or json.loads((adapter / ADAPTER_CONFIG_NAME).read_text())["base_model_name_or_path"]
    dtype = _sixteen_bit_dtype(base)
    weights = hashlib.sha256((adapter / SAFETENSORS_WEIGHTS_NAME).read_bytes()).hexdigest()
    identity = {"adapter": weights, "base": base, "tolerance": tolerance}
    if (output / PARITY).exists():  # merged already
        stored = json.loads((output / PARITY).read_text())
        if stored.pop("of") == identity:
            return Parity(**stored)
    tokenizer = load_tokenizer(adapter)
    prompt_ids = PromptRenderer(tokenizer, chat_template_kwargs).tokenize(prompts)
    model = PeftModel.from_pretrained(load_model(base, dtype=dtype), str(adapter)).eval()
    if model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"The adapter in {str(adapter)!r} is a learned prompt, which no weights can hold, so it cannot be merged. "
            "Publish the adapter, without `--merge`."
        )
    options = {**_GREEDY, "max_new_tokens": max_new_tokens, "pad_token_id": tokenizer.pad_token_id}
    completions = [_complete(model, ids, options) for ids in prompt_ids]
    logits = [_logits(model, ids + completion) for ids, completion in zip(prompt_ids, completions, strict=True)]
    merged = model.merge_and_unload(safe_merge=True)
    squares, num_equal, margins = [], 0, [0.0]
    for ids, completion, before in zip(prompt_ids, completions, logits, strict=True):
        difference = before - _logits(merged, ids + completion)
        # What is added to all logits of a token changes no probability.
        centred = difference - difference.mean(dim=-1, keepdim=True)
        spread = before.std(dim=-1)
        squares.append(centred.square().mean(dim=-1) / spread.square())
        new = _complete(merged, ids, options)
        num_equal += new == completion
        # Where they part, if they do: an end of sequence is a token, so it is within the shorter of the two.
        for at in [n for n, (one, other) in enumerate(zip(new, completion, strict=False)) if one != other][:1]:
            best = before[len(ids) - 1 + at].topk(2).values
            margins.append(float((best[0] - best[1]) / spread[len(ids) - 1 + at]))
    each = torch.cat(squares)
    parity = Parity(
        float(each.mean().sqrt()), tolerance, each.numel(), len(prompt_ids), num_equal, largest_margin=max(margins)
    )
    if not parity.holds:
        raise ValueError(
            f"The model merged from {str(adapter)!r} is not the adapter on its base: {parity}. Publish the adapter, "
            "without `--merge`."
        )
    merged.save_pretrained(output)
    tokenizer.save_pretrained(output)
    # Last: a kill before leaves a directory that is merged again.
    write_json(output / PARITY, {**asdict(parity), "of": identity})
    return parity


def _sixteen_bit_dtype(base: str) -> torch.dtype:
    """Return the 16-bit type that a base is merged in; refuse one that is stored quantized."""
    config = AutoConfig.from_pretrained(resolve_model_path(base))
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"The base {base!r} is stored quantized, and merging into it would round the adapter away. Name the "
            "16-bit model with `--base_model`, or publish the adapter, without `--merge`."
        )
    return config.dtype if config.dtype in (torch.bfloat16, torch.float16) else torch.bfloat16


@torch.inference_mode()
def _complete(model: Any, prompt_ids: list[int], options: dict[str, Any]) -> list[int]:
    inputs = torch.tensor([prompt_ids], device=model.device)
    ids = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), repetition_penalty=1.0, **options)
    return ids[0, len(prompt_ids) :].tolist()


@torch.inference_mode()
def _logits(model: Any, token_ids: list[int]) -> torch.Tensor:
    """Return the logits of **shape (L, V)** of some tokens."""
    logits: torch.Tensor = model(input_ids=torch.tensor([token_ids], device=model.device)).logits[0]
    return logits.float().cpu()
