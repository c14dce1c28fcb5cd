"""
The curves of a run over the steps of training, drawn from what training logged.

Responsible for what is drawn and for the numbers beside it; which metric is what is in `curves.py`, how figures look
in `theme.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from .contents import LogHistory
from .curves import (
    COMPLETION_LENGTH,
    CUT_OFF,
    DIVERGENCES,
    EFFECTIVE_SAMPLE_SIZE,
    PASS_RATE,
    Curves,
    has_logged,
    logged,
    smoothed,
    stage_switches,
    stages,
)
from .theme import DIVERGENCE_COLORS, MUTED, Drawing, add_legend, arm_colors, panels, short


# Points of a curve that are drawn, and that the table of numbers has.
_MAX_POINTS = 200
_MAX_ROWS = 20
Histories = Mapping[str, Sequence[LogHistory]]
_HEADER = ("what", "arm", "step", "value")


def draw_training(histories: Histories) -> Drawing:
    """Draw the divergence and, where it was logged, the pass rate of the student's own completions over the steps."""
    shown = [("Divergence from the teacher", "nats per token", DIVERGENCES)]
    if any(has_logged(logs, PASS_RATE) for logs in histories.values()):
        shown.append(("The student's own completions", "pass rate while training", {PASS_RATE: "pass rate"}))
    return _draw_metrics(histories, shown)


