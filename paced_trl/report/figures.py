"""
Which figures a report has, what stands over and under each, and the problem weights that the first one shows.

Drawing is in `draw_results.py` and `draw_training.py`; this module chooses what to draw from what a run left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.comparison import BASE
from ..text import in_percent
from ..weighting.counts import Floats, pass_rates
from ..weighting.kernel import beta_kernel
from ..weighting.weights import problem_weights
from .contents import RunContents
from .curves import COMPLETION_LENGTH, CUT_OFF, EFFECTIVE_SAMPLE_SIZE, PASS_RATE, comparison_curves, held_out_curves
from .draw_results import (
    draw_accuracy,
    draw_accuracy_retention,
    draw_before_after,
    draw_gradient_snr,
    draw_training_pass_rates,
)
from .draw_training import draw_completions, draw_held_out_curves, draw_training, draw_weights_over_steps
from .findings import mean_of, training_shares
from .theme import Drawing


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page: its file name, its title, its caption, its text for who cannot see it, its drawing."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class TrainingWeights:
    """Weights of the training problems, shape (P,), mean 1; the rule behind them on that scale, and to read."""

    values: Floats
    curve: Callable[[Floats], Floats] | None
    formula: str


def training_weights(contents: RunContents) -> TrainingWeights | None:
    """
    Return the weights of the training problems, given with the data or by a run's rule; None if there are none.

    The run is the first with the paper's kernel, else the first; without one it is that kernel with its defaults.
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
    return [*_measured(contents, weights), *_trained(contents)]


def _measured(contents: RunContents, weights: TrainingWeights | None) -> Iterator[ReportFigure]:
    yield from _pass_rates(contents, weights)
    measured = contents.before_and_after
    if measured:
        seeds = ", seeds pooled" if _has_seeds(measured) else ""
        base = f" Outline: {BASE} on the same problems." if any(_has_both(each) for each in measured.values()) else ""
        yield ReportFigure(
            "before_after",
            "Pass rates before and after",
            f"Share of the problems at each pass rate ({', '.join(measured)}). Bars: each student{seeds}.{base}",
            f"Histograms of pass rates on {', '.join(measured)}. Means: {_means_in_words(measured)}.",
            lambda: draw_before_after(measured),
        )
    evaluations, retention = contents.evaluations, contents.retention_sets
    if evaluations:
        caption = "Dots are mean@k with its 95 % interval over problems"
        caption += ", small marks single seeds" if _has_seeds(evaluations) else ""
        caption += f", the dashed line {BASE}." if any(BASE in each for each in evaluations.values()) else "."
        if any(_has_both(evaluations[name]) for name in retention):
            caption += f" Retention is the paired difference from {BASE}, on problems that no arm trains on."
        if any(len(each) > 1 for each in evaluations.values()):
            caption += (
                " All answered the same problems, so intervals that overlap here can still hold a clear difference: "
                "the paired differences in the table decide."
            )
        means = _means_in_words({name: evaluations[name] for name in contents.eval_sets})
        yield ReportFigure(
            "accuracy",
            "Accuracy and retention" if retention else "Accuracy",
            caption,
            f"Mean accuracy with intervals{', beside the change on retention sets' if retention else ''}. "
            f"Means: {means}.",
            lambda: draw_accuracy(evaluations, retention),
        )
    curves = held_out_curves(contents)
    if curves:
        seeds = ", seeds averaged" if any(len(logs) > 1 for logs in contents.histories.values()) else ""
        yield ReportFigure(
            "held_out_curves",
            "Held-out problems while training",
            f"Mean@k over the steps{seeds}. The band is at least as wide as the 95 % interval over problems: while "
            "training, only the mean is known, not the single problems.",
            f"Accuracy on held-out problems over the training steps on {', '.join(curves)}.",
            lambda: draw_held_out_curves(curves, contents.arms),
        )
    comparison = contents.comparison
    if comparison is not None and comparison.arms_with_curves():
        arms = ", ".join(comparison.arms_with_curves())
        by_tokens = comparison_curves(comparison, lambda point: point.tokens)
        yield ReportFigure(
            "learning_curves",
            "Accuracy at equal tokens",
            "Mean@k against all tokens so far: those the student generated, refreshes included, and those run through "
            "student and teacher. Seeds averaged.",
            f"Accuracy against tokens, for {arms}.",
            lambda: draw_held_out_curves(by_tokens, contents.arms, "tokens, all models"),
        )
        if comparison.eval_sets and comparison.retention_sets:
            yield ReportFigure(
                "accuracy_retention",
                "What accuracy costs elsewhere",
                f"Each arm's path from {BASE} on, a point per evaluation: accuracy on what is trained against the "
                "change on what is not. An arm that forgets in exchange for accuracy goes up and to the left.",
                f"Accuracy against retention, evaluation by evaluation, for {arms}.",
                lambda: draw_accuracy_retention(comparison),
            )


