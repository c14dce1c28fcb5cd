"""
The figures of a comparison's way: accuracy against tokens, and accuracy against what is retained.

Responsible for what is drawn; how it looks is in `figure_theme.py`, what the points are in `comparison.py`.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from ..evaluation.comparison import BASE, Comparison
from .theme import LIGHT, Theme


_PANEL = (4.5, 3.4)  # inches


def draw_learning_curves(comparison: Comparison, theme: Theme = LIGHT) -> Figure:
    """
    Draw mean@k against all tokens so far, a panel per set and a line per arm, the mean over seeds.

    Args:
        comparison ([`Comparison`]): Arms with what their training cost.
        theme ([`Theme`], *optional*): Colours.
    """
    sets = [*comparison.eval_sets, *comparison.retention_sets]
    figure, panels = _panels(len(sets))
    colors = theme.arm_colors(comparison.arms())
    for axes, name in zip(panels, sets, strict=True):
        for arm in comparison.arms_with_curves():
            curve = comparison.curve(arm)
            heights = [point.accuracy[name] for point in curve]
            axes.plot([p.tokens for p in curve], heights, "o-", color=colors[arm], markersize=3.5, label=arm)
        is_retention = name in comparison.retention_sets
        axes.set(title=f"{name} (not trained)" if is_retention else name, xlabel="tokens, all models")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel("mean@k")
    _legend(figure, panels[0])
    return figure


def draw_accuracy_retention(comparison: Comparison, theme: Theme = LIGHT) -> Figure:
    """
    Draw each arm's path: accuracy against what is retained, a point per evaluation, a panel per pair of sets.

    An arm that buys accuracy with forgetting goes up and to the left.

    Args:
        comparison ([`Comparison`]): Arms with what their training cost.
        theme ([`Theme`], *optional*): Colours.
    """
    pairs = [(name, kept) for name in comparison.eval_sets for kept in comparison.retention_sets]
    figure, panels = _panels(len(pairs))
    colors = theme.arm_colors(comparison.arms())
    for axes, (name, kept) in zip(panels, pairs, strict=True):
        for arm in comparison.arms_with_curves():
            curve = comparison.curve(arm)
            start = curve[0].accuracy[kept]
            across = [point.accuracy[kept] - start for point in curve]
            up = [point.accuracy[name] for point in curve]
            axes.plot(across, up, "o-", color=colors[arm], markersize=3.0, label=arm)
            axes.plot(across[-1:], up[-1:], "o", color=colors[arm], markersize=7.0)
        axes.plot([0.0], [curve[0].accuracy[name]], "s", color=colors[BASE], markersize=7.0, zorder=3)
        axes.axvline(0.0, color=theme.muted, linewidth=0.8)
        axes.set(xlabel=f"{kept}, minus untouched student", ylabel=f"{name}, mean@k")
    _legend(figure, panels[0])
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(3, count)
    rows = -(-count // columns)
    size = (max(6.0, columns * _PANEL[0]), rows * _PANEL[1] + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    # About 13 letters an inch, and a line and its margins take the room of eight.
    columns = int(13 * figure.get_figwidth() / (8 + max(len(label) for label in labels)))
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, min(4, columns)))
