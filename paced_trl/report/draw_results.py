"""
The figures of a run, drawn from counts and evaluations; curves over the steps are in `step_figures.py`.

Responsible for what is drawn; how it looks is in `figure_theme.py`. An arm has the same colour in every figure. Knows
nothing of files and pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..evaluation.comparison import BASE
from ..evaluation.evaluation import Evaluation
from ..weighting.counts import Floats, pass_rate_bins
from .findings import difference, mean_with_interval
from .theme import LIGHT, WIDTH, Theme, panels, short


def draw_training_pass_rates(
    num_passed: npt.ArrayLike,
    num_valid: npt.ArrayLike,
    problem_weights: Floats | None = None,
    curve: Callable[[Floats], Floats] | None = None,
    formula: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """
    Draw the training problems' pass rates with the weight as a function of them, and which of them have the weight.

    Args:
        num_passed, num_valid (`ArrayLike`): Counts before training, per problem, of **shape (P,)**.
        problem_weights (`np.ndarray`, *optional*): Weights of the problems, of **shape (P,)**, mean 1.
        curve (`Callable`, *optional*): The weight, in the same unit, as a function of an array of pass rates.
        formula (`str`, *optional*): What the curve is.
        theme ([`Theme`], *optional*): Colours.
    """
    index, last = pass_rate_bins(num_passed, num_valid)
    rates, counts = np.arange(last + 1) / last, np.bincount(index, minlength=last + 1)
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2) if problem_weights is not None else (figure.subplots(), None)
    left.bar(rates, counts, width=0.82 / last, color=theme.problems)
    left.set(ylabel="problems", title="How often the student passes")
    left.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    if curve is not None:
        over = left.twinx()
        grid = np.linspace(0.0, 1.0, 1001)
        over.plot(grid, curve(grid), color=theme.weight, linewidth=2.2)
        over.set_ylim(0.0, 1.15 * float(np.max(curve(grid))) or 1.0)
        over.set_ylabel(f"problem weight, {formula}", color=theme.weight)
        over.tick_params(axis="y", colors=theme.weight)
        over.grid(False)
    if right is not None and problem_weights is not None:
        weights = problem_weights[np.asarray(num_valid) > 0]
        shares = np.bincount(index, weights=weights, minlength=last + 1) / weights.sum()
        width = 0.41 / last
        right.bar(rates - width / 2, counts / counts.sum(), width, color=theme.problems, label="of the problems")
        right.bar(rates + width / 2, shares, width, color=theme.weight, label="of the weight")
        right.set(ylabel="share", title="Where the weight lies", xlabel="pass rate before training")
        _share_axis(right)
        _pass_rate_axis(right, last)
        figure.legend(handles=right.get_legend_handles_labels()[0], loc="outside upper right", ncols=2)
    left.set_xlabel("pass rate before training")
    _pass_rate_axis(left, last)
    return figure


def draw_before_after(by_set: Mapping[str, Mapping[str, list[Evaluation]]], theme: Theme = LIGHT) -> Figure:
    """
    Draw, per set and arm, the pass rates of held-out problems: bars for the arm, an outline for the untouched student.

    Args:
        by_set (`Mapping[str, Mapping[str, list[Evaluation]]]`): Evaluations by set and arm, pooled over seeds.
        theme ([`Theme`], *optional*): Colours.
    """
    shown = [(name, arm) for name, by_arm in by_set.items() for arm in by_arm if arm != BASE or len(by_arm) == 1]
    colors = theme.arm_colors(arm for by_arm in by_set.values() for arm in by_arm)
    figure, grid = panels(len(shown), most_columns=4, height=2.5, share_y=True)
    for axes, (eval_set, arm) in zip(grid, shown, strict=True):
        by_arm = by_set[eval_set]
        shares = _shares(by_arm[arm])
        last = shares.size - 1
        axes.bar(np.arange(last + 1) / last, shares, width=0.82 / last, color=colors[arm])
        if arm != BASE and BASE in by_arm:
            before = _shares(by_arm[BASE])
            edges = (np.arange(before.size + 1) - 0.5) / (before.size - 1)
            axes.stairs(before, edges, color=theme.ink, linewidth=1.4, label="before training")
        axes.set_title(short(arm) if len(by_set) == 1 else f"{short(arm)}\n{short(eval_set)}")
        axes.set_xlabel("pass rate")
        _share_axis(axes)
        _pass_rate_axis(axes, last)
    grid[0].set_ylabel("share of problems")
    if grid[0].get_legend_handles_labels()[0]:
        figure.legend(handles=grid[0].get_legend_handles_labels()[0], loc="outside upper right")
    return figure


def draw_accuracy(
    by_set: Mapping[str, Mapping[str, list[Evaluation]]], retention_sets: Sequence[str] = (), theme: Theme = LIGHT
) -> Figure:
    """
    Draw mean@k of every arm on the held-out sets beside its change on the retention sets, with 95 % intervals.

    Args:
        by_set (`Mapping[str, Mapping[str, list[Evaluation]]]`): Evaluations by set and arm, one per seed.
        retention_sets (`Sequence[str]`, *optional*):
            Sets of which the paired difference to the untouched student is drawn instead of the mean.
        theme ([`Theme`], *optional*): Colours.
    """
    arms = sorted(dict.fromkeys(arm for by_arm in by_set.values() for arm in by_arm), key=lambda arm: arm != BASE)
    colors = theme.arm_colors(arms)
    figure, grid = panels(len(by_set), most_columns=3, height=1.1 + 0.34 * len(arms), share_y=True)
    for axes, (eval_set, by_arm) in zip(grid, by_set.items(), strict=True):
        relative = eval_set in retention_sets and BASE in by_arm
        for row, arm in enumerate(arms):
            evaluations = by_arm.get(arm, [])
            if relative:
                found = difference(by_arm, arm)
                each = [difference({arm: [one], BASE: by_arm[BASE]}, arm) for one in evaluations]
            else:
                found = mean_with_interval(evaluations) if evaluations else None
                each = [mean_with_interval([one]) for one in evaluations]
            if found is not None:
                axes.hlines(row, found.low, found.high, color=colors[arm], linewidth=2.6)
                axes.plot(found.estimate, row, "o", color=colors[arm], markersize=7)
            seeds = [one.estimate for one in each if one is not None] if len(each) > 1 else []
            axes.plot(seeds, [row - 0.26] * len(seeds), "|", color=colors[arm], markersize=6)
        if BASE in by_arm:
            line = 0.0 if relative else mean_with_interval(by_arm[BASE]).estimate
            axes.axvline(line, color=theme.base, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        k = next(iter(by_arm.values()))[0].num_generations
        axes.set_title(f"{short(eval_set)} (retention)" if relative else short(eval_set))
        axes.set_xlabel(f"mean@{k}, difference from {BASE}" if relative else f"mean@{k}")
        axes.set_yticks(range(len(arms)), [short(arm) for arm in arms])
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
    grid[0].set_ylim(len(arms) - 0.5, -0.6)
    return figure


def _shares(evaluations: Sequence[Evaluation]) -> Floats:
    """Return the share of problems in each bar, pooled over evaluations."""
    index, last = pass_rate_bins(
        np.concatenate([evaluation.num_passed for evaluation in evaluations]),
        np.concatenate([evaluation.num_valid for evaluation in evaluations]),
    )
    return np.bincount(index, minlength=last + 1) / index.size


def _pass_rate_axis(axes: Axes, last: int) -> None:
    axes.set_xlim(-0.6 / last, 1 + 0.6 / last)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1] if last % 4 == 0 else [0, 0.5, 1] if last % 2 == 0 else [0, 1])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", visible=False)


def _share_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
