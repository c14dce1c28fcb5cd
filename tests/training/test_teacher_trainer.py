"""Heads of different sizes whose tokens agree: the loss is over the shared ids, and the student keeps its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, hand_made_inputs, problems
from paced_trl import PacedConfig, PacedTrainer
from paced_trl.training import teacher_trainer


WEIGHTS = torch.tensor([0.0, 2.5, 0.5])
SIZES = [(100, 128), (128, 100), (128, 112), (112, 128)]


def make_trainer(path: Path, student: PreTrainedModel, teacher: Any, **given: Any) -> PacedTrainer:
    return PacedTrainer(
        model=student,
        teacher_model=teacher,
        args=PacedConfig(output_dir=str(path), kl="reverse", max_completion_length=6, max_steps=1, **CPU, **given),
        train_dataset=problems(),
        processing_class=build_tiny_tokenizer(),
    )


def shared_divergence(
    student: PreTrainedModel, teacher: PreTrainedModel, inputs: dict[str, torch.Tensor], size: int
) -> torch.Tensor:
    """KL(student || teacher) of softmaxes over the first `size` ids, one row at a time."""
    total = torch.zeros(())
    for row, weight in enumerate(WEIGHTS):
        prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
        completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
        ids = torch.cat([prompt, completion]).unsqueeze(0)
        where = slice(len(prompt) - 1, ids.shape[1] - 1)
        log_s, log_t = (model(input_ids=ids).logits[0, where, :size].log_softmax(-1) for model in (student, teacher))
        total = total + weight * (log_s.exp() * (log_s - log_t.detach())).sum()
    return total / inputs["completion_mask"].sum()


@pytest.mark.parametrize(
    "architecture", ["llama", "gemma2", "phi"]
)  # gemma2 ties its embeddings, phi's head has a bias
@pytest.mark.parametrize(("student_size", "teacher_size"), SIZES)
def test_the_loss_is_a_softmax_over_the_shared_ids(
    tmp_path: Path, architecture: str, student_size: int, teacher_size: int
) -> None:
    student, reference = (build_tiny_model(architecture, student_size, seed=0) for _ in range(2))
    teacher, own_teacher = (build_tiny_model(architecture, teacher_size, seed=1) for _ in range(2))
    trainer = make_trainer(tmp_path, student, teacher)
    inputs = {**hand_made_inputs(trainer.processing_class), "row_weight": WEIGHTS}
    loss = trainer.compute_loss(trainer.model, inputs)
    expected = shared_divergence(reference, own_teacher, inputs, min(student_size, teacher_size))
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=2e-5)
    gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))
    for gradient, other in zip(gradients, torch.autograd.grad(expected, list(reference.parameters())), strict=True):
        torch.testing.assert_close(gradient, other, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(("student_size", "teacher_size"), SIZES)
def test_the_saved_student_keeps_its_size(tmp_path: Path, student_size: int, teacher_size: int) -> None:
    build_tiny_model("llama", teacher_size, seed=1).save_pretrained(tmp_path / "teacher")
    build_tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    given = {"teacher_model_init_kwargs": {"dtype": "float32"}}
    trainer = make_trainer(
        tmp_path / "run", build_tiny_model("llama", student_size), str(tmp_path / "teacher"), **given
    )
    assert trainer.args.teacher_model_init_kwargs == {"dtype": "float32"}
    trainer.train()
    trainer.save_model()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert saved.config.vocab_size == saved.get_output_embeddings().weight.shape[0] == student_size


def test_a_padded_teacher_is_recognised_when_it_is_used_again(tmp_path: Path) -> None:
    teacher = build_tiny_model(seed=1)
    for run in ("first", "second"):
        trainer = make_trainer(tmp_path / run, build_tiny_model("llama", 128), teacher)
        assert trainer.teacher_model.config.vocab_size == 128
        assert trainer._vocab_size == 100


def test_a_token_without_a_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"largest token id is 99, .* is 100 \(student\) and 90 \(teacher\)"):
        make_trainer(tmp_path, build_tiny_model(), build_tiny_model("llama", 90))


@pytest.mark.parametrize(
    ("is_sharded", "is_quantized", "moves"), [(False, False, 1), (True, False, 2), (True, True, 1)]
)
def test_under_fsdp_the_teacher_is_moved_to_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sharded: bool, is_quantized: bool, moves: int
) -> None:
    monkeypatch.setattr(teacher_trainer, "uses_fsdp", lambda args: is_sharded)
    teacher = build_tiny_model(seed=1)
    teacher.is_quantized = is_quantized
    moved: list[Any] = []
    move = LlamaForCausalLM.to
    monkeypatch.setattr(
        LlamaForCausalLM, "to", lambda self, *args, **kw: moved.append(self) or move(self, *args, **kw)
    )
    trainer = make_trainer(tmp_path, build_tiny_model(seed=0), teacher)
    # accelerate moves it by itself where nothing is sharded, as here.
    assert sum(each is trainer.teacher_model for each in moved) == moves
