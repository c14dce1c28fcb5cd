"""The student's own completions: TRL's policy, from the trainer's weights as they are, drawn alike in every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import LogitsProcessorList
from trl import ModelConfig

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, ESTIMATE, PROMPTS, logged, passes_by_text, problems
from paced_trl import PacedConfig, PacedTrainer, Verdict
from paced_trl.generation.completions import SamplingParameters
from paced_trl.generation.seeded_sampling import sampling_processors
from paced_trl.generation.transformers_engine import TransformersGenerator
from paced_trl.run_directory import MANIFEST, write_json
from paced_trl.training.config import rollout_engine_in_force, uses_fsdp
from paced_trl.training.run import distill


MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"sliding_window": 4, "final_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 4},
    "gpt2": {},
    "mamba": {},  # no cache whose rows can be moved
}
ENDS = [1, *range(50, 90)]
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)


def completed(trainer: PacedTrainer, texts: list[str]) -> list[list[int]]:
    return trainer._generate_single_turn(trainer._tokenize_prompts(texts)[0], None, {})


@pytest.mark.filterwarnings("ignore:.*generates in batches that run until their longest row has ended")
@pytest.mark.parametrize(
    ("architecture", "peft_config"),
    [*((architecture, None) for architecture in MODELS), ("llama", LORA)],
    ids=[*MODELS, "lora"],
)
def test_the_likeliest_completions_are_those_of_trl_s_path(
    make_trainer: Callable, architecture: str, peft_config: LoraConfig | None
) -> None:
    trainers = []
    for engine in ("paced", "trl"):
        torch.manual_seed(0)
        student = build_tiny_model(architecture, seed=3, **MODELS[architecture])
        settings = {"kl": "reverse", "top_k": 1, "max_completion_length": 12, "rollout_engine": engine}
        options = {"peft_config": peft_config}
        trainers.append(make_trainer(architecture=architecture, trainer_kwargs=options, student=student, **settings))
    texts = [text for text in ("12+34=", "7=", "123+456=") for _ in range(4)]
    ours, theirs = (completed(trainer, texts) for trainer in trainers)
    assert ours == theirs
    # The tiny Mamba repeats one token.
    assert len({tuple(ids) for ids in ours}) == (1 if architecture == "mamba" else 3) and max(map(len, ours)) == 12


def test_a_prompt_runs_once_for_its_completions(make_trainer: Callable) -> None:
    student = build_tiny_model(seed=0)
    student.generation_config.eos_token_id = ENDS
    trainer = make_trainer(kl="reverse", num_train_generations=4, max_completion_length=12, student=student)
    shapes: list[tuple[int, ...]] = []
    embedding = trainer.model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, args, output: shapes.append(tuple(args[0].shape)))
    made = completed(trainer, [text for text in ("12+34=", "7=", "123+456=") for _ in range(4)])
    assert shapes[:2] == [(3, 7), (12, 1)]  # the last token of a prompt runs with its completions
    assert shapes[-1][0] < 12  # finished rows have left
    assert len({tuple(ids) for ids in made[:4]}) > 1


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.7},
        {"top_p": 0.6, "temperature": 1.3},
        {"top_k": 7, "min_p": 0.2},
        {"repetition_penalty": 1.4, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
    ],
)
def test_the_distribution_drawn_from_is_trl_s(make_trainer: Callable, sampling: dict[str, Any]) -> None:
    trainer = make_trainer(kl="reverse", **sampling)
    torch.manual_seed(1)
    ids, scores = torch.randint(4, 100, (3, 5)), 3 * torch.randn(3, 100)
    theirs = trainer.model._get_logits_processor(trainer.generation_config, input_ids_seq_length=5)
    zeros = torch.zeros(3, dtype=torch.long)
    ours = sampling_processors(SamplingParameters.of(trainer.args), torch.zeros(3, 6), zeros, zeros + 5)
    torch.testing.assert_close(LogitsProcessorList(ours[:-1])(ids, scores), theirs(ids, scores.clone()))


def test_every_stop_token_of_the_student_ends_a_completion(make_trainer: Callable) -> None:
    student = build_tiny_model(seed=0)
    student.generation_config.eos_token_id = ENDS
    trainer = make_trainer(kl="reverse", max_completion_length=32, student=student)
    made = completed(trainer, PROMPTS)
    ends = {ids[-1] for ids in made if len(ids) < 32}
    assert len(ends) > 1 and ends <= {*ENDS} == {*trainer.eos_token_ids}
    assert not any(set(ids[:-1]) & set(trainer.eos_token_ids) for ids in made)


@pytest.mark.parametrize("peft_config", [None, LORA], ids=["full", "lora"])
def test_completions_are_those_that_estimate_draws_from_the_trained_weights(
    make_trainer: Callable, peft_config: LoraConfig | None
) -> None:
    student = build_tiny_model(seed=0, attention_dropout=0.5)
    settings = {"kl": "reverse", "max_steps": 2, "activation_checkpointing": True}
    trainer = make_trainer(**settings, student=student, trainer_kwargs={"peft_config": peft_config})
    before = completed(trainer, PROMPTS)
    trainer.train()
    trainer.model.train()
    made = completed(trainer, PROMPTS)
    assert trainer.model.training and made != before
    estimate = TransformersGenerator(
        trainer.model, trainer.processing_class, SamplingParameters(max_completion_length=6), batch_size=5
    )
    drawn = dict(estimate(PROMPTS, 1, seed=(trainer.args.seed + 1) * 2**40 + 3))
    texts = trainer.processing_class.batch_decode(made, skip_special_tokens=True)
    assert [drawn[index][0].text for index in range(len(PROMPTS))] == texts


def test_a_prompt_that_comes_again_gets_another_completion(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="reverse", max_completion_length=8)
    trainer.model.train()
    made = completed(trainer, ["1+2=", "3+4=", "1+2="])
    assert made[0] != made[2] and completed(trainer, ["1+2=", "3+4=", "1+2="]) == made
    trainer.model.eval()
    trainer.get_eval_dataloader(problems())
    first, second = completed(trainer, ["1+2="]), completed(trainer, ["1+2="])
    assert first != second
    trainer.get_eval_dataloader(problems())
    assert completed(trainer, ["1+2="]) == first


def test_bf16_reaches_prefill_and_decoding_of_an_adapter(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="reverse", bf16=True, trainer_kwargs={"peft_config": LORA})
    seen: set[tuple[bool, torch.dtype]] = set()
    layer = trainer.model.get_base_model().model.layers[0]
    layer.mlp.register_forward_hook(
        lambda module, args, output: seen.add((output.shape[1] > 1, output.dtype))  # prefill or not
    )
    completed(trainer, PROMPTS)
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


def test_bf16_reaches_re_estimations_of_an_adapter(make_trainer: Callable) -> None:
    settings = ESTIMATE | {"bf16": True, "kl": "forward", "max_steps": 4}
    settings["trainer_kwargs"] = {"peft_config": LORA, "verifier": passes_by_text}
    trainer = make_trainer(**settings)
    seen: set[tuple[bool, torch.dtype]] = set()
    trainer.model.get_base_model().model.layers[0].mlp.register_forward_hook(
        lambda module, args, output: None if torch.is_grad_enabled() else seen.add((output.shape[1] > 1, output.dtype))
    )
    trainer.train()
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


def test_the_student_s_stage_repeats_prompts_and_counts_all_completions(make_trainer: Callable) -> None:
    seen: list[list[str]] = []

    def verifier(completions: list[str], solutions: list[str], *, prompt: list[str], **columns: Any) -> list[Verdict]:
        seen.append(prompt)
        return [Verdict.PASSED] * len(prompt)

    trainer = make_trainer(
        kl="forward_then_reverse",
        refresh="online",
        num_train_generations=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=4,
        trainer_kwargs={"verifier": verifier},
    )
    drawn: list[int] = []
    trainer._generate = recorded(trainer._generate, drawn)
    trainer.train()
    assert drawn == [8] * 4  # as many completions in the stage on references
    assert [len(set(prompts)) for prompts in seen] == [2, 2]
    for prompts in seen:
        assert prompts == [prompts[0]] * 4 + [prompts[4]] * 4
    assert trainer.refresh.pass_rates.num_observed == 16
    counts = dict(zip(PROMPTS, trainer.refresh.pass_rates.num_valid, strict=True))
    twice = set(seen[0]) & set(seen[1])
    assert all(counts[text] > 11 for text in {*seen[0], *seen[1]} - twice)
    assert len(logged(trainer, "loss")) == len(logged(trainer, "completions/mean_length")) == 4


def recorded(generate: Callable, sizes: list[int]) -> Callable:
    def record(prompts: list[Any]) -> Any:
        sizes.append(len(prompts))
        return generate(prompts)

    return record


def test_evaluation_takes_one_completion_per_prompt(make_trainer: Callable) -> None:
    trainer = make_trainer(
        kl="reverse",
        num_train_generations=4,
        per_device_eval_batch_size=16,
        trainer_kwargs={"eval_dataset": problems().select_columns(["prompt", "solution"])},
    )
    drawn: list[int] = []
    trainer._generate = recorded(trainer._generate, drawn)
    trainer.evaluate()
    assert drawn == [16]


def test_a_number_that_does_not_divide_the_batch_is_refused(tmp_path: Path) -> None:
    shared = {"output_dir": str(tmp_path), "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    assert PacedConfig(**shared, num_train_generations=6, **CPU).num_train_generations == 6
    for count in (4, 0):
        with pytest.raises(ValueError, match=f"`num_train_generations` is {count}, which does not divide the 6"):
            PacedConfig(**shared, num_train_generations=count, **CPU)


@pytest.mark.parametrize(
    ("settings", "environment", "reason"),
    [
        ({"use_vllm": True, "kl": "reverse"}, {}, "`use_vllm` is set"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 3}}, {}, "`generation_kwargs` is"),
        ({"cache_implementation": "static"}, {}, "`cache_implementation` is 'static'"),
        ({"max_completion_length": None}, {}, "`max_completion_length` is not given"),
        ({}, {"ACCELERATE_USE_FSDP": "true"}, "FSDP shards the student's weights"),
        ({}, {}, None),
    ],
)
def test_what_the_engine_cannot_do_is_left_to_trl_or_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    environment: dict[str, str],
    reason: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shared = {"output_dir": str(tmp_path), **CPU, **settings}
    args = PacedConfig(**shared)
    assert uses_fsdp(args) is bool(environment)
    assert rollout_engine_in_force(args) == ("paced" if reason is None else "trl")
    assert rollout_engine_in_force(PacedConfig(**shared, rollout_engine="trl")) == "trl"
    if reason is not None:
        with pytest.raises(ValueError, match=f"`rollout_engine` is 'paced', and {reason}.*Leave `rollout_engine` out"):
            PacedConfig(**shared, rollout_engine="paced")


def test_a_run_of_an_earlier_version_goes_on_with_trl_s_generation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("student", 0), ("teacher", 1)):
        build_tiny_model(seed=seed).save_pretrained(tmp_path / name)
        build_tiny_tokenizer().save_pretrained(tmp_path / name)

    def run(name: str, **settings: Any) -> list[float]:
        args = PacedConfig(
            output_dir=str(tmp_path / name),
            teacher_model_name_or_path=str(tmp_path / "teacher"),
            kl="reverse",
            max_steps=4,
            per_device_train_batch_size=4,
            max_completion_length=6,
            learning_rate=1e-2,
            logging_steps=1,
            save_steps=2,
            **(CPU | settings),
        )
        model_args = ModelConfig(model_name_or_path=str(tmp_path / "student"))
        history = distill(args, model_args, problems(), verifier=passes_by_text).log_history
        return [entry["loss"] for entry in history if "loss" in entry]

    theirs = run("trl", rollout_engine="trl")
    ours = run("paced")
    assert ours != theirs
    # A run of version 0.2 as a kill left it: no such setting, and half of the steps.
    manifest = tmp_path / "trl" / MANIFEST
    record = json.loads(manifest.read_text())
    assert record["settings"].pop("rollout_engine") == "trl"
    write_json(manifest, {**record, "status": "started"})
    (tmp_path / "trl" / "checkpoint-4").rename(tmp_path / "unused")
    capsys.readouterr()
    assert run("trl") == theirs
    assert "was begun by an earlier version, where TRL generated" in capsys.readouterr().out
    assert run("trl") == theirs and "earlier version" not in capsys.readouterr().out
    write_json(manifest, {**record, "status": "started"})
    with pytest.raises(ValueError, match="holds a run with `rollout_engine`='trl', but now it is 'paced'"):
        run("trl", rollout_engine="paced")
