"""
The student's own completions while it trains, made by the engine that estimates its pass rates.

Weights are the trainer's as they are, in eval mode and in the precision of the loss; finished rows leave the batch. A
completion follows from weights, seed, optimizer step and prompt, so a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from ..generation.batching import PromptRow
from ..generation.completions import SamplingParameters
from ..generation.transformers_engine import TransformersGenerator
from .config import PacedConfig


class Rollouts:
    """Complete batches of prompts with a student; one that comes again in a batch or evaluation gets another."""

    def __init__(self, args: PacedConfig, tokenizer: Any, eos_token_ids: list[int], accelerator: Accelerator) -> None:
        self.args = args
        self.tokenizer = tokenizer
        self.eos_token_ids = eos_token_ids
        self.accelerator = accelerator
        self._asked: Counter[tuple[int, ...]] = Counter()
        self._generator: TransformersGenerator | None = None

    def begin_evaluation(self) -> None:
        self._asked.clear()

    def complete(self, student: Any, prompt_ids: list[list[int]], step: int | None) -> list[list[int]]:
        """Return the token ids of one completion per prompt, its end included; `step` is None in evaluations."""
        # Seeds of estimations and references are below.
        seed = (self.args.seed + 1) * 2**40
        if step is not None:
            self._asked.clear()
            seed += step + 1
        rows = self._rows(prompt_ids)
        generator = self._generator_of(student, len(prompt_ids))
        longest_first = sorted(rows, key=lambda row: (-len(row.prompt_ids), row.prompt_index))
        # Around the prefill as well as the decoding: accelerate's own autocast is on the outermost `forward` only.
        with self.accelerator.autocast():
            made = {
                (row.prompt_index, row.first_generation): ids
                for row, ids in generator.generate_ids(longest_first, seed)
            }
        return [made[row.prompt_index, single.first_generation] for row in rows for single in row.singles()]

    def _rows(self, prompt_ids: list[list[int]]) -> list[PromptRow]:
        """Return this process's prompts in their order; equal ones that follow each other are one row."""
        rows: list[PromptRow] = []
        for process, part in enumerate(gather_object([prompt_ids])):
            for ids in part:
                number = self._asked[tuple(ids)]
                self._asked[tuple(ids)] += 1
                if process != self.accelerator.process_index:
                    continue
                last = rows[-1] if rows else None
                if last and last.prompt_ids == ids and last.first_generation + last.num_generations == number:
                    rows[-1] = replace(last, num_generations=last.num_generations + 1)
                else:
                    rows.append(PromptRow(len(rows), ids, number, 1))
        return rows

    def _generator_of(self, student: Any, num_rows: int) -> TransformersGenerator:
        """Return the student's generator, which remembers a batch size that fits into memory."""
        if self._generator is None or self._generator.model is not student:
            args = self.args
            most = max(
                num_rows,
                args.per_device_train_batch_size * args.gradient_accumulation_steps,
                args.per_device_eval_batch_size,
            )
            # All rows at once, as TRL has them: a size that follows free memory would not be the same after a resume.
            self._generator = TransformersGenerator(
                student, self.tokenizer, SamplingParameters.of(args), batch_size=most, batch_tokens=sys.maxsize
            )
            self._generator.eos_token_ids = self.eos_token_ids
        return self._generator
