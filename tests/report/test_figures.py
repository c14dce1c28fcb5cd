"""What the page draws and says of a run: curves, figures, the outcome and the terminal's summary, each pinned."""

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
from paced_trl.evaluation.differences import mean_over_runs
from paced_trl.evaluation.gradient_snr import gradient_snr
from paced_trl.evaluation.learning_curve import CurvePoint
from paced_trl.report.contents import RunContents, read_run
from paced_trl.report.curves import (
    Stage,
    comparison_curves,
    held_out_curves,
    logged,
    smoothed,
    stage_switches,
    stages,
)
from paced_trl.report.draw_training import draw_completions, draw_held_out_curves, draw_weights_over_steps
from paced_trl.report.figures import report_figures, training_weights
from paced_trl.report.findings import difference
from paced_trl.report.outcome import run_outcome
from paced_trl.report.page import terminal_summary
from paced_trl.report.theme import arm_colors
from paced_trl.training.schedule import METRICS


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
    assert [(point.at, point.mean) for point in curve] == [(10, pytest.approx(0.3)), (20, 0.5), (30, 1.0)]
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


def test_evaluations_on_the_way_stand_between_start_and_end(contents: RunContents, tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path)
    costs = {"seconds": 9.0, "tokens_generated": 10, "student_tokens": 100, "teacher_tokens": 90}
    kept = comparison.runs[0].accuracy["reversal"]
    for run in comparison.runs_of("paced"):
        run.costs = costs
        accuracy = [0.5 + 0.1 * run.seed, 0.6 + 0.1 * run.seed]
        run.curve = [
            CurvePoint(step, 3.0, 5, step, step, {"test": mean, "reversal": kept})
            for step, mean in zip((20, 40), accuracy, strict=True)
        ]
    # Known at both ends only: no curve over the steps.
    comparison.runs_of("uniform")[0].costs = costs
    comparison.save(tmp_path)
    both = held_out_curves(replace(contents, comparison=read_run(tmp_path).comparison))
    assert list(both) == ["validation", "test", "reversal"] and list(both["test"]) == ["paced"]
    base, paced = comparison.evaluations(BASE, "test"), comparison.evaluations("paced", "test")
    end = np.mean([evaluation.mean_at_k for evaluation in paced])
    expected = [(0, base[0].mean_at_k), (20, 0.55), (40, 0.65), (60, end)]
    assert [(point.at, point.mean) for point in both["test"]["paced"]] == [
        (step, pytest.approx(mean, abs=1e-12)) for step, mean in expected
    ]
    lows = [binomtest(passed, 60).proportion_ci(method="wilson").low for passed in (33, 39)]
    assert [point.low for point in both["test"]["paced"][1:3]] == pytest.approx(lows, abs=1e-12)
    by_tokens = comparison_curves(comparison, lambda point: point.tokens)
    assert [point.at for point in by_tokens["test"]["paced"]] == [0, 45, 85, 200]
    assert [point.mean for point in by_tokens["test"]["uniform"]] == pytest.approx(
        [base[0].mean_at_k, comparison.evaluations("uniform", "test")[0].mean_at_k]
    )


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
    held_out = draw_held_out_curves(by_set, contents.arms)
    (axes,) = held_out.figure.axes
    curves = by_set["validation"]
    assert len(axes.lines) == len(axes.collections) == len(curves) == 3
    for line, points in zip(axes.lines, curves.values(), strict=True):
        np.testing.assert_allclose(np.asarray(line.get_xydata()), [point[:2] for point in points])
    assert held_out.rows == [("validation", arm, *point) for arm, points in curves.items() for point in points]
    weights = draw_weights_over_steps(contents.histories)
    sizes, directions = weights.figure.axes
    assert {float(value) for line in sizes.lines for value in np.asarray(line.get_ydata())} == {40.0}
    spans = [(bar.get_x(), bar.get_width()) for bar in directions.patches]
    assert spans == [(0.0, 30.0), (30.0, 30.0)] * 6
    assert ("forward KL", "paced", "0 to 30", None) in weights.rows
    steps, values = logged(contents.histories["paced"][0], "paced/effective_sample_size")
    rows = [row[2:] for row in weights.rows if row[:2] == ("effective sample size", "paced, run 1")]
    assert len(rows) == 20 and rows[-1] == (steps[-1], values[-1]) and set(rows) < set(zip(steps, values, strict=True))


