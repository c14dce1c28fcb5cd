"""
An adapter merged into its 16-bit base, and the proof that the merged model is the same model.

Responsible for the merge and for its parity check; refuses a base that is stored in fewer bits, because the sum of
weights and adapter is then rounded to values that training never saw (users of QLoRA lose accuracy that way). Knows
nothing of the Hub. Not part of the paper.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ADAPTER_CONFIG_NAME

from ..generation.completions import Prompt
from ..generation.identity import content_hash
from ..generation.models import load_model, load_tokenizer, resolve_model_path
from ..generation.prompts import PromptRenderer
from ..run_directory import write_json


PARITY = "parity.json"
# Completions may part where the best logits lie this many tolerances apart: each of the two may be off by one.
_NEAR_TIE = 2.0
_SIXTEEN_BIT = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Parity:
    """
    How far the merged model is from the adapter on its base.

    Args:
        logit_difference (`float`):
            Root mean square difference of the logits, as a fraction of their spread (standard deviation over the
            vocabulary), over all tokens of the prompts and of the adapter's greedy completions.
        tolerance (`float`): The largest difference, in the same unit, that passes.
        num_tokens (`int`): Tokens compared.
        num_prompts (`int`): Prompts compared.
        num_equal (`int`): Prompts with the same greedy completion.
        largest_margin (`float`):
            Where completions part, how far the adapter's two best logits lie apart at the first other token, in the
            same unit, largest of all prompts; 0 where none part.
    """

    logit_difference: float
    tolerance: float
    num_tokens: int
    num_prompts: int
    num_equal: int
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
    Merge an adapter into its base in 16 bits, compare the two, and save the merged model as safetensors.

    A directory that holds the same adapter merged into the same base already is kept.

    Args:
        adapter (`str` or path): Directory of the adapter.
        output_dir (`str` or path): Where the merged model goes.
        prompts (`Sequence[str]` or `Sequence[list[dict]]`): What the two are compared on.
        base (`str`, *optional*): Base to merge into. `None`: the one that the adapter names.
        tolerance (`float`, *optional*, defaults to `0.1`):
            See [`Parity`]. SmolLM2-135M in bfloat16 on a CPU differs by 0.03, rounded to 4 bits (NF4) by 0.4
            (`scripts/measure_merge_parity.py`).
        max_new_tokens (`int`, *optional*, defaults to `32`): Length of the greedy completions.
        chat_template_kwargs (`dict`, *optional*): Further variables of the chat template.

    Returns:
        [`Parity`]: Also in `output_dir/parity.json`.

    Raises:
        ValueError: If the base is stored in fewer than 16 bits, the adapter cannot be merged, or the merged model is
            not the same; nothing is saved then.

    Example:

    ```python
    >>> print(merge_adapter("runs/mine", "runs/mine/merged", prompts=["What is 2 + 2?"]))
    ```
    """
    adapter, output = Path(adapter), Path(output_dir)
    base = base or json.loads((adapter / ADAPTER_CONFIG_NAME).read_text())["base_model_name_or_path"]
    dtype = _sixteen_bit_dtype(base)
    identity = {"adapter": content_hash(adapter / SAFETENSORS_WEIGHTS_NAME), "base": base, "tolerance": tolerance}
    if (output / PARITY).exists():
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
    before = [_answer(model, ids, max_new_tokens, tokenizer) for ids in prompt_ids]
    merged = model.merge_and_unload(safe_merge=True)
    parity = _compare(merged, before, prompt_ids, tolerance, max_new_tokens, tokenizer)
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
    config = AutoConfig.from_pretrained(resolve_model_path(base))
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"The base {base!r} is stored quantized, and merging into it would round the adapter away. Name the "
            "16-bit model with `--base_model`, or publish the adapter, without `--merge`."
        )
    return config.dtype if config.dtype in _SIXTEEN_BIT else torch.bfloat16


@dataclass(frozen=True)
class _Answer:
    """Greedy completion of a prompt, and the logits of **shape (L, V)** over both."""

    completion: list[int]
    logits: torch.Tensor


@torch.inference_mode()
def _answer(
    model: PreTrainedModel | PeftModel, prompt_ids: list[int], max_new_tokens: int, tokenizer: PreTrainedTokenizerBase
) -> _Answer:
    completion = _greedy(model, prompt_ids, max_new_tokens, tokenizer)
    return _Answer(completion, _logits(model, prompt_ids + completion))


def _greedy(
    model: PreTrainedModel | PeftModel, prompt_ids: list[int], max_new_tokens: int, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    inputs = torch.tensor([prompt_ids], device=model.device)
    generated = model.generate(  # type: ignore[operator]
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    return generated[0, len(prompt_ids) :].tolist()


def _logits(model: PreTrainedModel | PeftModel, token_ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([token_ids], device=model.device)).logits[0]
    return logits.float().cpu()


@torch.inference_mode()
def _compare(
    merged: PreTrainedModel,
    before: Sequence[_Answer],
    prompt_ids: Sequence[list[int]],
    tolerance: float,
    max_new_tokens: int,
    tokenizer: PreTrainedTokenizerBase,
) -> Parity:
    squares, num_equal, largest_margin = [], 0, 0.0
    for ids, answer in zip(prompt_ids, before, strict=True):
        logits = _logits(merged, ids + answer.completion)
        # What is added to all logits of a token changes no probability.
        centred = (answer.logits - logits) - (answer.logits - logits).mean(dim=-1, keepdim=True)
        spread = answer.logits.std(dim=-1)
        squares.append(centred.square().mean(dim=-1) / spread.square())
        completion = _greedy(merged, ids, max_new_tokens, tokenizer)
        if completion == answer.completion:
            num_equal += 1
            continue
        pairs = zip(completion, answer.completion, strict=False)
        # There is one within the shorter of the two: its end of sequence is a token.
        at = len(ids) - 1 + next(n for n, (one, other) in enumerate(pairs) if one != other)
        best = answer.logits[at].topk(2).values
        largest_margin = max(largest_margin, float((best[0] - best[1]) / spread[at]))
    differences = torch.cat(squares)
    return Parity(
        logit_difference=float(differences.mean().sqrt()),
        tolerance=tolerance,
        num_tokens=differences.numel(),
        num_prompts=len(prompt_ids),
        num_equal=num_equal,
        largest_margin=largest_margin,
    )
