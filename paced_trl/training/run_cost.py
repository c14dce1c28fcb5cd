"""
What a run will generate, keep on disk, and how long it may take.

Tokens and disk follow from the settings. Hours are an estimate from a card's data sheet and the assumptions below, and
no measurement. Refuses to know what fits a card: that is `plan.py`. Ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from .memory import adapter_bytes, cache_memory, model_weights


if TYPE_CHECKING:
    from .plan import RunShape

# Assumed: shares of a card's peak that decoding (bandwidth) and training (arithmetic) reach, and milliseconds that
# transformers spends on a layer at each decoded token, however fast the card.
DECODING_EFFICIENCY, TRAINING_EFFICIENCY, LAYER_MILLISECONDS = 0.5, 0.35, 0.5


class Card(NamedTuple):
    """A card: memory in GiB, bandwidth in GB/s, and bfloat16 arithmetic in TFLOP/s, as its maker states them."""

    name: str
    memory: int
    bandwidth: float
    tflops: float


CARDS = {
    card.memory: card
    for card in (
        Card("RTX 3070", 8, 448, 40),
        Card("RTX 3060", 12, 360, 25),
        Card("RTX 4080", 16, 717, 97),
        Card("RTX 4090", 24, 1008, 165),
        Card("RTX A6000", 48, 768, 155),
        Card("A100", 80, 2039, 312),
    )
}


def tokens(shape: RunShape) -> dict[str, int]:
    """Return how many tokens are generated, by step, where completions have `completion_share` of the longest."""
    mean = shape.completion_tokens * shape.plan.completion_share
    counts = {"estimate": shape.num_problems * shape.estimation.num_generations * mean}
    if shape.teacher is not None and shape.writes_references:
        counts["references, at most"] = shape.num_problems * shape.train.num_reference_attempts * mean
    counts["train"] = shape.num_steps * shape.share_on_student * shape.local_batch * mean
    return {name: round(count) for name, count in counts.items()}


def hours(shape: RunShape) -> dict[str, float]:
    """Estimate the hours of each step on the card, from the assumptions at the head of this module."""
    card = CARDS[shape.plan.card]
    generated = tokens(shape)
    batch = shape.estimation.generation_batch_size
    result = {"estimate": generated["estimate"] / _decoding_rate(shape, shape.student, batch, card) / 3600}
    if "references, at most" in generated:
        assert shape.teacher is not None
        rate = _decoding_rate(shape, shape.teacher, batch, card)
        result["references, at most"] = generated["references, at most"] / rate / 3600
    length = shape.plan.prompt_tokens + shape.completion_tokens * shape.plan.completion_share
    processed = shape.num_steps * shape.local_batch * length
    student = model_weights(shape.student, torch.bfloat16).num_parameters
    # Per parameter and token: 2 forward, 2 for gradients of activations, 2 for those of weights, 2 computed again.
    passes = 4 + 2 * (not shape.model_args.use_peft) + 2 * bool(shape.args.activation_checkpointing)
    operations = processed * passes * student
    teacher = shape.teacher or shape.student
    operations += processed * 2 * model_weights(teacher, torch.bfloat16).num_parameters
    training = operations / (card.tflops * 1e12 * TRAINING_EFFICIENCY)
    training += generated["train"] / _decoding_rate(shape, shape.student, shape.local_batch, card)
    result["train"] = training / 3600
    return result


def _decoding_rate(shape: RunShape, config: str, batch_size: int, card: Card) -> float:
    """Return tokens per second: a token of all rows takes reading the weights and half the keys and values once."""
    weights = model_weights(config, torch.bfloat16)
    read = weights.total + cache_memory(config, torch.bfloat16, batch_size, shape.num_tokens) / 2
    seconds = read / (card.bandwidth * 1e9 * DECODING_EFFICIENCY) + weights.num_layers * LAYER_MILLISECONDS / 1000
    return batch_size / seconds


def disk(shape: RunShape) -> dict[str, int]:
    """Return bytes on disk: downloads, checkpoints, completions (four characters a token), the teacher's states."""
    student = model_weights(shape.student, torch.bfloat16)
    trained = training_step_size(shape)
    kept = shape.args.save_total_limit or max(1, int(shape.num_steps // max(1, shape.args.save_steps)))
    saves = getattr(shape.args.save_strategy, "value", shape.args.save_strategy) != "no"
    sizes = {"student, downloaded": student.total, "student, trained": trained}
    if saves:
        sizes["checkpoints with the optimizer's state"] = kept * 3 * trained
    if shape.teacher is not None:
        sizes["teacher, downloaded"] = model_weights(shape.teacher, torch.bfloat16).total
    sizes["completions"] = 4 * sum(tokens(shape).values())
    if shape.args.teacher_cache is not None and shape.teacher is not None:
        numbers = model_weights(shape.teacher, torch.bfloat16).hidden_size * shape.plan.completion_share
        sizes["teacher's hidden states"] = int(2 * shape.num_problems * shape.completion_tokens * numbers)
    return sizes


def training_step_size(shape: RunShape) -> int:
    """Return the bytes of what is trained: the adapter, or the student."""
    weights = model_weights(shape.student, shape.student_dtype)
    if not shape.model_args.use_peft:
        return weights.total
    return adapter_bytes(shape.student, shape.model_args.lora_r)
