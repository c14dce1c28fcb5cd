"""The signal-to-noise ratio of gradients over the pass rate, with the weights that follow it (PACED, first figure)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.gradient_snr import GradientSNR
from ..weighting.kernel import beta_kernel
from .theme import LIGHT, Theme


def draw_gradient_snr(result: GradientSNR, theme: Theme = LIGHT) -> Figure:
    """
    Draw the SNR of each pass rate with its interval, the best fitting weight and p (1 - p), and the gradients' norms.

    Args:
        result ([`GradientSNR`]): What `paced-trl diagnose` found.
        theme ([`Theme`], *optional*): Colours.
    """
    rates, snr, low, high, norms = (
        np.array([getattr(b, name) for b in result.bins]) for name in ("pass_rate", "snr", "low", "high", "mean_norm")
    )
    figure = Figure(figsize=(9.0, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    left.axhline(0.0, color=theme.muted, linewidth=1)
    left.vlines(rates, low, high, color=theme.ink, linewidth=2.2)
    left.plot(rates, snr, "o", color=theme.ink, label="SNR, 95 % interval")
    grid = np.linspace(0.0, 1.0, 501)
    best = result.exponents
    for (a, b), color, style in ((best, theme.weight, "-"), ((1.0, 1.0), theme.problems, (0, (4, 3)))):
        at_rates = beta_kernel(rates, a, b)
        scale = max(0.0, float(snr @ at_rates) / float(at_rates @ at_rates))
        curve = scale * beta_kernel(grid, a, b)
        left.plot(grid, curve, color=color, linestyle=style, linewidth=1.8, label=f"p^{a:.2g} (1 − p)^{b:.2g}, scaled")
    left.set(xlabel="pass rate", ylabel="SNR", title="Do gradients of different problems agree?")
    right.plot(rates, norms, "o-", color=theme.ink)
    right.set(xlabel="pass rate", ylabel="mean norm of the gradient", title="How large are they?")
    right.set_ylim(bottom=0.0)
    figure.legend(handles=left.get_legend_handles_labels()[0], loc="outside upper right", ncols=3)
    return figure
