"""
How figures look, and how one drawing becomes both a PNG and an SVG that follows the page's light and dark.

Colours are told apart without red and green (after Okabe and Ito); an arm has the same one in every figure. Figures
are drawn without pyplot and under a style of their own, so the caller's matplotlib is neither touched nor seen.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, BboxBase
from PIL import Image

from ..evaluation.arms import PRESETS
from ..evaluation.comparison import BASE
from ..text import printable


DPI = 150
WIDTH = 9.0  # inches
FIGURES = "figures"
_POINT = 72 / DPI
# The arms that most comparisons have keep their colour from one report to the next.
_PRESETS = tuple(PRESETS)[:4]


PAPER, INK, MUTED, GRID = "#ffffff", "#1d2430", "#5b6573", "#e3e7ec"
PROBLEMS, WEIGHT, BASE_COLOR = "#97a3b1", "#c8500a", "#6b7480"
# Each colour with the one that takes its place on dark paper; the arms' begin with those of the presets, the
# divergences' are those of forward KL, reverse KL, JSD, adaptive KL and cross-entropy.
_ARMS = {"#d58e00": "#f0b030", "#009e73": "#2fc79a", "#0072b2": "#4aa8e8", "#b0568a": "#e39cc4"}
_ARMS |= {"#45a5df": "#a8dcf9", "#8c510a": "#c99a66", "#6a51a3": "#a99bdb", "#2b2b2b": "#dadada"}
_DIVERGENCES = {"#9db2c7": "#51657a", "#3d5a80": "#a9c4e0", "#7a6a9b": "#a797cc", "#b07c4f": "#d9a679"}
_DIVERGENCES |= {"#5f8f72": "#93c2a5"}
# In the page a colour is a variable, named after its value on light paper.
DARK_OF = {PAPER: "#1b2027", INK: "#e4e8ee", MUTED: "#a3aebb", GRID: "#303844", PROBLEMS: "#77869a", WEIGHT: "#ff9a5c"}
DARK_OF |= {BASE_COLOR: "#9aa5b1"} | _ARMS | _DIVERGENCES
ARMS, DIVERGENCE_COLORS = tuple(_ARMS), tuple(_DIVERGENCES)

_STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.titlecolor", "text.color"), INK),
    "grid.color": GRID,
    "axes.grid": True,
    "axes.ymargin": 0.08,
    "axes.axisbelow": True,
    **dict.fromkeys((f"axes.spines.{side}" for side in ("top", "right", "left")), False),
    **dict.fromkeys(("ytick.left", "legend.frameon"), False),
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    # A name with two dollar signs is a name.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawing:
    """A figure and the numbers that it shows, as the rows of a table."""

    figure: Figure
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def as_png(draw: Callable[[], Drawing]) -> bytes:
    """Draw a figure and return it as PNG on light paper."""
    with _own_style():
        return _png(draw().figure)


def as_png_and_svg(name: str, alt: str, draw: Callable[[], Drawing]) -> tuple[bytes, Markup, Drawing]:
    """Draw a figure; return it as PNG, as SVG to stand in a page, and the drawing for its numbers."""
    with _own_style():
        drawing = draw()
        png = _png(drawing.figure)
        with matplotlib.rc_context({"svg.hashsalt": name}):
            return png, _svg(drawing.figure, name, alt), drawing


def write_figure(output_dir: str | os.PathLike[str], name: str, draw: Callable[[], Drawing]) -> Path:
    """
    Draw a figure on light paper as PNG.

    Args:
        output_dir (`str` or path): Directory of a run.
        name (`str`): Name of the figure, without a file extension.
        draw (`Callable[[], Drawing]`): Makes the figure.

    Returns:
        `Path`: `output_dir/figures/<name>.png`.
    """
    path = Path(output_dir, FIGURES, f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_png(draw))
    return path


def arm_colors(arms: Iterable[str]) -> dict[str, str]:
    """Return a colour per arm: grey for the base student, a fixed one per preset, else the next free one."""
    names = [arm for arm in dict.fromkeys(arms) if arm != BASE]
    chosen = {arm: color for arm, color in zip(_PRESETS, ARMS, strict=False) if arm in names}
    free = [color for color in (*ARMS[len(_PRESETS) :], *ARMS) if color not in chosen.values()]
    others = [arm for arm in names if arm not in chosen]
    return {BASE: BASE_COLOR} | chosen | {arm: free[index % len(free)] for index, arm in enumerate(others)}


def panels(count: int, *, most_columns: int, height: float, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes in a grid of at most `most_columns`; `height` is that of a row, in inches."""
    columns = min(count, most_columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.62 * WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share_y, squeeze=False).ravel().tolist()
    for axes in grid[:count]:
        axes.tick_params(labelleft=True)  # in a narrow window each panel stands alone
    for unused in grid[count:]:
        unused.remove()
    return figure, grid[:count]


