"""
What quantisation changes in a teacher: the divergence between it and itself in 4 bits, on references.

One of the two is in memory at a time: of the full one its final hidden states are kept, and both have the same head.
Several processes share the references and get the numbers of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset

from ..processes import Processes
from ..run_directory import write_json
from ..training.dataset import end_of_completion_id, reference_token_ids
from .intervals import NUM_RESAMPLES, percentile_interval, resample


RESULT = "teacher_gap.json"
# Rows of logits in memory at once.
_CHUNK = 256


@dataclass(frozen=True)
class TeacherGap:
    """How far a teacher in 4 bits is from itself, with 95 % intervals over references."""

    kl: float  # KL(full || 4 bits) in nats per token
    kl_interval: tuple[float, float]
    top1_agreement: float  # share of tokens on whose likeliest both agree
    top1_interval: tuple[float, float]
    num_references: int
    num_tokens: int

    def summary(self) -> str:
        (low, high), (least, most) = self.kl_interval, self.top1_interval
        return (
            f"Teacher in 4 bits, on {self.num_references} references of {self.num_tokens} tokens:\n"
            f"  KL(full || 4 bits)   {self.kl:.4f} nats per token [{low:.4f}, {high:.4f}]\n"
            f"  same likeliest token {self.top1_agreement:.1%} [{least:.1%}, {most:.1%}]\n"
            "Read `paced/forward_kl` at the end of training beside the first: once the student is as near to the "
            "quantised teacher as that is to the full one, coming nearer may mean learning its errors."
        )


def teacher_gap(
    load: Callable[[bool], Any], references: Dataset, *, num_references: int, max_completion_length: int, seed: int
) -> TeacherGap:
    """Measure the gap on some rows with `prompt` and `reference`; `load(in_4bit)` makes the teacher's generator."""
    if num_references < 1:
        raise ValueError(f"`num_gap_references` is {num_references}; it takes at least 1 reference.")
    rng = np.random.default_rng(seed)
    rows = references.select(sorted(rng.permutation(len(references))[:num_references].tolist())).to_list()
    generator = load(False)
    prompts = generator.renderer.tokenize([row["prompt"] for row in rows])
    tokenizer, ends = generator.tokenizer, generator.eos_token_ids
    end = end_of_completion_id(tokenizer, rows[0]["prompt"], ends)
    texts = reference_token_ids(tokenizer, [row["reference"] for row in rows], end, ends)
    completions = [ids[:max_completion_length] for ids in texts]
    processes = Processes.current()
    pairs = processes.share(list(zip(prompts, completions, strict=True)))
    full = [_hidden_states(generator.model, *pair).cpu() for pair in pairs]
    # Both at once may not fit.
    del generator
    clear_device_cache(garbage_collection=True)
    quantised = load(True).model
    sums = [
        _compare(quantised, states, _hidden_states(quantised, *pair)) for states, pair in zip(full, pairs, strict=True)
    ]
    return _summed(np.array(processes.join(sums)), np.array([len(ids) for ids in completions]), rng)


@torch.no_grad()
def _hidden_states(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Return the final hidden states that predict a completion's tokens, **shape (C, H)**."""
    ids = torch.tensor([[*prompt, *completion]], device=model.device)
    states: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states[0, len(prompt) - 1 : -1]


@torch.no_grad()
def _compare(model: Any, full: torch.Tensor, quantised: torch.Tensor) -> tuple[float, int]:
    """Return the sum of KL(full || quantised) over the tokens of a reference, and how many likeliest tokens agree."""
    kl, agreeing = 0.0, 0
    for start in range(0, len(full), _CHUNK):
        p, q = (
            _logits(model, states[start : start + _CHUNK].to(quantised.device)).log_softmax(dim=-1)
            for states in (full, quantised)
        )
        kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        agreeing += int((p.argmax(dim=-1) == q.argmax(dim=-1)).sum())
    return kl, agreeing


def _logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return logits as the model makes them of its final hidden states, in float32."""
    logits: torch.Tensor = model.get_output_embeddings()(states).float()
    config = model.config.get_text_config()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _summed(sums: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> TeacherGap:
    """Return means per token, with intervals from references drawn again."""
    means = sums.sum(axis=0) / lengths.sum()
    drawn = resample(len(lengths), NUM_RESAMPLES, rng)
    resampled = (drawn @ sums) / (drawn @ lengths)[:, None]
    (kl_low, top1_low), (kl_high, top1_high) = percentile_interval(resampled)
    return TeacherGap(
        kl=float(means[0]),
        kl_interval=(float(kl_low), float(kl_high)),
        top1_agreement=float(means[1]),
        top1_interval=(float(top1_low), float(top1_high)),
        num_references=len(lengths),
        num_tokens=int(lengths.sum()),
    )


def save_teacher_gap(gap: TeacherGap, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / RESULT, asdict(gap))
    return directory / RESULT
