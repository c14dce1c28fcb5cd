"""
How figures look: one colour per arm, told apart without red and green (after Okabe and Ito), on light and dark paper.

Figures are drawn without pyplot and under a style of their own, so that nothing of the caller's matplotlib is touched
and nothing of it shows.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..evaluation.comparison import BASE


DPI = 150
WIDTH = 9.0  # inches
FIGURES = "figures"
# The arms that most comparisons have keep their colour from one report to the next.
_PRESETS = ("uniform", "hard_filter", "paced", "paced_sampling")


@dataclass(frozen=True)
class Theme:
    """Colours on one kind of paper; `arms` holds the presets' first."""

    paper: str
    ink: str
    muted: str
    grid: str
    problems: str
    weight: str
    base: str
    arms: tuple[str, ...]
    divergences: tuple[str, ...]  # forward KL, reverse KL, JSD, adaptive KL

    def arm_colors(self, arms: Iterable[str]) -> dict[str, str]:
        """Return a colour per arm: grey for the untouched student, a fixed one per preset, else the next free one."""
        names = [arm for arm in dict.fromkeys(arms) if arm != BASE]
        chosen = {arm: self.arms[_PRESETS.index(arm)] for arm in names if arm in _PRESETS}
        free = [color for color in (*self.arms[len(_PRESETS) :], *self.arms) if color not in chosen.values()]
        others = [arm for arm in names if arm not in chosen]
        return {BASE: self.base} | chosen | {arm: free[index % len(free)] for index, arm in enumerate(others)}


LIGHT = Theme(
    paper="#FFFFFF",
    ink="#1D2430",
    muted="#5B6573",
    grid="#E3E7EC",
    problems="#97A3B1",
    weight="#C8500A",
    base="#6B7480",
    arms=("#D58E00", "#009E73", "#0072B2", "#B0568A", "#45A5DF", "#8C510A", "#6A51A3", "#2B2B2B"),
    divergences=("#9DB2C7", "#3D5A80", "#7A6A9B", "#B07C4F"),
)
DARK = Theme(
    paper="#1B2027",
    ink="#E4E8EE",
    muted="#A3AEBB",
    grid="#303844",
    problems="#77869A",
    weight="#FF9A5C",
    base="#9AA5B1",
    arms=("#F0B030", "#2FC79A", "#4AA8E8", "#E39CC4", "#A8DCF9", "#C99A66", "#A99BDB", "#DADADA"),
    divergences=("#51657A", "#A9C4E0", "#A797CC", "#D9A679"),
)


def render(draw: Callable[[Theme], Figure], theme: Theme = LIGHT) -> bytes:
    """Draw a figure with a theme and return it as PNG; whatever style the caller has set is left aside."""
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _style(theme)]), warnings.catch_warnings():
        # Names are the user's: a letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        canvas = FigureCanvasAgg(draw(theme))
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # A third of the size, and nothing that the eye can see: a drawing has few colours.
    image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", dpi=(DPI, DPI), optimize=True)
    return buffer.getvalue()


def write_figure(output_dir: str | os.PathLike[str], name: str, draw: Callable[[Theme], Figure]) -> Path:
    """Draw a figure on light paper as `output_dir/figures/<name>.png`; return its path."""
    path = Path(output_dir, FIGURES, f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render(draw, LIGHT))
    return path


def panels(count: int, *, most_columns: int, height: float, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes in a grid of at most `most_columns`; `height` is that of a row, in inches."""
    columns = min(count, most_columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.62 * WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share_y, squeeze=False).ravel().tolist()
    for unused in grid[count:]:
        unused.remove()
    return figure, grid[:count]


def short(name: str) -> str:
    """Return a name, cut in its middle where it would not fit beside others."""
    return name if len(name) <= 22 else f"{name[:14]}…{name[-7:]}"


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "figure.dpi": DPI,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "grid.color": theme.grid,
        "axes.grid": True,
        "axes.ymargin": 0.08,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "ytick.left": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.frameon": False,
        "legend.fontsize": 9,
        # A name with two dollar signs is a name.
        "text.parse_math": False,
    }
