"""The commands on the embedded default, from problems to a report, with few problems and steps."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from helpers.paths import ROOT
from helpers.processes import run_forked, start_forked
from paced_trl import Evaluation, PassRateStore
from paced_trl.commands import compare, diagnose, estimate, evaluate, report, train
from paced_trl.commands.recipe import Recipe, named_sets
from paced_trl.evaluation.comparison import Comparison
from paced_trl.evaluation.diagnosis import GradientSketch
from paced_trl.evaluation.gradient_snr import GradientSNR
from paced_trl.evaluation.tables import comparison_rows
from paced_trl.report import read_run
from paced_trl.report.problem_table import problem_table
from paced_trl.settings import ProblemArguments


CONFIG = "recipes/demo/recipe.yaml"
SMALL = ["--max_problems", "64", "--num_generations", "4"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


@pytest.fixture
def held_out(tmp_path: Path) -> list[str]:
    """The first 24 problems of each set."""
    for name in ("test", "retention"):
        lines = (ROOT / f"recipes/demo/data/{name}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:24]))
    sets = ["--eval_sets", f"test={tmp_path}/test.jsonl", "--retention_sets", f"reversal={tmp_path}/retention.jsonl"]
    return [*sets, "--num_eval_generations", "2"]


def arguments(output_dir: Path, *more: str) -> list[str]:
    return ["--config", CONFIG, "--output_dir", str(output_dir), *SMALL, *more]


@pytest.mark.slow
def test_step_by_step(
    tmp_path: Path, held_out: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # so that no heading is broken
    run = tmp_path / "run"
    estimate.run(arguments(run))
    assert "frontier" in capsys.readouterr().out
    assert sum(PassRateStore(run / "pass_rates").num_generations().values()) == 64 * 4
    training = arguments(run, "--max_steps", "4", "--logging_steps", "1", "--disable_tqdm", "true")
    with pytest.raises(ValueError, match="`eval_strategy` is 'steps', and there are no held-out problems"):
        train.run([*training, "--eval_strategy", "steps"])
    training += ["--validation_set", str(tmp_path / "test.jsonl"), "--num_validation_generations", "2"]
    training += ["--eval_strategy", "steps", "--eval_steps", "2"]
    training += ["--retention_set", str(tmp_path / "retention.jsonl"), "--max_forgetting", "0.9"]
    train.run(training)
    assert json.loads((run / "run.json").read_text())["settings"]["refresh"] == "online"  # what "auto" became
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    for name in ("validation", "retention"):
        number = f"eval_paced/{name}/num_problems"
        assert [(entry["step"], entry[number]) for entry in history if number in entry] == [(0, 24), (2, 24), (4, 24)]
    assert [any(key in entry for entry in history) for key in ("paced/forward_kl", "paced/reverse_kl")] == [True, True]
    assert 0 <= next(entry["paced/pass_rate"] for entry in history if "paced/pass_rate" in entry) <= 1
    capsys.readouterr()
    train.run(training)
    assert "reused, it was finished" in capsys.readouterr().out
    evaluate.run(arguments(run, *held_out))
    trained = arguments(run, *held_out, "--model_name_or_path", str(run), "--training_problems", "true")
    evaluate.run([*trained, "--baseline", str(run / "evaluation/student")])
    printed = capsys.readouterr().out
    assert "- baseline" in printed and "maj@k" in printed and "lighteval" not in printed
    for model in ("student", "run"):
        assert len(Evaluation.load(run / "evaluation" / model / "test.json").problem_ids) == 24
    assert json.loads((run / "evaluation/run/baselines.json").read_text()) == [str(run / "evaluation/student")]
    report.run(["--output_dir", str(run)])
    printed = capsys.readouterr().out
    assert f"Report: {run / 'report.html'}" in printed and "On test, " in printed
    assert {file.stem for file in (run / "figures").iterdir()} >= {
        "pass_rates",
        "completions",
        "held_out_curves",
        "weights_over_steps",
    }
    table = problem_table(read_run(run))
    assert table is not None
    held_out_rows = [row for row in table["rows"] if row["set"] == table["sets"].index("test")]
    assert len(held_out_rows) == 24 and all(row["prompt"] and row["made"] == {0: 2, 1: 2} for row in held_out_rows)
    training_rows = [row for row in table["rows"] if row["set"] == 0]
    assert len(training_rows) == 64 and all(row["made"] == {0: 4, 1: 2} for row in training_rows)
    assert len(Evaluation.load(run / "evaluation/run/training.json").problem_ids) == 64


@pytest.mark.slow
def test_compare_is_resumable_arm_by_arm(
    tmp_path: Path, held_out: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = arguments(run, *held_out, "--max_steps", "4", "--disable_tqdm", "true", "--seeds", "0")
    settings += ["--curve_points", "1", "--num_curve_generations", "1", "--training_problems", "true"]
    compare.run([*settings, "--arms", "uniform", "paced_sampling"])
    first = Comparison.load(run)
    assert all(set(each.evaluations) == {"test", "reversal", "training"} for each in first.runs)
    assert first.arms() == ["base", "uniform", "paced_sampling"]
    written = {path: path.stat().st_mtime_ns for path in run.glob("arms/*/*.safetensors")}
    capsys.readouterr()
    compare.run([*settings, "--arms", "paced"])
    printed = capsys.readouterr().out
    assert "uniform, seed 0: reused" in printed and "paced, seed 0: trained" in printed
    assert written == {path: path.stat().st_mtime_ns for path in written}
    again = Comparison.load(run)
    assert again.arms() == ["base", "uniform", "paced_sampling", "paced"]
    for arm in first.arms():
        assert again.runs_of(arm) == first.runs_of(arm)
    for one in again.runs[1:]:
        (point,) = one.curve
        assert (point.step, point.student_tokens > 0) == (2, True)
        assert one.costs["student_tokens"] == one.costs["teacher_tokens"] > point.student_tokens
        assert one.costs["tokens_generated"] > point.tokens_generated == 0  # the second stage is the student's own
        assert 0 < point.seconds < one.costs["seconds"]
    stores = [PassRateStore(run / name) for name in ("pass_rates", "references")]
    tokens = [sum(store.completions(columns=["num_tokens"])["num_tokens"].to_pylist()) for store in stores]
    assert again.shared_tokens == dict(zip(("estimation", "references"), tokens, strict=True))
    rows = comparison_rows(again)
    assert [row["arm"] for row in rows] == again.arms()
    assert rows[1]["- uniform"] == "" and rows[2]["- uniform"].startswith(("+", "-"))
    assert "| uniform |" in (run / "comparison.md").read_text()
    assert json.loads((run / "results.json").read_text())["paced"]["costs"] == again.costs("paced")
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"learning_curves", "accuracy_retention"}


def test_a_student_teaches_itself_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--weighting", "uniform", "--max_steps", "1", "--per_device_train_batch_size", "4", "--kl", "reverse"]
    own = [
        "--self_distillation",
        "base",
        "--use_peft",
        "true",
        "--privileged_template",
        "{privileged_context}={prompt}",
    ]
    column = ["--privileged_context_column", "solution"]
    with pytest.raises(ValueError, match="no column `privileged_context`"):
        train.run(arguments(tmp_path / "run", *few, *own))
    with pytest.raises(ValueError, match=r"With its `privileged_context` the student passes .* `--force true`"):
        train.run(arguments(tmp_path / "run", *few, *own, *column))
    printed = capsys.readouterr().out
    assert "Self-teacher on 64 problems: mean@1" in printed and "\n  teacher: " in printed
    train.run(arguments(tmp_path / "run", *few, *own, *column, "--disable_tqdm", "true", "--force", "true"))
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    with pytest.raises(ValueError, match="there is no teacher to write them"):
        train.run(arguments(tmp_path / "other", *few, *own, *column, "--kl", "forward"))


def test_diagnose_keeps_what_it_has_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate.run(arguments(tmp_path / "run"))
    few = arguments(tmp_path / "run", "--problems_per_pass_rate", "6", "--sketch_size", "64", "--reference_column")
    diagnose.run([*few, "solution"])
    printed = capsys.readouterr().out
    assert "SNR [95 % interval]" in printed and "The data" in printed
    assert (tmp_path / "run" / "figures" / "gradient_snr.png").exists()
    found = GradientSNR.from_dict(json.loads((tmp_path / "run" / "gradient_snr.json").read_text()))
    assert sum(b.num_problems for b in found.bins) <= 5 * 6
    # Nothing is computed twice.
    monkeypatch.setattr(GradientSketch, "of_gradients", lambda self: pytest.fail("a gradient was made again"))
    diagnose.run([*few, "solution"])
    assert GradientSNR.from_dict(json.loads((tmp_path / "run" / "gradient_snr.json").read_text())) == found


def test_diagnose_needs_counts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no `num_passed` and `num_valid`"):
        diagnose.run(arguments(tmp_path, "--weighting", "uniform", "--reference_column", "solution"))


@pytest.mark.slow
def test_ctrl_c_ends_training_with_a_checkpoint_and_the_next_run_continues(tmp_path: Path) -> None:
    run = tmp_path / "run"
    estimate.run(arguments(run))
    training = arguments(
        run, "--max_steps", "120", "--kl", "forward", "--logging_steps", "1", "--save_strategy", "steps"
    )
    training += ["--save_steps", "10", "--save_total_limit", "1", "--disable_tqdm", "true"]
    output, deadline = tmp_path / "output", time.monotonic() + 200
    process = start_forked("-m", "paced_trl", "train", *training, stdout=output, stderr=output)
    while not any(run.glob("checkpoint-*")) and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    printed = output.read_text()
    assert process.exitcode == 130, printed
    assert "the same command continues" in printed and "Traceback" not in printed
    stopped_at = max(int(path.name.split("-")[1]) for path in run.glob("checkpoint-*"))
    assert stopped_at % 10 or stopped_at >= 10
    assert not (run / "model.safetensors").exists()
    finished = run_forked("-m", "paced_trl", "train", *training)
    assert finished.returncode == 0, finished.stderr
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    steps = [entry["step"] for entry in history if "loss" in entry]
    assert steps == list(range(1, 121))


def test_training_without_pass_rates_or_verifier_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There are no pass rates in .* Run `paced-trl estimate`"):
        train.run(arguments(tmp_path / "run"))


def test_pass_rates_of_other_problems_are_refused_and_missing_ones_announced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    estimate.run(["--config", CONFIG, "--output_dir", str(run), "--max_problems", "8", "--num_generations", "2"])
    other = ["--config", CONFIG, "--output_dir", str(run), "--dataset_name", "recipes/demo/data/dev.jsonl"]
    with pytest.raises(ValueError, match="None of the 300 problems has a pass rate"):
        train.run(other)
    more = ["--max_problems", "12", "--max_steps", "1", "--per_device_train_batch_size", "4", "--weighting", "uniform"]
    with pytest.warns(UserWarning, match="4 of 12 problems have no pass rate"):
        train.run(["--config", CONFIG, "--output_dir", str(run), *more, "--disable_tqdm", "true"])


def test_sampling_parameters_other_than_those_measured_with_are_announced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--config", CONFIG, "--output_dir", str(run), "--max_problems", "8"]
    estimate.run([*small, "--num_generations", "2"])
    settings = [
        "--temperature",
        "0.5",
        "--max_steps",
        "1",
        "--per_device_train_batch_size",
        "4",
        "--weighting",
        "uniform",
    ]
    with pytest.warns(UserWarning, match=r"`temperature` 1.0 and 0.5"):
        train.run([*small, *settings, "--disable_tqdm", "true"])


def test_a_directory_of_another_run_is_refused(tmp_path: Path) -> None:
    settings = ["--weighting", "uniform", "--max_steps", "1", "--reference_column", "solution", "--kl", "forward"]
    train.run(arguments(tmp_path / "run", *settings, "--disable_tqdm", "true"))
    with pytest.raises(ValueError, match=r"holds a run with `learning_rate`=3e-05, but now it is 0.001"):
        train.run(arguments(tmp_path / "run", *settings, "--learning_rate", "1e-3"))
    # A larger `max_steps` extends a run, which this one has no checkpoint for.
    with pytest.raises(ValueError, match=r"`max_steps` is 2, and the run in .* with 1 left no checkpoint"):
        train.run(arguments(tmp_path / "run", *settings, "--max_steps", "2"))


def test_models_with_different_vocabularies_are_refused_before_they_load(tmp_path: Path) -> None:
    from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer

    build_tiny_model().save_pretrained(tmp_path / "teacher")
    build_tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    settings = ["--weighting", "uniform", "--reference_column", "solution", "--kl", "forward"]
    with pytest.raises(ValueError, match="tokenizers differ"):
        train.run(arguments(tmp_path / "run", *settings, "--teacher_model_name_or_path", str(tmp_path / "teacher")))


def test_the_training_problems_have_their_name_for_themselves() -> None:
    with pytest.raises(ValueError, match=r"'training=data.jsonl', and 'training' is the name .*--training_problems"):
        named_sets(["training=data.jsonl"], "eval_sets")


def test_held_out_sets_take_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(
        "paced_trl.commands.recipe.load_problems", lambda name, **options: loaded.append((name, options))
    )
    recipe = Recipe(
        ProblemArguments(
            dataset_name="org/data",
            max_problems=5,
            reference_column="worked",
            prompt_column="question",
            as_chat="false",
        )
    )
    recipe.problems()
    recipe.held_out_problems("org/held-out")
    (name, training), (held_out, testing) = loaded
    assert (name, training["split"], training["max_problems"]) == ("org/data", "train", 5)
    assert (held_out, testing["split"], testing["max_problems"]) == ("org/held-out", "test", None)
    assert training["reference_column"] == "worked" and testing["reference_column"] is None
    assert training["prompt_column"] == testing["prompt_column"] == "question"
