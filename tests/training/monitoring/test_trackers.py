"""Histograms and the table of completions, as the trackers get them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.training import COUNTS, ONLINE, PROMPTS, passes_by_prompt, problems
from paced_trl import Verdict
from paced_trl.training.monitoring.trackers import Histograms, log_histograms, write_completions


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


def test_completions_are_written_with_what_is_known_of_them(
    make_trainer: Callable,
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
    make_trainer: Callable,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(**ONLINE, max_steps=1, log_completions=True, trainer_kwargs={"verifier": passes_by_prompt})
    trainer.train()
    table = pd.read_parquet(tmp_path / "run/completions/completions_00001.parquet")
    rows = [PROMPTS.index(prompt) for prompt in table["prompt"]]
    np.testing.assert_allclose(table["pass_rate"], np.array(COUNTS)[rows] / 8)
    assert not np.allclose(trainer.figures.pass_rates_of(rows), table["pass_rate"])
