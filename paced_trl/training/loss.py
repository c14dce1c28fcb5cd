"""
The divergence of a batch as TRL computes it, weighted per row; and adaptive KL, which TRL does not have.

Responsible for where a problem's weight enters the loss. Both parts work on TRL's kernel for hidden states and heads,
so that no logits of a whole batch exist. Knows nothing of where weights come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from trl.kernels.chunked_divergence import VOCAB_CHUNK_SIZE, _compute_dtype, _project
from trl.kernels.chunked_logprob import ChunkedLogProbFunction, _torch_transform
from trl.trainer import distillation_trainer as trl_distillation
from trl.trainer.utils import maybe_gather_lm_head_ctx

from .schedule import KL


HEAD_MASS = 0.5

# Logits of one model that exist at a time: 128 MiB in float32, a quarter of one of the kernel's own tiles.
_MAX_LOGITS = 2**25
# The head is looked for among so many tokens of largest probability, and among all where these do not hold it.
_FEW_TOKENS = 64


class WeightedDivergence:
    """
    Stand-in for TRL's `ChunkedDivergenceFunction` during one loss computation: its per-token divergences, weighted.

    TRL sums per-token divergences inside `_chunked_divergence_loss`, where no argument takes a weight per token. The
    kernel's output is the one place where a weight reaches the gradients of both the backbone and the head, so the
    name that TRL looks up there is bound to this object while `_compute_loss` runs. Every rule of TRL's around it
    (logit scales, soft caps, biases, sharded heads, devices) stays TRL's. Can go when TRL's loss takes token weights.

    `row_weights` is of **shape (B,)**; `loss_mask` and `targets`, the token ids, of **shape (B, C)**. `vocab_size` is
    how many token ids enter the softmaxes, less than all where a head is padded.
    """

    def __init__(
        self,
        row_weights: torch.Tensor,
        loss_mask: torch.Tensor,
        kl: KL | None = None,
        vocab_size: int | None = None,
        targets: torch.Tensor | None = None,
    ) -> None:
        self.loss_mask = loss_mask
        self.kl = kl
        self.vocab_size = vocab_size
        self.targets = targets
        self.token_weights = row_weights.unsqueeze(1).expand(loss_mask.shape).reshape(-1)
        self.divergence_sums: torch.Tensor | None = None

    def apply(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if self.vocab_size is not None:
            # Weight and bias of the student's head, weight and bias of the teacher's.
            args = tuple(
                arg[: self.vocab_size] if index in (1, 2, 4, 5) and arg is not None else arg
                for index, arg in enumerate(args)
            )
        valid = self.loss_mask.reshape(-1) != 0
        if self.kl == "akl":
            divergence, entropy = adaptive_divergence(self.kernel, *args)
        elif self.kl == "cross_entropy":
            assert self.targets is not None
            targets = self.targets.reshape(-1)
            divergence, entropy = cross_entropy(targets if len(targets) == len(args[0]) else targets[valid], *args)
        else:
            divergence, entropy = self.kernel.apply(*args)
        # On Triton devices TRL hands over the valid positions only, elsewhere all B * C of them.
        compact = divergence.numel() != valid.numel()
        weights = (self.token_weights[valid] if compact else self.token_weights).to(divergence.device)
        weighted = divergence * weights
        in_loss = (lambda x: x.detach().sum()) if compact else (lambda x: x.detach()[valid.to(x.device)].sum())
        self.divergence_sums = torch.stack([in_loss(divergence), in_loss(weighted)])
        return weighted, entropy

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have TRL's loss use this object in place of its kernel."""
        self.kernel = trl_distillation.ChunkedDivergenceFunction
        vars(trl_distillation)["ChunkedDivergenceFunction"] = self
        try:
            yield
        finally:
            vars(trl_distillation)["ChunkedDivergenceFunction"] = self.kernel
        if self.divergence_sums is None:
            raise RuntimeError(
                "TRL's `_compute_loss` did not call `ChunkedDivergenceFunction`, so problem weights were not applied. "
                "This version of TRL is not supported; install the `trl` version that `pyproject.toml` names."
            )


