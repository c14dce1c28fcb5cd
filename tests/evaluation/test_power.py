"""The smallest difference that could have been found, against simulated comparisons whose spread is known."""

from __future__ import annotations

import numpy as np
import pytest

from paced_trl.evaluation.evaluation import Evaluation
from paced_trl.evaluation.power import STANDARD_ERRORS, Power, power_of, variances


def simulate(rng: np.random.Generator, seeds: int, problems: int, spread: tuple[float, float, float]) -> np.ndarray:
    of_problems, of_seeds, of_rest = (np.sqrt(part) for part in spread)
    return (
        rng.normal(size=problems) * of_problems
        + rng.normal(size=(seeds, 1)) * of_seeds
        + rng.normal(size=(seeds, problems)) * of_rest
    )


SPREAD = (0.04, 0.0009, 0.1)


def test_the_parts_of_the_variance_are_found() -> None:
    rng = np.random.default_rng(0)
    spread = (0.04, 0.01, 0.1)  # so far above what the rest adds that hardly an estimate is cut at 0
    found = [variances(simulate(rng, 5, 60, spread)) for _ in range(3000)]
    assert np.mean([f.of_problems for f in found]) == pytest.approx(spread[0], rel=0.03)
    assert np.mean([f.of_seeds for f in found]) == pytest.approx(spread[1], rel=0.05)
    assert np.mean([f.of_rest for f in found]) == pytest.approx(spread[2], rel=0.01)


@pytest.mark.parametrize("seeds", [2, 8])
def test_the_smallest_difference_is_found_four_times_in_five(seeds: int) -> None:
    rng = np.random.default_rng(1)
    smallest = Power(*SPREAD, num_problems=60, num_seeds=seeds).smallest_difference()
    means = np.array([simulate(rng, seeds, 60, SPREAD).mean() for _ in range(20_000)])
    half_width = 1.959964 * means.std()
    assert np.mean(means + smallest - half_width > 0) == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("difference", [0.06, 0.08, 0.2])
def test_as_many_seeds_as_said_find_a_difference_and_one_less_does_not(difference: float) -> None:
    power = Power(*SPREAD, num_problems=200, num_seeds=3)
    seeds = power.seeds_for(difference)
    assert seeds is not None and power.smallest_difference(seeds) <= difference
    assert seeds == 1 or power.smallest_difference(seeds - 1) > difference


def test_where_problems_differ_too_much_no_number_of_seeds_is_enough() -> None:
    power = Power(*SPREAD, num_problems=200, num_seeds=3)
    floor = STANDARD_ERRORS * np.sqrt(SPREAD[0] / 200)
    assert power.smallest_difference(10**9) == pytest.approx(floor, rel=1e-4)
    assert power.seeds_for(0.99 * floor) is None and power.seeds_for(1.2 * floor) is not None
    assert Power(0.0, 0.0, 0.0, 10, 3).seeds_for(0.01) == 1


def evaluation(passed: list[int], valid: list[int] | None = None) -> Evaluation:
    ids = [str(row) for row in range(len(passed))]
    return Evaluation("test", "m", {}, 0, 4, ids, passed, valid or [4] * len(passed), 5.0, 0.0, {})


def test_it_is_of_paired_evaluations_and_needs_two_seeds() -> None:
    runs = [evaluation([1, 2, 3, 4]), evaluation([2, 2, 4, 3])]
    controls = [evaluation([0, 2, 3, 1]), evaluation([1, 1, 4, 3])]
    expected = variances(np.array([[0.25, 0.0, 0.0, 0.75], [0.25, 0.25, 0.0, 0.0]]))
    assert power_of(runs, controls) == expected
    unmeasured = [evaluation([1, 2, 3, 0], [4, 4, 4, 0]), runs[1]]
    found = power_of(unmeasured, controls)
    assert found is not None and found.num_problems == 3
    assert power_of(runs[:1], controls[:1]) is None and power_of(runs, controls[:1]) is None
    assert power_of(runs, runs) is None  # differences of 0 throughout
