"""Definitions written out slowly, against which fast code is checked."""

from __future__ import annotations

import torch


def naive_adaptive_kl(log_s: torch.Tensor, log_t: torch.Tensor) -> torch.Tensor:
    """The definition (arXiv 2404.02657), one position at a time."""
    divergences = []
    for s, t in zip(log_s, log_t, strict=True):
        order = sorted(range(len(t)), key=lambda token: (-t[token].item(), token))
        head: list[int] = []
        while sum(t[token].exp().item() for token in head) < 0.5:
            head.append(order[len(head)])
        gap = (t.exp() - s.exp()).abs().detach()
        total = gap.sum().item()
        share = gap[head].sum().item() / total if total else 0.5
        forward, reverse = (t.exp() * (t - s)).sum(), (s.exp() * (s - t)).sum()
        divergences.append(share * forward + (1 - share) * reverse)
    return torch.stack(divergences)
