"""
The figures of a run once more, as data that the page draws itself: with values on hover, arms to hide, any width.

Responsible for panels and layers, as JSON values that `static/charts.js` draws with Observable Plot. Which figures
there are, and what stands over and under them, is in `run_figures.py`; the numbers are those of its drawings. Colours
are names of the page's style, so that they follow light and dark. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.comparison import BASE, Comparison
from ..evaluation.evaluation import Evaluation
from ..evaluation.gradient_snr import GradientSNR
from ..weighting.counts import Floats, pass_rate_bins
from ..weighting.kernel import beta_kernel
from .contents import RunContents
from .curves import (
    DIVERGENCES,
    EFFECTIVE_SAMPLE_SIZE,
    PASS_RATE,
    HeldOutPoint,
    has_logged,
    held_out_curves,
    logged,
    smoothed,
    stage_switches,
    stages,
)
from .figures import TrainingWeights
from .findings import difference, mean_with_interval
from .theme import LIGHT


# Points of a curve that the page draws, in a panel of a few hundred pixels.
_MAX_POINTS = 200

Chart = dict[str, Any]
Layer = dict[str, Any]


def charts(contents: RunContents, weights: TrainingWeights | None) -> dict[str, Chart]:
    """
    Return what the page draws, by the name of the figure that it takes the place of.

    A chart has `panels`, each with `title`, `x`, `y` and `layers`. A layer has a `type`, a `color`, a `series` (what
    the legend calls it) and `points`: `bars` `[left, right, height]`, `line` and `steps` `[x, y]`, `band`
    `[x, low, high]`, `points`, `path` and `ranges` `[x, y, low, high]`, `rows` `[name, x, low, high]`, `seeds`
    `[name, x]`, `spans` `[name, from, to, what]`, `vertical` `[x]`. Where the heights of a panel begin at 0, `top` is
    where they end.

    Args:
        contents ([`RunContents`]): The run.
        weights ([`TrainingWeights`], *optional*): Weights of the training problems.
    """
    colors = {arm: f"--arm-{index}" for index, arm in enumerate(LIGHT.arm_colors(contents.arms))}
    made: dict[str, Chart] = {}
    table = contents.pass_rates
    if table is not None and (table["num_valid"].to_numpy() > 0).any():
        made["pass_rates"] = _pass_rates(table["num_passed"].to_numpy(), table["num_valid"].to_numpy(), weights)
    if contents.before_and_after:
        made["before_after"] = _before_after(contents.before_and_after, colors)
    if contents.evaluations:
        made["accuracy"] = _accuracy(contents, colors)
    if contents.histories:
        made |= _training(contents, colors)
    curves = held_out_curves(contents)
    if curves:
        made["held_out_curves"] = _held_out_curves(curves, colors)
    if contents.comparison is not None:
        made |= _at_a_cost(contents.comparison, curves, colors)
    if contents.gradient_snr is not None:
        made["gradient_snr"] = _gradient_snr(contents.gradient_snr)
    return made


def _panel(title: str, x: str, y: str, layers: Sequence[Layer], **options: Any) -> dict[str, Any]:
    return {"title": title, "x": x, "y": y, "layers": list(layers), **options}


def _layer(kind: str, color: str, points: Any, series: str | None = None) -> Layer:
    rounded = [[_rounded(value) for value in point] for point in points]
    return {"type": kind, "color": color, "series": series, "points": rounded}


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value


def _top(layers: Sequence[Layer]) -> float:
    """Return the height of the highest point, which bars and lines have as their last number; 1 if that is 0."""
    return max((point[-1] for layer in layers for point in layer["points"]), default=0.0) or 1.0


def _bars(
    color: str, rates: Floats, heights: npt.NDArray[Any], series: str, *, offset: float = 0.0, width: float = 0.82
) -> Layer:
    step = 1.0 / (len(rates) - 1)
    points = [
        [float(rate) + (offset - width / 2) * step, float(rate) + (offset + width / 2) * step, float(height)]
        for rate, height in zip(rates, heights, strict=True)
    ]
    return _layer("bars", color, points, series)


def _pass_rates(num_passed: Any, num_valid: Any, weights: TrainingWeights | None) -> Chart:
    index, last = pass_rate_bins(num_passed, num_valid)
    rates, counts = np.arange(last + 1) / last, np.bincount(index, minlength=last + 1)
    layers = [_bars("--problems", rates, counts, "problems")]
    panels = [_panel("How often the student passes", "pass rate before training", "problems", layers)]
    if weights is not None:
        if weights.curve is not None:
            grid = np.linspace(0.0, 1.0, 101)
            curve = weights.curve(grid)
            points = np.stack([grid, curve], axis=1).tolist()
            panels.append(
                _panel(
                    "The rule",
                    "pass rate",
                    f"weight, {weights.formula}",
                    [_layer("line", "--weight", points, "weight")],
                )
            )
        shares = np.bincount(index, weights=weights.values[num_valid > 0], minlength=last + 1)
        both = [
            _bars("--problems", rates, counts / counts.sum(), "problems", offset=-0.205, width=0.41),
            _bars("--weight", rates, shares / shares.sum(), "weight", offset=0.205, width=0.41),
        ]
        panels.append(_panel("Where the weight lies", "pass rate before training", "share", both, percent=True))
    return {"panels": panels}


def _shares(evaluations: Sequence[Evaluation]) -> Floats:
    passed, valid = (np.concatenate([getattr(e, name) for e in evaluations]) for name in ("num_passed", "num_valid"))
    index, last = pass_rate_bins(passed, valid)
    return np.bincount(index, minlength=last + 1) / index.size


def _before_after(by_set: Mapping[str, Mapping[str, list[Evaluation]]], colors: Mapping[str, str]) -> Chart:
    panels = []
    for eval_set, by_arm in by_set.items():
        for arm, evaluations in by_arm.items():
            if arm == BASE and len(by_arm) > 1:
                continue
            shares = _shares(evaluations)
            layers = [_bars(colors[arm], np.arange(shares.size) / (shares.size - 1), shares, arm)]
            if arm != BASE and BASE in by_arm:
                before = _shares(by_arm[BASE])
                edges = (np.arange(before.size + 1) - 0.5) / (before.size - 1)
                points = [
                    [float(edge), float(share)] for edge, share in zip(edges, [*before, before[-1]], strict=True)
                ]
                layers.append(_layer("steps", "--ink", points, "before training"))
            title = arm if len(by_set) == 1 else f"{arm}, {eval_set}"
            panels.append(_panel(title, "pass rate", "share of problems", layers, percent=True))
    top = max(_top(panel["layers"]) for panel in panels)
    return {"panels": [panel | {"top": top} for panel in panels]}


def _accuracy(contents: RunContents, colors: Mapping[str, str]) -> Chart:
    panels = []
    for eval_set, by_arm in contents.evaluations.items():
        relative = eval_set in contents.retention_sets and BASE in by_arm
        layers = []
        for arm, evaluations in by_arm.items():
            found = difference(by_arm, arm) if relative else mean_with_interval(evaluations)
            if found is not None:
                layers.append(_layer("rows", colors[arm], [[arm, found.estimate, found.low, found.high]]))
            each = [
                difference({arm: [one], BASE: by_arm[BASE]}, arm) if relative else mean_with_interval([one])
                for one in evaluations
            ]
            if len(each) > 1:
                layers.append(_layer("seeds", colors[arm], [[arm, one.estimate] for one in each if one is not None]))
        line = 0.0 if relative else mean_with_interval(by_arm[BASE]).estimate if BASE in by_arm else None
        if line is not None:
            layers.append(_layer("vertical", "--muted", [[line]]))
        k = next(iter(by_arm.values()))[0].num_generations
        title = f"{eval_set} (retention)" if relative else eval_set
        x = f"mean@{k}, difference from {BASE}" if relative else f"mean@{k}"
        rows = [arm for arm in contents.arms if arm in by_arm]
        panels.append(_panel(title, x, "", layers, rows=rows))
    return {"panels": panels}


def _training(contents: RunContents, colors: Mapping[str, str]) -> dict[str, Chart]:
    histories = contents.histories
    switches = [_layer("vertical", "--muted", [[step]]) for step in sorted(stage_switches(histories))]
    divergences = [_curves(contents, key, colors) for key in DIVERGENCES]
    lines = [layer for layers in divergences for layer in layers]
    panels = [_panel("Divergence from the teacher", "step", "nats per token", [*lines, *switches], top=_top(lines))]
    own = _curves(contents, PASS_RATE, colors)
    if own:
        panels.append(_panel("The student's own completions", "step", "pass rate while training", own, top=_top(own)))
    made = {"training": {"panels": panels}}
    if any(has_logged(logs, EFFECTIVE_SAMPLE_SIZE) for logs in histories.values()):
        sizes = _curves(contents, EFFECTIVE_SAMPLE_SIZE, colors)
        spans, rows = [], []
        for arm, logs in histories.items():
            for seed, history in enumerate(logs, start=1):
                rows.append(arm if len(logs) == 1 else f"{arm} {seed}")
                spans += [(name, [rows[-1], start, stop, name]) for start, stop, name in stages(history)]
        names = list(DIVERGENCES.values())
        directions = [
            _layer(
                "spans", f"--divergence-{names.index(name)}", [point for each, point in spans if each == name], name
            )
            for name in dict.fromkeys(name for name, _ in spans)
        ]
        made["weights_over_steps"] = {
            "panels": [
                _panel("Effective sample size", "step", "problems", sizes, top=_top(sizes)),
                _panel("Divergence that was minimised", "step", "", directions, rows=rows),
            ]
        }
    return made


def _held_out_curves(curves: Mapping[str, Mapping[str, list[HeldOutPoint]]], colors: Mapping[str, str]) -> Chart:
    panels = []
    for name, by_arm in curves.items():
        layers = []
        for arm, points in by_arm.items():
            layers.append(_layer("band", colors[arm], [[p.step, p.low, p.high] for p in points], arm))
            layers.append(_layer("points", colors[arm], points, arm))
            layers.append(_layer("line", colors[arm], [p[:2] for p in points], arm))
        panels.append(_panel(name, "step", "mean@k", layers))
    return {"panels": panels}


def _at_a_cost(
    comparison: Comparison, curves: Mapping[str, Mapping[str, list[HeldOutPoint]]], colors: Mapping[str, str]
) -> dict[str, Chart]:
    """Return accuracy at equal tokens and against retention: the points of the curves over steps, at other places."""
    on_the_way = {
        arm: {float(point.step): point for point in comparison.curve(arm)} for arm in comparison.arms_with_curves()
    }
    at_tokens = {
        name: {
            arm: [p._replace(step=on_the_way[arm][p.step].tokens) for p in points if p.step in on_the_way[arm]]
            for arm, points in by_arm.items()
            if arm in on_the_way
        }
        for name, by_arm in curves.items()
        if name in [*comparison.eval_sets, *comparison.retention_sets]
    }
    if not any(at_tokens.values()):
        return {}
    panels = _held_out_curves(at_tokens, colors)["panels"]
    made = {"learning_curves": {"panels": [{**panel, "x": "tokens, all models"} for panel in panels]}}
    paths = []
    for name in comparison.eval_sets:
        for kept in comparison.retention_sets:
            layers = [_layer("vertical", "--muted", [[0.0]])]
            for arm, points in curves.get(name, {}).items():
                path = on_the_way.get(arm, {})
                start = path[0].accuracy[kept] if path else 0.0
                at = [[path[p.step].accuracy[kept] - start, *p[1:]] for p in points if p.step in path]
                layers.append(_layer("path", colors[arm], at, arm))
            paths.append(_panel(f"{name} against {kept}", f"{kept}, minus untouched student", "mean@k", layers))
    return made | ({"accuracy_retention": {"panels": paths}} if paths else {})


def _curves(contents: RunContents, key: str, colors: Mapping[str, str]) -> list[Layer]:
    """Return a smoothed line per arm and seed that logged the metric."""
    layers = []
    for arm, logs in contents.histories.items():
        for history in logs:
            steps, values = logged(history, key)
            if steps.size:
                points = np.stack([steps, smoothed(values)], axis=1)
                points = points[np.unique(np.linspace(0, len(points) - 1, _MAX_POINTS).astype(int))]
                layers.append(_layer("line", colors[arm], points.tolist(), arm))
    return layers


def _gradient_snr(result: GradientSNR) -> Chart:
    rates, snr = (np.array([getattr(b, name) for b in result.bins]) for name in ("pass_rate", "snr"))
    grid = np.linspace(0.0, 1.0, 101)
    layers = [_layer("ranges", "--ink", [[b.pass_rate, b.snr, b.low, b.high] for b in result.bins], "SNR")]
    for (a, b), color in ((result.exponents, "--weight"), ((1.0, 1.0), "--problems")):
        at_rates = beta_kernel(rates, a, b)
        scale = max(0.0, float(snr @ at_rates) / float(at_rates @ at_rates))
        points = np.stack([grid, scale * beta_kernel(grid, a, b)], axis=1).tolist()
        layers.append(_layer("line", color, points, f"p^{a:.2g} (1 − p)^{b:.2g}, scaled"))
    norms = [_layer("line", "--ink", [[b.pass_rate, b.mean_norm] for b in result.bins])]
    return {
        "panels": [
            _panel("Do gradients of different problems agree?", "pass rate", "SNR", layers),
            _panel("How large are they?", "pass rate", "mean norm", norms, top=_top(norms)),
        ]
    }
