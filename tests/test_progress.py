"""The first sample of each source, shown once and short."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from helpers.training import PROMPTS, problems
from paced_trl.first_sample import MAX_CHARACTERS, FirstSamples, shortened


def test_the_first_sample_of_each_source_is_shown_once(
    make_trainer: Callable,
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
