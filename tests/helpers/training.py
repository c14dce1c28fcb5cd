"""Problems, settings and trainers that tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl import PacedConfig, PacedTrainer, Verdict


PROMPTS = [f"{a}+{b}=" for a in range(4) for b in range(4)]
COUNTS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 6, 3, 5, 1, 7]
CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "activation_checkpointing": False}


def problems(**columns: Any) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt": PROMPTS,
            "solution": [str(eval(prompt[:-1])) for prompt in PROMPTS],
            "reference": [str(eval(prompt[:-1])) * (1 + i % 3) for i, prompt in enumerate(PROMPTS)],
            "num_passed": COUNTS,
            "num_valid": [8] * len(PROMPTS),
            **columns,
        }
    )


def make_trainer(
    directory: Path,
    dataset: Dataset | None = None,
    architecture: str = "llama",
    trainer_kwargs: dict[str, Any] | None = None,
    student: PreTrainedModel | None = None,
    **settings: Any,
) -> PacedTrainer:
    """Make a trainer of tiny models with a run below `directory`; the fixture of this name fills that in."""
    defaults = {
        "output_dir": str(directory / "run"),
        "learning_rate": 1e-2,
        "max_steps": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
    }
    return PacedTrainer(
        model=build_tiny_model(architecture, seed=0) if student is None else student,
        teacher_model=build_tiny_model(architecture, seed=1),
        args=PacedConfig(**(CPU | defaults | settings)),
        train_dataset=problems() if dataset is None else dataset,
        processing_class=build_tiny_tokenizer(),
        **(trainer_kwargs or {}),
    )


def logged(trainer: PacedTrainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def hand_made_inputs(tokenizer: Any, beginning: str = "") -> dict[str, torch.Tensor]:
    """Three rows of unequal prompt and completion lengths, whose prompts begin alike if asked to."""
    texts = [beginning + rest for rest in ("1+2=", "13+14=", "7=")]
    prompts = tokenizer(texts, padding=True, return_tensors="pt")
    completions = tokenizer(["3", "27,27", "777"], padding=True, padding_side="right", return_tensors="pt")
    return {
        "prompt_ids": prompts.input_ids,
        "prompt_mask": prompts.attention_mask,
        "completion_ids": completions.input_ids,
        "completion_mask": completions.attention_mask,
        "num_items_in_batch": completions.attention_mask.sum(),
    }


def passes_by_prompt(completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
    """Even problems pass, odd ones fail, every eighth cannot be judged."""
    rows = [PROMPTS.index(text) for text in prompt]
    return [Verdict.TIMEOUT if row % 8 == 0 else Verdict.FAILED if row % 2 else Verdict.PASSED for row in rows]


ONLINE = {"kl": "reverse", "refresh": "online", "refresh_half_life": 3.0, "per_device_train_batch_size": 4}


def passes_by_text(completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
    """Some completions of every problem pass, and none of the first can be judged."""
    passed = [sum(map(ord, text)) % 3 > 0 for text in completions]
    kinds = [Verdict.PASSED if is_passed else Verdict.FAILED for is_passed in passed]
    return [Verdict.TIMEOUT if text == PROMPTS[0] else kind for text, kind in zip(prompt, kinds, strict=True)]


ESTIMATE = {
    "refresh": "estimate",
    "refresh_steps": 3,
    "refresh_num_generations": 3,
    "apply_weights": "sampling",
    "per_device_train_batch_size": 4,
    "max_steps": 8,
    "trainer_kwargs": {"verifier": passes_by_text},
}


def settings(**given: Any) -> PacedConfig:
    return PacedConfig(**{"output_dir": "unused", "kl": "reverse", "max_completion_length": 6, **CPU, **given})
