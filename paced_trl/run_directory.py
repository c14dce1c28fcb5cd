"""
An output directory belongs to one run: the same settings continue it, others are refused.

Also how files of results are written: whole or not at all.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from .names import dotted


MANIFEST = "run.json"
# Settings that a run's record may have or lack since it is of an earlier version, and what they were where they lack.
OTHER_VERSIONS = {
    "rollout_engine": "trl",
    "kl_switch_patience": None,
    "kl_switch_threshold": 0.01,
    "teacher_offload": False,
    # Recorded by every run of version 0.1, and of no effect without `self_distillation`.
    "privileged_template": (
        "{prompt}\n\nHere is a reference solution to this problem:\n{privileged_context}\n\nNow that you have "
        "understood it, solve the problem in your own words."
    ),
}


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name, so that it survives a power cut as well as a kill."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    sync_directory(final.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive a power cut."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves either the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON as [`write_text`] writes text."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


class RunDirectory:
    """
    Claim `path` for a run with these settings, or refuse a directory that holds another run or a foreign model.

    Its `status` is `"new"`, `"started"` (an earlier attempt with these settings ended early) or `"finished"`. Settings
    in `may_differ` are not compared.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any], *, may_differ: Collection[str] = ()) -> None:
        self.path = Path(path)
        self.may_differ = may_differ
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
        there, now = dotted(stored), dotted(self.settings)
        differing = []
        for name in sorted((there.keys() | now.keys()) - {*self.may_differ}):
            before, after = (settings.get(name, OTHER_VERSIONS.get(name)) for settings in (there, now))
            # A setting that an earlier version did not have does not matter while it is off.
            if before != after and not (name not in there and after is False):
                differing.append(f"`{name}`={before!r}, but now it is {after!r}")
        if differing:
            # Version 0.1.0 left text prompts as they are where the tokenizer has a chat template.
            is_data = any(text.startswith("`train_dataset`") for text in differing)
            hint = " A run of version 0.1.0 on text prompts goes on with `--as_chat false`." if is_data else ""
            raise ValueError(
                f"{str(self.path)!r} holds a run with {'; '.join(differing)}. Choose another `--output_dir`, or the "
                f"same settings to continue.{hint}"
            )

    @staticmethod
    def stored_settings(path: str | Path) -> dict[str, Any]:
        """Return the settings of the run that a directory holds, none where it holds none."""
        manifest = Path(path, MANIFEST)
        return dict(json.loads(manifest.read_text())["settings"]) if manifest.exists() else {}

    def mark(self, status: Literal["started", "finished"]) -> None:
        """Write the run's settings and status."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.status = status
        write_json(self.path / MANIFEST, {"status": status, "settings": self.settings})
