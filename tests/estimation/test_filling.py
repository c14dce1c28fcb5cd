"""Adaptive estimation end to end: fewer generations, the same decisions after every interruption."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl import PassRateStore, estimate_pass_rates
from paced_trl.estimation.summary import precision_of
from paced_trl.weighting.allocation import AdaptiveAllocation


COUNT = 400
PROBLEMS = make_problems(COUNT)
# A third each: hopeless, frontier, mastered.
RATES = {row["prompt"]: rate for row, rate in zip(PROBLEMS, np.linspace(-1.0, 2.0, COUNT).clip(0, 1), strict=True)}
POSTERIOR = {"estimator": "posterior", "gate": False}


def estimate(store: Path, generator: Any = None, verifier: Any = exact_verifier, **options: Any) -> Any:
    settings = {"num_generations": 8, "progress": False} | options
    if settings.pop("allocation", "adaptive") == "adaptive":
        settings["allocation"] = AdaptiveAllocation(
            settings["num_generations"], settings.pop("target_error", None), settings.pop("weighting", POSTERIOR)
        )
    return estimate_pass_rates(
        settings.pop("problems", PROBLEMS),
        generator or FakeGenerator(RATES),
        verifier,
        store=store,
        **settings,
    )


def contents(path: Path) -> dict[tuple[str, int], tuple[str, str]]:
    rows = PassRateStore(path).completions().to_pylist()
    stored = {(row["problem_id"], row["generation_index"]): (row["completion"], row["verdict"]) for row in rows}
    assert len(stored) == len(rows), "a generation is stored twice"
    return stored


def test_it_takes_fewer_generations_and_says_so(tmp_path: Path) -> None:
    table = estimate(tmp_path / "store")
    precision = precision_of(table, 8, weighting=POSTERIOR)
    assert precision.num_generations == len(contents(tmp_path / "store")) == sum(table["num_valid"])
    assert precision.num_tokens == 5 * precision.num_generations
    assert 2 < precision.mean_generations < 6
    assert precision.saved_share == pytest.approx(1 - precision.mean_generations / 8)
    assert precision.weight_error <= precision.plugin_weight_error * 1.05
    assert f"{precision.saved_share:.0%} fewer than 8 each" in str(precision)
    assert "posterior, no gate" in str(precision)
    assert "more than 2 each\n" in str(precision_of(table, 2))
    fixed = estimate(tmp_path / "fixed", allocation="fixed", num_generations=3)
    assert "3.00 a problem, as many as 3 each\n" in str(precision_of(fixed, 3))
    assert min(table["num_valid"]) == 2


def test_the_budget_is_an_average(tmp_path: Path) -> None:
    table = estimate(tmp_path / "store", num_generations=3, target_error=0.01)
    assert sum(table["num_valid"]) == 3 * COUNT
    assert max(table["num_valid"]) > 3


@pytest.mark.parametrize("stop_after", [1, 401, 600])
def test_an_interrupted_run_takes_the_decisions_of_an_uninterrupted_one(tmp_path: Path, stop_after: int) -> None:
    estimate(tmp_path / "whole", slice_size=16)

    def interrupt(answered: int) -> None:
        if answered == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate(tmp_path / "parts", FakeGenerator(RATES, before_prompt=interrupt), slice_size=16)
    kept = contents(tmp_path / "parts")
    assert len(kept) > 0 or stop_after < 16
    estimate(tmp_path / "parts", slice_size=40)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert contents(tmp_path / "parts").items() >= kept.items()


def test_a_rerun_generates_nothing(tmp_path: Path) -> None:
    first = estimate(tmp_path / "store")
    rerun = FakeGenerator(RATES)
    assert estimate(tmp_path / "store", rerun).to_list() == first.to_list()
    assert rerun.calls == []


def test_what_a_fixed_estimation_left_is_used(tmp_path: Path) -> None:
    estimate(tmp_path / "store", allocation="fixed", num_generations=4)
    generator = FakeGenerator(RATES)
    table = estimate(tmp_path / "store", generator)
    assert all(num == 1 for _, num, _ in generator.calls)
    assert min(table["num_valid"]) == 4


def test_unusable_golds_get_nothing(tmp_path: Path) -> None:
    class Verifier:
        record = {"name": "half"}

        def __call__(self, completions: Any, solutions: Any, **columns: Any) -> list[str]:
            return exact_verifier(completions, solutions)

        def check_solutions(self, solutions: Any, **columns: Any) -> list[str]:
            return ["passed" if int(solution[1:]) % 2 else "unverifiable" for solution in solutions]

    with pytest.warns(UserWarning, match="200 of 400 problems are left out"):
        table = estimate(tmp_path / "store", verifier=Verifier())
    generated = Counter(problem_id for problem_id, _ in contents(tmp_path / "store"))
    assert len(generated) == 200 and min(generated.values()) >= 2
    assert table["num_valid"][::2] == [0] * 200


def test_problems_on_which_the_verifier_fails_do_not_eat_the_budget(tmp_path: Path) -> None:
    def verifier(completions: Any, solutions: Any, **columns: Any) -> list[str]:
        verdicts = exact_verifier(completions, solutions)
        hangs = [int(solution[1:]) % 10 == 0 for solution in solutions]
        return ["timeout" if hang else verdict for verdict, hang in zip(verdicts, hangs, strict=True)]

    table = estimate(tmp_path / "store", verifier=verifier)
    timeouts = np.asarray(table["num_timeout"])
    assert (timeouts[::10] >= 2).all() and np.asarray(table["num_valid"])[::10].sum() == 0
    assert timeouts[::10].mean() < 6


def test_features_sharpen_the_allocation(tmp_path: Path) -> None:
    problems = [{**row, "level": float(index)} for index, row in enumerate(PROBLEMS)]
    plain = estimate(tmp_path / "plain", problems=problems, target_error=0.4)
    informed = estimate(tmp_path / "informed", problems=problems, target_error=0.4, prior_features=["level"])
    assert sum(informed["num_valid"]) < 0.9 * sum(plain["num_valid"])
    widths = [np.subtract(t["pass_rate_high"][:], t["pass_rate_low"][:]).mean() for t in (informed, plain)]
    assert widths[0] < widths[1]
    truth = np.array(list(RATES.values()))
    low, high = np.array(informed["pass_rate_low"]), np.array(informed["pass_rate_high"])
    assert ((low - 1e-3 <= truth) & (truth <= high + 1e-3)).mean() > 0.9
