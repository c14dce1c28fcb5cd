"""Training says how far it is: without a terminal in lines, and seldom."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from paced_trl.training.monitoring import training_progress
from paced_trl.training.monitoring.training_progress import TrainingProgress


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_log_file_has_a_line_every_half_minute_and_no_bar(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    args, control = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"), TrainerControl()
    state, progress = TrainerState(global_step=3, max_steps=12), TrainingProgress()
    progress.on_train_begin(args, state, control)
    for step in range(4, 13):
        now[0] += 10.0
        state.global_step = step
        progress.on_log(args, state, control, logs={"loss": 0.5, "paced/pass_rate": 0.25, "entropy": 1.0})
        progress.on_step_end(args, state, control)
        progress.on_prediction_step(args, state, control, eval_dataloader=[1])
    progress.on_evaluate(args, state, control)
    progress.on_train_end(args, state, control)
    shown = capsys.readouterr().err
    if is_terminal:
        assert "12/12" in shown and "loss=0.5" in shown and "Training:" not in shown
        return
    assert shown.splitlines() == [
        "Training: 6/12 steps, 0:01:00 left, loss 0.5, pass rate 0.25",
        "Training: 9/12 steps, 0:00:30 left, loss 0.5, pass rate 0.25",
        "Training: 12/12 steps, 0:01:30 in all, loss 0.5, pass rate 0.25",
    ]
