"""
What a person sees of a table of pass rates: histogram, shares, what was spent, how exact the weights are, advice.

Responsible for the text and for the numbers in it; knows nothing of stores, models or where the table comes from. The
advice is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..store.store import VERDICTS
from ..weighting.allocation import attainable_error, kernel_settings, weight_error
from ..weighting.counts import Counts, Floats, frontier_shares
from ..weighting.prior_features import fit_feature_prior
from ..weighting.prior_fit import fit_prior
from .advice import frontier_advice, verdict_advice


if TYPE_CHECKING:
    from datasets import Dataset

_BAR_WIDTH = 40


@dataclass(frozen=True)
class Precision:
    """
    What a table of pass rates cost, and how exact the weights made of it are.

    Args:
        num_generations (`int`): Completions in the table, valid or not.
        mean_generations (`float`): Completions per problem that has any.
        saved_share (`float`): Share of completions saved against `fixed_generations` for each of those problems.
        num_tokens (`int`): Tokens of all completions.
        fixed_generations (`int`): K of the comparison.
        weight_error (`float`): Estimated root mean square error of the mean-1 weights, for the estimator in use.
        plugin_weight_error (`float`): The same, as expected of the plug-in estimate with `fixed_generations` each.
        estimator (`str`): The estimator in use, in words.
    """

    num_generations: int
    mean_generations: float
    saved_share: float
    num_tokens: int
    fixed_generations: int
    weight_error: float
    plugin_weight_error: float
    estimator: str

    def __str__(self) -> str:
        saved = f"{self.saved_share:.0%} fewer than" if self.saved_share > 0 else "as many as"
        if self.saved_share < 0:
            saved = f"{-self.saved_share:.0%} more than"
        return (
            f"{self.num_generations:,} completions, {self.num_tokens:,} tokens: {self.mean_generations:.2f} a "
            f"problem, {saved} {self.fixed_generations} each\n"
            f"estimated error of the weights ({self.estimator}): {self.weight_error:.2f}; plug-in with "
            f"{self.fixed_generations} each: {self.plugin_weight_error:.2f}"
        )


def precision_of(
    table: Dataset,
    num_generations: int,
    *,
    weighting: Mapping[str, Any] | None = None,
    features: Floats | None = None,
) -> Precision:
    """
    Return what a table of pass rates cost and how exact the weights made of it are.

    Args:
        table (`datasets.Dataset`): What [`estimate_pass_rates`] returned.
        num_generations (`int`): The K that is compared with.
        weighting (`dict`, *optional*):
            Arguments of [`problem_weights`]: the estimator in use.
        features (`np.ndarray` of **shape (P, F)**, *optional*):
            What the prior of pass rates depends on; see [`problem_features`].

    Returns:
        [`Precision`]

    Raises:
        ValueError: If no problem has a valid generation.
    """
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
    verdicts = {verdict: int(_column(table, f"num_{verdict}").sum()) for verdict in VERDICTS}
    total = max(sum(verdicts.values()), 1)
    lines = [f"Pass rates of {len(table)} problems, {sum(verdicts.values())} completions", ""]
    lines += _histogram(num_passed, num_valid)
    lines += [
        "",
        f"  mastered {shares.mastered:.1%}   frontier {shares.frontier:.1%}   out of reach {shares.out_of_reach:.1%}"
        + (f"   unmeasured {shares.unmeasured:.1%}" if shares.unmeasured else ""),
        "  " + "   ".join(f"{verdict} {count} ({count / total:.1%})" for verdict, count in verdicts.items() if count),
    ]
    advice = [frontier_advice(shares), *verdict_advice(verdicts)]
    lines += [f"\nWarning: {text}" for text in advice if text is not None]
    return "\n".join(lines)


def _column(table: Dataset, name: str) -> Counts:
    """Return a column at once: value by value, a million problems take minutes."""
    return np.asarray(table[name][:])


def _histogram(num_passed: np.ndarray, num_valid: np.ndarray) -> list[str]:
    """Draw one bar per possible count if all problems have the same small K, else bars for 0, ten tenths and 1."""
    measured = num_valid > 0
    passed, valid = num_passed[measured], num_valid[measured]
    if valid.size and valid.min() == valid.max() <= 16:
        labels = [f"{count}/{valid[0]}" for count in range(valid[0] + 1)]
        bins = passed
    else:
        labels = ["0", *[f"{low / 10:.1f}-{(low + 1) / 10:.1f}" for low in range(10)], "1"]
        inner = np.minimum(10 * passed // np.maximum(valid, 1), 9) + 1
        bins = np.where(passed == 0, 0, np.where(passed == valid, 11, inner))
    counts = np.bincount(bins, minlength=len(labels))
    width = max(len(label) for label in labels)
    scale = _BAR_WIDTH / max(counts.max(), 1)
    return [
        f"  {label:>{width}} {'█' * max(round(count * scale), int(count > 0)):<{_BAR_WIDTH}} {count}"
        for label, count in zip(labels, counts, strict=True)
    ]
