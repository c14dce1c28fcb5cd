"""
What training logged, as curves over the steps: divergences, pass rates, held-out accuracy, weights.

Responsible for which logged metric is what, for smoothing, and for putting the seeds of an arm together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..evaluation.comparison import Comparison
from ..evaluation.learning_curve import CurvePoint
from ..training.in_words import DIVERGENCE_NAMES
from ..training.schedule import METRICS
from ..weighting.counts import Floats
from .contents import LogHistory, RunContents


DIVERGENCES = {metric: DIVERGENCE_NAMES[kl] for kl, metric in METRICS.items()}
COMPLETION_LENGTH = "completions/mean_length"
CUT_OFF = "completions/clipped_ratio"
PASS_RATE = "paced/pass_rate"
EFFECTIVE_SAMPLE_SIZE = "paced/effective_sample_size"
# Points of a training curve that are left after smoothing over steps.
_CURVE_POINTS = 40
_HELD_OUT = re.compile(r"eval_paced/(?:(.+)/)?mean@\d+")
_Z = NormalDist().inv_cdf(0.975)  # of 95 %, as everywhere


class HeldOutPoint(NamedTuple):
    """Mean@k on held-out problems after a step or so many tokens, over seeds, with its interval over problems."""

    at: float
    mean: float
    low: float
    high: float


Curves = dict[str, dict[str, list[HeldOutPoint]]]


class Stage(NamedTuple):
    """Steps, the first excluded, in which training minimised one divergence."""

    start: float
    stop: float
    divergence: str


def has_logged(logs: Sequence[LogHistory], key: str) -> bool:
    """Return whether some entry of some history has the metric."""
    return any(key in entry for history in logs for entry in history)


def logged(history: LogHistory, key: str) -> tuple[Floats, Floats]:
    """Return the steps at which a metric was logged, and its values."""
    entries = [entry for entry in history if key in entry and "step" in entry]
    steps = np.array([entry["step"] for entry in entries], dtype=np.float64)
    return steps, np.array([entry[key] for entry in entries], dtype=np.float64)


def smoothed(values: Floats) -> Floats:
    """Return a moving average of which about 40 windows fit into the curve; a shorter curve as it is."""
    window = np.ones(max(1, values.size // _CURVE_POINTS))
    if window.size == 1:
        return values
    # Divided by the number of points under the window, which is smaller at the ends.
    averages: Floats = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    return averages


def held_out_curves(contents: RunContents) -> Curves:
    """
    Return mean@k over the steps by set of held-out problems and by arm, seeds averaged.

    While training only the mean over all problems is known, so the interval is Wilson's for as many single generations
    as there are problems, which is never narrower than that of pass rates.
    """
    curves = _logged_curves(contents)
    if contents.comparison is not None:
        # A curve of two points is only its ends.
        curves |= comparison_curves(contents.comparison, lambda point: float(point.step), min_points=3)
    return curves


def comparison_curves(comparison: Comparison, at: Callable[[CurvePoint], float], min_points: int = 1) -> Curves:
    """Return the learning curves of a comparison's arms by set and by arm, over what `at` gives of a point."""
    curves: Curves = {}
    for name in [*comparison.eval_sets, *comparison.retention_sets]:
        for arm in comparison.arms_with_curves():
            points = comparison.curve(arm)
            count = len(comparison.evaluations(arm, name)[0].problem_ids)
            if len(points) >= min_points:
                means = [(at(point), point.accuracy[name]) for point in points]
                curves.setdefault(name, {})[arm] = [HeldOutPoint(x, mean, *wilson(mean, count)) for x, mean in means]
    return curves


def _logged_curves(contents: RunContents) -> Curves:
    curves: Curves = {}
    for key in sorted(contents.logged_metrics):
        found = _HELD_OUT.fullmatch(key)
        if found is None:
            continue
        number = key.rpartition("/")[0] + "/num_problems"
        for arm, logs in contents.histories.items():
            entries = [entry for history in logs for entry in history if key in entry and "step" in entry]
            if entries:
                count = min(entry.get(number, 1) for entry in entries)
                points = _averaged([(entry["step"], entry[key]) for entry in entries], count)
                curves.setdefault(found[1] or "validation", {})[arm] = points
    return curves


def _averaged(points: Iterable[tuple[float, float]], num_problems: float) -> list[HeldOutPoint]:
    by_step: dict[float, list[float]] = {}
    for step, mean in points:
        by_step.setdefault(step, []).append(mean)
    means = {step: float(np.mean(values)) for step, values in sorted(by_step.items())}
    return [HeldOutPoint(step, mean, *wilson(mean, num_problems)) for step, mean in means.items()]


def stages(history: LogHistory) -> list[Stage]:
    """Return which divergence was minimised when; a log entry stands for the steps since the one before."""
    found: list[Stage] = []
    before = 0.0
    for entry in history:
        # Of an entry in which the divergence changed, the later one.
        names = [name for key, name in DIVERGENCES.items() if key in entry]
        if not names or "step" not in entry:
            continue
        if found and found[-1].divergence == names[-1]:
            found[-1] = found[-1]._replace(stop=entry["step"])
        else:
            found.append(Stage(before, entry["step"], names[-1]))
        before = entry["step"]
    return found


def stage_switches(histories: Mapping[str, Sequence[LogHistory]]) -> set[float]:
    """Return the steps after which some run went from forward to reverse KL."""
    switches = set()
    for history in (history for logs in histories.values() for history in logs):
        forward = [entry["step"] for entry in history if "paced/forward_kl" in entry]
        if forward and any("paced/reverse_kl" in entry for entry in history):
            switches.add(max(forward))
    return switches


def wilson(mean: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` draws."""
    square = _Z**2 / count
    centre = (mean + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(mean * (1 - mean) / count + square / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