def test_every_divergence_has_a_colour_of_its_own() -> None:
    histories = {name: [[{"step": step, metric: 1.0} for step in (4, 8)]] for name, metric in METRICS.items()}
    bars = draw_weights_over_steps(histories).figure.axes[1].patches
    assert len({bar.get_facecolor() for bar in bars}) == len(METRICS)


def test_the_completions_are_drawn_where_they_were_logged(contents: RunContents) -> None:
    assert "completions" not in [figure.name for figure in report_figures(contents, None)]
    history = [
        {"step": step, "completions/mean_length": 10.0 + step, "completions/clipped_ratio": step / 100}
        for step in range(1, 31)
    ]
    run = RunContents(Path("run"), histories={"mine": [history]})
    assert [figure.name for figure in report_figures(run, None)] == ["completions", "training"]
    drawing = draw_completions(run.histories)
    lengths, cut = drawing.figure.axes
    assert np.asarray(lengths.lines[0].get_xydata()).tolist() == [[step, 10.0 + step] for step in range(1, 31)]
    assert np.asarray(cut.lines[0].get_ydata())[-1] == 0.3
    assert ("share cut off", "mine", 30, 0.3) in drawing.rows


def test_every_figure_has_numbers(contents: RunContents) -> None:
    figures = report_figures(contents, training_weights(contents))
    assert {"held_out_curves", "weights_over_steps", "gradient_snr"} < {figure.name for figure in figures}
    for figure in figures:
        drawing = figure.draw()
        assert drawing.rows and {len(row) for row in drawing.rows} == {len(drawing.header)}, figure.name
    assert report_figures(RunContents(Path("run")), None) == []


def test_tables_hold_the_numbers_of_the_drawings(contents: RunContents) -> None:
    weights = training_weights(contents)
    assert weights is not None and weights.curve is not None and contents.pass_rates is not None
    drawings = {figure.name: figure.draw() for figure in report_figures(contents, weights)}
    num_passed = contents.pass_rates["num_passed"].to_numpy()
    rates, counts, shares, rule, weight_shares = zip(*drawings["pass_rates"].rows, strict=True)
    assert list(counts) == np.bincount(num_passed, minlength=9).tolist()
    assert rates == pytest.approx(np.arange(9) / 8) and sum(shares) == pytest.approx(1)
    assert rule == pytest.approx(weights.curve(np.arange(9) / 8))
    by_rate = [weights.values[num_passed == passed].sum() / weights.values.sum() for passed in range(9)]
    assert weight_shares == pytest.approx(by_rate)
    bars = [bar.get_height() for bar in drawings["pass_rates"].figure.axes[0].patches]  # type: ignore[attr-defined]
    assert bars == list(counts)

    accuracy = drawings["accuracy"]
    rows = iter(accuracy.rows)
    colors = arm_colors(contents.arms)
    for axes, (name, by_arm) in zip(accuracy.figure.axes, contents.evaluations.items(), strict=True):
        dots = iter([line for line in axes.lines if line.get_marker() == "o"])
        for arm in by_arm:
            relative = name in contents.retention_sets
            found = difference(by_arm, arm) if relative else mean_over_runs(by_arm[arm])
            if found is None:
                continue
            eval_set, row_arm, what, *numbers = next(rows)
            assert (eval_set, row_arm) == (name, arm) and ("difference from base" in what) is relative
            assert numbers == [found.estimate, found.low, found.high]
            dot = next(dots)
            assert dot.get_color() == colors[arm] and np.asarray(dot.get_xdata()).tolist() == [found.estimate]
    assert next(rows, None) is None
    before_after = drawings["before_after"].rows
    for arm in contents.arms:
        assert sum(row[3] for row in before_after if row[:2] == ("test", arm)) == pytest.approx(1)


