"""Settings of a run that cannot work are refused in a sentence, whoever gives them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.training import CPU, problems
from paced_trl import PacedConfig
from paced_trl.training.config import refuse_sharding
from paced_trl.training.monitoring.validation import choose_best_by_accuracy


def config(tmp_path: Path, **settings: Any) -> PacedConfig:
    return PacedConfig(output_dir=str(tmp_path), **(CPU | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resume_from_checkpoint": "/nope"}, "`resume_from_checkpoint` is '/nope', which is no directory"),
        ({"max_grad_norm": float("nan")}, "`max_grad_norm` is nan, but it must be a number"),
        ({"learning_rate": float("inf")}, "`learning_rate` is inf"),
        ({"max_grad_norm": -1.0}, "`max_grad_norm` is -1.0, but it must be at least 0"),
        ({"learning_rate": -1e-5}, "`learning_rate` is -1e-05, but it must be at least 0"),
        ({"save_total_limit": -1}, "`save_total_limit` is -1, but it must be at least 1"),
        ({"save_total_limit": 0}, "`save_total_limit` is 0, but it must be at least 1"),
        ({"train_sampling_strategy": "group_by_length"}, "'group_by_length', but which problems a batch holds"),
        ({"train_sampling_strategy": "sequential"}, "so it would have no effect"),
        ({"temperature": 0.0}, "`temperature` is 0.0, and the loss divides the logits"),
        ({"ddp_timeout": 0}, "`ddp_timeout` is 0, but it must be at least 1"),
        ({"use_vllm": True, "self_distillation": "base", "kl": "reverse"}, "which moves the base that teaches"),
        ({"use_vllm": True, "self_distillation": "ema", "kl": "reverse"}, "which moves the base that teaches"),
        ({"kl": "Forward"}, "`kl` is 'Forward', but it must be one of .* Did you mean 'forward'"),
        ({"apply_weights": "Sampling"}, "`apply_weights` is 'Sampling'.* Did you mean 'sampling'"),
        ({"refresh": "onlin"}, "`refresh` is 'onlin'.* Did you mean 'online'"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **settings)


def test_what_means_something_is_not(tmp_path: Path) -> None:
    assert config(tmp_path, resume_from_checkpoint="true", save_total_limit=1, max_grad_norm=0.0).save_total_limit == 1
    assert config(tmp_path, resume_from_checkpoint=str(tmp_path)).resume_from_checkpoint == str(tmp_path)


def test_processes_wait_for_each_other_for_days(tmp_path: Path) -> None:
    assert config(tmp_path).ddp_timeout_delta.days == 7
    assert config(tmp_path, ddp_timeout=60).ddp_timeout_delta.total_seconds() == 60


def test_a_sharded_student_does_not_generate_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = {"refresh": "estimate", "refresh_steps": 5}
    assert config(tmp_path, **estimate).refresh == "estimate"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"`refresh` is 'estimate'.* FSDP shards its weights.*or train with DDP"):
        config(tmp_path, **estimate)
    with pytest.raises(ValueError, match=r"`curve_points` is 4, .* Set `curve_points` to 0"):
        refuse_sharding(config(tmp_path), "`curve_points` is 4", "Set `curve_points` to 0")
    assert config(tmp_path, refresh="online").refresh == "online"
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    for stage, is_refused in ((2, False), (3, True)):
        args = config(tmp_path)
        args.deepspeed_plugin = SimpleNamespace(zero_stage=stage)
        if is_refused:
            with pytest.raises(ValueError, match="DeepSpeed ZeRO-3 shards its weights"):
                refuse_sharding(args, "`curve_points` is 4", "Set `curve_points` to 0")
        else:
            refuse_sharding(args, "`curve_points` is 4", "Set `curve_points` to 0")


EVERY_SECOND: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
BEST: list[dict[str, Any]] = [
    {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 2, **EVERY_SECOND},
    {"lr_scheduler_type": "reduce_lr_on_plateau", **EVERY_SECOND},
    {"save_strategy": "best", "metric_for_best_model": "loss", **EVERY_SECOND},
    {"metric_for_best_model": "eval_loss", **EVERY_SECOND},
]


@pytest.mark.parametrize("settings", BEST, ids=["load best", "plateau", "save best", "early stopping"])
def test_losses_of_two_stages_do_not_choose_the_best_checkpoint(tmp_path: Path, settings: dict[str, Any]) -> None:
    for eval_dataset, verifier in ((None, object()), (problems(), None), ({"a": 1, "b": 2}, object())):
        args = config(tmp_path, **settings)
        with pytest.raises(ValueError, match="losses of the forward and of the reverse stage are not comparable"):
            choose_best_by_accuracy(args, eval_dataset, verifier)
    args = config(tmp_path, num_validation_generations=2, **settings)
    choose_best_by_accuracy(args, problems(), object())
    assert (args.metric_for_best_model, args.greater_is_better) == ("eval_paced/mean@2", True)
    args = config(tmp_path, **settings)
    choose_best_by_accuracy(args, {"validation": problems(), "retention": problems()}, object())
    assert args.metric_for_best_model == "eval_paced/validation/mean@1"


@pytest.mark.parametrize("settings", BEST, ids=["load best", "plateau", "save best", "early stopping"])
def test_one_stage_may_be_compared_by_its_loss(tmp_path: Path, settings: dict[str, Any]) -> None:
    args = config(tmp_path, kl="forward", **settings)
    choose_best_by_accuracy(args, None, None)
    assert args.metric_for_best_model.endswith("loss") and not args.greater_is_better
    args = config(tmp_path, **(settings | {"metric_for_best_model": "eval_paced/pass@1"}))
    choose_best_by_accuracy(args, None, None)
    assert args.metric_for_best_model == "eval_paced/pass@1"


def test_fitted_exponents_are_no_whole_numbers() -> None:
    with pytest.raises(ValueError, match="'unbiased', which needs whole-numbered exponents, and one is 'fitted'"):
        PacedConfig(output_dir="run", weight_alpha="fitted", weight_estimator="unbiased", use_cpu=True, bf16=False)


def test_the_teacher_s_gate_replays_nothing() -> None:
    with pytest.raises(ValueError, match="does not know what the student has mastered"):
        PacedConfig(output_dir="run", weighting="teacher_gate", replay_share=0.1, use_cpu=True, bf16=False)
