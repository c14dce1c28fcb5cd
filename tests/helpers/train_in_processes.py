"""Script of test_trainer_in_processes.py: train on references in one or several processes and write the losses."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from peft import LoraConfig
from torch.distributed.tensor import DTensor

from helpers.processes import leave_and_list_threads
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, logged, problems
from paced_trl import PacedConfig, PacedTrainer, Verdict


def shard_on_a_cpu() -> None:
    """Let accelerate do with two processes on a CPU what it does with two GPUs: by itself it leaves FSDP out."""
    start = PartialState.__init__

    def start_as_with_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = start_as_with_gpus


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter with the parts that other processes have."""
    return parameter.detach().full_tensor() if isinstance(parameter, DTensor) else parameter.detach()


def main(output: str, batch_size: int, settings: str) -> None:
    options = json.loads(settings)
    resumes = options.pop("resumes", False)
    if options.pop("is_sharded", False):
        shard_on_a_cpu()
    columns = options.pop("columns", {})
    teaches_itself = "self_distillation" in options
    dataset = problems(**columns)
    dataset = dataset.select(range(options.pop("num_problems", len(dataset))))
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
            **(CPU | {"save_strategy": "no"} | options),
        ),
        train_dataset=dataset,
        peft_config=LoraConfig(r=4, target_modules="all-linear") if teaches_itself else None,
        processing_class=build_tiny_tokenizer(),
        verifier=lambda completions, solutions, **columns: [Verdict.FAILED] * len(completions),
    )
    trainer.train(resume_from_checkpoint=resumes or None)
    refresh = trainer.refresh
    rates_of_ranks = gather_object([None if refresh is None else refresh.pass_rates.pass_rates().tolist()])
    parameters = torch.cat([whole(p).flatten() for p in trainer.model.parameters()])
    num_held = [sum(p.to_local().numel() for p in trainer.model.parameters() if isinstance(p, DTensor))]
    num_held += [sum(p.numel() for p in trainer.teacher_model.parameters() if not isinstance(p, DTensor))]
    trainer.save_model(f"{output}.student")
    if PartialState().is_main_process:
        result = {
            "num_processes": PartialState().num_processes,
            "loss": logged(trainer, "loss"),
            "divergence": logged(trainer, "paced/forward_kl"),
            "pass_rates": rates_of_ranks,
            "parameters": parameters.tolist(),
            "num_held": num_held,
            "teacher_cached": logged(trainer, "paced/teacher_cached"),
        }
        with open(output, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    leave_and_list_threads(sys.argv[1])