def test_histograms_end_at_0_and_1(contents: RunContents) -> None:
    for figure in report_figures(contents, training_weights(contents)):
        if figure.name in ("pass_rates", "before_after"):
            for axes in figure.draw().figure.axes:
                if axes.get_xlabel():
                    assert axes.spines["bottom"].get_bounds() == (0.0, 1.0)
                    assert (min(axes.get_xticks()), max(axes.get_xticks())) == (0, 1)


def test_captions_say_what_the_run_has(contents: RunContents) -> None:
    def captions(contents: RunContents) -> dict[str, str]:
        return {figure.name: figure.caption for figure in report_figures(contents, None)}

    full = captions(contents)
    assert "small marks single seeds" in full["accuracy"] and "Retention is" in full["accuracy"]
    assert "seeds pooled" in full["before_after"] and "Outline: base" in full["before_after"]
    alone = RunContents(Path("run"), evaluations={"test": {"mine": [make_evaluation("test", 0.5)]}})
    assert captions(alone)["accuracy"] == "Dots are mean@k with its 95 % interval over problems."
    assert "base" not in captions(alone)["before_after"] and "seeds" not in captions(alone)["before_after"]
    history = [{"step": 1, "paced/forward_kl": 1.0}]
    one = captions(RunContents(Path("run"), histories={"mine": [history]}))["training"]
    assert "Arms" not in one and "seed" not in one and "pass rate" not in one


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
        ({BASE: 0.4, "mine": 0.6}, None, "better", r"On test, mine \(\+0\.\d+\) is better than base"),
        ({BASE: 0.6, "mine": 0.4}, None, "worse", r"On test, mine \(-0\.\d+\) is worse than base"),
        ({BASE: 0.4, "mine": 0.6}, {BASE: 0.9, "mine": 0.6}, "mixed", "Some of facts, .* was forgotten by mine"),
        ({BASE: 0.5, "mine": 0.5}, None, "open", "no difference from base is shown for mine"),
        ({"mine": 0.5}, None, "open", "Run `paced-trl evaluate`"),
    ],
)
def test_the_outcome(arms: dict[str, float], retention: dict[str, float] | None, kind: str, sentence: str) -> None:
    outcome = run_outcome(make_contents(arms, retention))
    assert outcome.kind == kind
    assert re.search(sentence, outcome.sentence), outcome.sentence


def test_the_outcome_of_a_comparison_is_against_its_control(contents: RunContents) -> None:
    outcome = run_outcome(contents)
    assert outcome.kind == "mixed"
    assert "paced_sampling (+0." in outcome.sentence and "better than the control arm uniform" in outcome.sentence
    assert "Some of reversal, which no arm trains on, was forgotten by uniform." in outcome.sentence


def test_the_outcome_without_training() -> None:
    def measured(num_passed: list[int]) -> RunContents:
        ids = [str(index) for index in range(len(num_passed))]
        table = pa.table({"problem_id": ids, "num_passed": num_passed, "num_valid": [4] * len(ids)})
        return RunContents(Path("run"), pass_rates=table)

    assert run_outcome(measured([0, 1, 2, 4])).sentence.startswith("50.0% of the problems are at the frontier")
    assert run_outcome(measured([0] * 30 + [1])).word == "Little to learn."
    assert (
        run_outcome(measured([0] * 4)).sentence
        == "None of the problems are at the frontier, where PACED's weight lies."
    )
    unfinished = measured([0, 1])
    unfinished.unfinished = ["paced-seed0"]
    assert run_outcome(unfinished).word == "Not finished."


def test_the_terminal_says_what_the_page_says(contents: RunContents) -> None:
    contents.advice = {"paced-seed0": [{"step": 3, "subject": "x", "text": "Beware [red]of\x1b[31m this[/red]."}]}
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal_summary(contents))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    outcome = run_outcome(contents)
    assert text.startswith(outcome.word) and outcome.sentence[:60] in text
    for arm in contents.arms:
        assert f"│ {arm} " in text
    assert "Warning: Beware [red]of\\x1b[31m this[/red]. (paced-seed0, step 3)" in text
    assert "\x1b" not in text
