"""What a run logs of its problems: scalars, histograms, the table of completions, and the first sample."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from paced_trl.callbacks import Histograms
from paced_trl.completions_table import write_completions
from paced_trl.pass_rate import frontier_shares
from paced_trl.trackers import log_histograms
from paced_trl.training_metrics import ProblemFigures, known_counts, problem_metrics
from test_trainer import (  # noqa: F401
    COUNTS,
    ESTIMATE,
    ONLINE,
    PROMPTS,
    logged,
    make_trainer,
    passes_by_prompt,
    problems,
)

from paced_trl import Verdict, effective_sample_size
from paced_trl.first_sample import MAX_CHARACTERS, FirstSamples, shortened


def test_shares_are_those_of_the_table() -> None:
    passed, valid = np.array([4, 1, 2, 0, 0, 3]), np.array([4, 4, 4, 4, 0, 3])
    shares = frontier_shares(passed, valid)
    metrics = problem_metrics(passed.astype(float), valid.astype(float), staleness=3)
    assert {name: metrics[name] for name in ("mastered", "frontier", "out_of_reach")} == {
        name: getattr(shares, name) for name in ("mastered", "frontier", "out_of_reach")
    }
    assert metrics["pass_rate"] == pytest.approx(np.mean([1, 0.25, 0.5, 0, 1]))
    assert metrics["staleness"] == 3
    assert "pass_rate" not in problem_metrics(np.zeros(2), np.zeros(2), staleness=0)


def test_a_pass_rate_without_counts_serves_as_well() -> None:
    assert known_counts(Dataset.from_dict({"prompt": ["a"]})) is None
    counts = known_counts(Dataset.from_dict({"pass_rate": [0.0, 0.3, 1.0, None]}))
    assert counts is not None
    assert problem_metrics(*counts, staleness=0) == {
        "mastered": 0.25,
        "frontier": 0.25,
        "out_of_reach": 0.25,
        "staleness": 0.0,
        "pass_rate": pytest.approx(1.3 / 3),
    }
    assert ProblemFigures(Dataset.from_dict({"pass_rate": [0.3, None]})).pass_rates_of([1, 0]) == [None, 0.3]
    assert ProblemFigures(Dataset.from_dict({"prompt": ["a"]})).pass_rates_of([0]) == [None]


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_a_static_run_logs_its_training_set_every_time(make_trainer: Callable, kl: str) -> None:  # noqa: F811
    trainer = make_trainer(kl=kl, max_steps=3)
    trainer.train()
    shares = {"mastered": 1 / 16, "frontier": 14 / 16, "out_of_reach": 1 / 16, "pass_rate": np.mean(COUNTS) / 8}
    for name, value in shares.items():
        assert logged(trainer, f"paced/problems/{name}") == pytest.approx([value] * 3)
    assert logged(trainer, "paced/problems/staleness") == [1, 2, 3]
    weights = trainer.problem_weights
    assert logged(trainer, "paced/problem_weight_max") == [max(weights)] * 3
    assert logged(trainer, "paced/effective_sample_size") == [effective_sample_size(weights)] * 3
    tokens = [8 * length for length in logged(trainer, "completions/mean_length")]
    assert logged(trainer, "paced/tokens_generated") == ([0] * 3 if kl == "forward" else np.cumsum(tokens).tolist())


def test_without_pass_rates_the_rest_is_logged(make_trainer: Callable) -> None:  # noqa: F811
    dataset = problems().remove_columns(["num_passed", "num_valid"])
    trainer = make_trainer(dataset, kl="forward", weighting="uniform", max_steps=1)
    trainer.train()
    assert logged(trainer, "paced/effective_sample_size") == [16]
    assert not any(key.startswith("paced/problems") for entry in trainer.state.log_history for key in entry)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_generated_tokens_survive_a_resume(
    make_trainer: Callable,  # noqa: F811
    tmp_path: Path,
    accumulation: int,
) -> None:
    shared = {
        "kl": "reverse",
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
    }
    whole = make_trainer(**shared)
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": 3, "output_dir": str(tmp_path / "stopped"), "logging_steps": 2}
    make_trainer(**shared, **saving).train()
    resumed = make_trainer(**shared, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped/checkpoint-3"))
    total = logged(whole, "paced/tokens_generated")
    assert logged(resumed, "paced/tokens_generated") == total[1::2]
    assert total[0] > 0 and sorted(total) == total
    resumed.train()
    first = logged(resumed, "paced/tokens_generated")[0]
    assert first <= 2 * accumulation * 4 * 6 < total[-1], "a run from the start counts from 0"


def test_re_estimations_count_as_generated(make_trainer: Callable) -> None:  # noqa: F811
    trainer = make_trainer(**ESTIMATE | {"kl": "forward"})
    trainer.train()
    # No completion of the student's own is trained on: all tokens are of re-estimations.
    tokens = logged(trainer, "paced/refresh/estimation_tokens")
    assert logged(trainer, "paced/tokens_generated") == tokens and tokens[-1] > 0


class FakeTracker(ModuleType):
    """Keeps what is logged, like wandb and trackio."""

    def __init__(self, name: str, run: object | None = object()) -> None:
        super().__init__(name)
        self.run = run
        self.logged: list[dict[str, Any]] = []
        self.Histogram = lambda numbers: ("histogram", numbers.tolist())
        self.Table = lambda dataframe: dataframe

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_get_histograms_when_numbers_change(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tracker = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    written: list[tuple[Any, ...]] = []
    writer = SimpleNamespace(add_histogram=lambda *given: written.append(given))
    numbers = {"paced/problem_weights": np.array([0.5, 1.5]), "paced/pass_rates": np.array([0.25, np.nan])}
    callback = Histograms(lambda: numbers, [SimpleNamespace(tb_writer=writer), SimpleNamespace()])  # type: ignore
    args = SimpleNamespace(report_to=[name])
    main, other = (SimpleNamespace(is_world_process_zero=is_main, global_step=7) for is_main in (True, False))
    callback.on_log(args, other, None, {"loss": 1.0})  # type: ignore[arg-type]
    callback.on_log(args, main, None, {"eval_loss": 1.0})  # type: ignore[arg-type]
    assert not tracker.logged
    for _ in range(2):
        callback.on_log(args, main, None, {"loss": 1.0})  # type: ignore[arg-type]
    assert tracker.logged == [
        {"paced/problem_weights": ("histogram", [0.5, 1.5]), "paced/pass_rates": ("histogram", [0.25])}
    ]
    numbers["paced/pass_rates"][1] = 1.0
    callback.on_log(args, main, None, {"loss": 1.0})  # type: ignore[arg-type]
    assert tracker.logged[1:] == [{"paced/pass_rates": ("histogram", [0.25, 1.0])}]
    assert [(name, step) for name, _, step in written] == [
        ("paced/problem_weights", 7),
        ("paced/pass_rates", 7),
        ("paced/pass_rates", 7),
    ]


def test_a_tracker_without_a_run_or_without_histograms_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    without_run, without_histogram = FakeTracker("wandb", run=None), FakeTracker("trackio")
    del without_histogram.Histogram
    monkeypatch.setitem(sys.modules, "wandb", without_run)
    monkeypatch.setitem(sys.modules, "trackio", without_histogram)
    log_histograms({"a": np.ones(2)}, 1, report_to=["wandb", "trackio", "tensorboard"])
    assert without_run.logged == without_histogram.logged == []


def test_the_trainer_gives_its_own_numbers(make_trainer: Callable) -> None:  # noqa: F811
    trainer = make_trainer(kl="forward")
    callback = next(cb for cb in trainer.callback_handler.callbacks if isinstance(cb, Histograms))
    numbers = callback.values()
    np.testing.assert_array_equal(numbers["paced/problem_weights"], trainer.problem_weights)
    np.testing.assert_allclose(numbers["paced/pass_rates"], np.array(COUNTS) / 8)


def test_completions_are_written_with_what_is_known_of_them(
    make_trainer: Callable,  # noqa: F811
    tmp_path: Path,
) -> None:
    trainer = make_trainer(
        kl="forward_then_reverse",
        refresh="never",
        max_steps=2,
        log_completions=True,
        num_completions_to_print=1,
        trainer_kwargs={"verifier": passes_by_prompt, "eval_dataset": problems().select(range(8))},
    )
    trainer.train()
    trainer.evaluate()
    first, second = (pd.read_parquet(tmp_path / f"run/completions/completions_0000{step}.parquet") for step in (1, 2))
    columns = ["step", "prompt", "completion", "verdict", "problem_weight", "pass_rate"]
    assert list(first) == columns and len(first) == 8
    assert first["verdict"].isna().all(), "references are not judged"
    rows = [PROMPTS.index(prompt) for prompt in first["prompt"]]
    np.testing.assert_allclose(first["problem_weight"], trainer.problem_weights[rows])
    np.testing.assert_allclose(first["pass_rate"], np.array(COUNTS)[rows] / 8)
    assert list(first["completion"]) == [problems()["reference"][row] for row in rows]
    # The evaluation has written its own, under the same step as TRL does.
    rows = [PROMPTS.index(prompt) for prompt in second["prompt"]]
    expected = passes_by_prompt([], [], prompt=list(second["prompt"]))
    # A completion that is cut off fails as truncated, unless it passed or could not be judged.
    assert [
        verdict in (kind.value, Verdict.TRUNCATED.value)
        for verdict, kind in zip(second["verdict"], expected, strict=True)
    ] == [True] * 8
    assert sorted(rows) == list(range(8))
    assert second[["problem_weight", "pass_rate"]].isna().all(axis=None)


def test_trackers_get_the_table_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tracker = FakeTracker("trackio")
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    args: Any = SimpleNamespace(
        output_dir=str(tmp_path), report_to="trackio", num_completions_to_print=None, log_unique_prompts=True
    )
    columns = {
        "prompt": ["a", "a", "b"],
        "completion": ["1", "2", "3"],
        "verdict": ["passed", "failed", None],
        "problem_weight": [0.5, 0.5, None],
        "pass_rate": [0.25, 0.25, None],
    }
    table = pd.read_parquet(write_completions(columns, args, step=3))
    assert table["completion"].tolist() == ["1", "2", "3"] and set(table["step"]) == {3}
    assert tracker.logged[0]["completions"]["completion"].tolist() == ["1", "3"]


def test_the_pass_rate_in_the_table_is_the_one_before_the_verdict(
    make_trainer: Callable,  # noqa: F811
    tmp_path: Path,
) -> None:
    trainer = make_trainer(**ONLINE, max_steps=1, log_completions=True, trainer_kwargs={"verifier": passes_by_prompt})
    trainer.train()
    table = pd.read_parquet(tmp_path / "run/completions/completions_00001.parquet")
    rows = [PROMPTS.index(prompt) for prompt in table["prompt"]]
    np.testing.assert_allclose(table["pass_rate"], np.array(COUNTS)[rows] / 8)
    assert not np.allclose(trainer.figures.pass_rates_of(rows), table["pass_rate"])


def test_the_first_sample_of_each_source_is_shown_once(
    make_trainer: Callable,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(kl="forward_then_reverse", max_steps=4)
    with caplog.at_level(logging.INFO, logger="paced_trl.first_sample"):
        trainer.train()
    messages = [record.getMessage() for record in caplog.records if record.name == "paced_trl.first_sample"]
    assert [message.split(": ")[0] for message in messages] == [
        "First sample, dataset, prompt",
        "First sample, dataset, completion",
        "First sample, student, prompt",
        "First sample, student, completion",
    ]
    prompt, completion = (message.split(": ")[1] for message in messages[:2])
    assert completion == problems()["reference"][PROMPTS.index(prompt)] + "<eos>"
    shown = capsys.readouterr().err
    assert shown.count("First sample of training: a reference of the dataset") == 1
    assert shown.count("First sample of training: the student's own completion") == 1
    assert "<eos>" in shown


def test_long_samples_are_shown_from_both_ends(caplog: pytest.LogCaptureFixture) -> None:
    text = "a" * MAX_CHARACTERS + "b" * MAX_CHARACTERS
    short = shortened(text)
    assert short.startswith("aaa") and short.endswith("bbb") and "2000 characters" in short
    assert len(short) < MAX_CHARACTERS + 50
    assert shortened("abc") == "abc"
    with caplog.at_level(logging.INFO, logger="paced_trl.first_sample"):
        FirstSamples().show("student", {"completion": text})
    assert caplog.records[0].getMessage().endswith(short)
