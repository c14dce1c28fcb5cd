"""Several completions per prompt: the prompt runs once, and the completions are those of TRL's path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import GenerationConfig

from helpers.tiny_models import build_tiny_model
from helpers.training import CPU, PROMPTS, logged, problems
from paced_trl import PacedConfig, Verdict
from paced_trl.generation.shared_prefill import can_share_prefill


MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "gemma2": {"sliding_window": 4, "final_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 4},
    "gpt2": {},
}
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)


@pytest.mark.parametrize(
    ("architecture", "peft_config"),
    [*((architecture, None) for architecture in MODELS), ("llama", LORA)],
    ids=[*MODELS, "lora"],
)
def test_greedy_completions_are_those_of_trl_s_path(
    make_trainer: Callable,
    architecture: str,
    peft_config: LoraConfig | None,
) -> None:
    model = build_tiny_model(architecture, seed=3, **MODELS[architecture])
    trainer = make_trainer(
        architecture=architecture,
        kl="reverse",
        num_train_generations=4,
        top_k=1,
        max_completion_length=12,
        trainer_kwargs={"peft_config": peft_config},
        student=model,
    )
    prompts = [trainer.processing_class(text)["input_ids"] for text in ("12+34=", "7=", "123+456=")]
    repeated = [ids for ids in prompts for _ in range(4)]
    expected = trainer._generate_single_turn(repeated, None, {})
    widths: list[tuple[int, int]] = []
    embedding = trainer.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, args, output: widths.append(tuple(args[0].shape)))
    trainer._completions_per_prompt = 4
    assert trainer._generate_single_turn(repeated, None, {}) == expected
    hook.remove()
    assert widths[:2] == [(3, 7), (12, 1)]  # the last token of a prompt runs with its completions
    assert len({tuple(ids) for ids in expected}) == 3 and max(map(len, expected)) == 12
    assert "generate" not in vars(trainer.model)


def test_the_student_s_stage_repeats_prompts_and_counts_all_completions(
    make_trainer: Callable,
) -> None:
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
    assert len(logged(trainer, "loss")) == 4


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


@pytest.mark.parametrize(
    ("architecture", "config", "possible"),
    [
        ("llama", {}, True),
        ("llama", {"num_beams": 2}, False),
        ("llama", {"use_cache": False}, False),
        ("llama", {"cache_implementation": "static"}, False),
        ("mamba", {}, False),
    ],
)
def test_other_caches_are_left_to_trl(architecture: str, config: dict[str, Any], possible: bool) -> None:
    assert can_share_prefill(build_tiny_model(architecture), GenerationConfig(**config)) is possible


def test_learned_prompts_are_left_to_trl() -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    assert not can_share_prefill(get_peft_model(build_tiny_model(), config), GenerationConfig())


def test_a_number_that_does_not_divide_the_batch_is_refused(tmp_path: Path) -> None:
    shared = {"output_dir": str(tmp_path), "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    assert PacedConfig(**shared, num_train_generations=6, **CPU).num_train_generations == 6
    for count in (4, 0):
        with pytest.raises(ValueError, match=f"`num_train_generations` is {count}, which does not divide the 6"):
            PacedConfig(**shared, num_train_generations=count, **CPU)


def test_one_seed_gives_the_same_sampled_completions(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="reverse", num_train_generations=2)
    repeated = [ids for ids in trainer.processing_class(["12+3=", "4="])["input_ids"] for _ in range(2)]
    completions = []
    for count in (1, 2):
        trainer._completions_per_prompt = count
        torch.manual_seed(0)
        completions.append(trainer._generate_single_turn(repeated, None, {}))
    assert completions[0] == completions[1]
    assert completions[0][0] != completions[0][1]
