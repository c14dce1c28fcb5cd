"""Script of test_validation.py: evaluate 5 problems 3 times each, in batches that do not come out even."""

from __future__ import annotations

import json
import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from helpers.processes import leave_and_list_threads
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, PROMPTS, problems
from paced_trl import PacedConfig, PacedTrainer, Verdict
from paced_trl.training.monitoring.validation import Validation


def main(output: str) -> None:
    num_verified = 0
    counted: dict[int, int] = {}

    def passes_even(completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
        nonlocal num_verified
        num_verified += len(completions)
        return [Verdict.FAILED if PROMPTS.index(text) % 2 else Verdict.PASSED for text in prompt]

    class Counted(Validation):
        def clear(self) -> None:
            counted.update({row: len(verdicts) for row, verdicts in self._verdicts.items()})
            super().clear()

    trainer = PacedTrainer(
        model=build_tiny_model(seed=0),
        teacher_model=build_tiny_model(seed=1),
        args=PacedConfig(
            output_dir=f"{output}.run",
            per_device_eval_batch_size=4,
            max_completion_length=6,
            num_validation_generations=3,
            **CPU,
        ),
        train_dataset=problems(),
        eval_dataset=problems().select(range(5)),
        processing_class=build_tiny_tokenizer(),
        verifier=passes_even,
    )
    trainer._validation = Counted(3)
    metrics = trainer.evaluate()
    verified_by_all = sum(gather_object([num_verified]))
    if PartialState().is_main_process:
        result = {
            "num_processes": PartialState().num_processes,
            "metrics": metrics,
            "counted": counted,
            "num_verified": verified_by_all,
        }
        with open(output, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[1])
    leave_and_list_threads(sys.argv[1])
