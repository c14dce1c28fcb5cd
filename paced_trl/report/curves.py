"""
What training logged, as curves over the steps: divergences, pass rates, held-out accuracy, weights.

Responsible for which logged metric is what, for smoothing, and for putting the seeds of an arm together. Draws nothing
and reads no files. Ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..evaluation import CONFIDENCE
from ..pass_rate import Floats
from .run_contents import LogHistory


DIVERGENCES = {
    "paced/forward_kl": "forward KL",
    "paced/reverse_kl": "reverse KL",
    "paced/jsd": "JSD",
    "paced/akl": "adaptive KL",
}
PASS_RATE = "paced/pass_rate"
EFFECTIVE_SAMPLE_SIZE = "paced/effective_sample_size"
# Points of a training curve that are left after smoothing over steps.
_CURVE_POINTS = 40
_HELD_OUT = re.compile(r"eval_(?:.*_)?paced/mean@(\d+)")
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


class HeldOutPoint(NamedTuple):
    """Mean@k on held-out problems after a step, over seeds, with its 95 % interval over problems."""

    step: float
    mean: float
    low: float
    high: float


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


def held_out_metric(histories: Mapping[str, Sequence[LogHistory]]) -> str | None:
    """Return the name under which mean@k on held-out problems was logged while training, or None."""
    keys = {key for logs in histories.values() for history in logs for entry in history for key in entry}
    return min((key for key in keys if _HELD_OUT.fullmatch(key)), default=None)


def learning_curves(histories: Mapping[str, Sequence[LogHistory]]) -> dict[str, list[HeldOutPoint]]:
    """
    Return, by arm, mean@k on held-out problems over the steps, seeds averaged.

    Of each problem only the mean over all is logged, so the interval is Wilson's for as many single generations as
    there are problems. It is never narrower than that of pass rates, whose variance is at most m (1 - m).

    Args:
        histories (`Mapping[str, Sequence[LogHistory]]`): What training logged, by arm, one history per seed.
    """
    key = held_out_metric(histories)
    if key is None:
        return {}
    number = key.rpartition("/")[0] + "/num_problems"
    curves = {}
    for arm, logs in histories.items():
        by_step: dict[float, list[tuple[float, float]]] = {}
        for history in logs:
            for entry in history:
                if key in entry and "step" in entry:
                    by_step.setdefault(entry["step"], []).append((entry[key], entry.get(number, 1)))
        points = []
        for step, seeds in sorted(by_step.items()):
            mean = float(np.mean([value for value, _ in seeds]))
            points.append(HeldOutPoint(step, mean, *_wilson(mean, min(count for _, count in seeds))))
        if points:
            curves[arm] = points
    return curves


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


def _wilson(mean: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` draws."""
    square = _Z**2 / count
    centre = (mean + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(mean * (1 - mean) / count + square / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
