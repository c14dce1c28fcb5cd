"""
What a person sees of a table of pass rates: histogram, shares, what was spent, how exact the weights are, advice.

Makes text and the numbers in it; when a share calls for advice is in `advice.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..store.counts import verdict_totals
from ..store.shards import VERDICTS
from ..text import in_percent
from ..weighting.allocation import attainable_error, kernel_settings, weight_error
from ..weighting.counts import Counts, Floats, bin_labels, frontier_shares, pass_rate_bins
from ..weighting.prior_features import fit_feature_prior
from ..weighting.prior_fit import fit_prior
from .advice import frontier_advice, verdict_advice


if TYPE_CHECKING:
    from datasets import Dataset

_BAR_WIDTH = 40
# Weights have mean 1: an estimate of their error beyond this says only that it cannot be estimated from so few.
_MAX_ERROR = 10.0


@dataclass(frozen=True)
class Precision:
    """What a table of pass rates cost, and how exact the weights made of it are; `str` is what a person reads."""

    num_generations: int
    """Completions in the table, valid or not."""
    mean_generations: float
    """Completions per problem that has any."""
    saved_share: float
    """Share of completions saved against `fixed_generations` for each of those problems."""
    num_tokens: int
    fixed_generations: int
    weight_error: float
    """Estimated root mean square error of the mean-1 weights, for the estimator in use."""
    plugin_weight_error: float
    """The same, as expected of the plug-in estimate with `fixed_generations` each."""
    estimator: str

    def __str__(self) -> str:
        saved = f"{self.saved_share:.0%} fewer than" if self.saved_share > 0 else "as many as"
        if self.saved_share < 0:
            saved = f"{-self.saved_share:.0%} more than"
        spent = (
            f"{self.num_generations:,} completions, {self.num_tokens:,} tokens: {self.mean_generations:.2f} a "
            f"problem, {saved} {self.fixed_generations} each\n"
        )
        if not self.weight_error <= _MAX_ERROR:
            return f"{spent}Too few completions to estimate how exact the weights are: take more generations."
        exact = (
            f"The weights, whose mean is 1, are off by about {self.weight_error:.2f} ({self.estimator} estimate, root "
            "mean square)"
        )
        is_the_same = self.saved_share == 0 and self.estimator == "plugin"
        if is_the_same or not self.plugin_weight_error <= _MAX_ERROR:
            return f"{spent}{exact}."
        return (
            f"{spent}{exact}; plug-in estimates with {self.fixed_generations} completions each would be by "
            f"{self.plugin_weight_error:.2f}."
        )


def precision_of(
    table: Dataset, num_generations: int, *, weighting: Mapping[str, Any] | None = None, features: Floats | None = None
) -> Precision:
    """Return what a table of pass rates cost, compared with `num_generations` each, and how exact the weights are."""
    passed, valid = _column(table, "num_passed"), _column(table, "num_valid")
    generated = passed + sum(_column(table, f"num_{verdict}") for verdict in VERDICTS if verdict != "passed")
    rows = np.flatnonzero(generated)
    prior = fit_prior(passed, valid) if features is None else fit_feature_prior(passed, valid, features)
    prior = prior.at(rows)
    settings = kernel_settings(weighting)
    estimator = settings.get("estimator", "plugin")
    is_ungated = estimator == "posterior" and not settings.get("gate", True)
    total = int(generated.sum())
    return Precision(
        num_generations=total,
        mean_generations=total / rows.size,
        saved_share=1.0 - total / (num_generations * rows.size),
        num_tokens=int(_column(table, "num_tokens").sum()),
        fixed_generations=num_generations,
        weight_error=weight_error(passed[rows], valid[rows], prior=prior, weighting=settings),
        plugin_weight_error=attainable_error(passed[rows], valid[rows], prior, num_generations, settings),
        estimator=f"{estimator}, no gate" if is_ungated else estimator,
    )


def summarize_pass_rates(table: Dataset) -> str:
    """
    Describe a table of pass rates for a person.

    Args:
        table (`datasets.Dataset`):
            What [`estimate_pass_rates`] returned.

    Returns:
        `str`: Histogram, shares of mastered, frontier and out-of-reach problems, counts of verdicts, and advice where
        the frontier is nearly empty or the verifier fails often.
    """
    num_passed, num_valid = _column(table, "num_passed"), _column(table, "num_valid")
    shares = frontier_shares(num_passed, num_valid)
    verdicts = verdict_totals(table)
    total = max(sum(verdicts.values()), 1)
    lines = [f"Pass rates of {len(table)} problems, {sum(verdicts.values())} completions", ""]
    bins, _ = pass_rate_bins(num_passed, num_valid)
    labels = bin_labels(num_valid)
    lines += bars(dict(zip(labels, np.bincount(bins, minlength=len(labels)).tolist(), strict=True)))
    lines += [
        "",
        f"  mastered {in_percent(shares.mastered)}   frontier {in_percent(shares.frontier)}   "
        f"out of reach {in_percent(shares.out_of_reach)}"
        + (f"   unmeasured {in_percent(shares.unmeasured)}" if shares.unmeasured else ""),
        "  "
        + "   ".join(f"{name} {count} ({in_percent(count / total)})" for name, count in verdicts.items() if count),
    ]
    advice = [frontier_advice(shares), *verdict_advice(verdicts)]
    lines += [f"\nWarning: {text}" for text in advice if text is not None]
    return "\n".join(lines)


def _column(table: Dataset, name: str) -> Counts:
    """Return a column at once: value by value, a million problems take minutes."""
    return np.asarray(table[name][:])


def bars(counts: Mapping[Any, int]) -> list[str]:
    """Return a horizontal bar for each count, below one another."""
    width, scale = max(len(str(label)) for label in counts), _BAR_WIDTH / max(*counts.values(), 1)
    return [
        f"  {label:>{width}} {'█' * max(round(count * scale), int(count > 0)):<{_BAR_WIDTH}} {count}"
        for label, count in counts.items()
    ]
