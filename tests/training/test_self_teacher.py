"""The teacher's side: the student as its own teacher, privileged prompts, cached states, turns on the accelerator."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback
from trl import DistillationTrainer

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, PROMPTS, logged, problems
from paced_trl import PacedConfig, PacedTrainer
from paced_trl.training.paced_settings import DEFAULT_TEMPLATE
from paced_trl.training.self_teacher import AVERAGE_FILE, SelfTeacher
from paced_trl.training.teacher_cache import HiddenStateCache
from paced_trl.training.teacher_prompt import check_privileged_context, teacher_prompt, with_shuffled_context


HINT = "the digits are added one by one"
LORA = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear")
SELF = {"kl": "reverse", "completion_source": "student"}


def make_trainer(
    tmp_path: Path, *, peft: bool = False, own_teacher: bool = True, dataset: Dataset | None = None, **settings: Any
) -> PacedTrainer:
    defaults = {
        "output_dir": str(tmp_path / "run"),
        "learning_rate": 1e-2,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "max_completion_length": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "weighting": "uniform",
    }
    return PacedTrainer(
        model=build_tiny_model(seed=0),
        teacher_model=build_tiny_model(seed=1, num_hidden_layers=3) if own_teacher else None,
        args=PacedConfig(**CPU, **(defaults | settings)),
        train_dataset=problems() if dataset is None else dataset,
        processing_class=build_tiny_tokenizer(),
        peft_config=LORA if peft else None,
    )


def with_context(text: str = HINT) -> Dataset:
    return problems(privileged_context=[text] * len(PROMPTS))


def parameters(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_template_goes_into_the_last_user_turn() -> None:
    assert teacher_prompt("1+1=", "2", "{privileged_context}? {prompt}") == "2? 1+1="
    assert teacher_prompt("1+1=", "", DEFAULT_TEMPLATE) == "1+1="
    assert teacher_prompt("{privileged_context}", "{prompt}", "{prompt}|{privileged_context}") == (
        "{privileged_context}|{prompt}"
    )
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert teacher_prompt(turns, "c", "{prompt}/{privileged_context}") == [
        turns[0],
        {"role": "user", "content": "u/c"},
    ]
    assert turns[1]["content"] == "u"


@pytest.mark.parametrize("variant", ["base", "ema", "copy"])
def test_the_student_never_sees_the_privileged_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    trainer = make_trainer(
        tmp_path,
        peft=variant != "copy",
        own_teacher=False,
        dataset=with_context(),
        self_distillation=variant,
        max_steps=2,
        **SELF,
    )
    tokenizer, seen = trainer.processing_class, {"student": [], "teacher": []}
    inner = DistillationTrainer._get_last_hidden_state

    def spy(self: Any, model: Any, ids: torch.Tensor, mask: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        texts = [tokenizer.decode(row[m.bool()]) for row, m in zip(ids, mask, strict=True)]
        seen["teacher" if not torch.is_grad_enabled() else "student"] += texts
        return inner(self, model, ids, mask, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "_get_last_hidden_state", spy)
    trainer.train()
    assert len(seen["student"]) == len(seen["teacher"]) == 8
    assert all(HINT in text for text in seen["teacher"])
    assert not any(HINT in text for text in seen["student"])
    # The completions are the same tokens on both sides: what follows the prompt of each.
    for student, teacher in zip(seen["student"], seen["teacher"], strict=True):
        prompt = next(prompt for prompt in PROMPTS if student.startswith(prompt))
        assert teacher == teacher_prompt(prompt, HINT, DEFAULT_TEMPLATE) + student.removeprefix(prompt)


def test_the_prompts_of_both_are_shown_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"self_distillation": "base", "max_steps": 2, **SELF}
    with caplog.at_level("INFO"):
        make_trainer(tmp_path, peft=True, own_teacher=False, dataset=with_context(), **settings).train()
    shown = [record.getMessage() for record in caplog.records if "teacher's prompt" in record.getMessage()]
    assert len(shown) == 1 and shown[0].count(HINT) == 1


@pytest.mark.parametrize("variant", ["base", "ema", "copy"])
def test_without_privileged_text_there_is_nothing_to_learn_at_step_0(tmp_path: Path, variant: str) -> None:
    dataset = with_context("")
    settings = {"self_distillation": variant, "max_steps": 1, **SELF}
    trainer = make_trainer(tmp_path, peft=variant != "copy", own_teacher=False, dataset=dataset, **settings)
    trainer.train()
    assert logged(trainer, "loss") == [0.0]
    assert logged(trainer, "paced/reverse_kl") == [pytest.approx(0.0, abs=1e-7)]


def test_the_base_under_the_adapter_teaches_as_a_frozen_copy_does(tmp_path: Path) -> None:
    runs = []
    for variant in ("base", "copy"):
        trainer = make_trainer(
            tmp_path, peft=True, own_teacher=False, dataset=with_context(), self_distillation=variant, **SELF
        )
        trainer.train()
        runs.append((logged(trainer, "loss"), parameters(trainer.model)))
    assert runs[0][0] == runs[1][0] and runs[0][0][0] > 0
    assert torch.equal(runs[0][1], runs[1][1])


def test_the_average_follows_the_adapter(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        peft=True,
        own_teacher=False,
        dataset=with_context(),
        self_distillation="ema",
        self_distillation_decay=0.75,
        max_steps=3,
        **SELF,
    )
    teacher = trainer.teacher_model
    assert isinstance(teacher, SelfTeacher)
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    expected = {name: p.detach().clone() for name, p in trained.items()}

    class Naive(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            for name, parameter in trained.items():
                expected[name] = 0.75 * expected[name] + 0.25 * parameter.detach()

    trainer.add_callback(Naive())
    trainer.train()
    own = {name: p.detach().clone() for name, p in trained.items()}
    with teacher.in_place_of_student() as student:
        assert not student.training
        in_place = {name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad}
    assert trained.keys() == in_place.keys()
    for name in trained:
        torch.testing.assert_close(in_place[name], expected[name])
        assert torch.equal(trained[name], own[name])
    assert any(not torch.equal(in_place[name], own[name]) for name in trained)


@pytest.mark.parametrize("variant", ["base", "ema"])
def test_a_resumed_run_has_the_teacher_of_the_uninterrupted_one(tmp_path: Path, variant: str) -> None:
    settings = {"self_distillation": variant, "save_strategy": "steps", "save_steps": 2, "max_steps": 5, **SELF}
    settings |= {"self_distillation_decay": 0.5, "optim": "sgd"}
    whole = make_trainer(tmp_path, peft=True, own_teacher=False, dataset=with_context(), **settings)
    whole.train()
    resumed = make_trainer(tmp_path, peft=True, own_teacher=False, dataset=with_context(), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert (tmp_path / "run" / "checkpoint-2" / AVERAGE_FILE).exists() == (variant == "ema")


def test_a_checkpoint_without_the_average_is_refused(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1, **SELF}
    trainer = make_trainer(
        tmp_path, peft=True, own_teacher=False, dataset=with_context(), self_distillation="base", **settings
    )
    trainer.train()
    other = make_trainer(
        tmp_path, peft=True, own_teacher=False, dataset=with_context(), self_distillation="ema", **settings
    )
    with pytest.raises(ValueError, match="has no average of this adapter"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    with (
        pytest.warns(UserWarning, match=rf"checkpoint-1 \({AVERAGE_FILE} is missing\)"),
        pytest.raises(ValueError, match="has no checkpoint that is whole"),
    ):
        other.train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "no column `privileged_context`"),
        ({"privileged_context": [7] * len(PROMPTS)}, "Row 0 .* which is no text"),
        (
            {"prompt": [f"{HINT}\n{prompt}" for prompt in PROMPTS], "privileged_context": [HINT] * len(PROMPTS)},
            "Row 0 .* in its own prompt",
        ),
        (
            {
                "prompt": [[{"role": "assistant", "content": prompt}] for prompt in PROMPTS],
                "privileged_context": [HINT] * len(PROMPTS),
            },
            "ends with a message of 'assistant'",
        ),
    ],
)
def test_privileged_contexts_that_cannot_be_used_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_privileged_context(problems(**columns), "train_dataset")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"self_distillation": "base", "own_teacher": True}, "a `teacher_model` was given as well"),
        ({"self_distillation": "base"}, "needs an adapter"),
        ({"self_distillation": "ema"}, "needs an adapter"),
        ({}, "nothing to distill from"),
        ({"self_distillation": "base", "peft": True, "self_distillation_decay": 1.0}, "it must be less than 1"),
        (
            {"self_distillation": "base", "peft": True, "privileged_template": "{prompt}"},
            "has no {privileged_context}",
        ),
        ({"own_teacher": True, "teacher_cache": "cache"}, "nothing is trained on references"),
    ],
)
def test_teachers_that_cannot_be_had_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, dataset=with_context(), **{"own_teacher": False, **SELF, **settings})


def test_a_privileged_context_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="positions of the student as its teacher, with `privileged_context`"):
        make_trainer(
            tmp_path, peft=True, own_teacher=False, dataset=with_context("x" * 250), self_distillation="base", **SELF
        )


def count_teacher_forwards(trainer: PacedTrainer) -> list[int]:
    calls: list[int] = []
    trainer.teacher_model.base_model.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("accumulation", [1, 2])
def test_cached_states_give_the_same_losses_and_spare_the_teacher(tmp_path: Path, accumulation: int) -> None:
    settings = {"kl": "forward", "max_steps": 8, "gradient_accumulation_steps": accumulation, "num_train_epochs": 4}
    plain = make_trainer(tmp_path, **settings)
    plain.train()
    cache = str(tmp_path / "cache")
    first = make_trainer(tmp_path, teacher_cache=cache, **settings)
    calls = count_teacher_forwards(first)
    first.train()
    # Each of the 16 references once, in as many parts of 4 rows as there are.
    assert len(calls) == 4
    assert logged(first, "loss") == pytest.approx(logged(plain, "loss"), rel=1e-6)
    assert logged(first, "paced/teacher_cached")[-1] == 1.0
    second = make_trainer(tmp_path, teacher_cache=cache, **settings)
    calls = count_teacher_forwards(second)
    second.train()
    assert not calls
    assert logged(second, "loss") == logged(first, "loss")
    assert torch.equal(parameters(second.model), parameters(first.model))


def test_caches_of_other_teachers_and_references_are_kept_apart(tmp_path: Path) -> None:
    settings = {"kl": "forward", "max_steps": 1, "teacher_cache": str(tmp_path / "cache")}
    make_trainer(tmp_path, **settings).train()
    longer = problems(reference=["12345"] * len(PROMPTS))
    make_trainer(tmp_path, dataset=longer, **settings).train()
    other = make_trainer(tmp_path, **settings)
    assert sum(map(other.teacher_cache.has, range(len(PROMPTS)))) == 4
    other.teacher_model.lm_head.weight.data += 1
    assert other._open_teacher_cache(other.train_dataset).path != other.teacher_cache.path
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_keeps_what_it_was_given(tmp_path: Path) -> None:
    prompts, completions = [[1], [2, 3], [4]], [[5, 6], [7], [8, 9, 10]]
    states = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    cache = HiddenStateCache(tmp_path, "teacher", prompts, completions)
    cache.write([2, 0], states)
    again = HiddenStateCache(tmp_path, "teacher", prompts, completions)
    assert [again.has(row) for row in range(3)] == [True, False, True]
    read = again.read([0, 2], 3)
    assert torch.equal(read[1], states[0]) and read.dtype == torch.bfloat16
    assert torch.equal(read[0, :2], states[1, :2]) and not read[0, 2].any()


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))(total=100, used=50, free=50)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    cache = HiddenStateCache(tmp_path, "teacher", [[1]], [[5, 6]])
    with pytest.raises(ValueError, match=r"2 tokens of 8 numbers in float32.* take 6.4e-08 GB, and .* 5e-08 GB free"):
        cache.write([0], torch.zeros(1, 2, 8))
    assert not list(cache.path.iterdir())


def test_the_size_is_said_before_it_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    HiddenStateCache(tmp_path, "teacher", [[1]], [[5, 6]]).write([0], torch.zeros(1, 2, 8))
    assert "1 references (2 tokens of 8 numbers in float32) take 6.4e-08 GB" in caplog.text


def test_a_shuffled_context_is_always_that_of_another_problem() -> None:
    dataset = problems(privileged_context=[f"hint {row}" for row in range(len(PROMPTS))])
    shuffled = with_shuffled_context(dataset, seed=3)
    contexts = shuffled["privileged_context"][:]
    assert (
        sorted(contexts) == sorted(dataset["privileged_context"][:]) and shuffled["prompt"][:] == dataset["prompt"][:]
    )
    assert all(one != other for one, other in zip(contexts, dataset["privileged_context"][:], strict=True))
    assert contexts == with_shuffled_context(dataset, seed=3)["privileged_context"][:]
    assert contexts != with_shuffled_context(dataset, seed=4)["privileged_context"][:]
    with pytest.raises(ValueError, match="there are 1 problems"):
        with_shuffled_context(dataset.select([0]), seed=3)


def test_the_teacher_of_the_control_sees_another_problems_context(tmp_path: Path) -> None:
    dataset = problems(privileged_context=[f"hint {row}" for row in range(len(PROMPTS))])
    trainer = make_trainer(
        tmp_path, peft=True, own_teacher=False, dataset=dataset, self_distillation="base", shuffle_context=True, **SELF
    )
    assert (
        trainer.train_dataset["privileged_context"][:]
        == with_shuffled_context(dataset, seed=trainer.args.seed)["privileged_context"][:]
    )


def test_the_average_of_a_bfloat16_adapter_moves_as_that_of_a_float32_one() -> None:
    torch.manual_seed(0)
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        student = get_peft_model(build_tiny_model(), LoraConfig(r=4, target_modules="all-linear"))
        for parameter in student.parameters():
            parameter.data = parameter.data.to(dtype)
        teacher = SelfTeacher(student, decay=0.99)
        (name, adapter) = next(iter(teacher._trained.items()))
        with torch.no_grad():
            adapter.fill_(1.0)
            teacher._average[name].fill_(0.5)
        for _ in range(300):
            teacher.follow()
        moved[dtype] = teacher._average[name].mean().item()
        with teacher.in_place_of_student():
            assert adapter.dtype == dtype
    # 1 - 0.5 * 0.99^300; in bfloat16 the average stands still where a step is below half a unit of its last place.
    assert moved[torch.float32] == pytest.approx(0.9755, abs=1e-4)
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], abs=1e-6)
