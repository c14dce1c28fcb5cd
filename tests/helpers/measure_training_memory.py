"""Script of test_memory.py: train a small model for two steps and print the most memory it took, in bytes."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU
from paced_trl.training.config import PacedConfig
from paced_trl.training.trainer import PacedTrainer


def resident(name: str) -> int:
    """Bytes of main memory that this process has (`VmRSS`), or had at most (`VmHWM`)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def train(model: dict[str, Any], lora_rank: int | None, checkpointing: bool, batch_size: int, length: int) -> None:
    # Characters are tokens: a prompt of two, and a reference of one less than `length` with its end.
    dataset = Dataset.from_dict(
        {"prompt": ["1?"] * batch_size * 2, "reference": ["a" * (length - 1)] * batch_size * 2}
    )
    with tempfile.TemporaryDirectory() as directory:
        PacedTrainer(
            model=build_tiny_model(seed=0, **model),
            teacher_model=build_tiny_model(seed=1, **model),
            args=PacedConfig(
                output_dir=directory,
                kl="forward",
                weighting="uniform",
                per_device_train_batch_size=batch_size,
                max_completion_length=length,
                max_steps=2,
                save_strategy="no",
                **{**CPU, "activation_checkpointing": checkpointing},
            ),
            train_dataset=dataset,
            processing_class=build_tiny_tokenizer(),
            peft_config=None if lora_rank is None else LoraConfig(r=lora_rank, target_modules="all-linear"),
        ).train()


def main(settings: str) -> None:
    options = json.loads(settings)
    # Libraries load what they load, which no run's size changes.
    small = {"architecture": "qwen3", "vocab_size": 100}
    train(small, options["lora_rank"], options["checkpointing"], 1, 4)
    before = resident("VmRSS")
    train(**options)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1])