def add_legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend above the figure, in as many columns as its names leave room for."""
    # About 13 letters stand on an inch, and a line and its margins take the room of eight.
    columns = int(13 * figure.get_figwidth() / (8 + max(map(len, handles))))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=max(1, min(4, columns)))


def short(name: str) -> str:
    """Return a name, cut in its middle where it would not fit beside others, with every character visible."""
    name = printable(name)
    return name if len(name) <= 22 else f"{name[:14]}…{name[-7:]}"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # A third of the size, and nothing that the eye can see: a drawing has few colours.
    image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", dpi=(DPI, DPI), optimize=True)
    return buffer.getvalue()


def _svg(figure: Figure, name: str, alt: str) -> Markup:
    """Return the figure as SVG, and once more by panel for narrow windows, where the whole would be too small."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    inner = re.search(r"<svg[^>]*>(.*)</svg>", buffer.getvalue(), re.DOTALL)
    assert inner is not None
    # The style of all lines is in the page's own style; text is escaped, so every tag is matplotlib's.
    drawn = re.sub(r"<style.*?</style>", "", inner[1], flags=re.DOTALL)
    drawn = re.sub(r"<[^<>]+>", lambda tag: _restyled(tag[0]), drawn)
    # No wider than it was drawn: its text would be larger than the page's.
    whole = Markup(
        '<svg class="whole" viewBox="{}" style="max-width: {:.0f}px" role="img" aria-label="{}">'
        '<g id="figure-{}">{}</g></svg>'
    )
    width = 96 * figure.get_figwidth()
    svg = whole.format(_view_box(figure.bbox, figure), width, alt, name, Markup(drawn))
    boxes = _panel_boxes(figure)
    part = Markup('<svg viewBox="{}" width="{:.0f}"><use href="#figure-{}"/></svg>')
    parts = Markup("").join(part.format(_view_box(box, figure), box.width * 96 / DPI, name) for box in boxes)
    return svg + Markup('<div class="parts" role="img" aria-label="{}">{}</div>').format(alt, parts)


def _restyled(tag: str) -> str:
    """Return a tag of matplotlib's SVG with the page's fonts and colours, and without names that others have too."""
    tag = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    return re.sub(r"(?<=: )(#[0-9a-f]{6})\b", lambda hit: f"var(--{hit[0][1:]})" if hit[0] in DARK_OF else hit[0], tag)


def _view_box(box: BboxBase, figure: Figure) -> str:
    values = (box.x0, figure.bbox.height - box.y1, box.width, box.height)
    return " ".join(f"{value * _POINT:.1f}" for value in values)


def _panel_boxes(figure: Figure) -> list[Bbox]:
    """Return where each panel stands with its labels, legends first; axes at one place are one panel."""
    by_place: dict[tuple[float, ...], list[Bbox]] = {}
    for axes in figure.axes:
        box = axes.get_tightbbox()
        if box is not None:
            by_place.setdefault(tuple(axes.get_position().bounds), []).append(box)
    boxes = [legend.get_window_extent() for legend in figure.legends]
    return [box.padded(DPI / 20) for box in (*boxes, *(Bbox.union(each) for each in by_place.values()))]


@contextmanager
def _own_style() -> Iterator[None]:
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Names are the user's: a letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield
