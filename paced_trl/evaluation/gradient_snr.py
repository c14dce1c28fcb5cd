"""
Whether gradients agree across problems, by how often the student passes them: the paper's bell, on one's own data.

Within a bin of n problems, SNR = |mu|^2 / sigma^2 with mu the mean gradient and sigma^2 the mean of |g_i - mu|^2. The
plain ratio of sample values is high by about 1/n, so both are estimated without bias: |mu|^2 by the mean of g_i . g_j
over all pairs i != j, sigma^2 by the mean of |g_i|^2 minus that. Numpy only; gradients come from `diagnosis.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..weighting.counts import Floats, pass_rate_bins
from .intervals import percentile_interval, resample


RESULT = "gradient_snr.json"

# Fewer problems have too few pairs.
MIN_PROBLEMS = 4
_GRID = np.round(np.arange(0.0, 4.01, 0.05), 2)


@dataclass(frozen=True)
class SNRBin:
    """The problems of about one pass rate: SNR with its 95 % interval over problems, and the mean of |g_i|."""

    pass_rate: float
    num_problems: int
    snr: float
    low: float
    high: float
    mean_norm: float


@dataclass(frozen=True)
class GradientSNR:
    """The SNR over the pass rate, and the exponents (a, b) whose p^a (1-p)^b, times a constant, fits it best."""

    bins: list[SNRBin]
    exponents: tuple[float, float]
    exponent_intervals: tuple[tuple[float, float], tuple[float, float]]
    # Shares of the bins' summed squared SNR that the best exponents and (1, 1) explain.
    explained: float
    explained_by_default: float
    is_bell: bool  # whether the middle is above both ends, by intervals that exclude 0
    finding: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GradientSNR:
        """Return what `to_dict` was made of; other keys are left out."""
        known: dict[str, Any] = {f.name: values[f.name] for f in fields(cls)}
        known["bins"] = [SNRBin(**each) for each in known["bins"]]
        known["exponents"] = tuple(known["exponents"])
        known["exponent_intervals"] = tuple(map(tuple, known["exponent_intervals"]))
        return cls(**known)

    def best_exponents(self, a: float | None = None, b: float | None = None) -> tuple[float, float, float]:
        """Return the best a and b, of which one may be given, and the share of squared SNR that they explain."""
        rates, values = (np.array([getattr(each, name) for each in self.bins]) for name in ("pass_rate", "snr"))
        grids = [_GRID if value is None else np.array([value]) for value in (a, b)]
        exponents, explained = _fit_exponents(rates, values[:, None], *grids)
        if explained[0] <= 0.0:
            raise ValueError(
                "Gradients of different problems agree at no pass rate, so no exponents are better than others."
            )
        return float(exponents[0, 0]), float(exponents[0, 1]), float(explained[0])

    def summary(self) -> str:
        """Return the curve and what it says, as lines of text."""
        lines = ["pass rate  problems  SNR [95 % interval]          mean |gradient|"]
        for b in self.bins:
            interval = f"{b.snr:.3g} [{b.low:.3g}, {b.high:.3g}]"
            lines.append(f"{b.pass_rate:9.3g}  {b.num_problems:8d}  {interval:27}  {b.mean_norm:.3g}")
        (a, b_), ((low_a, high_a), (low_b, high_b)) = self.exponents, self.exponent_intervals
        where = "within" if low_a <= 1 <= high_a and low_b <= 1 <= high_b else "outside"
        lines += [
            self.finding,
            f"p^a (1-p)^b fits best with a = {a:.2g} [{low_a:.2g}, {high_a:.2g}] and b = {b_:.2g} [{low_b:.2g}, "
            f"{high_b:.2g}], which explains {self.explained:.0%}; a = b = 1, {where} these "
            f"intervals, explains {self.explained_by_default:.0%}.",
        ]
        return "\n".join(lines)


def gradient_snr(
    gradients: Floats,
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> GradientSNR:
    """Estimate the SNR of gradients, **shape (P, D)**, or of projections of them, as a function of the pass rate."""
    index, last = pass_rate_bins(num_passed, num_valid)
    chosen = bins_with_pairs(num_passed, num_valid)
    rng = np.random.default_rng(seed)
    bins, resampled = [], []
    for b in chosen:
        part = np.asarray(gradients, dtype=np.float64)[index == b]
        estimate, replicates = _snr_with_replicates(part @ part.T, num_resamples, rng)
        low, high = percentile_interval(replicates)
        norm = float(np.linalg.norm(part, axis=1).mean())
        bins.append(SNRBin(b / last, len(part), float(estimate), float(low), float(high), norm))
        resampled.append(replicates)
    rates = np.array([b.pass_rate for b in bins])
    replicates = np.stack(resampled)
    values = np.array([b.snr for b in bins])[:, None]
    exponents, explained = _fit_exponents(rates, values)
    replicated, _ = _fit_exponents(rates, replicates)
    intervals = np.transpose(percentile_interval(replicated))
    is_bell, finding = _judge_bell(rates, replicates)
    return GradientSNR(
        bins=bins,
        exponents=(float(exponents[0, 0]), float(exponents[0, 1])),
        exponent_intervals=(tuple(intervals[0].tolist()), tuple(intervals[1].tolist())),
        explained=float(explained[0]),
        explained_by_default=float(_explained(_kernels(rates, [1.0], [1.0]), values)[0, 0]),
        is_bell=is_bell,
        finding=finding,
    )


def bins_with_pairs(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> list[int]:
    """Return the bins of pass rates that have enough problems for an SNR; fewer than three are refused."""
    index, last = pass_rate_bins(num_passed, num_valid)
    chosen = [b for b in range(last + 1) if np.count_nonzero(index == b) >= MIN_PROBLEMS]
    if len(chosen) < 3:
        raise ValueError(
            f"Only {len(chosen)} pass rates have {MIN_PROBLEMS} problems or more, which makes no curve. Take more "
            "problems, or ones that the student passes sometimes."
        )
    return chosen


def _snr_with_replicates(gram: Floats, num_resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the SNR of one bin from its **(n, n)** inner products, and its bootstrap replicates, **shape (R,)**."""
    n = len(gram)
    counts = np.concatenate([np.ones((1, n)), resample(n, num_resamples, rng)])
    squares = np.diagonal(gram)
    # Pairs of two different problems only: a problem drawn twice would agree with itself.
    pairs = np.einsum("rn,nm,rm->r", counts, gram, counts, optimize=True) - counts**2 @ squares
    signal = pairs / (n * (n - 1))
    signal[1:] /= 1.0 - 1.0 / n  # the share of draws of two that are of two different problems
    noise = np.maximum(counts @ squares / n - signal, 1e-300)
    return (signal / noise)[0], (signal / noise)[1:]


