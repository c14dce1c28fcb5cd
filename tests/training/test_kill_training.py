"""Killed at random and at aimed moments, `train` and `compare` end with what they end with uninterrupted, bitwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.processes import ENVIRONMENT


@pytest.mark.slow
def test_kills_change_neither_weights_nor_comparison(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "scripts/kill_training.py", str(tmp_path / "runs"), "--train", "4", "--compare", "1"]
    ended = subprocess.run(
        [*command, "--output", str(result)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name, num_kills in (("train", 4), ("compare", 1)):
        tally = json.loads(result.read_text())["commands"][name]
        assert tally["kills"] == num_kills and tally["runs"] > 0
        assert not tally["differing"] and not tally["failed"] and not tally["lost_checkpoints"]
