"""How a command ends where memory runs out."""

from __future__ import annotations

import pytest
import torch

from helpers.paths import ROOT
from paced_trl.commands.exits import clean_exit


@pytest.mark.parametrize(
    ("card", "further", "message"),
    [
        (8.0, [], "a card of 8 GB is enough, so something else may hold its memory"),
        (0.5, [], "a card of 0 GB is too small for these models whatever is changed"),
        (8.0, ["--eval_sets", "a=b"], "`paced-trl plan` with the same file says what takes the memory"),
    ],
)
def test_out_of_memory_is_one_sentence_with_what_would_fit(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: float,
    further: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, int(card * 2**30)))
    arguments = ["--config", "recipes/demo/recipe.yaml", *further]
    with pytest.raises(SystemExit) as stop, clean_exit("train", arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB.")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "the device ran out of memory (CUDA out of memory). What is on disk is kept." in error and message in error


def test_another_runtime_error_stays_a_traceback() -> None:
    with pytest.raises(RuntimeError, match="a mistake"), clean_exit("train"):
        raise RuntimeError("a mistake of ours")
