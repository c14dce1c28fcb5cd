"""Advice by what is logged: where it is due, where it is not, and once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from paced_trl.training.monitoring.advice import Advice, training_advice


HEALTHY = {
    "loss": 0.5,
    "paced/effective_sample_size": 30.0,
    "paced/problems/frontier": 0.3,
    "completions/clipped_ratio": 0.1,
    "paced/verdicts/timeout": 0.005,
    "paced/verdicts/unverifiable": 0.005,
}


def test_a_healthy_run_gets_none() -> None:
    assert training_advice(HEALTHY, 100) == training_advice({}, 100) == {}


@pytest.mark.parametrize(
    ("figures", "subject", "text"),
    [
        ({"paced/effective_sample_size": 4.9}, "effective_sample_size", "worth 5 equally weighted problems of 100"),
        ({"paced/problems/frontier": 0.09}, "frontier", "Only 9.0% of the problems"),
        ({"completions/clipped_ratio": 0.51}, "clipped_ratio", "51% of the completions are cut off"),
        ({"paced/verdicts/timeout": 0.006}, "verifier", "failed on 1.1% of the completions"),
    ],
)
def test_each_figure_has_its_threshold(figures: dict[str, float], subject: str, text: str) -> None:
    advice = training_advice(HEALTHY | figures, 100)
    assert list(advice) == [subject] and text in advice[subject]


@pytest.mark.parametrize(("key", "subject"), [("completions/mean_length", "length"), ("entropy", "entropy")])
def test_a_collapse_is_measured_against_the_first_value(key: str, subject: str) -> None:
    assert training_advice(HEALTHY | {key: 2.0}, 100, first={key: 4.0}) == {}
    advice = training_advice(HEALTHY | {key: 1.9}, 100, first={key: 4.0})
    assert list(advice) == [subject] and "fallen from 4 to 1.9" in advice[subject]
    assert training_advice(HEALTHY | {key: 1.9}, 100) == {}


def test_a_length_that_doubles_is_advised_on() -> None:
    first = {"completions/mean_length": 14.0}
    assert training_advice(HEALTHY | {"completions/mean_length": 28.0}, 100, first=first) == {}
    advice = training_advice(HEALTHY | {"completions/mean_length": 30.0}, 100, first=first)
    assert list(advice) == ["growing_length"] and "from 14 to 30" in advice["growing_length"]
    assert "`privileged_template`" in advice["growing_length"]
    assert training_advice(HEALTHY | {"completions/mean_length": 30.0}, 100) == {}


def test_stages_are_not_compared_with_each_other(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    callback = Advice(100)
    history = [
        {"paced/forward_kl": 1.0, "completions/mean_length": 100.0},
        {"paced/reverse_kl": 1.0, "completions/mean_length": 40.0},
        {"paced/reverse_kl": 1.0, "completions/mean_length": 21.0},
        {"paced/reverse_kl": 1.0, "completions/mean_length": 19.0},
    ]
    given = []
    with caplog.at_level(logging.WARNING, logger="paced_trl.training.monitoring"):
        for step, logs in enumerate(history):
            state = SimpleNamespace(is_world_process_zero=True, global_step=step, log_history=history[: step + 1])
            callback.on_log(SimpleNamespace(output_dir=tmp_path), state, None, logs)  # type: ignore[arg-type]
            given.append(len(caplog.records))
    assert given == [0, 0, 0, 1]
    assert "from 40 to 19" in caplog.records[0].getMessage()


@pytest.mark.parametrize(("batch_size", "num_logs", "num_advised"), [(4, 15, 0), (4, 16, 1), (32, 2, 1)])
def test_a_few_completions_say_nothing_of_their_form(
    batch_size: int, num_logs: int, num_advised: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Of batches of 4, the means of eight logs each are compared."""
    lengths = [40.0] * (num_logs // 2) + [10.0] * (num_logs - num_logs // 2)
    history = [{"paced/reverse_kl": 1.0, "completions/mean_length": length} for length in lengths]
    args = SimpleNamespace(output_dir=tmp_path, logging_steps=1, per_device_train_batch_size=batch_size)
    state = SimpleNamespace(is_world_process_zero=True, global_step=num_logs, log_history=history)
    with caplog.at_level(logging.WARNING, logger="paced_trl.training.monitoring"):
        Advice(100).on_log(args, state, None, history[-1])  # type: ignore[arg-type]
    assert len(caplog.records) == num_advised
    assert not num_advised or "from 40 to 10" in caplog.records[0].getMessage()


def test_what_is_known_before_the_first_step_is_said_then(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    callback = Advice(100, at_start={"paced/problems/frontier": 0.05})
    state = SimpleNamespace(is_world_process_zero=True, global_step=0, log_history=[])
    with caplog.at_level(logging.WARNING, logger="paced_trl.training.monitoring"):
        callback.on_train_begin(SimpleNamespace(output_dir=tmp_path), state, None)  # type: ignore[arg-type]
        callback.on_log(SimpleNamespace(output_dir=tmp_path), state, None, {"paced/problems/frontier": 0.05})  # type: ignore[arg-type]
    assert [record.getMessage()[:30] for record in caplog.records] == ["Step 0: Only 5.0% of the probl"]


def test_it_is_given_once_and_by_one_process(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    callback, other = Advice(100), Advice(100)
    main, second = (
        SimpleNamespace(is_world_process_zero=is_main, global_step=7, log_history=[]) for is_main in (True, False)
    )
    with caplog.at_level(logging.WARNING, logger="paced_trl.training.monitoring"):
        for _ in range(3):
            callback.on_log(SimpleNamespace(output_dir=tmp_path), main, None, {"completions/clipped_ratio": 1.0})  # type: ignore[arg-type]
            other.on_log(SimpleNamespace(output_dir=tmp_path), second, None, {"completions/clipped_ratio": 1.0})  # type: ignore[arg-type]
    assert [record.getMessage()[:7] for record in caplog.records] == ["Step 7:"]


def test_advice_is_kept_once_though_the_run_was_interrupted(tmp_path: Path) -> None:
    args = SimpleNamespace(output_dir=tmp_path / "run")
    for step in (3, 5):  # a continued run has a new callback
        callback = Advice(100)
        state = SimpleNamespace(is_world_process_zero=True, global_step=step, log_history=[])
        callback.on_log(args, state, None, {"completions/clipped_ratio": 1.0})  # type: ignore[arg-type]
        callback.on_log(args, state, None, {"paced/problems/frontier": 0.05})  # type: ignore[arg-type]
    kept = json.loads((tmp_path / "run" / "advice.json").read_text())
    assert [(each["step"], each["subject"]) for each in kept] == [(3, "clipped_ratio"), (3, "frontier")]
    assert kept[0]["text"] == training_advice({"completions/clipped_ratio": 1.0}, 100)["clipped_ratio"]
