"""Script of test_multiprocess.py: train on references in one or several processes and write the losses."""

from __future__ import annotations

import json
import sys

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from conftest import build_tiny_model, build_tiny_tokenizer
from peft import LoraConfig
from test_trainer import CPU, logged, problems

from paced_trl import PacedConfig, PacedTrainer, Verdict


def main(output: str, batch_size: int, settings: str) -> None:
    options = json.loads(settings)
    columns = options.pop("columns", {})
    teaches_itself = "self_distillation" in options
    dataset = problems(**columns)
    if teaches_itself:
        dataset = dataset.add_column("privileged_context", [f"It is {s}." for s in dataset["solution"]])
    trainer = PacedTrainer(
        model=build_tiny_model(seed=0),
        teacher_model=None if teaches_itself else build_tiny_model(seed=1),
        args=PacedConfig(
            output_dir=f"{output}.run",
            per_device_train_batch_size=batch_size,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            optim="sgd",
            max_steps=4,
            max_completion_length=6,
            logging_steps=1,
            save_strategy="no",
            **CPU,
            **options,
        ),
        train_dataset=dataset,
        peft_config=LoraConfig(r=4, target_modules="all-linear") if teaches_itself else None,
        processing_class=build_tiny_tokenizer(),
        verifier=lambda completions, solutions, **columns: [Verdict.FAILED] * len(completions),
    )
    trainer.train()
    refresh = trainer.refresh
    rates_of_ranks = gather_object([None if refresh is None else refresh.pass_rates.pass_rates().tolist()])
    if PartialState().is_main_process:
        result = {
            "num_processes": PartialState().num_processes,
            "loss": logged(trainer, "loss"),
            "divergence": logged(trainer, "paced/forward_kl"),
            "pass_rates": rates_of_ranks,
            "parameters": torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).tolist(),
            "teacher_cached": logged(trainer, "paced/teacher_cached"),
        }
        with open(output, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
