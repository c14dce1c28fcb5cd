"""Tokens and seconds of a training run, against sums over its batches; evaluations on the way change nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import TrainerState

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, logged, passes_by_text, problems
from paced_trl import PacedConfig, PacedTrainer, SamplingParameters
from paced_trl.evaluation.curve_evaluation import CurveEvaluation, CurveSettings
from paced_trl.evaluation.learning_curve import CurvePoint, cost_of_accuracy, curve_steps, mean_curve, read_curve
from paced_trl.training.monitoring.costs import TrainingClock, add_cost, costs_so_far


HELD_OUT = problems(problem_id=[str(row) for row in range(16)]).select(range(5))


def curve_settings(num_points: int = 2) -> CurveSettings:
    return CurveSettings(
        num_points=num_points,
        problems={"test": HELD_OUT},
        verifier=passes_by_text,  # type: ignore[arg-type]
        sampling=SamplingParameters(max_completion_length=4),
        chat_template_kwargs={},
        num_generations=2,
        batch_size=8,
        seed=0,
    )


def with_curve(trainer: PacedTrainer, settings: CurveSettings) -> PacedTrainer:
    trainer.add_callback(CurveEvaluation(settings, trainer))
    return trainer


def seen_tokens(trainer: PacedTrainer) -> list[int]:
    """Collect the tokens of each micro-batch as the loss gets them."""
    seen: list[int] = []
    compute = trainer._compute_loss

    def counting(student: Any, inputs: dict[str, Any], *args: Any) -> Any:
        if trainer.model.training:
            seen.append(int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum()))
        return compute(student, inputs, *args)

    trainer._compute_loss = counting  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_tokens_are_those_of_the_batches(make_trainer: Callable, kl: str) -> None:
    trainer = make_trainer(kl=kl, max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    seen = seen_tokens(trainer)
    trainer.train()
    totals = [sum(seen[: 2 * step]) for step in (1, 2, 3)]
    assert logged(trainer, "paced/student_tokens") == logged(trainer, "paced/teacher_tokens") == totals
    seconds = logged(trainer, "paced/seconds")
    assert 0 < seconds[0] < seconds[1] < seconds[2] < trainer.state.log_history[-1]["train_runtime"]


def test_a_teacher_with_a_cache_runs_on_each_reference_once(make_trainer: Callable, tmp_path: Path) -> None:
    settings = {"kl": "forward", "weighting": "uniform", "max_steps": 4, "teacher_cache": str(tmp_path / "cache")}
    trainer = make_trainer(**settings)
    trainer.train()
    student, teacher = logged(trainer, "paced/student_tokens"), logged(trainer, "paced/teacher_tokens")
    # An epoch is two batches; the second epoch's states are in the cache.
    assert teacher == [student[0], student[1], student[1], student[1]]


def test_a_privileged_prompt_is_the_teachers(tmp_path: Path) -> None:
    dataset = problems(privileged_context=["the digits are added"] * 16)
    lora = LoraConfig(r=2, target_modules="all-linear")
    trainer = PacedTrainer(
        model=build_tiny_model(seed=0),
        args=PacedConfig(
            **CPU,
            output_dir=str(tmp_path / "run"),
            self_distillation="base",
            kl="reverse",
            max_steps=1,
            per_device_train_batch_size=8,
            max_completion_length=6,
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=dataset,
        processing_class=build_tiny_tokenizer(),
        peft_config=lora,
    )
    trainer.train()
    tokenizer = build_tiny_tokenizer()
    (student,), (teacher,) = logged(trainer, "paced/student_tokens"), logged(trainer, "paced/teacher_tokens")
    with_context = trainer._teacher_prompts([dataset[0]])[0]
    longer = len(tokenizer(text=with_context).input_ids) - len(tokenizer(text=dataset[0]["prompt"]).input_ids)
    assert teacher - student == 8 * longer


def test_costs_are_in_the_state_and_survive_it() -> None:
    state = TrainerState()
    for amount in (3, 0, 4):
        add_cost(state, "tokens_generated", amount)
    assert costs_so_far(state)["tokens_generated"] == 7
    assert costs_so_far(TrainerState(**vars(state))) == costs_so_far(state)


def test_the_clock_leaves_evaluations_out() -> None:
    clock, state = TrainingClock(), TrainerState()
    clock.on_train_begin(None, state, None)  # type: ignore[arg-type]
    time.sleep(0.02)
    clock.on_step_end(None, state, None)  # type: ignore[arg-type]
    time.sleep(0.2)
    clock.on_evaluate(None, state, None)  # type: ignore[arg-type]
    clock.on_step_end(None, state, None)  # type: ignore[arg-type]
    time.sleep(0.2)
    clock.restart()
    clock.on_step_end(None, state, None)  # type: ignore[arg-type]
    assert 0.02 <= costs_so_far(state)["seconds"] < 0.15


SHARED: dict[str, Any] = {"kl": "forward_then_reverse", "max_steps": 6, "refresh": "never"}


@pytest.mark.parametrize("is_lora", [False, True])
def test_evaluations_on_the_way_change_nothing(make_trainer: Callable, tmp_path: Path, is_lora: bool) -> None:
    def make(name: str) -> PacedTrainer:
        torch.manual_seed(7)
        lora = LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear") if is_lora else None
        return make_trainer(**SHARED, output_dir=str(tmp_path / name), trainer_kwargs={"peft_config": lora})

    plain = make("plain")
    plain.train()
    curved = with_curve(make("curved"), curve_settings())
    curved.train()
    assert logged(curved, "loss") == logged(plain, "loss")
    for one, other in zip(plain.model.parameters(), curved.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    points = read_curve(tmp_path / "curved")
    assert [point.step for point in points] == [2, 4]
    assert [point.student_tokens for point in points] == [logged(plain, "paced/student_tokens")[i] for i in (1, 3)]
    assert all(0.0 <= point.accuracy["test"] <= 1.0 for point in points)
    names = ("tokens_generated", "student_tokens", "teacher_tokens")
    costs = [trainer.figures.costs(trainer.state) for trainer in (plain, curved)]
    assert [costs[0][name] for name in names] == [costs[1][name] for name in names]


def test_evaluations_on_the_way_take_none_of_the_time(make_trainer: Callable, tmp_path: Path) -> None:
    settings = curve_settings(num_points=3)
    settings.evaluate = lambda *_: time.sleep(0.5) or {"test": 0.5}  # type: ignore[method-assign,assignment]
    trainer = with_curve(make_trainer(**SHARED), settings)
    trainer.train()
    runtime = trainer.state.log_history[-1]["train_runtime"]
    assert len(read_curve(tmp_path / "run")) == 3
    assert trainer.figures.costs(trainer.state)["seconds"] < runtime - 1.5


def test_costs_and_points_go_on_after_a_resume(make_trainer: Callable, tmp_path: Path) -> None:
    saving = SHARED | {"save_strategy": "steps", "save_steps": 3}
    whole = with_curve(make_trainer(**saving), curve_settings())
    whole.train()
    resumed = with_curve(make_trainer(**SHARED, output_dir=str(tmp_path / "resumed")), curve_settings())
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for name in ("tokens_generated", "student_tokens", "teacher_tokens"):
        assert resumed.figures.costs(resumed.state)[name] == whole.figures.costs(whole.state)[name]
    at_checkpoint = logged(whole, "paced/seconds")[2]
    assert resumed.figures.costs(resumed.state)["seconds"] > at_checkpoint > 0
    (point,) = read_curve(tmp_path / "resumed")
    last = read_curve(tmp_path / "run")[-1]
    assert (point.step, point.accuracy, point.tokens) == (last.step, last.accuracy, last.tokens)


def point(step: int, seconds: float, tokens: int, accuracy: float) -> CurvePoint:
    return CurvePoint(step, seconds, tokens, 0, 0, {"test": accuracy})


def test_steps_of_a_curve() -> None:
    assert curve_steps(300, 4) == [60, 120, 180, 240]
    assert curve_steps(2, 4) == [1]
    assert curve_steps(1, 4) == curve_steps(300, 0) == []


def test_the_cost_of_an_accuracy_is_read_off_straight_lines() -> None:
    curve = [point(0, 0.0, 0, 0.2), point(5, 10.0, 100, 0.4), point(10, 20.0, 300, 0.3), point(15, 40.0, 400, 0.8)]
    assert cost_of_accuracy(curve, "test", 0.2) == (0.0, 0.0)
    assert cost_of_accuracy(curve, "test", 0.3) == pytest.approx((50.0, 5.0))
    assert cost_of_accuracy(curve, "test", 0.55) == pytest.approx((350.0, 30.0))
    assert cost_of_accuracy(curve, "test", 0.8) == pytest.approx((400.0, 40.0))
    assert cost_of_accuracy(curve, "test", 0.1) == (0.0, 0.0)
    assert cost_of_accuracy(curve, "test", 0.9) is None


def test_the_mean_curve_is_over_seeds_with_the_same_steps() -> None:
    one, two = [point(0, 0, 0, 0.2), point(5, 2, 10, 0.4)], [point(0, 0, 0, 0.4), point(5, 4, 30, 0.8)]
    mean = mean_curve([one, two, [point(0, 9, 9, 0.9)]])
    assert [(p.step, p.seconds, p.tokens) for p in mean] == [(0, 0, 0), (5, 3, 20)]
    assert [p.accuracy["test"] for p in mean] == pytest.approx([0.3, 0.6])
