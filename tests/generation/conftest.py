"""A model and an adapter on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from helpers.byte_level_models import make_model, make_tokenizer
from paced_trl.generation.models import load_model


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    make_model().save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def adapter_directory(tmp_path: Path, model_directory: Path) -> Path:
    torch.manual_seed(1)
    model = get_peft_model(load_model(model_directory, device="cpu"), LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"
