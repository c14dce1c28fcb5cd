"""
Which figures a report has, what stands over and under each, and the problem weights that the first one shows.

Drawing is in `figures.py`; this module chooses what to draw from what a run left, and puts it into words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.comparison import Comparison
from ..weighting.counts import Floats, FrontierShares, pass_rates
from ..weighting.kernel import beta_kernel
from ..weighting.weights import problem_weights
from .comparison_figures import draw_accuracy_retention, draw_learning_curves
from .contents import RunContents
from .curves import EFFECTIVE_SAMPLE_SIZE, has_logged, held_out_curves
from .draw_results import draw_accuracy, draw_before_after, draw_training_pass_rates
from .draw_training import draw_held_out_curves, draw_training, draw_weights_over_steps
from .findings import mean_with_interval, training_shares
from .snr_figure import draw_gradient_snr
from .theme import Theme


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page: its file name, its title, its caption, its text for who cannot see it, its drawing."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class TrainingWeights:
    """
    The weights of the training problems and the rule behind them.

    Args:
        values (`np.ndarray`): Weights of **shape (P,)**, in the order of the pass-rate table, mean 1.
        curve (`Callable[[np.ndarray], np.ndarray]`, *optional*): The rule, as a function of pass rates, on that scale.
        formula (`str`): The rule, to read.
    """

    values: Floats
    curve: Callable[[Floats], Floats] | None
    formula: str


def training_weights(contents: RunContents) -> TrainingWeights | None:
    """
    Return the weights of the training problems: those given with the data, else by the rule of a run.

    That is the first run with the paper's kernel, else the first run, else the paper's kernel with its defaults.

    Returns:
        [`TrainingWeights`] or `None`: None if pass rates were not measured, or no problem has weight.
    """
    table = contents.pass_rates
    if table is None or not table.num_rows:
        return None
    num_passed, num_valid = table["num_passed"].to_numpy(), table["num_valid"].to_numpy()
    if "problem_weight" in table.column_names:
        given = table["problem_weight"].to_numpy()
        return TrainingWeights(given / given.mean(), None, "as given with the data") if given.any() else None
    runs = [settings for settings in contents.settings.values() if "weighting" in settings]
    run = next((settings for settings in runs if settings["weighting"] == "beta"), runs[0] if runs else {})
    kind, band = run.get("weighting", "beta"), run.get("weight_band", (0.2, 0.8))
    alpha, beta = run.get("weight_alpha", 1.0), run.get("weight_beta", 1.0)
    try:
        values = problem_weights(
            num_passed,
            num_valid,
            kind=kind,
            weight_alpha=alpha,
            weight_beta=beta,
            estimator=run.get("weight_estimator", "plugin"),
            gate=run.get("weight_gate", True),
            band=band,
            replay_share=run.get("replay_share", 0.0),
        )
    except ValueError:
        return None  # all weights are 0: the shares on the page show why

    def rule(rates: Floats) -> Floats:
        if kind == "uniform":
            return np.ones_like(rates)
        if kind == "hard_filter":
            return ((band[0] <= rates) & (rates <= band[1])).astype(np.float64)
        return beta_kernel(rates, alpha, beta)

    rates = pass_rates(num_passed, num_valid)
    # An estimator other than the plug-in gives weight where the kernel of c / K may give none at all.
    total = float(rule(rates[~np.isnan(rates)]).sum()) or 1.0
    power = "p (1 − p)" if alpha == beta == 1 else f"p^{alpha:g} (1 − p)^{beta:g}"
    formulas = {"uniform": "the same for all", "hard_filter": f"1 for p from {band[0]:g} to {band[1]:g}, else 0"}
    return TrainingWeights(values, lambda p: len(rates) / total * rule(p), formulas.get(kind, power))


def report_figures(contents: RunContents, weights: TrainingWeights | None) -> list[ReportFigure]:
    """Return the figures that the run has something to draw for."""
    figures = []
    shares = training_shares(contents)
    if shares is not None and shares.unmeasured < 1.0:
        figures.append(_pass_rates(contents, weights, shares))
    means = _means_in_words({name: contents.evaluations[name] for name in contents.eval_sets})
    measured = contents.before_and_after
    if measured:
        figures.append(
            ReportFigure(
                "before_after",
                "Pass rates before and after",
                f"Share of the problems at each pass rate ({', '.join(measured)}). Bars: after training, seeds "
                "pooled. Outline: the untouched student on the same problems.",
                "Histograms of pass rates before and after training, on "
                f"{', '.join(measured)}. Means: {_means_in_words(measured)}.",
                lambda theme: draw_before_after(measured, theme),
            )
        )
    if contents.evaluations:
        figures.append(
            ReportFigure(
                "accuracy",
                "Accuracy and retention",
                "Dots are mean@k with its 95 % interval over problems, small marks single seeds, the dashed line the "
                "untouched student. Retention is the paired difference to it, on problems that no arm trains on. All "
                "arms answered the same problems, so intervals that overlap here can still hold a clear difference: "
                "the paired differences in the table decide.",
                f"Mean accuracy with intervals by arm, beside the change on retention sets. Means: {means}.",
                lambda theme: draw_accuracy(contents.evaluations, contents.retention_sets, theme),
            )
        )
    curves = held_out_curves(contents)
    if curves:
        figures.append(
            ReportFigure(
                "held_out_curves",
                "Held-out problems while training",
                "Mean@k over the steps, seeds averaged. The band is at least as wide as the 95 % interval over "
                "problems: on the way only the mean is known, not the single problems.",
                f"Accuracy on held-out problems over the training steps, by arm, on {', '.join(curves)}.",
                lambda theme: draw_held_out_curves(curves, contents.arms, theme),
            )
        )
    figures += _comparison_figures(contents.comparison)
    if contents.histories:
        figures.append(
            ReportFigure(
                "training",
                "Training",
                "Divergence from the teacher per completion token, before weighting; one line per seed, smoothed over "
                "steps. Arms that draw problems by weight see other problems than those that do not: compare the "
                "course of their curves, not the heights.",
                f"Divergence from the teacher over the training steps, for {', '.join(contents.histories)}.",
                lambda theme: draw_training(contents.histories, theme),
            )
        )
    if any(has_logged(logs, EFFECTIVE_SAMPLE_SIZE) for logs in contents.histories.values()):
        figures.append(
            ReportFigure(
                "weights_over_steps",
                "Weights and direction over the steps",
                "How many equally weighted problems the weights are worth, and which divergence was minimised: "
                "forward KL on the teacher's completions, reverse KL on the student's own. One line and one bar per "
                "seed.",
                f"Effective sample size and divergence over the training steps, for {', '.join(contents.histories)}.",
                lambda theme: draw_weights_over_steps(contents.histories, theme),
            )
        )
    result = contents.gradient_snr
    if result is not None:
        figures.append(
            ReportFigure(
                "gradient_snr",
                "Do gradients agree where the student passes sometimes?",
                "Signal-to-noise ratio of the gradients across problems by pass rate, with 95 % intervals over "
                f"problems, as `paced-trl diagnose` measured it. {result.finding}",
                f"Signal-to-noise ratio of gradients over the pass rate. {result.finding}",
                lambda theme: draw_gradient_snr(result, theme),
            )
        )
    return figures


def _comparison_figures(comparison: Comparison | None) -> list[ReportFigure]:
    """Return the figures of what accuracy costs, where the arms of a comparison have learning curves."""
    if comparison is None or not comparison.arms_with_curves():
        return []
    arms = ", ".join(comparison.arms_with_curves())
    figures = [
        ReportFigure(
            "learning_curves",
            "Accuracy at equal tokens",
            "Mean@k against all tokens so far: those the student generated, refreshes included, and those run through "
            "student and teacher. Seeds averaged.",
            f"Accuracy against tokens, for {arms}.",
            lambda theme: draw_learning_curves(comparison, theme),
        )
    ]
    if comparison.eval_sets and comparison.retention_sets:
        figures.append(
            ReportFigure(
                "accuracy_retention",
                "What accuracy costs elsewhere",
                "Each arm's path from the untouched student on, a point per evaluation: accuracy on what is trained "
                "against the change on what is not. An arm that buys accuracy with forgetting goes up and to the "
                "left.",
                f"Accuracy against retention, evaluation by evaluation, for {arms}.",
                lambda theme: draw_accuracy_retention(comparison, theme),
            )
        )
    return figures


def _pass_rates(contents: RunContents, weights: TrainingWeights | None, shares: FrontierShares) -> ReportFigure:
    assert contents.pass_rates is not None
    num_passed, num_valid = (contents.pass_rates[name].to_numpy() for name in ("num_passed", "num_valid"))
    caption = "Training problems by the share of their completions that passed."
    alt = (
        f"Histogram of the pass rates of {len(num_passed):,} training problems: {shares.out_of_reach:.0%} never "
        f"passed, {shares.frontier:.0%} sometimes, {shares.mastered:.0%} always."
    )
    draw = functools.partial(draw_training_pass_rates, num_passed, num_valid)
    if weights is not None:
        line = "The line is the problem weight at the pass rate p" if weights.curve is not None else "Problem weights"
        caption += f" {line}: {weights.formula}, scaled to mean 1. On the right, which problems hold that weight."
        alt += f" Beside it, the share of the weight: {weights.formula}."
        draw = functools.partial(draw, problem_weights=weights.values, curve=weights.curve, formula=weights.formula)
    return ReportFigure(
        "pass_rates",
        "What the student could do before training",
        caption,
        alt,
        lambda theme: draw(theme=theme),
    )


def _means_in_words(by_set: dict[str, dict[str, Any]]) -> str:
    return "; ".join(
        f"{eval_set} {arm} {mean_with_interval(evaluations).estimate:.3f}"
        for eval_set, by_arm in by_set.items()
        for arm, evaluations in by_arm.items()
    )
