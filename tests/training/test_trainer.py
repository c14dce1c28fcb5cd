"""The trainer against naive definitions and against stock TRL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig
from transformers import PreTrainedModel
from trl import DistillationConfig, DistillationTrainer

from helpers.fake_hub import FakeHub, go_online
from helpers.naive_definitions import naive_adaptive_kl
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import (
    COUNTS,
    CPU,
    ESTIMATE,
    ONLINE,
    PROMPTS,
    hand_made_inputs,
    logged,
    passes_by_prompt,
    passes_by_text,
    problems,
)
from paced_trl import PacedConfig, PacedTrainer, PassRateStore, Verdict
from paced_trl.evaluation.arms import PRESETS
from paced_trl.training.online_pass_rates import OnlinePassRates
from paced_trl.training.schedule import JSD_COEFFICIENT


def naive_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    inputs: dict[str, torch.Tensor],
    problem_weights: list[float],
    kl: str,
    aggregation: str,
) -> torch.Tensor:
    """The definition, one row and one token at a time, with full softmaxes and no padding."""
    total = torch.zeros(())
    num_tokens = int(inputs["completion_mask"].sum())
    for row, weight in enumerate(problem_weights):
        prompt = inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()]
        completion = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()]
        ids = torch.cat([prompt, completion]).unsqueeze(0)
        where = slice(len(prompt) - 1, ids.shape[1] - 1)
        log_s = student(input_ids=ids).logits[0, where].log_softmax(-1)
        with torch.no_grad():
            log_t = teacher(input_ids=ids).logits[0, where].log_softmax(-1)
        if kl == "forward":
            divergence = (log_t.exp() * (log_t - log_s)).sum(-1)
        elif kl == "reverse":
            divergence = (log_s.exp() * (log_s - log_t)).sum(-1)
        elif kl == "cross_entropy":
            divergence = -log_s.gather(-1, completion.unsqueeze(-1)).squeeze(-1)
        elif kl == "akl":
            divergence = naive_adaptive_kl(log_s, log_t)
        else:
            mixture = (0.5 * (log_s.exp() + log_t.exp())).log()
            divergence = 0.5 * (log_t.exp() * (log_t - mixture) + log_s.exp() * (log_s - mixture)).sum(-1)
        if aggregation == "token":
            total = total + weight * divergence.sum() / num_tokens
        else:
            total = total + weight * divergence.mean() / len(problem_weights)
    return total


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("kl", ["forward", "reverse", "jsd", "akl", "cross_entropy"])
def test_unequal_weights_equal_the_naive_definition(make_trainer: Callable, kl: str, aggregation: str) -> None:
    trainer = make_trainer(kl=kl, loss_aggregation=aggregation, completion_source="dataset")
    inputs = hand_made_inputs(trainer.processing_class)
    weights = [0.0, 2.5, 0.5]
    inputs["row_weight"] = trainer._row_weights(torch.tensor(weights), inputs["completion_mask"], training=True)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))
    student = build_tiny_model(seed=0)
    expected = naive_loss(student, build_tiny_model(seed=1), inputs, weights, kl, aggregation)
    expected_gradients = torch.autograd.grad(expected, list(student.parameters()))
    assert loss.item() > 0.1
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("qwen2", {}),
        ("qwen3", {}),
        ("mistral", {}),
        ("gemma2", {"final_logit_softcapping": 5.0}),
        ("cohere", {"logit_scale": 0.5}),
        ("granite", {"logits_scaling": 3.0}),
        ("phi", {}),  # a head with a bias
    ],
)
@pytest.mark.parametrize("kl", ["reverse", "cross_entropy"])
def test_logit_rules_of_other_architectures_hold_under_weights(
    tmp_path: Path, architecture: str, config: dict[str, Any], kl: str
) -> None:
    student, teacher = (build_tiny_model(architecture, seed=seed, **config) for seed in (0, 1))
    trainer = PacedTrainer(
        model=student,
        teacher_model=teacher,
        args=PacedConfig(output_dir=str(tmp_path), kl=kl, max_completion_length=6, **CPU),
        train_dataset=problems(),
        processing_class=build_tiny_tokenizer(),
    )
    weights = [0.0, 2.5, 0.5]
    inputs = {**hand_made_inputs(trainer.processing_class), "row_weight": torch.tensor(weights)}
    loss = trainer.compute_loss(trainer.model, inputs)
    expected = naive_loss(student, teacher, inputs, weights, kl, "token")
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=2e-5)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {},
    "gemma2": {"final_logit_softcapping": 5.0},
    "gemma3_text": {},
    "cohere": {"logit_scale": 0.5},
    "granite": {"logits_scaling": 3.0},
    "gpt2": {},
    "phi": {},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "accumulation": {"gradient_accumulation_steps": 2},
    "forward": {"beta": 0.0},
    "jsd": {"beta": 0.5},
    "activation checkpointing": {"activation_checkpointing": True},
    "lora": {"peft_config": LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")},
}


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [*((architecture, {}) for architecture in ARCHITECTURES), *(("llama", variant) for variant in VARIANTS.values())],
    ids=[*ARCHITECTURES, *VARIANTS],
)
def test_weights_of_one_are_exactly_stock_trl(tmp_path: Path, architecture: str, variant: dict[str, Any]) -> None:
    variant = dict(variant)
    beta, peft_config = variant.pop("beta", 1.0), variant.pop("peft_config", None)
    shared = {
        **CPU,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "max_steps": 10,
        "per_device_train_batch_size": 4,
        "max_completion_length": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        **variant,
    }
    names = {coefficient: name for name, coefficient in JSD_COEFFICIENT.items()}
    settings = {"kl": names[beta], "completion_source": "student", "weighting": "uniform", "rollout_engine": "trl"}
    trainers = []
    for kind, args in (
        (PacedTrainer, PacedConfig(output_dir=str(tmp_path / "paced"), **shared, **settings)),
        (DistillationTrainer, DistillationConfig(output_dir=str(tmp_path / "stock"), beta=beta, **shared)),
    ):
        student, teacher = (build_tiny_model(architecture, seed=s, **ARCHITECTURES[architecture]) for s in (0, 1))
        torch.manual_seed(7)  # for LoRA's first matrices
        trainer = kind(
            model=student,
            teacher_model=teacher,
            args=args,
            train_dataset=problems(),
            processing_class=build_tiny_tokenizer(),
            peft_config=peft_config,
        )
        trainer.train()
        trainers.append(trainer)
    paced, stock = trainers
    assert len(logged(stock, "loss")) == 10
    assert logged(paced, "loss") == logged(stock, "loss")
    assert logged(paced, "grad_norm") == logged(stock, "grad_norm")
    assert any(norm > 0 for norm in logged(stock, "grad_norm"))
    for ours, theirs in zip(paced.model.parameters(), stock.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_result_does_not_depend_on_the_micro_batch_split(make_trainer: Callable, aggregation: str) -> None:
    losses, parameters = [], []
    for batch_size, accumulation in [(8, 1), (4, 2), (1, 8)]:
        trainer = make_trainer(
            kl="forward",
            loss_aggregation=aggregation,
            optim="sgd",
            max_steps=3,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
        )
        trainer.train()
        losses.append(torch.tensor(logged(trainer, "loss")))
        parameters.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    for loss, parameter in zip(losses[1:], parameters[1:], strict=True):
        torch.testing.assert_close(loss, losses[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(parameter, parameters[0], atol=1e-6, rtol=1e-5)


def test_forward_then_reverse_switches_divergence_and_completions(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="forward_then_reverse", kl_switch=0.5, max_steps=4)
    trainer.train()
    stages = [[key for key in entry if key.endswith("_kl")] for entry in trainer.state.log_history if "loss" in entry]
    assert stages == [["paced/forward_kl"]] * 2 + [["paced/reverse_kl"]] * 2
    reference_lengths = {len(reference) + 1 for reference in problems()["reference"]}
    assert max(reference_lengths) == 4
    longest = logged(trainer, "completions/max_length")
    assert all(length <= 4 for length in longest[:2])
    assert longest[2:] == [6.0, 6.0]  # a random student hardly ever stops


def test_references_end_in_eos_and_are_cut_to_the_budget(make_trainer: Callable) -> None:
    with pytest.warns(UserWarning, match=r"8 of 16 references \(50%\) are longer than"):
        trainer = make_trainer(dataset=problems(reference=["12345678"] * 8 + ["12"] * 8), kl="forward")
    rows = [trainer.train_dataset[i] for i in (0, 15)]
    trainer.model.train()
    outputs = trainer._generate_and_score_completions(rows)
    tokenizer = trainer.processing_class
    assert tokenizer.decode(outputs["completion_ids"][0]) == "123456"
    assert outputs["completion_ids"][1].tolist()[:3] == [*tokenizer("12")["input_ids"], tokenizer.eos_token_id]
    assert outputs["completion_mask"][1].tolist() == [1, 1, 1, 0, 0, 0]


def test_weights_in_the_loss_have_mean_one_over_the_dataset(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="forward")
    p = torch.tensor(COUNTS, dtype=torch.float64) / 8
    expected = p * (1 - p) / (p * (1 - p)).mean()
    torch.testing.assert_close(torch.tensor(trainer.problem_weights), expected)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2), (8, 1)])
def test_the_gradient_of_an_epoch_without_the_problems_of_weight_zero_is_that_of_all(
    make_trainer: Callable, batch_size: int, accumulation: int
) -> None:
    dataset = problems(num_passed=[count if row % 2 else 8 for row, count in enumerate(COUNTS)])
    trainer = make_trainer(
        dataset,
        kl="forward",
        loss_aggregation="sequence",
        max_steps=-1,
        num_train_epochs=1,
        learning_rate=0.0,
        optim="sgd",
        max_grad_norm=0.0,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    assert sum(trainer.problem_weights > 0) == 8
    drawn: list[str] = []
    gradients: list[torch.Tensor] = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda rows: drawn.extend(r["prompt"] for r in rows) or generate(rows)
    trainer.create_optimizer()
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args, **kw: gradients.append(gradient_of(trainer.model)) or step(*args, **kw)
    trainer.train()
    assert sorted(drawn) == sorted(PROMPTS[1::2])
    student, teacher, tokenizer = build_tiny_model(seed=0), build_tiny_model(seed=1), build_tiny_tokenizer()
    total = torch.zeros(())
    for row, weight in zip(dataset, trainer.problem_weights, strict=True):
        prompt = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        completion = torch.tensor([[*tokenizer(row["reference"])["input_ids"], tokenizer.eos_token_id]])
        inputs = {"prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt), "completion_ids": completion}
        inputs["completion_mask"] = torch.ones_like(completion)
        total = total + naive_loss(student, teacher, inputs, [weight], "forward", "sequence") / 16
    total.backward()
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), gradient_of(student), atol=1e-6, rtol=1e-4)


def gradient_of(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("refresh", ["never", "online"])
def test_fewer_problems_of_weight_above_zero_than_a_batch(make_trainer: Callable, refresh: str) -> None:
    dataset = problems(num_passed=[4, 4, 4] + [8] * 13)
    trainer = make_trainer(
        dataset, kl="reverse", refresh=refresh, max_steps=3, trainer_kwargs={"verifier": passes_by_prompt}
    )
    trainer.train()
    assert len(logged(trainer, "loss")) == 3
    assert logged(trainer, "paced/problem_weight_mean")[0] == pytest.approx(1.0)


def test_sampling_draws_by_weight_and_trains_with_weight_one(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="forward", apply_weights="sampling")
    trainer.train()
    assert set(logged(trainer, "paced/problem_weight_mean")) == {1.0}
    drawn = list(trainer._get_train_sampler())
    never = {i for i, count in enumerate(COUNTS) if count in (0, 8)}
    assert len(drawn) == 16
    assert not never & set(drawn)


def test_each_epoch_draws_anew(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="forward", apply_weights="sampling", max_steps=6)
    drawn: list[list[str]] = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda rows: drawn.append([r["prompt"] for r in rows]) or generate(rows)
    trainer.train()
    epochs = [drawn[0] + drawn[1], drawn[2] + drawn[3], drawn[4] + drawn[5]]
    assert epochs[0] != epochs[1] != epochs[2]


def test_on_policy_pass_rate_is_logged(make_trainer: Callable) -> None:
    seen: list[tuple[list[str], list[str], dict[str, list[Any]]]] = []

    def verifier(completions: list[str], solutions: list[str], **columns: Any) -> list[Verdict]:
        seen.append((completions, solutions, columns))
        return [Verdict.PASSED, Verdict.UNVERIFIABLE, *[Verdict.FAILED] * (len(completions) - 2)]

    # One token each, and a random student hardly ever stops: all are cut off.
    trainer = make_trainer(kl="reverse", max_steps=1, max_completion_length=1, trainer_kwargs={"verifier": verifier})
    trainer.train()
    completions, solutions, columns = seen[0]
    assert len(completions) == len(solutions) == len(columns["prompt"]) == 8
    assert solutions == [str(eval(prompt[:-1])) for prompt in columns["prompt"]]
    assert logged(trainer, "completions/clipped_ratio") == [1.0]
    assert logged(trainer, "paced/pass_rate") == [pytest.approx(1 / 7)]  # the unverifiable one does not count
    rates = {verdict: logged(trainer, f"paced/verdicts/{verdict}")[0] for verdict in Verdict}
    assert rates[Verdict.PASSED] == rates[Verdict.UNVERIFIABLE] == 1 / 8
    assert rates[Verdict.TRUNCATED] == 6 / 8  # a completion cut off fails as truncated, not as wrong


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_evaluation_is_on_the_student_s_own_completions(make_trainer: Callable, aggregation: str) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    trainer = make_trainer(
        kl="forward",
        loss_aggregation=aggregation,
        max_steps=1,
        per_device_eval_batch_size=16,
        trainer_kwargs={
            "eval_dataset": problems().select_columns(["prompt", "solution"]),
            "verifier": lambda completions, solutions, **_: [Verdict.PASSED] * 4 + [Verdict.FAILED] * 12,
        },
    )
    compute_loss = trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, *args: seen.append(inputs) or compute_loss(model, inputs, *args)
    metrics = trainer.evaluate()
    assert seen[0]["completion_ids"].shape == (16, 6)  # generated: the longest reference has 4 tokens
    expected = naive_loss(trainer.model, trainer.teacher_model, seen[0], [1.0] * 16, "forward", aggregation)
    assert metrics["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["eval_paced/pass_rate"] == 4 / 16


def test_lora_trains_the_adapter_only(make_trainer: Callable) -> None:
    trainer = make_trainer(
        kl="forward",
        trainer_kwargs={"peft_config": LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")},
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("lora_" in name for name in changed)


@pytest.mark.parametrize(
    "settings",
    [
        {"kl": "forward_then_reverse"},
        {"kl": "forward_then_reverse", "apply_weights": "sampling", "gradient_accumulation_steps": 2},
    ],
)
@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_run_has_the_losses_of_the_uninterrupted_one(
    make_trainer: Callable, tmp_path: Path, settings: dict[str, Any], stop_at: int
) -> None:
    shared = {**settings, "max_steps": 8, "per_device_train_batch_size": 4, "kl_switch": 0.5}
    whole = make_trainer(**shared)
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": stop_at, "output_dir": str(tmp_path / "stopped")}
    make_trainer(**shared, **saving).train()
    resumed = make_trainer(**shared, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{stop_at}"))
    assert logged(resumed, "loss") == logged(whole, "loss")


@pytest.mark.parametrize("apply_weights", ["loss", "sampling"])
def test_online_weights_follow_the_verdicts(make_trainer: Callable, apply_weights: str) -> None:
    naive = OnlinePassRates(PROMPTS, COUNTS, [8] * 16, half_life=3.0)
    expected: list[float] = []
    seen: list[list[str]] = []

    def verifier(completions: list[str], solutions: list[str], *, prompt: list[str], **columns: Any) -> list[Verdict]:
        assert set(columns) == {"reference", "num_passed", "num_valid"}
        weights = dict(zip(PROMPTS, naive.weights(), strict=True))
        share = sum(weight > 0 for weight in weights.values()) / 16
        expected.append(sum(weights[text] * share for text in prompt) / 4)
        seen.append(prompt)
        assert all(weights[text] > 0 for text in prompt)
        verdicts = passes_by_prompt(completions, solutions, prompt=prompt)
        naive.observe(prompt, verdicts, step=len(expected) - 1)
        return verdicts

    trainer = make_trainer(**ONLINE, apply_weights=apply_weights, max_steps=8, trainer_kwargs={"verifier": verifier})
    trainer.train()
    torch.testing.assert_close(trainer.problem_weights, naive.weights())
    means = logged(trainer, "paced/problem_weight_mean")
    assert means == pytest.approx(expected if apply_weights == "loss" else [1.0] * 8)
    assert logged(trainer, "paced/problems/staleness")[-1] > 0
    assert len({tuple(prompts) for prompts in seen}) > 4


@pytest.mark.parametrize("apply_weights", ["loss", "sampling"])
@pytest.mark.parametrize("kl", ["reverse", "forward_then_reverse"])
def test_a_resumed_run_goes_on_with_its_online_pass_rates(
    make_trainer: Callable, tmp_path: Path, apply_weights: str, kl: str
) -> None:
    shared = {**ONLINE, "kl": kl, "apply_weights": apply_weights, "max_steps": 8, "gradient_accumulation_steps": 2}
    shared["trainer_kwargs"] = {"verifier": passes_by_prompt}
    whole = make_trainer(**shared)
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": 5, "output_dir": str(tmp_path / "stopped")}
    make_trainer(**shared, **saving).train()
    resumed = make_trainer(**shared, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-5"))
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert logged(resumed, "paced/problems/pass_rate") == logged(whole, "paced/problems/pass_rate")
    torch.testing.assert_close(resumed.problem_weights, whole.problem_weights)
    (tmp_path / "stopped" / "checkpoint-5" / "pass_rates.npz").unlink()
    with pytest.raises(ValueError, match="checkpoint-5' has no pass_rates"):
        make_trainer(**shared, **saving).train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-5"))


def test_weights_stay_where_nothing_is_left_to_learn(make_trainer: Callable) -> None:
    def verifier(completions: list[str], *_: Any, **columns: Any) -> list[Verdict]:
        return [Verdict.PASSED] * len(completions)

    # One problem within the band, and one observation takes it out.
    dataset = problems(num_passed=[3] + [4] * 15, num_valid=[4] * 16)
    settings = {**ONLINE, "weighting": "hard_filter", "apply_weights": "sampling", "max_steps": 2}
    trainer = make_trainer(dataset, **settings, trainer_kwargs={"verifier": verifier})
    with pytest.warns(UserWarning, match="The problem weights stay as they are. All 16 problem weights are 0"):
        trainer.train()
    assert trainer.problem_weights.tolist() == [16.0] + [0.0] * 15


@pytest.mark.parametrize(
    ("columns", "verifier", "message"),
    [
        ({}, None, "there is no `verifier` to judge the student's completions"),
        (
            {"problem_weight": [1.0] * 16},
            passes_by_prompt,
            "needs `num_passed` and `num_valid`, and no `problem_weight`",
        ),
    ],
)
def test_refresh_without_verifier_or_counts_is_refused(
    make_trainer: Callable, columns: dict[str, Any], verifier: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(problems(**columns), **ONLINE, trainer_kwargs={"verifier": verifier})


@pytest.mark.parametrize(
    ("settings", "columns", "has_verifier", "expected"),
    [
        ({}, {}, True, "online"),
        ({"kl": "reverse", "weight_estimator": "posterior"}, {}, True, "online"),
        ({"kl": "akl", "completion_source": "student"}, {}, True, "online"),
        ({}, {}, False, "never"),
        ({"kl": "forward"}, {}, True, "never"),
        ({"kl": "akl"}, {}, True, "never"),
        ({"weighting": "uniform"}, {}, True, "never"),
        ({"weighting": "hard_filter"}, {}, True, "never"),
        ({"weight_estimator": "unbiased"}, {}, True, "never"),
        ({"weight_estimator": "posterior", "prior_features": ["prompt_length"]}, {}, True, "never"),
        ({}, {"problem_weight": [1.0] * 16}, True, "never"),
        ({}, {"num_valid": None, "pass_rate": [0.5] * 16}, True, "never"),
        ({"refresh": "never"}, {}, True, "never"),
    ],
)
def test_pass_rates_are_refreshed_where_that_is_free(
    make_trainer: Callable, settings: dict[str, Any], columns: dict[str, Any], has_verifier: bool, expected: str
) -> None:
    dataset = problems().remove_columns([name for name in columns if name in problems().column_names])
    for name, values in columns.items():
        dataset = dataset if values is None else dataset.add_column(name, values)
    trainer = make_trainer(
        dataset, **settings, trainer_kwargs={"verifier": passes_by_prompt if has_verifier else None}
    )
    assert trainer.args.refresh == expected
    assert (trainer.refresh is not None) == (expected != "never")


@pytest.mark.parametrize("apply_weights", ["loss", "sampling"])
def test_a_stage_on_references_is_that_of_a_run_without_refresh(make_trainer: Callable, apply_weights: str) -> None:
    shared = {"apply_weights": apply_weights, "max_steps": 8, "per_device_train_batch_size": 4, "kl_switch": 0.75}
    runs = []
    for refresh in ("auto", "never"):
        trainer = make_trainer(**shared, refresh=refresh, trainer_kwargs={"verifier": passes_by_prompt})
        trainer.train()
        runs.append(logged(trainer, "loss"))
    assert runs[0][:7] == runs[1][:7]  # the first step on the student's completions observes, the next one draws
    assert runs[0][7] != runs[1][7]


@pytest.mark.parametrize("apply_weights", ["loss", "sampling"])
@pytest.mark.parametrize("kl", ["forward", "forward_then_reverse"])
def test_pass_rates_are_measured_again(make_trainer: Callable, tmp_path: Path, kl: str, apply_weights: str) -> None:
    trainer = make_trainer(**ESTIMATE | {"kl": kl, "apply_weights": apply_weights})
    steps: list[int] = []
    estimate = trainer.refresh.estimate_if_due
    trainer.refresh.estimate_if_due = lambda *args, **kw: estimate(*args, **kw) and not steps.append(kw["step"])
    trainer.train()
    # At the switch as well, where there is one.
    assert steps == ([3, 6] if kl == "forward" else [3, 4, 6])
    stores = sorted((tmp_path / "run" / "refresh").iterdir())
    assert [path.name.split("-")[1] for path in stores] == [str(step) for step in steps]
    latest = {row["problem_id"]: row for row in PassRateStore(stores[-1]).counts().to_pylist()}
    passed, valid = trainer.refresh.pass_rates.counts()
    assert (passed[0], valid[0]) == (COUNTS[0], 8), "only timeouts: nothing new is known"
    for row in range(1, 16):
        counted = latest[str(row)]
        num_valid = sum(counted[f"num_{verdict}"] for verdict in Verdict if verdict.is_valid)
        assert (passed[row], valid[row]) == (counted["num_passed"], num_valid)
    assert sum(PassRateStore(stores[-1]).num_generations().values()) <= 3 * 16
    torch.testing.assert_close(trainer.problem_weights, trainer.refresh.pass_rates.weights())
    tokens = sum(sum(PassRateStore(path).completions()["num_tokens"].to_pylist()) for path in stores)
    assert logged(trainer, "paced/refresh/estimation_tokens")[-1] == tokens


def test_re_estimation_takes_turns(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(**ESTIMATE | {"kl": "forward", "refresh_share": 0.25, "refresh_steps": 1, "max_steps": 5})
    trainer.train()
    covered = [set(PassRateStore(path).num_generations()) for path in sorted((tmp_path / "run" / "refresh").iterdir())]
    assert [len(rows) for rows in covered] == [4] * 4
    assert set().union(*covered) == {str(row) for row in range(16)}


@pytest.mark.parametrize("stop_at", [2, 3, 7])
def test_a_resumed_run_goes_on_with_its_re_estimated_pass_rates(
    make_trainer: Callable, tmp_path: Path, stop_at: int
) -> None:
    shared = ESTIMATE | {"kl": "forward_then_reverse", "refresh_share": 0.5}
    whole = make_trainer(**shared)
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": stop_at, "output_dir": str(tmp_path / "stopped")}
    make_trainer(**shared, **saving).train()
    resumed = make_trainer(**shared, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{stop_at}"))
    assert logged(resumed, "loss") == logged(whole, "loss")
    for key in ("problems/pass_rate", "refresh/estimation_tokens", "tokens_generated"):
        assert logged(resumed, f"paced/{key}") == logged(whole, f"paced/{key}")


@pytest.mark.parametrize(
    ("name", "value"), [("kl_switch_patience", 2), ("kl_switch_threshold", 0.1), ("teacher_offload", True)]
)
def test_a_dropped_setting_is_refused_with_what_to_do_instead(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is given, which was dropped in 0.2: .*Remove it"):
        PacedConfig(output_dir=str(tmp_path), **CPU, **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl": "reverse", "refresh": "estimate"}, "has no switch to do it at, and `refresh_steps` is not given"),
        ({"refresh": "estimate", "refresh_steps": 0}, "`refresh_steps` is 0"),
        ({"refresh": "estimate", "refresh_steps": 5, "refresh_share": 0.0}, "`refresh_share` is 0"),
        ({"refresh": "estimate", "refresh_steps": 5, "refresh_num_generations": 1}, "is 1, but it must be at least 2"),
        ({"kl": "forward"}, "the student makes no completions to learn pass rates from"),
        ({"weighting": "uniform"}, "takes no fading pass rates"),
        ({"weight_estimator": "unbiased"}, "takes no fading pass rates"),
        ({"refresh_half_life": 0.0}, "`refresh_half_life` is 0.0"),
    ],
)
def test_refresh_that_cannot_work_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PacedConfig(output_dir=str(tmp_path), **CPU, **({"kl": "reverse", "refresh": "online"} | settings))


def test_a_loss_that_is_not_finite_ends_the_run_with_its_batch(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(kl="forward")
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="The divergence of step 0 is nan"):
        trainer.train()
    batch = torch.load(tmp_path / "run" / "not_finite-step-0-process-0.pt")
    assert batch["completion_ids"].shape[0] == 8


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("sqrt", lambda p: (p * (1 - p)) ** 0.5),
        ("dapo", lambda p: ((p > 0) & (p < 1)).double()),
        ("paced_sampling", lambda p: p * (1 - p)),
        ("paced_sampling_refreshed", lambda p: p * (1 - p)),
        ("hard_filter_refreshed", lambda p: ((p >= 0.2) & (p <= 0.8)).double()),
    ],
)
def test_presets_are_the_weightings_of_their_papers(make_trainer: Callable, preset: str, expected: Callable) -> None:
    trainer = make_trainer(kl="forward", **PRESETS[preset], trainer_kwargs={"verifier": passes_by_prompt})
    assert trainer.args.refresh == ("estimate" if preset.endswith("refreshed") else "never")
    weights = expected(torch.tensor(COUNTS, dtype=torch.float64) / 8)
    torch.testing.assert_close(torch.tensor(trainer.problem_weights), weights / weights.mean())
    assert trainer.args.apply_weights == "sampling"


def test_adaptive_kl_is_unweighted_on_references_and_logged(make_trainer: Callable) -> None:
    trainer = make_trainer(**PRESETS["akl"])
    trainer.train()
    assert set(trainer.problem_weights) == {1.0}
    assert max(logged(trainer, "completions/max_length")) == 4.0  # the longest reference
    divergences = logged(trainer, "paced/akl")
    assert len(divergences) == 4 and divergences == logged(trainer, "paced/weighted_divergence")
    assert divergences == pytest.approx(logged(trainer, "loss"), rel=1e-4)
    assert divergences[-1] < divergences[0]


def test_fine_tuning_runs_no_teacher_and_pays_for_none(make_trainer: Callable) -> None:
    trainer = make_trainer(**PRESETS["sft"])
    trainer.teacher_model.model.register_forward_hook(lambda *_: pytest.fail("the teacher was run"))
    trainer.train()
    assert logged(trainer, "paced/cross_entropy")[-1] < logged(trainer, "paced/cross_entropy")[0]
    assert logged(trainer, "paced/teacher_tokens")[-1] == 0 < logged(trainer, "paced/student_tokens")[-1]
    assert max(logged(trainer, "completions/max_length")) == 4.0  # the longest reference


@pytest.mark.parametrize("settings", [{"completion_source": "student"}, {"teacher_cache": "cache"}])
def test_what_fine_tuning_cannot_use_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=f"{next(iter(settings))}` is .*cross|cross_entropy' and `{next(iter(settings))}"
    ):
        PacedConfig(output_dir=str(tmp_path), kl="cross_entropy", **settings, **CPU)


def test_exponents_that_nothing_has_fitted_are_refused(make_trainer: Callable) -> None:
    with pytest.raises(ValueError, match="`weight_beta` 'fitted', and nothing has fitted them"):
        make_trainer(weight_beta="fitted")
    assert make_trainer(weighting="uniform", weight_beta="fitted").args.weighting == "uniform"


def test_stock_card_gains_the_method(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(kl="forward")
    trainer.create_model_card(model_name="student")
    card = (tmp_path / "run" / "README.md").read_text()
    assert "2603.11178" in card and "paced" in card
    section = card.partition("### What was done")[2].partition("### Framework versions")[0]
    assert "| problems | 16 of data that the run does not name |" in section
    assert "| trained on | the completions in the data |" in section and "verifier in training | none" in section


def test_pushing_from_python_uploads_a_card_with_what_was_done(
    make_trainer: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeHub().serving() as hub:
        go_online(monkeypatch, hub.endpoint)
        trainer = make_trainer(kl="forward", weighting="uniform", hub_model_id="me/student")
        trainer.push_to_hub()
        card = ModelCard(hub.repositories["models/me/student"].files["README.md"].decode())
        card.validate()
    assert "| weights | all 1 (control) |" in card.text and card.data.base_model is None


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"reference": None}, {"kl": "forward"}, "no column `reference`"),
        ({"reference": ["1"] * 15 + [""]}, {"kl": "forward"}, "Row 15 .* reference ''"),
        ({"num_passed": None}, {}, "neither `num_passed` and `num_valid` nor `pass_rate`"),
        ({"num_passed": None, "pass_rate": [0.5] * 15 + [1.5]}, {}, "Row 15 .* pass rate 1.5"),
        ({"num_passed": None, "pass_rate": [0.5] * 15 + [None]}, {}, "Row 15 .* pass rate nan"),
        ({"num_passed": [8] * 16}, {}, "weight"),
        ({"num_passed": None, "pass_rate": [0.5] * 16}, {"weight_estimator": "posterior"}, "needs counts"),
        ({"problem_weight": [0.0] * 16}, {}, "`problem_weight` has .* only zeros"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_is_refused(
    make_trainer: Callable, columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    dataset = problems()
    dataset = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, values in columns.items():
        dataset = dataset if values is None else dataset.add_column(name, values)
    with pytest.raises(ValueError, match=message):
        make_trainer(dataset=dataset, **settings)


def test_pass_rates_without_counts_give_the_same_plugin_weights(make_trainer: Callable) -> None:
    with_rates = problems(pass_rate=[count / 8 for count in COUNTS]).remove_columns(["num_passed", "num_valid"])
    from_rates, from_counts = make_trainer(dataset=with_rates), make_trainer()
    assert from_rates.problem_weights == pytest.approx(from_counts.problem_weights)


def test_missing_teacher_and_wrong_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`teacher_model` is None"):
        PacedTrainer(model="student", args=PacedConfig(output_dir=str(tmp_path), **CPU), train_dataset=problems())
    with pytest.raises(TypeError, match="needs a `PacedConfig`"):
        PacedTrainer(model="student", teacher_model="teacher", train_dataset=problems())


def test_beta_is_refused_in_favour_of_kl(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`beta` is 0.3, but the divergence is chosen by name"):
        PacedConfig(output_dir=str(tmp_path), beta=0.3, **CPU)
    assert PacedConfig(output_dir=str(tmp_path), kl="reverse", **CPU).beta == 1.0


def test_random_weights_are_the_same_weights_on_other_problems(make_trainer: Callable[..., PacedTrainer]) -> None:
    own, shuffled = (make_trainer(kl="reverse", shuffle_weights=shuffle) for shuffle in (False, True))
    assert sorted(own.problem_weights) == sorted(shuffled.problem_weights)
    assert list(own.problem_weights) != list(shuffled.problem_weights)
    again = make_trainer(kl="reverse", shuffle_weights=True)
    assert list(again.problem_weights) == list(shuffled.problem_weights)


def test_a_budget_of_tokens_ends_the_run_at_the_step_that_reaches_it(
    make_trainer: Callable[..., PacedTrainer],
) -> None:
    settings = {"kl": "forward", "max_steps": 6, "logging_steps": 1}
    whole = make_trainer(**settings)
    whole.train()
    names = ("tokens_generated", "student_tokens", "teacher_tokens")
    totals = [sum(parts) for parts in zip(*(logged(whole, f"paced/{name}") for name in names), strict=True)]
    assert len(totals) == 6
    for budget, steps in ((totals[2], 3), (totals[2] + 1, 4), (1, 1), (10**9, 6)):
        trainer = make_trainer(**settings, token_budget=int(budget))
        trainer.train()
        assert trainer.state.global_step == steps


@pytest.mark.parametrize("kl", ["forward", "reverse", "akl"])
def test_bf16_reaches_the_forward_passes_of_the_loss(make_trainer: Callable, kl: str) -> None:
    dtypes: dict[str, set[torch.dtype]] = {"student": set(), "teacher": set()}

    def run(**settings: Any) -> PacedTrainer:
        trainer = make_trainer(kl=kl, max_steps=2, refresh="never", **settings)
        for name, model in (("student", trainer.model), ("teacher", trainer.teacher_model)):
            model.model.layers[0].mlp.register_forward_hook(
                # Generation is without gradients; the teacher's pass is found by its mode.
                lambda module, inputs, output, name=name: (
                    dtypes[name].add(output.dtype) if name == "teacher" or torch.is_grad_enabled() else None
                )
            )
        trainer.train()
        return trainer

    whole = run()
    assert dtypes == {"student": {torch.float32}, "teacher": {torch.float32}}
    for seen in dtypes.values():
        seen.clear()
    half = run(bf16=True)
    assert dtypes == {"student": {torch.bfloat16}, "teacher": {torch.bfloat16}}
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())
    assert logged(half, "loss")[0] == pytest.approx(logged(whole, "loss")[0], rel=0.05)


def test_the_best_checkpoint_of_two_stages_is_that_of_best_accuracy(make_trainer: Callable) -> None:
    accuracies = iter([0.5, 1.0, 0.25, 0.0])

    trainer = make_trainer(
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        kl_switch=2.0,
        trainer_kwargs={"verifier": passes_by_text, "eval_dataset": problems()},
    )
    trainer._validation.metrics = lambda: {"mean@1": next(accuracies, 0.0)}
    trainer.train()
    assert trainer.args.metric_for_best_model == "eval_paced/mean@1"
    assert trainer.state.best_global_step == 2 and trainer.state.best_metric == 1.0
    assert Path(str(trainer.state.best_model_checkpoint)).name == "checkpoint-2"