def draw_completions(histories: Histories) -> Drawing:
    """Draw the length of the completions in training, and the share that was cut off, over the steps."""
    length = ("Length of the completions", "tokens", {COMPLETION_LENGTH: "length"})
    drawing = _draw_metrics(histories, [length, ("Completions cut off", "share", {CUT_OFF: "share cut off"})])
    axes = drawing.figure.axes[1]
    axes.set_ylim(top=max(0.05, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return drawing


def _draw_metrics(histories: Histories, shown: Sequence[tuple[str, str, Mapping[str, str]]]) -> Drawing:
    """Draw a panel per title and unit, with a line per arm and seed of each metric that was logged."""
    colors = arm_colors(histories)
    figure, grid = panels(len(shown), most_columns=2, height=3.2)
    rows: list[tuple[Any, ...]] = []
    lines: dict[str, Any] = {}
    for axes, (title, unit, metrics) in zip(grid, shown, strict=True):
        logged_by = {arm: [key for key in metrics if has_logged(logs, key)] for arm, logs in histories.items()}
        alike = len({tuple(keys) for keys in logged_by.values()}) == 1
        for arm, keys in logged_by.items():
            # Where arms minimise different divergences, the legend of the first panel says which.
            names = "" if alike or axes is not grid[0] else f" ({', '.join(metrics[key] for key in keys)})"
            for key in keys:
                line = _plot_seeds(axes, histories[arm], key, colors[arm])
                rows += _points(histories[arm], key, metrics[key], arm)
                if axes is grid[0]:
                    lines[f"{short(arm)}{names}"] = line
        axes.set(title=title, ylabel=unit, xlabel="step")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0].set_xlim(left=0)
    _mark_switches(grid[0], histories)
    if len(lines) > 1:
        add_legend(figure, lines)
    return Drawing(figure, _HEADER, rows)


def draw_held_out_curves(curves: Curves, arms: Sequence[str], x_label: str = "step") -> Drawing:
    """Draw mean@k on held-out problems while training, a panel per set, a line per arm with its interval."""
    colors = arm_colors(arms)
    figure, grid = panels(len(curves), most_columns=3, height=3.4)
    lines, rows = {}, []
    for axes, (name, by_arm) in zip(grid, curves.items(), strict=True):
        for arm, points in by_arm.items():
            places, means, lows, highs = np.array(points).T
            axes.fill_between(places, lows, highs, color=colors[arm], alpha=0.15, linewidth=0)
            (lines[short(arm)],) = axes.plot(places, means, "o-", color=colors[arm], linewidth=1.8, markersize=4)
            rows += [(name, arm, *point) for point in points]
        axes.set(title=short(name), ylabel="mean@k", xlabel=x_label)
        if x_label == "step":
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        else:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(lines) > 1:
        add_legend(figure, lines)
    return Drawing(figure, ("set", "arm", x_label, "mean@k", "low", "high"), rows)


def draw_weights_over_steps(histories: Histories) -> Drawing:
    """Draw the effective sample size of the problem weights over the steps, and which divergence was minimised."""
    colors = arm_colors(histories)
    names = list(DIVERGENCES.values())
    figure, (left, right) = panels(2, most_columns=2, height=3.3)
    rows: list[tuple[Any, ...]] = []
    bars: dict[str, Any] = {}
    lines = {}
    for row, (arm, logs) in enumerate(histories.items()):
        lines[short(arm)] = _plot_seeds(left, logs, EFFECTIVE_SAMPLE_SIZE, colors[arm])
        rows += _points(logs, EFFECTIVE_SAMPLE_SIZE, "effective sample size", arm)
        height = 0.8 / len(logs)
        for index, history in enumerate(logs):
            for start, stop, name in stages(history):
                at = (row - 0.4 + (index + 0.5) * height, stop - start, 0.85 * height, start)
                bars[name] = right.barh(*at, color=DIVERGENCE_COLORS[names.index(name)])
                rows.append((name, arm, f"{start:g} to {stop:g}", None))
    left.set(title="Effective sample size", ylabel="problems", xlabel="step")
    left.set_ylim(bottom=0)
    right.set(title="Divergence that was minimised", xlabel="step")
    right.set_yticks(range(len(histories)), [short(arm) for arm in histories])
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if bars or len(lines) > 1:
        add_legend(figure, bars | (lines if len(lines) > 1 else {}))
    return Drawing(figure, _HEADER, rows)


def _plot_seeds(axes: Axes, logs: Sequence[LogHistory], key: str, color: str) -> Any:
    """Plot a metric smoothed over steps, one line per seed; return one of them."""
    line = None
    for history in logs:
        steps, values = logged(history, key)
        smooth = smoothed(values)
        if not np.array_equal(smooth, values):
            drawn = _evenly(steps.size, _MAX_POINTS)
            axes.plot(steps[drawn], values[drawn], color=color, linewidth=0.8, alpha=0.22)
            steps, smooth = steps[drawn], smooth[drawn]
        marker = "o" if steps.size == 1 else None
        (line,) = axes.plot(steps, smooth, color=color, linewidth=1.8, alpha=0.95, marker=marker)
    return line


def _points(logs: Sequence[LogHistory], key: str, what: str, arm: str) -> list[tuple[Any, ...]]:
    """Return rows of some points of the smoothed curves of an arm, evenly spaced, the last included."""
    rows: list[tuple[Any, ...]] = []
    for seed, history in enumerate(logs, start=1):
        steps, values = logged(history, key)
        name = arm if len(logs) == 1 else f"{arm}, run {seed}"
        smooth = smoothed(values)
        rows += [(what, name, steps[index], smooth[index]) for index in _evenly(steps.size, _MAX_ROWS)]
    return rows


def _evenly(size: int, most: int) -> npt.NDArray[np.int64]:
    """Return the indices of at most so many entries, evenly spaced, the first and the last included."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def _mark_switches(axes: Axes, histories: Histories) -> None:
    """Draw a line at each step where some run went from forward to reverse KL, and name the stages if it is one."""
    switches = stage_switches(histories)
    for switch in switches:
        axes.axvline(switch, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    if len(switches) == 1:
        axes.set_ylim(top=1.1 * axes.get_ylim()[1])
        at: dict[str, Any] = {"x": switches.pop(), "y": 0.98, "color": MUTED, "va": "top", "fontsize": 9}
        axes.text(s="forward KL ", ha="right", transform=axes.get_xaxis_transform(), **at)
        axes.text(s=" reverse KL", ha="left", transform=axes.get_xaxis_transform(), **at)
