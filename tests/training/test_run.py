"""A run that goes on from any of its checkpoints has the losses that it had uninterrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from helpers.training import logged, passes_by_text
from paced_trl import PacedTrainer


SHARED: dict[str, Any] = {
    "kl": "forward_then_reverse",
    "kl_switch": 3.0,
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "save_strategy": "steps",
    "save_steps": 1,
}
REFRESH: dict[str, dict[str, Any]] = {
    "never": {"refresh": "never"},
    "online": {"refresh": "online", "refresh_half_life": 2.0, "num_train_generations": 2},
    "online posterior": {"refresh": "online", "weight_estimator": "posterior"},
    "estimate": {"refresh": "estimate", "refresh_steps": 5, "refresh_num_generations": 2, "refresh_share": 0.5},
}


@pytest.mark.parametrize(
    ("is_lora", "apply_weights", "refresh"),
    [
        (False, "loss", "never"),
        (False, "loss", "online"),
        (False, "loss", "online posterior"),
        (False, "loss", "estimate"),
        (False, "sampling", "never"),
        (False, "sampling", "online"),
        (False, "sampling", "estimate"),
        (True, "loss", "never"),
        (True, "loss", "online"),
        (True, "sampling", "estimate"),
    ],
)
def test_losses_after_a_resume_are_those_of_the_uninterrupted_run(
    make_trainer: Callable, tmp_path: Path, is_lora: bool, apply_weights: str, refresh: str
) -> None:
    def make(**settings: Any) -> PacedTrainer:
        torch.manual_seed(7)  # for LoRA's first matrices
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if is_lora else None
        return make_trainer(
            **SHARED | REFRESH[refresh] | {"apply_weights": apply_weights} | settings,
            trainer_kwargs={"verifier": passes_by_text, "peft_config": lora},
        )

    whole = make()
    whole.train()
    assert len(set(logged(whole, "loss"))) == 6
    # In the forward stage, and so across the switch; at the switch; in the reverse stage.
    for step in (1, 3, 4):
        resumed = make(output_dir=str(tmp_path / f"resumed-{step}"), save_strategy="no")
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
        assert logged(resumed, "loss") == logged(whole, "loss")
        assert logged(resumed, "grad_norm") == logged(whole, "grad_norm")
        torch.testing.assert_close(resumed.problem_weights, whole.problem_weights, rtol=0, atol=0)
