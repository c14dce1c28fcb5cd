"""
One padded batch that runs until its longest row has ended: what every model can do.

For models whose cache cannot be cut (recurrent states, encoder-decoders); `continuous_batch.py` is for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from .batching import PromptRow
from .completions import SamplingParameters
from .seeded_sampling import row_uniforms, sampling_processors


class PaddedBatch:
    """
    Rows that are generated together, each prompt once per generation.

    `model`, in eval mode, is `base_model` or what PEFT makes of it; `generation_config` is greedy and has
    `pad_token_id` and `eos_token_id` (a list). `rows` is what is not finished, one completion each.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        base_model: PreTrainedModel,
        generation_config: GenerationConfig,
        sampling: SamplingParameters,
        seed: int,
    ):
        self.model: Any = model
        self.base_model = base_model
        self.generation_config = generation_config
        self.sampling = sampling
        self.seed = seed
        self.pad_token_id: int = generation_config.pad_token_id
        self.rows: list[PromptRow] = []

    def share_beginning(self, rows: list[PromptRow]) -> None:
        """Say which rows may enter; here each prompt runs whole."""

    def admit(self, rows: list[PromptRow]) -> None:
        self.rows += [single for row in rows for single in row.singles()]

    @torch.no_grad()
    def advance(self, stop_at: int) -> list[tuple[PromptRow, list[int]]]:
        """Return all rows with their token ids, padding after the end, whatever number of finished rows is wanted."""
        ids, padding = left_padded([row.prompt_ids for row in self.rows], self.pad_token_id)
        ids, padding = ids.to(self.model.device), padding.to(self.model.device)
        width = ids.shape[1]
        starts = torch.full_like(padding, width)
        output = self.model.generate(
            input_ids=ids,
            attention_mask=attention_mask(padding, width),
            generation_config=self.configured(self.sampling.max_completion_length),
            logits_processor=self.processors(self.uniforms(self.rows), padding, starts),
        )
        rows, self.rows = self.rows, []
        return list(zip(rows, output[:, width:].tolist(), strict=True))

    def configured(self, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(**self.generation_config.to_diff_dict() | {"max_new_tokens": max_new_tokens})

    def processors(
        self, uniforms: torch.Tensor | None, padding: torch.Tensor, starts: torch.Tensor
    ) -> LogitsProcessorList:
        """Return what shapes the scores of `self.rows`, in their order."""
        return sampling_processors(self.sampling, uniforms, padding, starts)

    def uniforms(self, rows: list[PromptRow]) -> torch.Tensor | None:
        """Return the random numbers of rows of one completion, **shape (B, C)**; `None` if greedy."""
        if self.sampling.temperature == 0:
            return None
        length = self.sampling.max_completion_length
        streams = [row_uniforms(row, self.seed, length) for row in rows]
        return torch.from_numpy(np.stack(streams)).to(self.model.device)


def left_padded(
    sequences: Sequence[list[int]], pad_token_id: int, min_width: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids padded on the left, **shape (B, W)**, and the number of padding tokens, **shape (B,)**."""
    width = max(min_width, *(len(sequence) for sequence in sequences))
    padding = [width - len(sequence) for sequence in sequences]
    ids = [[pad_token_id] * shift + sequence for shift, sequence in zip(padding, sequences, strict=True)]
    return torch.tensor(ids), torch.tensor(padding)


def attention_mask(padding: torch.Tensor, width: int) -> torch.Tensor:
    """Return the mask of left-padded rows, **shape (B, width)**."""
    return (torch.arange(width, device=padding.device) >= padding[:, None]).long()
