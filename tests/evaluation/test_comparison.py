"""Arms from every way of naming them, and what a comparison says of its runs, against means and lines by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paced_trl.commands.parsing import parse
from paced_trl.evaluation.arms import (
    DEFAULT_ARMS,
    PRESETS,
    TWO_STAGES,
    ComparisonArguments,
    arm_config,
    budget_of,
    named_arms,
    pays_for_estimation,
)
from paced_trl.evaluation.comparison import BASE, ArmRun, Comparison
from paced_trl.evaluation.differences import compare_runs
from paced_trl.evaluation.evaluation import Evaluation
from paced_trl.evaluation.learning_curve import CurvePoint, best_with_retention
from paced_trl.evaluation.run_comparison import arms_so_far, check_selection, run_comparison
from paced_trl.evaluation.tables import comparison_markdown, comparison_rows, curve_rows, power_rows
from paced_trl.report import write_report
from paced_trl.report.curves import comparison_curves
from paced_trl.report.draw_results import draw_accuracy_retention
from paced_trl.report.draw_training import draw_held_out_curves
from paced_trl.report.findings import what_could_be_found
from paced_trl.run_directory import RunDirectory
from paced_trl.training.config import PacedConfig
from paced_trl.training.run import Distilled


UNIFORM = PRESETS["uniform"]


def parsed(tmp_path: Path, yaml: str, *flags: str) -> ComparisonArguments:
    (tmp_path / "recipe.yaml").write_text(yaml)
    config = ["--config", str(tmp_path / "recipe.yaml")]
    return parse("compare", [ComparisonArguments], [*config, *flags], description="")[0]


@pytest.mark.parametrize(
    ("yaml", "flags"),
    [
        ("arms: [uniform, sqrt]", []),
        ("arms: {uniform: {}, sqrt: {}}", []),
        ("arms: {uniform: , sqrt: }", []),
        ("seeds: [0]", ["--arms", "uniform", "sqrt"]),
        ("arms: [dapo]", ["--arms", '{"uniform": {}, "sqrt": {}}']),
        ("arms: [base, uniform, sqrt]", []),
    ],
)
def test_arms_are_named_in_yaml_and_on_the_command_line(tmp_path: Path, yaml: str, flags: list[str]) -> None:
    arms = parsed(tmp_path, yaml, *flags).settings_by_arm
    assert list(arms.items()) == [("uniform", UNIFORM), ("sqrt", PRESETS["sqrt"])]


def test_the_default_arms_and_seeds(tmp_path: Path) -> None:
    comparison = parsed(tmp_path, "control: uniform")
    assert tuple(comparison.settings_by_arm) == DEFAULT_ARMS and set(DEFAULT_ARMS) <= PRESETS.keys()
    assert comparison.seeds == [0, 1, 2]


def test_the_two_stage_arm_goes_where_all_arms_have_two_stages() -> None:
    for kl, is_there in (("forward", True), ("forward_then_reverse", False)):
        comparison = ComparisonArguments()
        comparison.complete(PacedConfig(output_dir="x", kl=kl, bf16=False, use_cpu=True))
        assert (TWO_STAGES in comparison.settings_by_arm) == is_there
    named = ComparisonArguments(arms=["uniform", TWO_STAGES])
    named.complete(PacedConfig(output_dir="x", bf16=False, use_cpu=True))
    assert TWO_STAGES in named.settings_by_arm


def test_earlier_arms_stay_and_the_control_is_one_of_all() -> None:
    args = PacedConfig(output_dir="x", bf16=False, use_cpu=True)
    comparison = ComparisonArguments(arms=["sqrt"])
    with pytest.raises(ValueError, match=r"`control` is 'uniform', which is no arm. Name one of sqrt"):
        comparison.complete(args)
    comparison.complete(args, {"uniform": UNIFORM, "sqrt": {"weight_alpha": 0.4}})
    assert comparison.settings_by_arm == {"uniform": UNIFORM, "sqrt": PRESETS["sqrt"]}
    misspelt = ComparisonArguments(arms={"uniform": {}, "mine": {"weight_alhpa": 2.0}})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Did you mean `weight_alpha`"):
        misspelt.complete(args)


def test_settings_change_the_preset_of_that_name() -> None:
    arms = named_arms({"sqrt": {"weight_alpha": 0.3}, "mine": {"weight_beta": 2.0}})
    assert arms == {"sqrt": PRESETS["sqrt"] | {"weight_alpha": 0.3}, "mine": {"weight_beta": 2.0}}


NO_ARMS: list[Any] = [1.5, None, 3, [1], [["uniform"]], {"mine": 3}, {"mine": [1]}, {1: {}}, ['{"mine": [1]}']]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": ["unifrom"], "control": "unifrom"}, "'unifrom' changes no setting .* Did you mean 'uniform'"),
        ({"arms": {"mine": {}}, "control": "mine"}, "'mine' changes no setting and is no preset"),
        ({"arms": ["uniform", "uniform"]}, "`arms` has 'uniform' more than once"),
        ({"arms": ['{"uniform": ']}, "which is no JSON object"),
        *(({"arms": arms}, "`arms` is .*neither a list of names nor a mapping") for arms in NO_ARMS),
        ({"curve_points": -1}, "`curve_points` is -1, but it must be at least 0"),
        ({"learning_rates": [0.0]}, "`learning_rates` is .*, but it must be more than 0"),
        ({"seeds": [-1]}, "`seeds` is .*, but it must be at least 0"),
        ({"seeds": [0, 1, 0]}, r"`seeds` is \[0, 1, 0\]; give at least one, and each once"),
        ({"seeds": []}, "`seeds` is"),
        ({"select_on": "dev"}, "`select_on` is 'dev' without `learning_rates`"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComparisonArguments(**settings)


@pytest.mark.parametrize(
    "name", ["../../../evil", "/etc/evil", "a/b", "a\\b", "..", ".hidden", "a\nb", "a|b", "", "a" * 101]
)
def test_names_that_lead_out_of_the_output_directory_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`arms` has the name .* part of a path"):
        named_arms({name: {"weight_beta": 2.0}})


def test_plain_names_of_arms_are_taken() -> None:
    names = ["mine", "weight 2", "größer", "v1.2_b+c@3e-05"]
    assert list(named_arms({name: {"weight_beta": 2.0} for name in names})) == names


def test_a_grid_of_learning_rates_becomes_arms() -> None:
    arms: Any = {"uniform": {}, "mine": {"weight_beta": 2.0}}
    expanded = ComparisonArguments(arms=arms, learning_rates=[1e-4, 1e-3])
    assert expanded.settings_by_arm == {
        "uniform@0.0001": {**UNIFORM, "learning_rate": 1e-4},
        "uniform@0.001": {**UNIFORM, "learning_rate": 1e-3},
        "mine@0.0001": {"weight_beta": 2.0, "learning_rate": 1e-4},
        "mine@0.001": {"weight_beta": 2.0, "learning_rate": 1e-3},
    }
    assert expanded.control == "uniform@0.0001"


def test_an_arm_changes_only_what_it_names() -> None:
    args = PacedConfig(output_dir="whole", kl="forward", learning_rate=1e-3, bf16=False, use_cpu=True)
    arm = arm_config(args, {"weighting": "uniform", "kl": "reverse"}, "arm")
    assert (arm.weighting, arm.kl, arm.beta, arm.output_dir) == ("uniform", "reverse", 1.0, "arm")
    assert arm.learning_rate == 1e-3
    with pytest.raises(ValueError, match="Did you mean `weight_alpha`"):
        arm_config(args, {"weight_alhpa": 2.0}, "arm")


def evaluation(name: str, rate: float, seed: int, num_problems: int = 80) -> Evaluation:
    rates = np.clip(rate + np.linspace(-0.3, 0.3, num_problems), 0, 1)
    num_passed = np.random.default_rng(seed).binomial(4, rates).tolist()
    return Evaluation(
        name,
        "m",
        {"seed": 0},
        0,
        4,
        [str(i) for i in range(num_problems)],
        num_passed,
        [4] * num_problems,
        5.0,
        0.0,
        {},
    )


def arm_run(arm: str, seed: int, rate: float, kept: float, middle: float | None, scale: float = 1.0) -> ArmRun:
    """A run of 10 steps that has the accuracy `middle` half way."""
    evaluations = {"test": evaluation("test", rate, 10 + seed), "kept": evaluation("kept", kept, 20 + seed)}
    half = {"seconds": 5.0 * scale, "tokens_generated": 10, "student_tokens": 50 * scale, "teacher_tokens": 40}
    curve = [] if middle is None else [CurvePoint(5, **half, accuracy={"test": middle, "kept": kept})]
    costs = {name: 2 * value for name, value in half.items()}
    history = [{"step": 10, "train_runtime": 11.0}]
    return ArmRun(arm, seed, {}, evaluations, None, costs["seconds"], history, costs, curve)


@pytest.fixture
def comparison() -> Comparison:
    base = ArmRun(BASE, 0, {}, {"test": evaluation("test", 0.3, 1), "kept": evaluation("kept", 0.7, 2)})
    runs = [base]
    for seed in (0, 1):
        runs.append(arm_run("uniform", seed, 0.5, 0.4, middle=0.4))
        runs.append(arm_run("paced", seed, 0.65, 0.68, middle=0.6, scale=1.5))
        runs.append(arm_run("slow", seed, 0.35, 0.7, middle=0.32))
    return Comparison("uniform", ["test"], ["kept"], runs, {"estimation": 1234, "references": 56})


def test_differences_are_paired_by_seed_and_while_seeds_lack_over_those_of_both(comparison: Comparison) -> None:
    paced, uniform = (comparison.evaluations(arm, "test") for arm in ("paced", "uniform"))
    assert comparison.difference("paced", "uniform", "test") == compare_runs(paced, uniform)
    comparison.runs.append(arm_run("uniform", 2, 0.9, 0.9, middle=None))
    comparison.runs.reverse()
    assert comparison.difference("paced", "uniform", "test").estimate == compare_runs(paced, uniform).estimate
    base = comparison.evaluations(BASE, "test")[0]
    assert comparison.difference("paced", BASE, "test").estimate == compare_runs(paced, base).estimate


def test_the_cost_of_the_controls_accuracy_is_read_off_the_mean_curve(comparison: Comparison) -> None:
    start = comparison.runs[0].accuracy["test"]
    target = float(np.mean([run.accuracy["test"] for run in comparison.runs_of("uniform")]))
    part = (target - start) / (0.6 - start)
    assert comparison.cost_of_control("paced", "test") == pytest.approx((part * 125, part * 7.5))
    assert comparison.cost_of_control("uniform", "test") == pytest.approx((200, 10.0))
    assert comparison.cost_of_control("slow", "test") is None
    assert curve_rows(comparison)[2].items() >= {"test: tokens": "never", "test: time": "never"}.items()
    for run in comparison.runs:
        run.curve.clear()
    assert comparison.cost_of_control("paced", "test") is None and curve_rows(comparison) == []


def test_the_best_with_the_controls_retention_is_the_highest_point_of_a_fine_grid(comparison: Comparison) -> None:
    floor = comparison.mean("uniform", "kept").estimate
    for arm in ("uniform", "paced", "slow"):
        curve = comparison.curve(arm)
        steps = np.linspace(0, 10, 100_001)
        test, kept = (
            np.interp(steps, [p.step for p in curve], [p.accuracy[n] for p in curve]) for n in ("test", "kept")
        )
        expected = test[kept >= floor - 1e-9].max()
        assert comparison.best_with_retention_of_control(arm, "test", "kept") == pytest.approx(expected, abs=1e-4)
    path = [
        CurvePoint(step, 0.0, 0, 0, 0, {"a": a, "r": r})
        for step, a, r in ((0, 0.2, 0.9), (5, 0.8, 0.5), (9, 0.4, 0.8))
    ]
    # On the way down it is at 0.7 with 0.5, on the way up with 0.8 - 0.4 * 2 / 3.
    assert best_with_retention(path, "a", "r", 0.7) == pytest.approx(0.8 - 0.4 * 2 / 3)
    assert best_with_retention(path[:2], "a", "r", 0.7) == pytest.approx(0.5)
    assert best_with_retention(path, "a", "r", 0.95) is None


def test_better_and_worse_are_said_where_the_interval_excludes_zero(comparison: Comparison) -> None:
    rows = {row["arm"]: row for row in comparison_rows(comparison)}
    for arm in ("uniform", "paced", "slow"):
        for column, other, eval_set in (("- base", BASE, "test"), ("kept (retention)", BASE, "kept")):
            difference = comparison.difference(arm, other, eval_set)
            word = "" if not difference.excludes_zero else "better" if difference.estimate > 0 else "worse"
            assert rows[arm][column].rpartition("]")[2].strip() == word
    words = " ".join(cell for row in rows.values() for cell in row.values())
    assert "better" in words and "worse" in words and rows["paced"]["- uniform"].endswith("better")
    mean = comparison.mean("paced", "test")
    assert rows["paced"]["test mean@4"] == f"{mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    costs = [rows["paced"][name] for name in ("generated", "student tokens", "teacher tokens", "train")]
    assert costs == ["20", "150", "80", "15 s"]
    assert rows[BASE]["generated"] == rows[BASE]["train"] == ""

    # Alone, the control is compared with nothing, and an untrained student has no costs.
    def columns(*arms: str) -> set[str]:
        of_arms = [run for run in comparison.runs if run.arm in arms]
        return set(comparison_rows(dataclasses.replace(comparison, runs=of_arms))[0])

    assert rows[BASE].keys() - columns(BASE, "uniform") == {"- uniform"}
    assert columns(BASE) == {"arm", "test mean@4"}


def test_what_could_have_been_found_is_in_tables_and_numbers(comparison: Comparison) -> None:
    power = comparison.power("paced", "test")
    assert power is not None and comparison.power("uniform", "test") is None and comparison.power(BASE, "test") is None
    (row,) = [row for row in power_rows(comparison) if row["arm"] == "paced"]
    assert row["test: found from"] == f"{power.smallest_difference():.3f}"
    assert row["test: seeds for 0.01"] == str(power.seeds_for(0.01) or "more problems")
    assert "test: seeds for 0.02" in comparison_markdown(comparison)
    found = comparison.results()["paced"]["sets"]["test"]["power"]
    assert found["smallest_difference"] == power.smallest_difference() and found["seeds_for"].keys() == {
        "0.01",
        "0.02",
    }
    assert f"paced from {power.smallest_difference():.3f}" in what_could_be_found(comparison, "test")
    comparison.runs = [run for run in comparison.runs if run.seed == 0]
    assert power_rows(comparison) == [] and what_could_be_found(comparison, "test") == ""


def test_each_arm_is_compared_at_the_rate_that_is_best_on_the_development_set(tmp_path: Path) -> None:
    runs = [ArmRun(BASE, 0, {}, {"dev": evaluation("dev", 0.3, 1), "test": evaluation("test", 0.3, 2)})]
    # On the test set the other rate is better: it must not be looked at.
    rates = {"uniform@0.1": (0.5, 0.4), "uniform@0.2": (0.4, 0.6), "paced@0.1": (0.3, 0.6), "paced@0.2": (0.6, 0.5)}
    for arm, (dev, test) in rates.items():
        for seed in (0, 1):
            both = {"dev": evaluation("dev", dev, 10 + seed), "test": evaluation("test", test, 20 + seed)}
            runs.append(ArmRun(arm, seed, {}, both))
    whole = Comparison("uniform@0.2", ["dev", "test"], [], runs, select_on="dev")
    chosen = whole.selected()
    assert chosen.arms() == [BASE, "uniform@0.1", "paced@0.2"] and chosen.control == "uniform@0.1"
    assert chosen.eval_sets == ["test"] and chosen.selected() is chosen
    assert "paced@0.2" in comparison_markdown(chosen) and "dev" not in comparison_markdown(chosen)
    whole.save(tmp_path)
    assert Comparison.load(tmp_path) == whole
    whole.select_on = None
    assert whole.selected() is whole


@pytest.mark.parametrize("sets", [[], ["test"], ["dev"]])
def test_rates_cannot_be_chosen_without_a_development_set(sets: list[str]) -> None:
    with pytest.raises(ValueError, match="Name a development set"):
        check_selection("dev", sets)
    check_selection("dev", ["dev", "test"])
    check_selection(None, sets)


def test_a_budget_counts_the_estimation_for_arms_that_use_it() -> None:
    args = PacedConfig(output_dir="whole", kl="reverse", token_budget=1000, bf16=False, use_cpu=True)
    uniform, paced = (arm_config(args, PRESETS[name], "arm") for name in ("uniform", "paced"))
    assert (budget_of(uniform, 300), budget_of(paced, 300), budget_of(paced, 0)) == (1000, 700, 1000)
    with pytest.raises(ValueError, match=r"`token_budget` is 1,000, .* took 1,000 of it"):
        budget_of(paced, 1000)
    assert budget_of(arm_config(args, {"token_budget": None}, "arm"), 10**9) is None


def test_curves_begin_where_the_estimation_has_been_paid_for(comparison: Comparison) -> None:
    before = {arm: comparison.curve(arm) for arm in ("uniform", "paced")}
    comparison.paying = ["paced"]
    assert comparison.curve("uniform") == before["uniform"]
    assert [p.tokens - q.tokens for p, q in zip(comparison.curve("paced"), before["paced"], strict=True)] == [1234] * 3


def test_presets_that_need_a_control_of_their_own_are_valid() -> None:
    args = PacedConfig(output_dir="whole", kl="forward_then_reverse", bf16=False, use_cpu=True)
    opd = arm_config(args, PRESETS["opd"], "arm")
    assert not pays_for_estimation(arm_config(args, PRESETS["teacher_gate"], "arm"))
    cached = dataclasses.replace(args, beta=None, kl="forward", teacher_cache="cache")
    assert arm_config(cached, PRESETS["sft"], "arm").teacher_cache is None
    assert (opd.kl, opd.completion_sources, opd.weighting, opd.beta) == ("reverse", {"student"}, "uniform", 1.0)
    shuffled = arm_config(args, PRESETS["random_weights"], "arm")
    paced = arm_config(args, PRESETS["paced_sampling"], "arm")
    assert shuffled.shuffle_weights and shuffled.weighting_arguments == paced.weighting_arguments
    with pytest.raises(ValueError, match="`shuffle_context` is set without `self_distillation`"):
        arm_config(args, PRESETS["shuffled_context"], "arm")
    with pytest.raises(ValueError, match="would bring the weights back to their problems"):
        arm_config(args, {**PRESETS["random_weights"], "refresh": "estimate", "refresh_steps": 5}, "arm")


def test_a_saved_comparison_comes_back_equal(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    assert Comparison.load(tmp_path) == comparison
    text = comparison_markdown(comparison)
    assert "1,234 tokens by the student for pass rates, 56 tokens by the teacher for references" in text
    assert "no more forgetting than uniform has at its end" in text and "| slow | never | never | 0." in text
    kept = Comparison("uniform", ["test"], [], comparison.runs)
    assert "forgetting" not in comparison_markdown(kept) and "| slow | never | never |\n" in comparison_markdown(kept)
    results = json.loads(json.dumps(comparison.results()))
    assert results["paced"]["sets"]["test"]["minus_uniform"]["low"] > 0
    assert results["slow"]["sets"]["test"]["until_accuracy_of_control"] is None
    assert 0.35 < results["slow"]["sets"]["test"]["best_with_retention_of_control"]["kept"] < 0.5
    assert [point["tokens"] for point in results["uniform"]["curve"]] == [0, 100, 200]


def test_figures_of_the_way_are_written_where_there_are_points(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    page = write_report(tmp_path).read_text()
    for name in ("learning_curves", "accuracy_retention"):
        assert f'data-figure="{name}"' in page
        with Image.open(tmp_path / f"figures/{name}.png") as image:
            assert image.size[0] > 500
    (tmp_path / "untrained").mkdir()
    Comparison("uniform", ["test"], ["kept"], comparison.runs[:1]).save(tmp_path / "untrained")
    assert 'data-figure="learning_curves"' not in write_report(tmp_path / "untrained").read_text()


def test_the_figures_show_the_points(comparison: Comparison) -> None:
    curves = comparison_curves(comparison, lambda point: point.tokens)
    at_tokens = draw_held_out_curves(curves, comparison.arms(), "tokens, all models")
    test, kept = at_tokens.figure.axes
    assert [line.get_xydata().tolist()[1] for line in test.lines] == [[100, 0.4], [125, 0.6], [100, 0.32]]
    assert (test.get_title(), kept.get_title(), test.get_xlabel()) == ("test", "kept", "tokens, all models")
    paths = draw_accuracy_retention(comparison)
    (axes,) = paths.figure.axes
    start = comparison.runs[0].accuracy
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 3]
    assert [line[1].tolist() for line in lines] == [
        pytest.approx([kept - start["kept"], middle]) for kept, middle in ((0.4, 0.4), (0.68, 0.6), (0.7, 0.32))
    ]
    # The tables beside them have every point, and those over tokens their intervals.
    for arm in ("uniform", "paced", "slow"):
        rows = [row[2:] for row in at_tokens.rows if row[:2] == ("test", arm)]
        path = [row[3:] for row in paths.rows if row[:3] == ("test", "kept", arm)]
        for (tokens, mean, low, high), (across, up), point in zip(rows, path, comparison.curve(arm), strict=True):
            assert (tokens, mean) == (point.tokens, point.accuracy["test"]) and low < mean < high
            assert (across, up) == (point.accuracy["kept"] - start["kept"], point.accuracy["test"])


def test_every_arm_is_trained_with_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = []

    def train(settings: dict[str, Any], directory: Path) -> Distilled:
        trained.append((settings["seed"], directory.name))
        point = CurvePoint(1, 1.0, 1, 1, 1, {"test": 0.5})
        point.save(directory)
        return Distilled(directory, [{"step": 2, "train_runtime": 9.0}], {}, reused=len(trained) == 1)

    def evaluate(model: str | None, directory: Path) -> dict[str, Evaluation]:
        return {"test": evaluation("test", 0.5, 0)}

    args = ComparisonArguments(arms=["uniform", "paced"], seeds=[3, 5])
    comparison = run_comparison(tmp_path, args, ["test"], [], train=train, evaluate=evaluate)
    assert trained == [(3, "uniform-seed3"), (3, "paced-seed3"), (5, "uniform-seed5"), (5, "paced-seed5")]
    assert capsys.readouterr().out.count(": trained,") == 3
    assert [len(run.curve) for run in comparison.runs] == [0, 1, 1, 1, 1]
    assert (
        arms_so_far(tmp_path) == {"uniform": UNIFORM, "paced": PRESETS["paced"]} and arms_so_far(tmp_path / "no") == {}
    )
    # A run from before costs were kept has no curve, and the time that its log says.
    assert comparison.curve("uniform") == [] and comparison.runs[1].train_seconds == 9.0
    assert Comparison.load(tmp_path) == comparison


def test_an_arm_that_is_added_and_stopped_loses_no_earlier_run(tmp_path: Path) -> None:
    def train(settings: dict[str, Any], directory: Path) -> Distilled:
        if "akl" in directory.name:
            raise KeyboardInterrupt
        return Distilled(directory, [], {}, reused=False)

    def evaluate(model: str | None, directory: Path) -> dict[str, Evaluation]:
        return {"test": evaluation("test", 0.5, 0)}

    def run(arms: list[str]) -> Comparison:
        args = ComparisonArguments(arms=arms, seeds=[0, 1])
        return run_comparison(tmp_path, args, ["test"], [], train=train, evaluate=evaluate)

    first = run(["uniform", "paced"])
    with pytest.raises(KeyboardInterrupt):
        run(["uniform", "akl", "paced"])
    kept = Comparison.load(tmp_path)
    assert sorted((each.arm, each.seed) for each in kept.runs) == sorted((each.arm, each.seed) for each in first.runs)
    assert run(["uniform"]).arms() == Comparison.load(tmp_path).arms() == ["base", "uniform"]


def test_seeds_can_be_added_to_a_comparison(tmp_path: Path) -> None:
    def run(seeds: list[int], max_steps: int = 2, meanwhile: Sequence[int] = ()) -> list[tuple[str, int]]:
        def train(settings: dict[str, Any], directory: Path) -> Distilled:
            if meanwhile and directory.name == f"paced-seed{seeds[-1]}":
                run(list(meanwhile))
            RunDirectory(directory, {"seed": settings["seed"], "max_steps": max_steps}).mark("finished")
            return Distilled(directory, [], {}, reused=False)

        def evaluate(model: str | None, directory: Path) -> dict[str, Evaluation]:
            return {"test": evaluation("test", 0.5, 0)}

        args = ComparisonArguments(arms=["uniform", "paced"], seeds=seeds)
        comparison = run_comparison(tmp_path, args, ["test"], [], train=train, evaluate=evaluate)
        assert Comparison.load(tmp_path) == comparison
        return sorted((run.arm, run.seed) for run in comparison.runs if run.arm != BASE)

    def of_seeds(*seeds: int) -> list[tuple[str, int]]:
        return sorted((arm, seed) for arm in ("uniform", "paced") for seed in seeds)

    assert run([0, 1]) == of_seeds(0, 1)
    assert run([2]) == of_seeds(0, 1, 2)
    assert run([1]) == of_seeds(0, 1, 2)
    # Two processes side by side, one of which starts later and is done earlier.
    assert run([3, 4], meanwhile=[5, 6]) == of_seeds(0, 1, 2, 3, 4, 5, 6)
    # Seeds under other settings are not other seeds of the same arm.
    assert run([7], max_steps=4) == of_seeds(7)