def _trained(contents: RunContents) -> Iterator[ReportFigure]:
    histories = contents.histories
    logged = contents.logged_metrics
    names = ", ".join(histories)
    seeds = "; one line per seed" if any(len(logs) > 1 for logs in histories.values()) else ""
    if COMPLETION_LENGTH in logged and CUT_OFF in logged:
        yield ReportFigure(
            "completions",
            "Completions while training",
            f"Mean length in tokens and the share that was cut off at `max_completion_length`{seeds}. In a stage on "
            "references these are the references, in a stage on the student's own completions its own. A length that "
            "climbs towards the limit is the usual sign of a student that gets worse.",
            f"Completion length and share cut off over the training steps, for {names}.",
            lambda: draw_completions(histories),
        )
    if histories:
        caption = f"Divergence from the teacher per completion token, before weighting, smoothed over steps{seeds}."
        if len(histories) > 1:
            caption += (
                " Arms that draw problems by weight see other problems than those that do not: compare the course of "
                "their curves, not the heights."
            )
        if PASS_RATE in logged:
            caption += " Beside it, the pass rate of the student's own completions."
        yield ReportFigure(
            "training",
            "Training",
            caption,
            f"Divergence from the teacher over the training steps, for {names}.",
            lambda: draw_training(histories),
        )
    if EFFECTIVE_SAMPLE_SIZE in logged:
        yield ReportFigure(
            "weights_over_steps",
            "Weights and direction over the steps",
            "How many equally weighted problems the weights are worth, and which divergence was minimised: forward KL "
            f"on the teacher's completions, reverse KL on the student's own{seeds}.",
            f"Effective sample size and divergence over the training steps, for {names}.",
            lambda: draw_weights_over_steps(histories),
        )
    result = contents.gradient_snr
    if result is not None:
        yield ReportFigure(
            "gradient_snr",
            "Do gradients agree where the student passes sometimes?",
            "Signal-to-noise ratio of the gradients across problems by pass rate, with 95 % intervals over "
            f"problems, as `paced-trl diagnose` measured it. {result.finding}",
            f"Signal-to-noise ratio of gradients over the pass rate. {result.finding}",
            lambda: draw_gradient_snr(result),
        )


def _pass_rates(contents: RunContents, weights: TrainingWeights | None) -> Iterator[ReportFigure]:
    shares = training_shares(contents)
    if contents.pass_rates is None or shares is None or shares.unmeasured == 1.0:
        return
    num_passed, num_valid = (contents.pass_rates[name].to_numpy() for name in ("num_passed", "num_valid"))
    caption = "Training problems by the share of their completions that passed."
    alt = (
        f"Histogram of the pass rates of {len(num_passed):,} training problems: {in_percent(shares.out_of_reach)} "
        f"never passed, {in_percent(shares.frontier)} sometimes, {in_percent(shares.mastered)} always."
    )
    shown: dict[str, Any] = {}
    if weights is not None:
        line = "The line is the problem weight at the pass rate p" if weights.curve is not None else "Problem weights"
        caption += f" {line}: {weights.formula}, scaled to mean 1. Beside it, which problems hold that weight."
        alt += f" Beside it, the share of the weight: {weights.formula}."
        shown = {"problem_weights": weights.values, "curve": weights.curve, "formula": weights.formula}
    yield ReportFigure(
        "pass_rates",
        "Pass rates before training",
        caption,
        alt,
        lambda: draw_training_pass_rates(num_passed, num_valid, **shown),
    )


def _has_both(by_arm: Mapping[str, Any]) -> bool:
    return BASE in by_arm and len(by_arm) > 1


def _has_seeds(by_set: Mapping[str, Mapping[str, list[Any]]]) -> bool:
    return any(len(evaluations) > 1 for by_arm in by_set.values() for evaluations in by_arm.values())


def _means_in_words(by_set: Mapping[str, Mapping[str, list[Any]]]) -> str:
    return "; ".join(
        f"{eval_set} {arm} {mean_of(evaluations):.3f}"
        for eval_set, by_arm in by_set.items()
        for arm, evaluations in by_arm.items()
    )