def _kernels(rates: Floats, alphas: npt.ArrayLike, betas: npt.ArrayLike) -> Floats:
    """Return p^a (1-p)^b for all pairs of exponents, **shape (A * B, M)**."""
    a, b = (grid.reshape(-1, 1) for grid in np.meshgrid(alphas, betas, indexing="ij"))
    kernels: Floats = rates**a * (1.0 - rates) ** b
    return kernels


def _explained(kernels: Floats, values: Floats) -> Floats:
    """Return the share, **(N, R)**, of squared `values`, **(M, R)**, that kernels, **(N, M)**, explain at best."""
    # Every pass rate counts alike: weighted by their precision, which is highest at the ends where no kernel fits
    # exactly, the ends would decide alone. A kernel's best constant is not below 0.
    products = np.maximum(kernels @ values, 0.0)
    shares: Floats = products**2 / np.sum(kernels**2, axis=1)[:, None] / np.maximum(np.sum(values**2, axis=0), 1e-300)
    return shares


def _fit_exponents(
    rates: Floats, values: Floats, alphas: Floats = _GRID, betas: Floats = _GRID
) -> tuple[Floats, Floats]:
    """Return each column's best exponents, **shape (R, 2)**, and what they explain, **shape (R,)**."""
    explained = _explained(_kernels(rates, alphas, betas), values)
    rows, columns = np.divmod(explained.argmax(axis=0), len(betas))
    return np.stack([alphas[rows], betas[columns]], axis=1), explained.max(axis=0)


def _judge_bell(rates: Floats, replicates: Floats) -> tuple[bool, str]:
    """Compare the mean SNR of the inner bins with those of the first and the last, by their replicates."""
    middle = replicates[1:-1].mean(axis=0)
    names = [f"p = {rates[0]:.2g}", f"p = {rates[-1]:.2g}"]
    lows, highs = zip(*(percentile_interval(middle - end) for end in (replicates[0], replicates[-1])), strict=True)
    falls = [name for name, low in zip(names, lows, strict=True) if low > 0]
    rises = [name for name, high in zip(names, highs, strict=True) if high < 0]
    if len(falls) == 2:
        text = f"The data show a bell: the SNR between is above that at {names[0]} and at {names[1]}."
    elif falls:
        text = f"The data do not show a bell: the SNR falls towards {falls[0]} only."
    else:
        text = "The data do not show a bell: the SNR between is above that at neither end."
    if rises:
        text += f" It is highest at {' and '.join(rises)}, where the weight would be 0."
    return len(falls) == 2, text
