"""
The curves of a run over the steps of training, drawn from what training logged.

Responsible for what is drawn; which metric is what is in `curves.py`, how figures look in `figure_theme.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .contents import LogHistory
from .curves import (
    DIVERGENCES,
    EFFECTIVE_SAMPLE_SIZE,
    PASS_RATE,
    HeldOutPoint,
    has_logged,
    logged,
    smoothed,
    stage_switches,
    stages,
)
from .theme import LIGHT, Theme, panels, short


def draw_training(histories: Mapping[str, Sequence[LogHistory]], theme: Theme = LIGHT) -> Figure:
    """
    Draw the divergence and, where it was logged, the pass rate of the student's own completions over the steps.

    Args:
        histories (`Mapping[str, Sequence[LogHistory]]`): What training logged, by arm, one history per seed.
        theme ([`Theme`], *optional*): Colours.
    """
    colors = theme.arm_colors(histories)
    divergences = {arm: [key for key in DIVERGENCES if has_logged(logs, key)] for arm, logs in histories.items()}
    alike = len({tuple(keys) for keys in divergences.values()}) == 1
    with_pass_rate = [arm for arm, logs in histories.items() if has_logged(logs, PASS_RATE)]
    figure, grid = panels(1 + bool(with_pass_rate), most_columns=2, height=3.3)
    for arm, logs in histories.items():
        label = short(arm)
        if not alike:
            label += f" ({', '.join(DIVERGENCES[key] for key in divergences[arm])})"
        for key in divergences[arm]:
            _plot_seeds(grid[0], logs, key, colors[arm], label)
            label = "_nolegend_"
    for arm in with_pass_rate:
        _plot_seeds(grid[1], histories[arm], PASS_RATE, colors[arm], "_nolegend_")
        grid[1].set(title="The student's own completions", ylabel="pass rate while training", xlabel="step")
    grid[0].set(title="Divergence from the teacher", ylabel="nats per token", xlabel="step")
    grid[0].set_xlim(left=0)
    for axes in grid:
        axes.set_ylim(bottom=0)
    _mark_switches(grid[0], histories, theme)
    labels = grid[0].get_legend_handles_labels()[1]
    if len(labels) > 1:
        # About 120 letters stand beside each other, and a line and its margins take the room of eight.
        columns = max(1, min(4, 120 // (8 + max(len(label) for label in labels))))
        figure.legend(loc="outside upper center", ncols=columns)
    return figure


def draw_held_out_curves(
    curves: Mapping[str, Mapping[str, Sequence[HeldOutPoint]]], arms: Sequence[str], theme: Theme = LIGHT
) -> Figure:
    """
    Draw mean@k on held-out problems over the steps, a panel per set, a line per arm with its interval.

    Args:
        curves (`Mapping[str, Mapping[str, Sequence[HeldOutPoint]]]`): Points by set and by arm.
        arms (`Sequence[str]`): All arms of the run, so that each has its colour.
        theme ([`Theme`], *optional*): Colours.
    """
    colors = theme.arm_colors(arms)
    figure, grid = panels(len(curves), most_columns=3, height=3.4)
    lines = {}
    for axes, (name, by_arm) in zip(grid, curves.items(), strict=True):
        for arm, points in by_arm.items():
            steps, means, lows, highs = np.array(points).T
            axes.fill_between(steps, lows, highs, color=colors[arm], alpha=0.15, linewidth=0)
            (lines[short(arm)],) = axes.plot(steps, means, "o-", color=colors[arm], linewidth=1.8, markersize=4)
        axes.set(title=short(name), ylabel="mean@k", xlabel="step")
    if len(lines) > 1:
        figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=min(4, len(lines)))
    return figure


def draw_weights_over_steps(histories: Mapping[str, Sequence[LogHistory]], theme: Theme = LIGHT) -> Figure:
    """
    Draw the effective sample size of the problem weights over the steps, and below which divergence was minimised.

    Args:
        histories (`Mapping[str, Sequence[LogHistory]]`): What training logged, by arm, one history per seed.
        theme ([`Theme`], *optional*): Colours.
    """
    colors = theme.arm_colors(histories)
    names = list(DIVERGENCES.values())
    figure, (upper, lower) = panels(2, most_columns=2, height=3.3)
    for arm, logs in histories.items():
        _plot_seeds(upper, logs, EFFECTIVE_SAMPLE_SIZE, colors[arm], short(arm))
    for row, logs in enumerate(histories.values()):
        for index, history in enumerate(logs):
            for start, stop, name in stages(history):
                height = 0.8 / len(logs)
                at = (row - 0.4 + (index + 0.5) * height, stop - start, 0.85 * height, start)
                lower.barh(*at, color=theme.divergences[names.index(name)], label=name)
    upper.set(title="Effective sample size", ylabel="problems", xlabel="step")
    upper.set_ylim(bottom=0)
    lower.set(title="Divergence that was minimised", xlabel="step")
    lower.set_yticks(range(len(histories)), [short(arm) for arm in histories])
    lower.invert_yaxis()
    lower.grid(axis="y", visible=False)
    for axes in (upper, lower):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles = {label: bar for bar, label in zip(*lower.get_legend_handles_labels(), strict=True)}
    if len(histories) > 1:
        handles |= {label: line for line, label in zip(*upper.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def _plot_seeds(axes: Axes, logs: Sequence[LogHistory], key: str, color: str, label: str) -> None:
    """Plot a metric smoothed over steps, one line per seed."""
    for history in logs:
        steps, values = logged(history, key)
        smooth = smoothed(values)
        if not np.array_equal(smooth, values):
            axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.22)
        marker = "o" if steps.size == 1 else None
        axes.plot(steps, smooth, color=color, linewidth=1.8, alpha=0.95, marker=marker, label=label)
        label = "_nolegend_"


def _mark_switches(axes: Axes, histories: Mapping[str, Sequence[LogHistory]], theme: Theme) -> None:
    """Draw a line at each step where some run went from forward to reverse KL, and name the stages if it is one."""
    switches = stage_switches(histories)
    for switch in switches:
        axes.axvline(switch, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    if len(switches) == 1:
        at: dict[str, Any] = {"x": switches.pop(), "y": 0.98, "color": theme.muted, "va": "top", "fontsize": 9}
        axes.text(s="forward KL ", ha="right", transform=axes.get_xaxis_transform(), **at)
        axes.text(s=" reverse KL", ha="left", transform=axes.get_xaxis_transform(), **at)
