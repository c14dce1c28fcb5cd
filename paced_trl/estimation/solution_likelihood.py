"""
How likely the student finds each gold solution: a feature of the prior that costs one forward pass a problem.

What it says about pass rates is for the fit in `weighting/prior_features.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset

from ..generation.device_memory import DEFAULT_ROWS
from ..generation.padded_batch import attention_mask, left_padded
from ..progress import GenerationProgress
from ..weighting.counts import Floats
from ..weighting.prior_features import SOLUTION_LOG_PROBABILITY


# Logits in memory at once, in numbers.
_MAX_LOGITS = 100_000_000


@torch.no_grad()
def solution_log_probabilities(
    problems: Dataset | Sequence[dict[str, Any]], generator: Any, *, progress: bool = True
) -> Floats:
    """
    Return the log-probability of each problem's solution after its prompt: log P(solution | prompt), in nats.

    Where the solution is what the student should write, such as a worked trace, this says much about how often it
    will. Where it is a bare answer after long reasoning, it says less; the fit of the prior finds out.

    Args:
        problems (`datasets.Dataset` or `list[dict]`): P problems with `prompt` and `solution`.
        generator ([`TransformersGenerator`]): The student.
        progress (`bool`, *optional*, defaults to `True`): Whether to show a bar.

    Returns:
        `np.ndarray`: Sums over the tokens of the solution, float64 of **shape (P,)**; 0 where it has none.

    Raises:
        ValueError: If the engine gives no log-probabilities.
    """
    if not hasattr(generator, "model"):
        raise ValueError(
            f"`prior_features` has {SOLUTION_LOG_PROBABILITY!r}, which needs the student's weights in this process. "
            "Use `engine='transformers'`, or leave the feature out."
        )
    prompts = generator.renderer.tokenize([row["prompt"] for row in problems])
    texts = [row["solution"] if isinstance(row["solution"], str) else str(row["solution"]) for row in problems]
    solutions = generator.tokenizer(texts, add_special_tokens=False)["input_ids"]
    result = torch.zeros(len(prompts), dtype=torch.float64)
    vocabulary = generator.model.get_output_embeddings().weight.shape[0]
    waiting = sorted(range(len(prompts)), key=lambda row: -len(solutions[row]))
    with GenerationProgress("Solutions", enabled=progress) as display:
        display.start(completed=0, total=len(prompts))
        while waiting:
            most = max(1, _MAX_LOGITS // (vocabulary * (len(solutions[waiting[0]]) + 1)))
            size = min(generator.batch_size or DEFAULT_ROWS, most)
            rows, waiting = waiting[:size], waiting[size:]
            result[rows] = _batch_log_probabilities(
                generator, [prompts[row] for row in rows], [solutions[row] for row in rows]
            )
            display.advance(len(rows), sum(len(solutions[row]) for row in rows))
    return result.numpy()


def _batch_log_probabilities(generator: Any, prompts: list[list[int]], solutions: list[list[int]]) -> torch.Tensor:
    """Return log P(solution | prompt) of some problems, **shape (B,)**; rows are aligned on the right."""
    rows = [prompt + solution for prompt, solution in zip(prompts, solutions, strict=True)]
    ids, padding = left_padded(rows, generator.pad_token_id, min_width=2)
    longest = max(map(len, solutions))
    if longest == 0:
        return torch.zeros(len(rows), dtype=torch.float64)
    mask = attention_mask(padding, ids.shape[1])
    ids, mask = ids.to(generator.model.device), mask.to(generator.model.device)
    logits = generator.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits[:, -longest - 1 : -1]
    targets = ids[:, -longest:]
    log_probabilities = logits.float().log_softmax(dim=-1).gather(2, targets.unsqueeze(2)).squeeze(2)
    lengths = torch.tensor([len(solution) for solution in solutions], device=ids.device)
    is_solution = torch.arange(longest, device=ids.device) >= longest - lengths.unsqueeze(1)
    return torch.where(is_solution, log_probabilities, 0.0).sum(dim=1, dtype=torch.float64).cpu()
