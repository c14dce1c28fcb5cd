"""
The figures of what was measured: pass rates and weights, accuracy, what accuracy costs, agreement of gradients.

Responsible for what is drawn and for the numbers beside it; how it looks is in `theme.py`, curves over the steps are
in `draw_training.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..evaluation.comparison import BASE, Comparison
from ..evaluation.differences import mean_over_runs
from ..evaluation.evaluation import Evaluation
from ..evaluation.gradient_snr import GradientSNR
from ..weighting.counts import Floats, pass_rate_bins
from ..weighting.kernel import beta_kernel
from .findings import difference, mean_of
from .theme import BASE_COLOR, INK, MUTED, PROBLEMS, WEIGHT, Drawing, add_legend, arm_colors, panels, short


_DASHED: Any = (0, (4, 3))


def draw_training_pass_rates(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    problem_weights: Floats | None = None,
    curve: Callable[[Floats], Floats] | None = None,
    formula: str = "",
) -> Drawing:
    """Draw pass rates before training with the weights, **shape (P,)**, and their rule, and who holds the weight."""
    index, last = pass_rate_bins(num_passed, num_valid)
    rates, counts = np.arange(last + 1) / last, np.bincount(index, minlength=last + 1)
    figure, (left, *others) = panels(1 if problem_weights is None else 2, most_columns=2, height=3.5)
    left.bar(rates, counts, width=0.82 / last, color=PROBLEMS)
    left.set(ylabel="problems", title="How often the student passes", xlabel="pass rate before training")
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    _pass_rate_axis(left, last)
    header: tuple[str, ...] = ("pass rate", "problems", "share of the problems")
    columns = [rates, counts, counts / counts.sum()]
    if curve is not None:
        over = left.twinx()
        grid = np.linspace(0.0, 1.0, 201)
        over.plot(grid, curve(grid), color=WEIGHT, linewidth=2.2)
        over.set_ylim(0.0, 1.15 * float(np.max(curve(grid))) or 1.0)
        over.set_ylabel(f"problem weight, {formula}", color=WEIGHT)
        over.tick_params(axis="y", colors=WEIGHT)
        over.grid(False)
        for axes in (left, over):
            axes.tick_params(axis="y", length=0)
        header, columns = (*header, "weight at this pass rate"), [*columns, curve(rates)]
    if problem_weights is not None:
        (right,) = others
        weights = problem_weights[np.asarray(num_valid) > 0]
        shares = np.bincount(index, weights=weights, minlength=last + 1) / weights.sum()
        header, columns = (*header, "share of the weight"), [*columns, shares]
        width = 0.41 / last
        right.bar(rates - width / 2, counts / counts.sum(), width, color=PROBLEMS, label="of the problems")
        right.bar(rates + width / 2, shares, width, color=WEIGHT, label="of the weight")
        right.set(ylabel="share", title="Where the weight lies", xlabel="pass rate before training")
        _share_axis(right)
        _pass_rate_axis(right, last)
        figure.legend(handles=right.get_legend_handles_labels()[0], loc="outside upper right", ncols=2)
    return Drawing(figure, header, list(zip(*columns, strict=True)))


def draw_before_after(by_set: Mapping[str, Mapping[str, list[Evaluation]]]) -> Drawing:
    """Draw pass rates by set and arm, pooled over seeds: bars for the arm, an outline for the base student."""
    shown = [(name, arm) for name, by_arm in by_set.items() for arm in by_arm if arm != BASE or len(by_arm) == 1]
    colors = arm_colors(arm for by_arm in by_set.values() for arm in by_arm)
    figure, grid = panels(len(shown), most_columns=4, height=2.5, share_y=True)
    for axes, (eval_set, arm) in zip(grid, shown, strict=True):
        by_arm = by_set[eval_set]
        shares = _shares(by_arm[arm])
        last = shares.size - 1
        axes.bar(np.arange(last + 1) / last, shares, width=0.82 / last, color=colors[arm])
        if arm != BASE and BASE in by_arm:
            before = _shares(by_arm[BASE])
            edges = (np.arange(before.size + 1) - 0.5) / (before.size - 1)
            axes.stairs(before, edges, color=INK, linewidth=1.4, label=BASE)
        axes.set_title(short(arm) if len(by_set) == 1 else f"{short(arm)}\n{short(eval_set)}")
        axes.set_xlabel("pass rate")
        _share_axis(axes)
        _pass_rate_axis(axes, last)
    grid[0].set_ylabel("share of problems")
    if grid[0].get_legend_handles_labels()[0]:
        figure.legend(handles=grid[0].get_legend_handles_labels()[0], loc="outside upper right")
    rows = [
        (eval_set, arm, rate / (shares.size - 1), share)
        for eval_set, by_arm in by_set.items()
        for arm, evaluations in by_arm.items()
        for shares in [_shares(evaluations)]
        for rate, share in enumerate(shares)
    ]
    return Drawing(figure, ("set", "student", "pass rate", "share of the problems"), rows)


def draw_accuracy(by_set: Mapping[str, Mapping[str, list[Evaluation]]], retention_sets: Sequence[str] = ()) -> Drawing:
    """Draw mean@k of every arm on held-out sets, and its paired difference from the base student on retention sets."""
    arms = sorted(dict.fromkeys(arm for by_arm in by_set.values() for arm in by_arm), key=lambda arm: arm != BASE)
    colors = arm_colors(arms)
    figure, grid = panels(len(by_set), most_columns=2, height=1.1 + 0.34 * len(arms), share_y=True)
    rows: list[tuple[Any, ...]] = []
    for axes, (eval_set, by_arm) in zip(grid, by_set.items(), strict=True):
        relative = eval_set in retention_sets and BASE in by_arm
        k = next(iter(by_arm.values()))[0].num_generations
        what = f"mean@{k}, difference from {BASE}" if relative else f"mean@{k}"
        for row, arm in enumerate(arms):
            evaluations = by_arm.get(arm, [])
            if relative:
                found = difference(by_arm, arm)
                each = [difference({arm: [one], BASE: by_arm[BASE]}, arm, num_resamples=1) for one in evaluations]
                single = [one.estimate for one in each if one is not None]
            else:
                found = mean_over_runs(evaluations) if evaluations else None
                single = [one.mean_at_k for one in evaluations]
            if found is not None:
                rows.append((eval_set, arm, what, found.estimate, found.low, found.high))
                axes.hlines(row, found.low, found.high, color=colors[arm], linewidth=2.6)
                axes.plot(found.estimate, row, "o", color=colors[arm], markersize=7)
            seeds = single if len(evaluations) > 1 else []
            axes.plot(seeds, [row - 0.26] * len(seeds), "|", color=colors[arm], markersize=6)
        if BASE in by_arm:
            line = 0.0 if relative else mean_of(by_arm[BASE])
            axes.axvline(line, color=BASE_COLOR, linewidth=1.1, linestyle=_DASHED, zorder=1)
        axes.set_title(f"{short(eval_set)} (retention)" if relative else short(eval_set))
        axes.set_xlabel(what)
        axes.set_yticks(range(len(arms)), [short(arm) for arm in arms])
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
    grid[0].set_ylim(len(arms) - 0.5, -0.6)
    return Drawing(figure, ("set", "student", "what", "value", "low", "high"), rows)


def draw_accuracy_retention(comparison: Comparison) -> Drawing:
    """Draw each arm's path, accuracy against retention: an arm that forgets in exchange goes up and to the left."""
    pairs = [(name, kept) for name in comparison.eval_sets for kept in comparison.retention_sets]
    figure, grid = panels(len(pairs), most_columns=3, height=3.4)
    colors = arm_colors(comparison.arms())
    lines, rows = {}, []
    for axes, (name, kept) in zip(grid, pairs, strict=True):
        for arm in comparison.arms_with_curves():
            curve = comparison.curve(arm)
            start = curve[0].accuracy
            across = [point.accuracy[kept] - start[kept] for point in curve]
            up = [point.accuracy[name] for point in curve]
            (lines[short(arm)],) = axes.plot(across, up, "o-", color=colors[arm], markersize=3.0)
            axes.plot(across[-1:], up[-1:], "o", color=colors[arm], markersize=7.0)
            rows += [(name, kept, arm, *point) for point in zip(across, up, strict=True)]
        axes.plot(0.0, start[name], "s", color=colors[BASE], markersize=7.0, zorder=3)
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        axes.set(xlabel=f"{short(kept)}, difference from {BASE}", ylabel=f"{short(name)}, mean@k")
    add_legend(figure, lines)
    return Drawing(figure, ("set", "retention set", "arm", f"retention, difference from {BASE}", "mean@k"), rows)


