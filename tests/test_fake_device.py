"""Everything that touches a model runs on a device that refuses mixes, with the CPU's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import paths


@pytest.mark.slow
def test_every_step_gives_the_cpus_numbers_and_no_mix_of_devices_passes(tmp_path: Path) -> None:
    script, output = paths.TESTS / "helpers" / "run_on_fake_device.py", tmp_path / "found.json"
    # One process for all: the device cannot be unregistered, and the libraries take long to load.
    done = subprocess.run([sys.executable, "-W", "ignore", script, output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(output.read_text())
    mixes = {name: found.pop(name)["fake"] for name in list(found) if name.startswith("mix")}
    assert len(mixes) == 3
    for name, what in mixes.items():
        assert str(what).startswith("RuntimeError: Expected all tensors to be on the same device"), (name, what)
    assert len(found) == 16
    for name, both in found.items():
        is_text = isinstance(both["cpu"][0], str)
        assert not isinstance(both["fake"], str) and len(both["cpu"]) > 2, (name, both)
        assert both["fake"] == (both["cpu"] if is_text else pytest.approx(both["cpu"], rel=1e-3, abs=1e-4)), name
