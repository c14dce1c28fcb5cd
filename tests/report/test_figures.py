"""What the page draws and says of a run: curves, charts, the verdict and the terminal's summary, each pinned."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from scipy.stats import binomtest

from helpers.report_runs import make_comparison, make_evaluation, make_history
from paced_trl.evaluation.comparison import BASE
from paced_trl.evaluation.gradient_snr import gradient_snr
from paced_trl.report.charts import charts
from paced_trl.report.contents import Checkpoint, RunContents, _checkpoints, read_run
from paced_trl.report.curves import Stage, held_out_curves, logged, smoothed, stage_switches, stages
from paced_trl.report.draw_training import draw_held_out_curves, draw_weights_over_steps
from paced_trl.report.figures import report_figures, training_weights
from paced_trl.report.findings import difference, mean_with_interval
from paced_trl.report.outcome import run_verdict
from paced_trl.report.terminal import terminal_summary
from paced_trl.report.theme import LIGHT


def make_validated(means: list[float]) -> list[dict[str, Any]]:
    """A history with a validation of 50 problems every ten steps."""
    history = [
        {"step": step, "paced/forward_kl": 1.0, "paced/effective_sample_size": 20.0} for step in (5, 10, 15, 20)
    ]
    for index, mean in enumerate(means, start=1):
        history.append({"step": 10 * index, "eval_paced/mean@4": mean, "eval_paced/num_problems": 50.0})
    return history


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> RunContents:
    """A comparison with validation, effective sample sizes and a gradient SNR."""
    directory = tmp_path_factory.mktemp("run")
    comparison = make_comparison(directory)
    for run in comparison.runs[1:]:
        for entry in run.log_history[:-1]:
            entry["paced/effective_sample_size"] = 40.0
        run.log_history[10] |= {"eval_paced/mean@4": 0.5, "eval_paced/num_problems": 50.0}
    comparison.save(directory)
    rng = np.random.default_rng(0)
    num_passed = np.repeat(np.arange(5), 8)
    result = gradient_snr(rng.normal(size=(40, 16)), num_passed, np.full(40, 4), num_resamples=50)
    (directory / "gradient_snr.json").write_text(json.dumps(result.to_dict()))
    return read_run(directory)


def test_validation_curves_average_seeds_under_wilsons_interval() -> None:
    contents = RunContents(Path("run"))
    contents.histories = {"one": [make_validated([0.2, 0.4]), make_validated([0.4, 0.6, 1.0])], "none": [[]]}
    (curve,) = held_out_curves(contents)["validation"].values()
    assert [(point.step, point.mean) for point in curve] == [(10, pytest.approx(0.3)), (20, 0.5), (30, 1.0)]
    for point in curve:
        expected = binomtest(round(50 * point.mean), 50).proportion_ci(method="wilson")
        assert (point.low, point.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    contents.histories = {"one": [make_history(0)]}
    assert held_out_curves(contents) == {}


def test_the_interval_is_no_narrower_than_that_of_pass_rates() -> None:
    evaluation = make_evaluation("test", 0.5, num_problems=50)
    contents = RunContents(Path("run"), histories={"one": [make_validated([evaluation.mean_at_k])]})
    ((point,),) = held_out_curves(contents)["validation"].values()
    low, high = evaluation.mean_at_k_interval
    assert point.low <= low and high <= point.high


def test_evaluations_on_the_way_stand_between_start_and_end(contents: RunContents) -> None:
    curve = [{"step": 20, "accuracy": {"test": 0.5}, "seconds": 3.0}, {"step": 40, "accuracy": {"test": 0.6}}]
    # The first seed has none, so its end is not on the curve.
    found = _checkpoints([{"arm": BASE}, {"arm": "paced"}, {"arm": "paced", "curve": curve}])
    assert found == {"paced": [[], [Checkpoint(20, {"test": 0.5}), Checkpoint(40, {"test": 0.6})]]}
    both = held_out_curves(replace(contents, checkpoints=found))
    assert list(both) == ["validation", "test"] and list(both["test"]) == ["paced"]
    by_arm = contents.evaluations["test"]
    expected = [(0, by_arm[BASE][0].mean_at_k), (20, 0.5), (40, 0.6), (60, by_arm["paced"][1].mean_at_k)]
    assert [(point.step, point.mean) for point in both["test"]["paced"]] == [
        (step, pytest.approx(mean, abs=1e-12)) for step, mean in expected
    ]
    shares = [
        binomtest(30, 60).proportion_ci(method="wilson").low,
        binomtest(36, 60).proportion_ci(method="wilson").low,
    ]
    assert [point.low for point in both["test"]["paced"][1:3]] == pytest.approx(shares, abs=1e-12)


def test_smoothing_is_a_moving_average() -> None:
    values = np.random.default_rng(0).normal(size=130)
    expected = [values[max(0, i - 1) : i + 2].mean() for i in range(130)]  # a window of three
    np.testing.assert_allclose(smoothed(values), expected, rtol=1e-12)
    np.testing.assert_array_equal(smoothed(values[:79]), values[:79])


def test_stages_cover_the_steps_between_entries() -> None:
    history = make_history(0, steps=60)
    assert stages(history) == [Stage(0.0, 30, "forward KL"), Stage(30, 60, "reverse KL")]
    assert stage_switches({"one": [history], "two": [history]}) == {30}
    # An entry over the switch has both, and is the later stage's.
    both = {"step": 20, "paced/forward_kl": 1.0, "paced/reverse_kl": 1.0}
    assert stages([{"step": 10, "paced/forward_kl": 1.0}, both]) == [
        Stage(0.0, 10, "forward KL"),
        Stage(10, 20, "reverse KL"),
    ]
    assert stages([{"step": 10, "loss": 1.0}]) == []


def test_figures_of_the_steps_show_the_numbers(contents: RunContents) -> None:
    by_set = held_out_curves(contents)
    (axes,) = draw_held_out_curves(by_set, contents.arms).axes
    curves = by_set["validation"]
    assert len(axes.lines) == len(axes.collections) == len(curves) == 3
    for line, points in zip(axes.lines, curves.values(), strict=True):
        np.testing.assert_allclose(np.asarray(line.get_xydata()), [point[:2] for point in points])
    sizes, directions = draw_weights_over_steps(contents.histories).axes
    assert {float(value) for line in sizes.lines for value in np.asarray(line.get_ydata())} == {40.0}
    spans = [(bar.get_x(), bar.get_width()) for bar in directions.patches]
    assert spans == [(0.0, 30.0), (30.0, 30.0)] * 6


def test_every_figure_has_a_chart(contents: RunContents) -> None:
    weights = training_weights(contents)
    names = [figure.name for figure in report_figures(contents, weights)]
    assert sorted(charts(contents, weights)) == sorted(names)
    assert {"held_out_curves", "weights_over_steps", "gradient_snr"} < set(names)
    # JSON has no NaN, and numpy's numbers are none of its own.
    json.dumps(charts(contents, weights), allow_nan=False)
    assert charts(RunContents(Path("run")), None) == {}


def test_charts_hold_the_numbers_of_the_drawings(contents: RunContents) -> None:
    weights = training_weights(contents)
    assert weights is not None and contents.pass_rates is not None
    made = charts(contents, weights)
    num_passed = contents.pass_rates["num_passed"].to_numpy()
    counts, rule, shares = made["pass_rates"]["panels"]
    assert [point[2] for point in counts["layers"][0]["points"]] == np.bincount(num_passed, minlength=9).tolist()
    assert [sum(point[:2]) / 2 for point in counts["layers"][0]["points"]] == pytest.approx(np.arange(9) / 8, abs=1e-4)
    for rate, weight in rule["layers"][0]["points"]:
        assert weight == pytest.approx(float(weights.curve(np.array([rate]))[0]), rel=1e-3, abs=1e-4)  # type: ignore[misc]
    by_rate = [weights.values[num_passed == passed].sum() / weights.values.sum() for passed in range(9)]
    assert [point[2] for point in shares["layers"][1]["points"]] == pytest.approx(by_rate, rel=1e-4)

    colors = list(LIGHT.arm_colors(contents.arms))
    for panel, by_arm in zip(made["accuracy"]["panels"], contents.evaluations.values(), strict=True):
        for layer in panel["layers"]:
            if layer["type"] == "rows":
                ((arm, *numbers),) = layer["points"]
                relative = "(retention)" in panel["title"]
                found = difference(by_arm, arm) if relative else mean_with_interval(by_arm[arm])
                assert found is not None
                assert numbers == pytest.approx([found.estimate, found.low, found.high], rel=1e-4)
                assert layer["color"] == f"--arm-{colors.index(arm)}"
    for panel in made["before_after"]["panels"]:
        after, before = panel["layers"]
        assert sum(point[2] for point in after["points"]) == pytest.approx(1, rel=1e-3)
        assert sum(share for _, share in before["points"][:-1]) == pytest.approx(1, rel=1e-3)
    steps, sizes = logged(contents.histories["paced"][0], "paced/effective_sample_size")
    line = next(one for one in made["weights_over_steps"]["panels"][0]["layers"] if one["series"] == "paced")
    assert line["points"] == [list(point) for point in zip(steps.tolist(), sizes.tolist(), strict=True)]


def make_contents(arms: dict[str, float], retention: dict[str, float] | None = None) -> RunContents:
    """A single run's contents, by mean@k of each arm."""
    contents = RunContents(Path("run"))
    for name, rates in (("test", arms), ("facts", retention or {})):
        if rates:
            contents.evaluations[name] = {
                arm: [make_evaluation(name, rate, model=arm, num_problems=200)] for arm, rate in rates.items()
            }
    contents.retention_sets = ["facts"] if retention else []
    return contents


