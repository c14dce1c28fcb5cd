"""
Adaptive KL: forward and reverse KL mixed per token by where the student is wrong.

Responsible for the divergence AKL (arXiv 2404.02657, "Rethinking Kullback-Leibler Divergence in Knowledge Distillation
for Large Language Models"), one of PACED's baselines. Forward KL mends a distribution's head first, reverse KL its
tail; so the forward KL of a token counts as much as the share of |p_teacher - p_student| that lies in the teacher's
head, and the reverse KL takes the rest. The head are the fewest tokens, of largest teacher probability, that hold half
of it.

Both divergences are TRL's, from hidden states and heads; only the mixing factor is computed here, a few tokens at a
time. Knows nothing of weights, schedules or trainers.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.kernels.chunked_divergence import VOCAB_CHUNK_SIZE, _compute_dtype, _project
from trl.kernels.chunked_logprob import _torch_transform
from trl.trainer.utils import maybe_gather_lm_head_ctx


HEAD_MASS = 0.5

# Logits of one model that exist at a time: 128 MiB in float32, a quarter of one of the kernel's own tiles.
_MAX_LOGITS = 2**25
# The head is looked for among so many tokens of largest probability, and among all where these do not hold it.
_FEW_TOKENS = 64


def adaptive_divergence(kernel: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return the adaptive KL of N positions, with a gradient for the student.

    Args:
        kernel (`type`): TRL's `ChunkedDivergenceFunction`.
        *arguments: What it is applied to; its `beta` is not used.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Divergence per position in nats, **shape (N,)**, and the student's entropy
        as the kernel gives it. No gradient flows through the mixing factor.
    """
    before, _, after = arguments[:6], arguments[6], arguments[7:]
    forward_kl, entropy = kernel.apply(*before, 0.0, *after)
    reverse_kl, _ = kernel.apply(*before, 1.0, *after)
    forward_share = forward_shares(*before, *after)
    return forward_share * forward_kl + (1.0 - forward_share) * reverse_kl, entropy


@torch.no_grad()
def forward_shares(
    student_hidden: torch.Tensor,
    student_weight: torch.Tensor,
    student_bias: torch.Tensor | None,
    teacher_hidden: torch.Tensor,
    teacher_weight: torch.Tensor,
    teacher_bias: torch.Tensor | None,
    temperature: float = 1.0,
    student_logit_scale: float = 1.0,
    student_softcap: float | None = None,
    teacher_logit_scale: float = 1.0,
    teacher_softcap: float | None = None,
) -> torch.Tensor:
    """
    Return how much the forward KL counts at each position.

    Args:
        student_hidden, teacher_hidden (`torch.Tensor`): Last hidden states, **shape (N, H)** of either model.
        student_weight, teacher_weight (`torch.Tensor`): Heads, **shape (V, H)**.
        student_bias, teacher_bias (`torch.Tensor`, *optional*): Their biases, **shape (V,)**.
        temperature (`float`, *optional*, defaults to `1.0`): Of both softmaxes.
        student_logit_scale, teacher_logit_scale (`float`, *optional*, defaults to `1.0`): Factors of the logits.
        student_softcap, teacher_softcap (`float`, *optional*): Bounds of the logits.

    Returns:
        `torch.Tensor`: Shares in [0, 1], float32 of **shape (N,)**; one half where the models agree exactly.
    """
    vocab_size, num_positions = student_weight.shape[0], student_hidden.shape[0]
    chunk = max(1, _MAX_LOGITS // vocab_size)
    shares = torch.empty(num_positions, device=student_hidden.device, dtype=torch.float32)
    heads: tuple[Any, ...] = ((student_weight, student_bias), (teacher_weight, teacher_bias))
    with maybe_gather_lm_head_ctx(*heads[0]), maybe_gather_lm_head_ctx(*heads[1]):
        for start in range(0, num_positions, chunk):
            part = slice(start, start + chunk)
            student, teacher = (
                _probabilities(hidden[part], weight[:vocab_size], bias, scale, softcap, temperature)
                for hidden, weight, bias, scale, softcap in (
                    (student_hidden, student_weight, student_bias, student_logit_scale, student_softcap),
                    (teacher_hidden, teacher_weight, teacher_bias, teacher_logit_scale, teacher_softcap),
                )
            )
            gap = (teacher - student).abs()
            in_head, total = (gap * head_of(teacher)).sum(dim=-1), gap.sum(dim=-1)
            shares[part] = torch.where(total > 0, in_head / total, 0.5)
    return shares


def _probabilities(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    logit_scale: float,
    softcap: float | None,
    temperature: float,
) -> torch.Tensor:
    """Return the distributions that the kernel compares, **shape (n, V)**, float32."""
    dtype = _compute_dtype(hidden)
    hidden = hidden.to(dtype)
    logits = torch.empty((hidden.shape[0], weight.shape[0]), device=hidden.device, dtype=torch.float32)
    for start in range(0, weight.shape[0], VOCAB_CHUNK_SIZE):
        end = min(start + VOCAB_CHUNK_SIZE, weight.shape[0])
        _project(logits[:, start:end], hidden, weight, bias, start, end, dtype)
    return _torch_transform(logits, logit_scale, softcap or 1.0, 1.0 / temperature, softcap is not None).softmax(-1)


def head_of(probabilities: torch.Tensor, mass: float = HEAD_MASS) -> torch.Tensor:
    """
    Return which tokens are a distribution's head: the fewest, of largest probability, that hold `mass` of it.

    Of tokens that are equally likely, those of lower id come first.

    Args:
        probabilities (`torch.Tensor`): Distributions of **shape (n, V)**.
        mass (`float`, *optional*, defaults to `0.5`): In (0, 1).

    Returns:
        `torch.Tensor`: Booleans of **shape (n, V)**.
    """
    sizes, least = _size_and_least(probabilities.topk(min(_FEW_TOKENS, probabilities.shape[-1])).values, mass)
    is_longer = (sizes > _FEW_TOKENS).squeeze(-1)
    if is_longer.any():
        longer = probabilities[is_longer].sort(dim=-1, descending=True).values
        sizes[is_longer], least[is_longer] = _size_and_least(longer, mass)
    above, at_least = probabilities > least, probabilities >= least
    if (at_least.sum(dim=-1, keepdim=True) == sizes).all():
        return at_least
    tied = probabilities == least
    return above | (tied & (tied.cumsum(dim=-1) <= sizes - above.sum(dim=-1, keepdim=True)))


def _size_and_least(descending: torch.Tensor, mass: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the head's number of tokens, one more than are given where these do not hold it, and its least one."""
    sizes = (descending.cumsum(dim=-1) < mass).sum(dim=-1, keepdim=True) + 1
    return sizes, descending.gather(-1, (sizes - 1).clamp(max=descending.shape[-1] - 1))
