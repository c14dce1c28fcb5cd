"""The self-test of a card, run small on this CPU; a check that fails, hangs or dies is a row and not the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT


SCRIPT = ROOT / "scripts" / "check_gpu.py"
FOUR_CHECKS = """
import os, sys, time
sys.path.insert(0, {folder!r})
import check_gpu

def skips(machine): raise check_gpu.Skipped("not here")
def hangs(machine): time.sleep(100)
checks = {{"dies": lambda machine: os._exit(3), "fails": lambda machine: 1 / 0, "skips": skips, "hangs": hangs}}
check_gpu.CHECKS.clear()
for name in (*checks, "works"):
    check_gpu.check(name, limit=3)(checks.get(name, lambda machine: ("all of it", {{"figure": 1}})))
if __name__ == "__main__":
    sys.exit(check_gpu.main())
"""


def run(script: Path, output: Path) -> tuple[int, str, dict[str, Any]]:
    command = [sys.executable, str(script), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, json.loads((output / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_checks_pass_on_a_cpu_or_say_what_it_lacks(tmp_path: Path) -> None:
    code, table, found = run(SCRIPT, tmp_path / "out")
    rows = {row["check"]: row for row in found["checks"]}
    failed = [row for row in rows.values() if row["outcome"] == "failed"]
    assert code == 0 and not failed, (failed, (tmp_path / "out" / "log.txt").read_text()[-4000:])
    skipped = {name: row["said"] for name, row in rows.items() if row["outcome"] == "skipped"}
    assert {name.split(": ")[1] for name in skipped} <= {
        *("out of memory loses nothing", "torch.compile", "memory is given back", "QLoRA", "4-bit teacher")
    }
    assert all(reason.startswith("no GPU") or "not installed" in reason for reason in skipped.values())
    assert all(name in table or name[:20] in table for name in rows) and len(rows) == 19
    rates = found["rates"]
    assert min(rates["generating"].values()) > 0 and rates["training"] > 0 and rates["student"] == rates["teacher"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_check_that_fails_hangs_or_dies_is_a_row(tmp_path: Path) -> None:
    script = tmp_path / "checks.py"
    script.write_text(FOUR_CHECKS.format(folder=str(SCRIPT.parent)))
    code, table, found = run(script, tmp_path / "out")
    rows = {row["check"]: (row["outcome"], row["said"]) for row in found["checks"]}
    assert code == 1 and "1 ok, 3 failed, 1 skipped" in table
    assert rows == {
        "dies": ("failed", "the process ended with code 3; see log.txt"),
        "fails": ("failed", "ZeroDivisionError: division by zero"),
        "skips": ("skipped", "not here"),
        "hangs": ("failed", "not done after 3 s"),
        "works": ("ok", "all of it"),
    }
    assert found["checks"][-1]["figure"] == 1 and found["versions"]["torch"]
