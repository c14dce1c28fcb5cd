"""
The weight of a row in the loss: where it enters TRL's computation.

Responsible for multiplying per-token divergences by their row's weight, and for the sums that are logged. Refuses to
know where weights come from. The weight is the paper's (PACED, arXiv 2603.11178); the way in is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from trl.trainer import distillation_trainer as trl_distillation

from .adaptive_kl import adaptive_divergence
from .schedule import KL


class WeightedDivergence:
    """
    Stand-in for TRL's `ChunkedDivergenceFunction` during one loss computation: its per-token divergences, weighted.

    TRL sums per-token divergences inside `_chunked_divergence_loss`, where no argument takes a weight per token. The
    kernel's output is the one place where a weight reaches the gradients of both the backbone and the head, so the
    name that TRL looks up there is bound to this object while `_compute_loss` runs. Every rule of TRL's around it
    (logit scales, soft caps, biases, sharded heads, devices) stays TRL's. Can go when TRL's loss takes token weights.

    Args:
        row_weights (`torch.Tensor`): Weight of each row's tokens, **shape (B,)**.
        loss_mask (`torch.Tensor`): 1 at completion positions in the loss, **shape (B, C)**.
        kl (`str`, *optional*): `"akl"` computes the adaptive KL, whatever `beta` TRL asks for.
        vocab_size (`int`, *optional*):
            Token ids that enter the softmaxes, from 0. `None`: all rows of the heads; less where one head is padded.
    """

    def __init__(
        self,
        row_weights: torch.Tensor,
        loss_mask: torch.Tensor,
        kl: KL | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self.loss_mask = loss_mask
        self.kl = kl
        self.vocab_size = vocab_size
        self.token_weights = row_weights.unsqueeze(1).expand(loss_mask.shape).reshape(-1)
        self.divergence_sums: torch.Tensor | None = None

    def apply(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if self.vocab_size is not None:
            # Weight and bias of the student's head, weight and bias of the teacher's.
            args = tuple(
                arg[: self.vocab_size] if index in (1, 2, 4, 5) and arg is not None else arg
                for index, arg in enumerate(args)
            )
        if self.kl == "akl":
            divergence, entropy = adaptive_divergence(self.kernel, *args)
        else:
            divergence, entropy = self.kernel.apply(*args)
        valid = self.loss_mask.reshape(-1) != 0
        # On Triton devices TRL hands over the valid positions only, elsewhere all B * C of them.
        compact = divergence.numel() != valid.numel()
        weights = (self.token_weights[valid] if compact else self.token_weights).to(divergence.device)
        weighted = divergence * weights
        in_loss = (lambda x: x.detach().sum()) if compact else (lambda x: x.detach()[valid.to(x.device)].sum())
        self.divergence_sums = torch.stack([in_loss(divergence), in_loss(weighted)])
        return weighted, entropy

    @contextmanager
    def in_force(self) -> Iterator[None]:
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
