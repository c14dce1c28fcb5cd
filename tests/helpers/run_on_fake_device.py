"""Script of test_fake_device.py: run every case on the CPU and on the fake device, and write what came of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from trl import ModelConfig

from helpers.fake_device import DEVICE, fake_device
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, PROMPTS, passes_by_text, problems
from paced_trl import PacedConfig, SamplingParameters, TransformersGenerator, evaluate_model
from paced_trl.evaluation.diagnosis import diagnose
from paced_trl.training.run import make_trainer


# In threads, which the device does not reach.
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"


def generator(device: torch.device, **sampling: Any) -> TransformersGenerator:
    model, parameters = build_tiny_model().to(device), SamplingParameters(**{"max_completion_length": 8, **sampling})
    return TransformersGenerator(model, build_tiny_tokenizer(), parameters, batch_size=5)


def generate(device: torch.device, models: Path, **sampling: Any) -> list[str]:
    found = dict(generator(device, **sampling)(PROMPTS[:6], 3, seed=0))
    return [completion.text for index in sorted(found) for completion in found[index]]


def settings(device: torch.device, models: Path, columns: Any = (), **given: Any) -> dict[str, Any]:
    """Return the run, the student and the data of a small run on a device."""
    options = {
        "output_dir": tempfile.mkdtemp(dir=models),
        "max_steps": 4,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        **CPU,
        "use_cpu": device.type == "cpu",
        **given,
    }
    lora = {"use_peft": True, "lora_r": 2, "lora_dropout": 0.0, "lora_target_modules": ["all-linear"]}
    student = ModelConfig(model_name_or_path=str(models / "student"), **(lora if options.pop("lora", False) else {}))
    if "self_distillation" not in options:
        options["teacher_model_name_or_path"] = str(models / "teacher")
    data = problems(privileged_context=["the digits are added"] * len(PROMPTS), **dict(columns))
    return {"args": PacedConfig(**options), "model_args": student, "dataset": data}


def train(device: torch.device, models: Path, **given: Any) -> list[float]:
    cache = {"teacher_cache": tempfile.mkdtemp(dir=models)} if given.pop("cached", False) else {}
    held_out = problems() if "eval_strategy" in given else None
    run = settings(device, models, given.pop("columns", ()), **{"refresh": "never", **given, **cache})
    trainer = make_trainer(**run, verifier=passes_by_text, validation=held_out)
    trainer.train()
    assert {parameter.device.type for parameter in trainer.model.parameters()} == {device.type}
    names = ("loss", "grad_norm", "eval_loss", "eval_paced/mean@k")
    return [entry[name] for entry in trainer.state.log_history for name in names if name in entry]


def evaluate(device: torch.device, models: Path) -> list[int]:
    return evaluate_model(problems(), generator(device), passes_by_text, name="held out", progress=False).num_passed


def diagnosis(device: torch.device, models: Path) -> list[float]:
    counts = {"num_passed": [(row % 3) * 4 for row in range(len(PROMPTS))]}
    found = diagnose(**settings(device, models, counts), problems_per_pass_rate=5)
    return [bin.snr for bin in found.bins]


def forward_of_cpu_ids(device: torch.device, models: Path) -> list[float]:
    return build_tiny_model().to(device)(input_ids=torch.tensor([[5, 6]], device="cpu")).logits.flatten().tolist()


def indexed_on_the_cpu(device: torch.device, models: Path) -> list[int]:
    """The other way round, an index of the CPU for a tensor of the device, passes: CUDA takes it too."""
    index = torch.tensor([1], device=device)
    assert torch.arange(3, device=device)[index.cpu()].tolist() == [1]
    return torch.arange(3)[index].tolist()


def teacher_on_the_cpu(device: torch.device, models: Path) -> list[float]:
    trainer = make_trainer(**settings(device, models, refresh="never"))
    trainer.teacher_model = trainer.teacher_model.to("cpu")
    return [trainer.train().training_loss]


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "generate, greedy": (generate, {"temperature": 0}),
    "generate": (generate, {}),
    "generate, all parameters": (generate, {"top_p": 0.9, "top_k": 5, "min_p": 0.05, "repetition_penalty": 1.3}),
    "train, both stages": (train, {"kl": "forward_then_reverse", "gradient_accumulation_steps": 2}),
    "train, jsd by sequence": (train, {"kl": "jsd", "loss_aggregation": "sequence"}),
    "train, akl, checkpointed": (train, {"kl": "akl", "activation_checkpointing": True}),
    "train, cached teacher": (train, {"kl": "forward", "max_steps": 6, "cached": True}),
    "train, online": (train, {"kl": "reverse", "refresh": "online", "num_train_generations": 2}),
    "train, beginning once": (
        train,
        {"columns": {"prompt": [f"1+1=2;{prompt}" for prompt in PROMPTS]}, "share_prompt_beginning": True},
    ),
    "train, estimated again": (
        train,
        {"kl": "reverse", "refresh": "estimate", "refresh_steps": 2, "refresh_num_generations": 2}
        | {"apply_weights": "sampling"},
    ),
    "train, adapter": (train, {"lora": True, "refresh": "estimate", "refresh_steps": 2, "refresh_num_generations": 2}),
    "train, averaged self-teacher": (train, {"lora": True, "kl": "reverse", "self_distillation": "ema"}),
    "train, copied self-teacher": (train, {"kl": "reverse", "self_distillation": "copy"}),
    "train, validated": (train, {"eval_strategy": "steps", "eval_steps": 2, "num_validation_generations": 2}),
    "evaluate": (evaluate, {}),
    "diagnose": (diagnosis, {}),
    "mix: token ids": (forward_of_cpu_ids, {}),
    "mix: an index": (indexed_on_the_cpu, {}),
    "mix: the teacher": (teacher_on_the_cpu, {}),
}


def run(device: torch.device, models: Path, name: str) -> Any:
    case, options = CASES[name]
    torch.manual_seed(0)
    try:
        return case(device, models, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-6)}"


def main(output: str, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        for name, seed in (("student", 0), ("teacher", 1)):
            build_tiny_model(seed=seed).save_pretrained(models / name)
            build_tiny_tokenizer().save_pretrained(models / name)
        found = {name: {"cpu": run(torch.device("cpu"), models, name)} for name in names or CASES}
        with fake_device():
            for name in found:
                found[name]["fake"] = run(DEVICE, models, name)
    Path(output).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
