"""
A batch that finished rows leave and waiting rows enter, so that a step costs what its live rows cost.

`generate` runs a batch until its longest row has ended. Here it runs in segments: it stops when enough rows have
ended, their keys and values are dropped, new prompts are run once and their caches appended, and it goes on from
there. Rows are aligned on the right, and padding that no row needs any more is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from .attention_cache import (
    append_rows,
    cache_argument,
    can_share_beginning,
    prefill_beginning,
    prefill_once,
    set_width,
)
from .batching import PromptRow
from .padded_batch import PaddedBatch, attention_mask, left_padded


# Tokens that prompts begin with alike, fewer of which are not worth another forward pass.
_SHORTEST_BEGINNING = 16


class EnoughRowsFinished(StoppingCriteria):
    """End rows, by an end of sequence or at their position in `ends`, **shape (B,)**; all when `num_rows` have."""

    def __init__(self, ends: torch.Tensor, eos_token_ids: torch.Tensor, num_rows: int):
        self.ends = ends
        self.eos_token_ids = eos_token_ids
        self.num_rows = num_rows
        self.finished = torch.zeros_like(ends, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        self.finished |= torch.isin(input_ids[:, -1], self.eos_token_ids) | (input_ids.shape[1] >= self.ends)
        return self.finished | (self.finished.sum() >= self.num_rows)


@dataclass
class _Tensors:
    """What `generate` is given: B rows of one completion each, W positions."""

    ids: torch.Tensor  # (B, W): left padding, prompt, and what has been generated
    padding: torch.Tensor  # (B,): where a row's prompt begins
    starts: torch.Tensor  # (B,): where its completion begins
    uniforms: torch.Tensor | None  # (B, C): random numbers; None if greedy
    cache: DynamicCache  # keys and values of the first W - 1 positions

    def set_width(self, width: int, pad_token_id: int) -> None:
        """Put padding before all rows, or cut off what all of them have."""
        shift = width - self.ids.shape[1]
        # A negative number of columns to pad cuts.
        self.ids = torch.nn.functional.pad(self.ids, (shift, 0), value=pad_token_id)
        self.padding = self.padding + shift
        self.starts = self.starts + shift
        set_width(self.cache, width - 1)

    def keep(self, rows: torch.Tensor) -> None:
        self.ids, self.padding, self.starts = self.ids[rows], self.padding[rows], self.starts[rows]
        self.uniforms = None if self.uniforms is None else self.uniforms[rows]
        self.cache.batch_select_indices(rows)

    def append(self, other: _Tensors) -> None:
        self.ids = torch.cat([self.ids, other.ids])
        self.padding = torch.cat([self.padding, other.padding])
        self.starts = torch.cat([self.starts, other.starts])
        if self.uniforms is not None and other.uniforms is not None:
            self.uniforms = torch.cat([self.uniforms, other.uniforms])
        append_rows(self.cache, other.cache)


class ContinuousBatch(PaddedBatch):
    """Rows that are being generated, of a model whose cache can be cut; made as a [`PaddedBatch`]."""

    _tensors: _Tensors | None = None
    _beginning: Sequence[int] = ()
    _beginning_cache: DynamicCache | None = None

    def share_beginning(self, rows: list[PromptRow]) -> None:
        """Run what all of these prompts begin with once for all, if that is worth it; only they may enter."""
        prompts = [row.prompt_ids for row in rows]
        first, last = min(prompts), max(prompts)
        shared = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
        # Two tokens are left: the last one runs with the completion, and what is run before it shall not be empty.
        length = min(shared, min(map(len, prompts)) - 2)
        if len(rows) > 1 and length >= _SHORTEST_BEGINNING:
            self._beginning = first[:length]

    def _cache_of_beginning(self, width: int) -> DynamicCache | None:
        """Return the keys and values of what prompts of `width` positions begin with, None if they are run whole."""
        if not self._beginning or not can_share_beginning(self.base_model, width):
            return None
        if self._beginning_cache is None:
            self._beginning_cache = prefill_beginning(self.model, self.base_model, list(self._beginning))
        return self._beginning_cache

    @torch.no_grad()
    def admit(self, rows: list[PromptRow]) -> None:
        """Let rows enter: each prompt runs once, whatever its number of generations."""
        # At least two positions: the cache then has one, though every prompt be of one token.
        ids, padding = left_padded([row.prompt_ids for row in rows], self.pad_token_id, min_width=2)
        width = ids.shape[1]
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([row.num_generations for row in rows]))
        ids, padding, owner = (tensor.to(self.model.device) for tensor in (ids, padding, owner))
        singles = [single for row in rows for single in row.singles()]
        beginning = self._cache_of_beginning(width)
        remaining = ids
        if beginning is not None:
            # The padding stays what it is: all rows become shorter by the same number of tokens.
            rest = [row.prompt_ids[len(self._beginning) :] for row in rows]
            remaining = left_padded(rest, self.pad_token_id)[0].to(ids.device)
        entering = _Tensors(
            ids=ids[owner],
            padding=padding[owner],
            starts=torch.full_like(owner, width),
            uniforms=self.uniforms(singles),
            cache=prefill_once(
                self.model, self.base_model, remaining, attention_mask(padding, remaining.shape[1]), owner, beginning
            ),
        )
        if self._tensors is None:
            self._tensors = entering
        else:
            width = max(width, self._tensors.ids.shape[1])
            entering.set_width(width, self.pad_token_id)
            self._tensors.set_width(width, self.pad_token_id)
            self._tensors.append(entering)
        self.rows += singles

    @torch.no_grad()
    def advance(self, stop_at: int) -> list[tuple[PromptRow, list[int]]]:
        """
        Generate until `stop_at` rows are finished, drop these, and return them with their token ids.

        Fewer may have finished: no row shall hold keys and values of more positions than it can have tokens.
        """
        tensors = self._tensors
        assert tensors is not None
        width, limit = tensors.ids.shape[1], self.sampling.max_completion_length
        longest = max(len(row.prompt_ids) for row in self.rows) + limit
        eos_token_ids = torch.tensor(self.generation_config.eos_token_id, device=tensors.ids.device)
        criterion = EnoughRowsFinished(tensors.starts + limit, eos_token_ids, min(stop_at, len(self.rows)))
        tensors.ids = self.model.generate(
            input_ids=tensors.ids,
            attention_mask=attention_mask(tensors.padding, width),
            generation_config=self.configured(max(1, longest - width)),
            logits_processor=self.processors(tensors.uniforms, tensors.padding, tensors.starts),
            stopping_criteria=StoppingCriteriaList([criterion]),
            **{str(cache_argument(self.base_model)): tensors.cache},
        )
        is_finished, starts = criterion.finished.tolist(), tensors.starts.tolist()
        done = [
            (row, tensors.ids[number, starts[number] : starts[number] + limit].tolist())
            for number, row in enumerate(self.rows)
            if is_finished[number]
        ]
        remaining = [row for row, is_done in zip(self.rows, is_finished, strict=True) if not is_done]
        if not remaining:
            self._tensors = None
        else:
            if done:
                tensors.keep(torch.nonzero(~criterion.finished).squeeze(-1))
            tensors.set_width(tensors.ids.shape[1] - int(tensors.padding.min()), self.pad_token_id)
        # Last: where memory runs out before, all rows begin anew and none is lost.
        self.rows = remaining
        return done
