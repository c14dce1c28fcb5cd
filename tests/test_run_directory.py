"""A directory is that of one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paced_trl.run_directory import RunDirectory, write_json


def test_a_directory_belongs_to_one_run(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"})
    assert first.status == "new"
    first.mark("started")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "started"
    with pytest.raises(ValueError, match=r"holds a run with `learning_rate`=0.0001, but now it is 0.001"):
        RunDirectory(tmp_path / "run", {"learning_rate": 1e-3, "kl": "forward"})
    RunDirectory(tmp_path / "data", {"train_dataset": "a"}).mark("started")
    with pytest.raises(ValueError, match=r"version 0.1.0 on text prompts goes on with `--as_chat false`"):
        RunDirectory(tmp_path / "data", {"train_dataset": "b"})
    first.mark("finished")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "finished"


def test_a_directory_with_a_foreign_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="model or checkpoints of another run"):
        RunDirectory(tmp_path, {})


def test_a_setting_that_was_dropped_matters_only_where_it_changed_something(tmp_path: Path) -> None:
    dropped = {"kl_switch_patience": None, "kl_switch_threshold": 0.01, "teacher_offload": False}
    RunDirectory(tmp_path / "run", {"kl": "forward", **dropped}).mark("finished")
    assert RunDirectory(tmp_path / "run", {"kl": "forward"}).status == "finished"
    RunDirectory(tmp_path / "other", {"kl": "forward", **dropped, "kl_switch_patience": 3}).mark("finished")
    with pytest.raises(ValueError, match="`kl_switch_patience`=3, but now it is None"):
        RunDirectory(tmp_path / "other", {"kl": "forward"})
    with pytest.raises(ValueError, match="`kl_switch_patience`=None, but now it is 3"):
        RunDirectory(tmp_path / "run", {"kl": "forward", **dropped, "kl_switch_patience": 3})


def test_a_setting_that_is_new_matters_only_where_it_is_on(tmp_path: Path) -> None:
    RunDirectory(tmp_path, {"problems": {"prompt_column": "prompt"}}).mark("finished")
    off = {"prompt_column": "prompt", "pass_rate_column": None, "is_new": False}
    assert RunDirectory(tmp_path, {"problems": off}).status == "finished"
    on = {"prompt_column": "q", "pass_rate_column": "p", "is_new": True}
    message = (
        "holds a run with `problems.is_new`=None, but now it is True; `problems.pass_rate_column`=None, but now it is "
        "'p'; `problems.prompt_column`='prompt', but now it is 'q'. Choose"
    )
    with pytest.raises(ValueError, match=message):
        RunDirectory(tmp_path, {"problems": on})


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})

    def fail(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("paced_trl.run_directory.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert [child.name for child in tmp_path.iterdir()] == ["results.json"]
    assert json.loads(path.read_text()) == {"a": 1}