def cross_entropy(targets: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of N tokens under the student in nats, and its entropy, **shape (N,)** each."""
    # TRL's arguments: the teacher's are not used, nor is the temperature, which is 1 in supervised fine-tuning.
    student, rules = arguments[:3], arguments[8:10]
    logit_scale, softcap = rules or (1.0, None)
    log_probabilities, entropy, *_ = ChunkedLogProbFunction.apply(
        *student, targets.to(student[0].device), 1.0, VOCAB_CHUNK_SIZE, softcap, logit_scale, ("entropy",)
    )
    return -log_probabilities, entropy


class Predictions(NamedTuple):
    """What one model predicts at N positions: hidden states **(N, H)**, a head **(V, H)** and its rules."""

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    logit_scale: float = 1.0
    softcap: float | None = None


def adaptive_divergence(kernel: Any, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the adaptive KL (arXiv 2404.02657) of N positions in nats, and the student's entropy, **shape (N,)**."""
    # Forward KL corrects a distribution's head first, reverse KL its tail. So the forward KL of a token counts as much
    # as the share of |p_teacher - p_student| that lies in the teacher's head, and the reverse KL takes the rest.
    before, _, after = arguments[:6], arguments[6], arguments[7:]
    forward_kl, entropy = kernel.apply(*before, 0.0, *after)
    reverse_kl, _ = kernel.apply(*before, 1.0, *after)
    temperature, rules = after[0] if after else 1.0, after[1:]
    forward_share = forward_shares(
        Predictions(*before[:3], *rules[:2]), Predictions(*before[3:], *rules[2:]), temperature
    )
    return forward_share * forward_kl + (1.0 - forward_share) * reverse_kl, entropy


@torch.no_grad()
def forward_shares(student: Predictions, teacher: Predictions, temperature: float = 1.0) -> torch.Tensor:
    """Return how much the forward KL counts at each position, **shape (N,)** in [0, 1]; 0.5 where the models agree."""
    vocab_size, num_positions = student.weight.shape[0], student.hidden.shape[0]
    chunk = max(1, _MAX_LOGITS // vocab_size)
    shares = torch.empty(num_positions, device=student.hidden.device, dtype=torch.float32)
    heads: list[tuple[Any, Any]] = [(model.weight, model.bias) for model in (student, teacher)]
    gathered = [maybe_gather_lm_head_ctx(*head) for head in heads]
    with gathered[0], gathered[1]:
        for start in range(0, num_positions, chunk):
            part = slice(start, start + chunk)
            p_student, p_teacher = (
                _probabilities(
                    model._replace(hidden=model.hidden[part], weight=model.weight[:vocab_size]), temperature
                )
                for model in (student, teacher)
            )
            gap = (p_teacher - p_student).abs()
            in_head, total = (gap * head_of(p_teacher)).sum(dim=-1), gap.sum(dim=-1)
            shares[part] = torch.where(total > 0, in_head / total, 0.5)
    return shares


def _probabilities(model: Predictions, temperature: float) -> torch.Tensor:
    """Return the distributions that the kernel compares, **shape (n, V)**, float32."""
    dtype = _compute_dtype(model.hidden)
    hidden, weight, softcap = model.hidden.to(dtype), model.weight, model.softcap
    logits = torch.empty((hidden.shape[0], weight.shape[0]), device=hidden.device, dtype=torch.float32)
    for start in range(0, weight.shape[0], VOCAB_CHUNK_SIZE):
        end = min(start + VOCAB_CHUNK_SIZE, weight.shape[0])
        _project(logits[:, start:end], hidden, weight, model.bias, start, end, dtype)
    scale = model.logit_scale
    return _torch_transform(logits, scale, softcap or 1.0, 1.0 / temperature, softcap is not None).softmax(-1)


def head_of(probabilities: torch.Tensor, mass: float = HEAD_MASS) -> torch.Tensor:
    """Return which tokens are the heads of distributions, **shape (n, V)**: the fewest that hold `mass` of each."""
    sizes, least = _size_and_least(probabilities.topk(min(_FEW_TOKENS, probabilities.shape[-1])).values, mass)
    is_longer = (sizes > _FEW_TOKENS).squeeze(-1)
    if is_longer.any():
        longer = probabilities[is_longer].sort(dim=-1, descending=True).values
        sizes[is_longer], least[is_longer] = _size_and_least(longer, mass)
    above, at_least = probabilities > least, probabilities >= least
    if (at_least.sum(dim=-1, keepdim=True) == sizes).all():
        return at_least
    tied = probabilities == least  # of equally likely tokens, those of lower id come first
    return above | (tied & (tied.cumsum(dim=-1) <= sizes - above.sum(dim=-1, keepdim=True)))


def _size_and_least(descending: torch.Tensor, mass: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the head's number of tokens, one more than are given where these do not hold it, and its least one."""
    sizes = (descending.cumsum(dim=-1) < mass).sum(dim=-1, keepdim=True) + 1
    return sizes, descending.gather(-1, (sizes - 1).clamp(max=descending.shape[-1] - 1))