def draw_gradient_snr(result: GradientSNR) -> Drawing:
    """Draw the SNR of each pass rate with its interval, the best fitting weight and p (1 - p), and gradient norms."""
    names = ("pass_rate", "num_problems", "snr", "low", "high", "mean_norm")
    rows = [tuple(getattr(one, name) for name in names) for one in result.bins]
    rates, _, snr, low, high, norms = np.array(rows).T
    figure, (left, right) = panels(2, most_columns=2, height=3.5)
    left.axhline(0.0, color=MUTED, linewidth=1)
    left.vlines(rates, low, high, color=INK, linewidth=2.2)
    left.plot(rates, snr, "o", color=INK, label="SNR, 95 % interval")
    grid = np.linspace(0.0, 1.0, 201)
    for (a, b), color, style in ((result.exponents, WEIGHT, "-"), ((1.0, 1.0), PROBLEMS, _DASHED)):
        at_rates = beta_kernel(rates, a, b)
        scale = max(0.0, float(snr @ at_rates) / float(at_rates @ at_rates))
        label = f"p^{a:.2g} (1 − p)^{b:.2g}, scaled"
        left.plot(grid, scale * beta_kernel(grid, a, b), color=color, linestyle=style, linewidth=1.8, label=label)
    left.set(xlabel="pass rate", ylabel="SNR", title="Do gradients of different problems agree?")
    right.plot(rates, norms, "o-", color=INK)
    right.set(xlabel="pass rate", ylabel="mean norm of the gradient", title="How large are they?")
    right.set_ylim(bottom=0.0)
    figure.legend(handles=left.get_legend_handles_labels()[0], loc="outside upper right", ncols=3)
    return Drawing(figure, ("pass rate", "problems", "SNR", "low", "high", "mean norm"), rows)


def _shares(evaluations: Sequence[Evaluation]) -> Floats:
    """Return the share of problems in each bar, pooled over evaluations."""
    passed, valid = (
        np.concatenate([getattr(one, name) for one in evaluations]) for name in ("num_passed", "num_valid")
    )
    index, last = pass_rate_bins(passed, valid)
    return np.bincount(index, minlength=last + 1) / index.size


def _pass_rate_axis(axes: Axes, last: int) -> None:
    """Let the axis end at 0 and 1, though the bars that stand there are as wide as the others."""
    axes.set_xlim(-0.6 / last, 1 + 0.6 / last)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1] if last % 4 == 0 else [0, 0.5, 1] if last % 2 == 0 else [0, 1])
    axes.spines["bottom"].set_bounds(0.0, 1.0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", visible=False)


def _share_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
