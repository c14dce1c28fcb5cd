"""
One random stream per completion, so that a completion does not depend on its neighbours in the batch.

`torch.multinomial` draws one number per row from one global stream: which completion a problem gets then depends on
the batch it is in, and a rerun after a kill, with other batches, gives other completions. Here every row brings its
own numbers, derived from (seed, prompt, generation index), and the draw is done by a logits processor: it picks the
token by inverting the cumulative distribution and leaves `generate` an argmax. What remains of the neighbours is
rounding in the model's forward pass.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .batching import PromptRow
from .completions import SamplingParameters


class DrawFromRowStream(LogitsProcessor):
    """
    Draw each row's next token from its own numbers: min { v : sum_{w <= v} softmax(scores)_w > u * total }.

    Comes after all processors that shape the distribution, with `do_sample=False`: the drawn token has the score 0,
    all others -inf. `uniforms` of shape (B, C), float32, holds a number in [0, 1) per row and completion position;
    `starts` of shape (B,) the number of positions before each row's completion, padding included.
    """

    def __init__(self, uniforms: torch.Tensor, starts: torch.Tensor):
        self.uniforms = uniforms
        self.starts = starts

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # A finished row may stay beyond its numbers; what it draws then is not used.
        steps = (input_ids.shape[1] - self.starts).clamp(max=self.uniforms.shape[1] - 1)
        probabilities = torch.softmax(scores.float(), dim=-1)
        # CUDA has no deterministic sum, and its parallel one is not monotone: without the running maximum over tokens
        # of positive probability another could be drawn. A sequential sum is its own running maximum.
        is_refused = probabilities.is_cuda and torch.are_deterministic_algorithms_enabled()
        cumulative = (probabilities.cpu() if is_refused else probabilities).cumsum(dim=-1).to(scores.device)
        cumulative = cumulative.masked_fill(probabilities == 0, -torch.inf).cummax(dim=-1).values
        # The largest float32 below 1 times the total still rounds to less than the total, so the search always ends on
        # a token, and `right=True` makes it one of positive probability.
        target = self.uniforms.gather(1, steps[:, None]) * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, target, right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class RefuseNaN(LogitsProcessor):
    """Stop at NaN, whose `argmax` is a token like any other: a broken model would pass for a student that fails."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if torch.isnan(scores).any():
            raise FloatingPointError(
                "The model returned NaN instead of logits, so its completions mean nothing. Its weights are damaged, "
                "or its dtype overflows: try `dtype='bfloat16'` or `'float32'`."
            )
        return scores


def sampling_processors(
    sampling: SamplingParameters, uniforms: torch.Tensor | None, padding: torch.Tensor, starts: torch.Tensor
) -> LogitsProcessorList:
    """
    List what shapes the scores, in the order of transformers' `_get_logits_processor`, and the draw at the end.

    `padding`, **shape (B,)**, is the number of positions before each row's prompt; `uniforms` are None for greedy.
    """
    processors = LogitsProcessorList([RefuseNaN()])
    if sampling.repetition_penalty != 1.0:
        # Left padding is no part of the prompt: penalised, it would make a row depend on its batch.
        penalty = float(sampling.repetition_penalty)
        processors.append(RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=padding))
    if uniforms is None:
        return processors
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        processors.append(MinPLogitsWarper(sampling.min_p))
    processors.append(DrawFromRowStream(uniforms, starts))
    return processors


def row_uniforms(row: PromptRow, seed: int, length: int) -> np.ndarray:
    """Return the random numbers of a row's first generation, float32 in [0, 1); a longer array begins with these."""
    key = np.frombuffer(row.seed_digest(seed)[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(length, dtype=np.float32)
