"""What prompts begin with is run once: the loss and its gradients are those of running every row whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from helpers.model_families import FAMILIES, save_checkpoint
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, hand_made_inputs, make_trainer, problems
from paced_trl import PacedConfig, PacedTrainer
from paced_trl.training import teacher_trainer
from paced_trl.training.prompt_beginning import check_can_share, completion_states, shared_length


BEGINNING = "1+1=2;2+3=5;"
SHARED = {"share_prompt_beginning": True}
# What they keep is more than keys and values.
RECURRENT = {"qwen3_5", "qwen3_5_text", "lfm2"}


def batch(beginning: str = BEGINNING) -> dict[str, torch.Tensor]:
    """Three rows that begin alike, with prompts and completions of unequal lengths."""
    inputs = hand_made_inputs(build_tiny_tokenizer(), beginning)
    return {**inputs, "row_weight": torch.tensor([0.5, 2.0, 0.5])}


def whole(inputs: dict[str, torch.Tensor], what: str) -> torch.Tensor:
    return torch.cat([inputs[f"prompt_{what}"], inputs[f"completion_{what}"]], dim=1)


@pytest.fixture
def is_shared(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each forward pass of the loss ran a beginning once."""
    seen: list[bool] = []

    def record(*args: Any) -> torch.Tensor | None:
        states = completion_states(*args)
        seen.append(states is not None)
        return states

    monkeypatch.setattr(teacher_trainer, "completion_states", record)
    return seen


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["abcd", "abce"], 3),
        (["abcd", "ab"], 1),  # the last token of the shortest prompt stays
        (["abcd", "xbcd"], 0),
        (["a", "abc"], 0),
        (["abcd", "abcd"], 3),
    ],
)
def test_length_of_what_rows_share(texts: list[str], expected: int) -> None:
    encoded = build_tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    completion = torch.full((2, 3), 7)
    ids = torch.cat([encoded.input_ids, completion], dim=1)
    mask = torch.cat([encoded.attention_mask, torch.ones_like(completion)], dim=1)
    assert shared_length(ids, mask, 3) == expected


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "phi", "gpt2"])
def test_states_are_those_of_single_rows(architecture: str) -> None:
    model, inputs = build_tiny_model(architecture), batch()
    ids, mask = whole(inputs, "ids"), whole(inputs, "mask")
    states = completion_states(model, ids, mask, 5)
    assert states is not None and states.shape[:2] == (3, 5)
    for row, prompt_mask in enumerate(inputs["prompt_mask"]):
        alone = ids[row][mask[row].bool()].unsqueeze(0)
        length, num_tokens = int(prompt_mask.sum()), int(inputs["completion_mask"][row].sum())
        expected = model.base_model(alone).last_hidden_state[0, length - 1 : length - 1 + num_tokens]
        torch.testing.assert_close(states[row, :num_tokens], expected, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - RECURRENT))
@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_loss_and_gradients_of_families(tmp_path: Path, family: str, kl: str, is_shared: list[bool]) -> None:
    checkpoints = [str(save_checkpoint(family, tmp_path / f"{seed}", seed)) for seed in range(2)]
    results = []
    for given in ({}, SHARED):
        trainer = PacedTrainer(
            model=checkpoints[0],
            teacher_model=checkpoints[1],
            args=PacedConfig(
                output_dir=str(tmp_path / "run"), kl=kl, max_completion_length=5, max_steps=1, **CPU, **given
            ),
            train_dataset=problems(),
            processing_class=build_tiny_tokenizer(),
        )
        # Where a window is shorter than the batch, each row is run whole.
        loss = trainer.compute_loss(trainer.model, batch("1+" if "sliding" in str(FAMILIES[family]) else BEGINNING))
        parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        results.append((loss, torch.autograd.grad(loss, parameters, allow_unused=True)))
    assert is_shared == [True, True]
    (loss, gradients), (other, others) = results
    torch.testing.assert_close(loss, other, atol=1e-6, rtol=2e-5)
    for gradient, expected in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, expected, atol=5e-6, rtol=1e-3)


def test_a_window_shorter_than_the_batch_is_run_in_each_row(tmp_path: Path, is_shared: list[bool]) -> None:
    model = build_tiny_model("mistral", sliding_window=8)
    trainer = make_trainer(tmp_path, student=model, kl="reverse", **SHARED)
    trainer.compute_loss(trainer.model, batch())
    assert is_shared == [False, True]  # the teacher has no window


@pytest.mark.parametrize("given", [{}, {"kl": "forward_then_reverse", "apply_weights": "sampling"}])
def test_a_run_takes_the_same_steps(tmp_path: Path, given: dict[str, Any], is_shared: list[bool]) -> None:
    prompts = [BEGINNING + prompt for prompt in problems()["prompt"]]
    data = problems(prompt=prompts)
    runs = [make_trainer(tmp_path / name, data, **given, **more) for name, more in (("a", {}), ("b", SHARED))]
    for trainer in runs:
        trainer.train()
    assert len(is_shared) >= 4 and all(is_shared)
    for first, second in zip(*(trainer.model.parameters() for trainer in runs), strict=True):
        torch.testing.assert_close(first, second, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("self_distillation", ["base", "ema"])
def test_with_an_adapter_that_teaches_itself(tmp_path: Path, self_distillation: str, is_shared: list[bool]) -> None:
    from peft import LoraConfig

    data = problems(
        prompt=[BEGINNING + prompt for prompt in problems()["prompt"]],
        privileged_context=[f"is {row['solution']}" for row in problems()],
    )
    losses = []
    for name, more in (("a", {}), ("b", SHARED)):
        trainer = PacedTrainer(
            model=build_tiny_model(seed=0),
            args=PacedConfig(
                output_dir=str(tmp_path / name),
                kl="reverse",
                self_distillation=self_distillation,
                max_completion_length=6,
                max_steps=2,
                per_device_train_batch_size=4,
                learning_rate=1e-2,
                logging_steps=1,
                save_strategy="no",
                **CPU,
                **more,
            ),
            train_dataset=data,
            processing_class=build_tiny_tokenizer(),
            peft_config=LoraConfig(target_modules="all-linear"),
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert is_shared and all(is_shared)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation_checkpointing": True}, "computes layers again"),
        ({"fsdp": "full_shard"}, "FSDP shards the weights"),
    ],
)
def test_what_cannot_share_is_refused(given: dict[str, Any], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message):
            PacedConfig(output_dir="unused", **{**CPU, **SHARED, **given})


@pytest.mark.parametrize("family", sorted(RECURRENT))
def test_recurrent_states_are_refused_before_anything_loads(tmp_path: Path, family: str) -> None:
    config = AutoConfig.from_pretrained(save_checkpoint(family, tmp_path))
    with pytest.raises(ValueError, match=r"the teacher is a .*: it keeps states other than keys and values"):
        check_can_share(config, "teacher")
