"""A directory is that of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from paced_trl.run_directory import RunDirectory


def test_a_directory_belongs_to_one_run(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"})
    assert first.status == "new"
    first.mark("started")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "started"
    with pytest.raises(ValueError, match=r"holds a run with `learning_rate`=0.0001, but now it is 0.001"):
        RunDirectory(tmp_path / "run", {"learning_rate": 1e-3, "kl": "forward"})
    first.mark("finished")
    assert RunDirectory(tmp_path / "run", {"learning_rate": 1e-4, "kl": "forward"}).status == "finished"


def test_a_directory_with_a_foreign_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="model or checkpoints of another run"):
        RunDirectory(tmp_path, {})