@pytest.mark.parametrize(
    ("arms", "retention", "kind", "sentence"),
    [
        ({BASE: 0.4, "mine": 0.6}, None, "better", r"On test, mine \(\+0\.\d+\) is better than the untouched student"),
        ({BASE: 0.6, "mine": 0.4}, None, "worse", r"On test, mine \(-0\.\d+\) is worse than the untouched student"),
        ({BASE: 0.4, "mine": 0.6}, {BASE: 0.9, "mine": 0.6}, "mixed", "Some of facts, .* was forgotten by mine"),
        ({BASE: 0.5, "mine": 0.5}, None, "open", "no difference from the untouched student is shown for mine"),
        ({"mine": 0.5}, None, "open", "Run `paced-trl evaluate`"),
    ],
)
def test_the_verdict(arms: dict[str, float], retention: dict[str, float] | None, kind: str, sentence: str) -> None:
    verdict = run_verdict(make_contents(arms, retention))
    assert verdict.kind == kind
    assert re.search(sentence, verdict.sentence), verdict.sentence


def test_the_verdict_of_a_comparison_is_against_its_control(contents: RunContents) -> None:
    verdict = run_verdict(contents)
    assert verdict.kind == "mixed"
    assert "paced_sampling (+0." in verdict.sentence and "better than the control arm uniform" in verdict.sentence
    assert "Some of reversal, which no arm trains on, was forgotten by uniform." in verdict.sentence


def test_the_verdict_without_training() -> None:
    def measured(num_passed: list[int]) -> RunContents:
        ids = [str(index) for index in range(len(num_passed))]
        table = pa.table({"problem_id": ids, "num_passed": num_passed, "num_valid": [4] * len(ids)})
        return RunContents(Path("run"), pass_rates=table)

    assert run_verdict(measured([0, 1, 2, 4])).sentence.startswith("50.0% of the problems are on the frontier")
    assert run_verdict(measured([0] * 30 + [1])).word == "Little to learn."
    unfinished = measured([0, 1])
    unfinished.unfinished = ["paced-seed0"]
    assert run_verdict(unfinished).word == "Not finished."


def test_the_terminal_says_what_the_page_says(contents: RunContents) -> None:
    contents.advice = {"paced-seed0": [{"step": 3, "subject": "x", "text": "Beware [red]of\x1b[31m this[/red]."}]}
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal_summary(contents))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    verdict = run_verdict(contents)
    assert text.startswith(verdict.word) and verdict.sentence[:60] in text
    for arm in contents.arms:
        assert f"│ {arm} " in text
    assert "Warning: Beware [red]of\u241b[31m this[/red]. (paced-seed0, step 3)" in text
    assert "\x1b" not in text
