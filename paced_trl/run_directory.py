"""
An output directory belongs to one run: the same settings continue it, others are refused.

Nothing here knows what a run does; it compares settings and remembers whether the run has finished.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal


MANIFEST = "run.json"
# What runs of version 0.1 recorded of settings that are gone, where they were not used.
_DROPPED_DEFAULTS = {"kl_switch_patience": None, "kl_switch_threshold": 0.01, "teacher_offload": False}


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a kill leaves either the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
    os.replace(temporary, path)


class RunDirectory:
    """
    Claim `path` for a run with these settings.

    Args:
        path (`str` or `Path`): The run's directory; created when it does not exist.
        settings (`dict[str, Any]`): JSON-able settings that decide the run's result.

    Attributes:
        status (`str`): `"new"`, `"started"` (an earlier attempt with these settings ended early) or `"finished"`.

    Raises:
        ValueError: If the directory holds a run with other settings, or files that are no run's.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.settings = json.loads(json.dumps(settings, default=str))
        self.status: Literal["new", "started", "finished"] = "new"
        manifest = self.path / MANIFEST
        if manifest.exists():
            stored = json.loads(manifest.read_text())
            self._refuse_other_run(stored["settings"])
            self.status = stored["status"]
        elif (self.path / "config.json").exists() or any(self.path.glob("checkpoint-*")):
            raise ValueError(
                f"{str(self.path)!r} holds a model or checkpoints of another run, which would be mixed with this one. "
                "Choose another `--output_dir`."
            )

    def _refuse_other_run(self, stored: dict[str, Any]) -> None:
        for key in sorted(stored.keys() | self.settings.keys()):
            if key in _DROPPED_DEFAULTS and stored.get(key) == _DROPPED_DEFAULTS[key]:
                continue
            if stored.get(key) != self.settings.get(key):
                raise ValueError(
                    f"{str(self.path)!r} holds a run with `{key}`={stored.get(key)!r}, but now it is "
                    f"{self.settings.get(key)!r}. Choose another `--output_dir`, or the same settings to continue."
                )

    def mark(self, status: Literal["started", "finished"]) -> None:
        """Write the run's settings and status."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.status = status
        write_json(self.path / MANIFEST, {"status": status, "settings": self.settings})
