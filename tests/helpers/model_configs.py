"""What a plan reads of a model: its configuration, for models small enough to build."""

from __future__ import annotations

from typing import Any

from helpers.tiny_models import build_tiny_model
from paced_trl.training.memory import config_key


SMALL = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


def key(architecture: str = "llama", **options: Any) -> str:
    return config_key(build_tiny_model(architecture, **{**SMALL, **options}).config)
