"""TRL's `use_vllm`: passed through where it can work, refused before models load where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from datasets import Dataset
from peft import LoraConfig
from trl.trainer import distillation_trainer

from helpers.training import logged, settings
from paced_trl import PacedTrainer
from paced_trl.training.preflight.vllm import check_vllm


class StubGeneration:
    """In place of TRL's connection to vLLM: remembers what it is given, answers each prompt with a 7 and an end."""

    made: ClassVar[list[StubGeneration]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.num_transfers = options, 0
        self.made.append(self)

    def sync_weights(self) -> None:
        self.num_transfers += 1

    def generate(self, *, prompts: list[list[int]], **_: Any) -> tuple[Any, ...]:
        tokenizer = self.options["processing_class"]
        return prompts, [[*tokenizer("7")["input_ids"], tokenizer.eos_token_id] for _ in prompts], None, None


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> list[StubGeneration]:
    monkeypatch.setattr(distillation_trainer, "is_vllm_available", lambda: True)
    monkeypatch.setattr(distillation_trainer, "VLLMGeneration", StubGeneration)
    monkeypatch.setattr(StubGeneration, "made", [])
    return StubGeneration.made


@pytest.mark.parametrize(
    "given",
    [
        {"vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.2, "vllm_enable_sleep_mode": True},
        {"vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:8000", "vllm_group_port": 51217},
        {"vllm_max_model_length": 99},
    ],
)
def test_what_trl_offers_is_passed_through(
    make_trainer: Callable, vllm: list[StubGeneration], given: dict[str, Any]
) -> None:
    trainer = make_trainer(kl="reverse", use_vllm=True, temperature=0.7, top_p=0.9, max_steps=2, **given)
    trainer.train()
    (made,) = vllm
    expected = {name.removeprefix("vllm_"): value for name, value in given.items()}
    # The longest prompt has 4 tokens; vLLM would reserve memory for the whole context.
    expected = {"temperature": 0.7, "top_p": 0.9, "max_completion_length": 6, "max_model_length": 10, **expected}
    assert {name: made.options[name] for name in expected} == expected
    assert made.num_transfers == 2 and trainer._rollouts is None
    assert logged(trainer, "completions/mean_length") == [2.0, 2.0] and logged(trainer, "loss")[1] > 0


def distribution(version: str, *requires: str) -> SimpleNamespace:
    return SimpleNamespace(version=version, requires=list(requires))


@pytest.mark.parametrize(
    ("given", "installed", "message"),
    [
        (
            {"vllm_tensor_parallel_size": 2},
            distribution("0.30.0"),
            "is 2, which does not divide the run's 1 processes",
        ),
        ({}, None, "vLLM is not installed here, which `vllm_mode: colocate` needs.*Leave out `use_vllm`"),
        ({"vllm_mode": "server"}, None, "vLLM is not installed here, which `vllm_mode: server` needs"),
        ({}, distribution("0.33.0"), r"with vLLM 0\.33\.0, and TRL 1\.16\.\d+ goes with 0\.22\.0 to 0\.31\.0"),
        (
            {},
            distribution("0.31.0+cu130", "numpy", "transformers<5.20,>=4.56"),
            r"vLLM 0\.31\.0\+cu130 needs transformers <5\.20,>=4\.56, and 5\.\S+ is installed.*vLLM 0\.30 goes with",
        ),
        ({}, distribution("0.30.1", "torch>=2.0", "nothing==1", 'numpy<1; python_version < "3"'), None),
    ],
)
def test_what_vllm_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], installed: SimpleNamespace | None, message: str | None
) -> None:
    find, version = metadata.distribution, metadata.version
    if installed is not None:
        monkeypatch.setattr(metadata, "distribution", lambda name: installed if name == "vllm" else find(name))
        monkeypatch.setattr(metadata, "version", lambda name: installed.version if name == "vllm" else version(name))
    monkeypatch.setattr(distillation_trainer, "is_vllm_available", lambda: installed is not None)
    args = settings(use_vllm=True, **given)
    if message is None:
        check_vllm(args, None)
        return
    with pytest.raises((ValueError, ImportError), match=message):
        check_vllm(args, None)
    check_vllm(settings(**given), None)  # without `use_vllm` it is of no matter


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="`vllm_mode` is 'serve', but it must be one of 'server', 'colocate'"):
        settings(use_vllm=True, vllm_mode="serve")


def test_a_missing_vllm_is_found_before_models_load() -> None:
    problems = Dataset.from_dict({"prompt": ["1+2="]})
    with pytest.raises(ImportError, match="vLLM is not installed here"):
        PacedTrainer("no-model", "no-teacher", settings(use_vllm=True, weighting="uniform"), problems)


@pytest.mark.parametrize(("dtype", "is_warned"), [("bfloat16", True), ("float32", False)])
def test_an_adapter_that_moves_its_base_is_said(vllm: list[StubGeneration], dtype: str, is_warned: bool) -> None:
    args = settings(use_vllm=True, model_init_kwargs={"dtype": dtype})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_vllm(args, LoraConfig())
        check_vllm(args, None)
    assert [f"LoRA on a base in {dtype}" in str(each.message) for each in caught] == [True] * is_warned
