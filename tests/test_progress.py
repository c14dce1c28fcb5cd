"""The first sample of each source, shown once and short."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from helpers.training import PROMPTS, problems
from paced_trl import progress
from paced_trl.progress import FirstSamples


def test_the_first_sample_of_each_source_is_shown_once(
    make_trainer: Callable,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(kl="forward_then_reverse", max_steps=4)
    with caplog.at_level(logging.INFO, logger="paced_trl.progress"):
        trainer.train()
    messages = [record.getMessage() for record in caplog.records if record.name == "paced_trl.progress"]
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


def test_long_samples_are_shown_from_both_ends(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = progress._MAX_SHOWN_CHARACTERS
    text = "a" * limit + "\x1b[2J" + "b" * limit
    with caplog.at_level(logging.INFO, logger="paced_trl.progress"):
        FirstSamples().show("student", {"prompt": "abc\x1b", "completion": text})
    prompt, short = (record.getMessage().split(": ", 1)[1] for record in caplog.records)
    assert short.startswith("aaa") and short.endswith("bbb") and "2,004 characters" in short
    assert len(short) < limit + 50
    assert prompt == "abc\\x1b"
    assert "\x1b" not in capsys.readouterr().err
