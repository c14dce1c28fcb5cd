"""Settings of a finished run, with what must not be published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.fake_hub import TOKEN


BASE = "org/tiny-student"
PRIVATE = "/home/someone/secret"


def make_settings(path: Path, **settings: Any) -> None:
    """`run.json` as training leaves it, with what it holds that is nobody's business."""
    shared = {
        "student.model_name_or_path": BASE,
        "student.use_peft": True,
        "student.lora_r": 4,
        "teacher_model_name_or_path": "/home/someone/secret/teacher",
        "model_init_kwargs": {"token": TOKEN},
        "logging_dir": PRIVATE,
        "num_problems": 6,
        "kl": "forward_then_reverse",
        "kl_switch": 0.5,
        "weighting": "beta",
        "weight_alpha": 1.0,
        "weight_beta": 2.0,
        "weight_estimator": "plugin",
        "apply_weights": "loss",
        "refresh": "never",
        "verifier": "exact",
        "max_steps": 10,
        "learning_rate": 1e-4,
        "max_completion_length": 16,
    }
    (path / "run.json").write_text(json.dumps({"status": "finished", "settings": shared | settings}))
