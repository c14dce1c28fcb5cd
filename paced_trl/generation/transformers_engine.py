"""
Generation with transformers in this process.

Prompts in order of length, a batch that finished rows leave and waiting ones enter, nothing inherited from a
checkpoint's `generation_config`, completions that do not depend on the batch they are in.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from .attention_cache import why_cache_cannot_be_cut
from .batching import PromptRow, RowLimit, capacity, split_off
from .completions import Completion, SamplingParameters
from .continuous_batch import ContinuousBatch
from .device_memory import BatchLimits, bytes_per_token, free_memory, limits_of
from .identity import eos_token_ids, memory_checksum, model_name, model_record
from .models import base_model_of, load_model, load_tokenizer
from .padded_batch import PaddedBatch
from .prompts import PromptGenerator, PromptRenderer


# Finished rows leave, and waiting ones enter, when they are this part of the batch. Sooner costs prefills of few
# prompts, later costs steps of finished rows; measured with scripts/bench_generation.py.
_FINISHED_PART = 0.25


class TransformersGenerator(PromptGenerator):
    """
    Generate with a transformers model in this process.

    A completion depends on weights, sampling parameters, seed, prompt and its number among the prompt's generations,
    and up to floating-point rounding on nothing else: not on how prompts fall into batches. Equal prompts get equal
    completions.

    Example:

    ```python
    >>> generator = TransformersGenerator(model, tokenizer, SamplingParameters(max_completion_length=64))
    >>> for index, completions in generator(["2+2=", "3+3="], 4, seed=0):
    ...     print(index, [completion.text for completion in completions])
    ```

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            A model with a language modelling head.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer; [`PromptRenderer`] says how prompts become tokens.
        sampling (`SamplingParameters`):
            How completions are drawn.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the chat template, such as `{"enable_thinking": False}`.
        batch_size (`int`, *optional*):
            Most completions that are generated at once. Halved when the device runs out of memory, and grown again.
            `None`: 256 where `batch_tokens` follows the free memory, else 64.
        batch_tokens (`int`, *optional*):
            Most tokens in a batch, counting for every completion its padded prompt and `max_completion_length`:
            bounds the key-value cache. `None`: what fits the free memory of the device; 65,536 on a CPU.
        record (`dict`, *optional*):
            What identifies the model in a store's record, such as `{"model": "Qwen/Qwen3-1.7B", "weights": "..."}`.
            `None` takes the model's name and a checksum of its weights in memory.

    Raises:
        ValueError: If a limit is below 1, or neither tokenizer nor generation config has an end-of-sequence token.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        sampling: SamplingParameters,
        *,
        chat_template_kwargs: dict[str, Any] | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        record: dict[str, Any] | None = None,
    ):
        for name, limit in (("batch_size", batch_size), ("batch_tokens", batch_tokens)):
            if limit is not None and limit < 1:
                raise ValueError(f"`{name}` is {limit}: it must be at least 1.")
        self.model: Any = model
        self._base_model: Any = base_model_of(model)
        super().__init__(
            PromptRenderer(tokenizer, chat_template_kwargs),
            sampling,
            context_length=getattr(self._base_model.config.get_text_config(), "max_position_embeddings", None),
        )
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self._bytes_per_token: int | None = None
        self._row_limit: RowLimit | None = None
        self.eos_token_ids = eos_token_ids(self._base_model, tokenizer)
        self.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_token_ids[0]
        self._identity = record
        reason = why_cache_cannot_be_cut(self._base_model)
        self._can_cut_cache = reason is None
        if reason is not None:
            _say_why_slow(type(self._base_model).__name__, reason)

    @property
    def record(self) -> dict[str, Any]:
        """Everything that the completions depend on, as JSON values; part of a store's record."""
        identity = self._identity
        if identity is None:
            name = self._base_model.name_or_path or type(self._base_model).__name__
            identity = {"model": model_name(name), "weights": memory_checksum(self.model)}
        return {
            "engine": "transformers",
            **identity,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **self.renderer.record,
            "eos_token_ids": self.eos_token_ids,
            "sampling": asdict(self.sampling),
        }

    def _generate_rows(self, rows: list[PromptRow], seed: int) -> Iterator[tuple[PromptRow, Completion]]:
        for row, ids in self.generate_ids(rows, seed):
            yield row, self._completion(ids)

    def generate_ids(self, rows: list[PromptRow], seed: int) -> Iterator[tuple[PromptRow, list[int]]]:
        """
        Yield rows of one generation with their token ids, which end with the first end-of-sequence token, if any.

        `rows` enter in their order, longest prompts first. Where memory runs out, unfinished ones begin anew.
        """
        if not rows:
            return
        waiting, batch = rows, self._new_batch(seed)
        batch.share_beginning(rows)
        limits = self._limits()
        if self._row_limit is None:
            self._row_limit = RowLimit(limits.rows)
        while waiting or batch.rows:
            entering, waiting = self._next_rows(waiting, batch, replace(limits, rows=self._row_limit.now))
            num_rows = len(batch.rows) + sum(row.num_generations for row in entering)
            finished: list[tuple[PromptRow, list[int]]] | None = None
            try:
                with _prepared_for_generation(self.model, self._base_model):
                    if entering:
                        batch.admit(entering)
                        entering = []
                    finished = batch.advance(stop_at=max(1, int(_FINISHED_PART * num_rows)))
            except torch.OutOfMemoryError:
                if num_rows == 1:
                    raise
            # Outside of `except`: the exception keeps the tensors of the failed attempt alive.
            if finished is None:
                waiting = sorted([*batch.rows, *entering, *waiting], key=lambda row: -len(row.prompt_ids))
                batch = self._new_batch(seed)
                batch.share_beginning(waiting)
                self._row_limit.ran_out(num_rows)
                torch.cuda.empty_cache()
                warnings.warn(
                    f"Out of memory with {num_rows} completions at once: going on with {self._row_limit.now}, and "
                    "with more again while that goes well. Set `generation_batch_size` lower to avoid the detour.",
                    UserWarning,
                    stacklevel=2,
                )
                continue
            self._row_limit.went_well(num_rows)
            yield from ((row, self._cut(ids)) for row, ids in finished)

    def _new_batch(self, seed: int) -> PaddedBatch:
        kind = ContinuousBatch if self._can_cut_cache else PaddedBatch
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=self.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.eos_token_ids,
            disable_compile=True,
        )
        return kind(self.model, self._base_model, config, self.sampling, seed)

    def _limits(self) -> BatchLimits:
        """Return how large a batch may be by the memory that is free now."""
        is_open = self.batch_tokens is None and self._bytes_per_token is None and self._can_cut_cache
        if is_open and free_memory(self.model.device) is not None:
            with _prepared_for_generation(self.model, self._base_model):
                self._bytes_per_token = bytes_per_token(self.model, self._base_model)
        vocab_size = self._base_model.config.get_text_config().vocab_size
        return limits_of(self.model.device, self._bytes_per_token, vocab_size, self.batch_size, self.batch_tokens)

    def _next_rows(
        self, waiting: list[PromptRow], batch: PaddedBatch, limits: BatchLimits
    ) -> tuple[list[PromptRow], list[PromptRow]]:
        """Split off the rows that enter a batch; none while there is room for less than one prompt's generations."""
        if not waiting:
            return [], []
        per_row = self.sampling.max_completion_length + limits.tokens_per_row
        most = capacity([waiting[0], *batch.rows], limits.rows, limits.tokens, per_row)
        room = most - len(batch.rows)
        worthwhile = max(1, min(waiting[0].num_generations, int(_FINISHED_PART * most)))
        return split_off(waiting, room) if room >= worthwhile or not batch.rows else ([], waiting)

    def _cut(self, ids: list[int]) -> list[int]:
        """Cut a row after its first end-of-sequence token; what follows is padding, whatever its id."""
        end = next((c for c, token in enumerate(ids) if token in self.eos_token_ids), len(ids))
        return ids[: end + 1]

    def _completion(self, ids: list[int]) -> Completion:
        has_ended = ids[-1] in self.eos_token_ids
        text = self.tokenizer.decode(ids[:-1] if has_ended else ids, skip_special_tokens=True)
        return Completion(str(text), len(ids), "stop" if has_ended else "length")


def load_transformers_generator(
    model_name_or_path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    sampling: SamplingParameters | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    **model_options: Any,
) -> TransformersGenerator:
    """Load a model with [`load_model`]'s options and its tokenizer, and make a [`TransformersGenerator`] of them."""
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer = load_tokenizer(model_name_or_path, **source)
    model = load_model(model_name_or_path, **source, **model_options)
    record = model_record(model_name_or_path, revision)
    if model_options.get("load_in_4bit"):
        record["quantization"] = "nf4"
    return TransformersGenerator(
        model,
        tokenizer,
        sampling or SamplingParameters(),
        chat_template_kwargs=chat_template_kwargs,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        record=record,
    )


@functools.cache
def _say_why_slow(model: str, reason: str) -> None:
    warnings.warn(
        f"{model} generates in batches that run until their longest row has ended, which is slower: {reason}, so "
        "finished rows cannot leave. vLLM or a server (`engine`) may be faster for it.",
        UserWarning,
        stacklevel=3,
    )


@contextmanager
def _prepared_for_generation(model: Any, base_model: Any) -> Iterator[None]:
    """Put a model into eval mode and hide its generation config."""
    # `generate` fills every field that the given config leaves at `None` from the model's own, and so a `min_p` or
    # `suppress_tokens` of the checkpoint cannot be switched off otherwise (transformers 5.23,
    # `GenerationMixin._prepare_generation_config`; see also transformers#42762).
    was_training = model.training
    owners = [m for m in {id(m): m for m in (model, base_model)}.values() if "generation_config" in vars(m)]
    own = [owner.generation_config for owner in owners]
    try:
        model.eval()
        for owner in owners:
            owner.generation_config = GenerationConfig()
        yield
    finally:
        for owner, config in zip(owners, own, strict=True):
            owner.generation_config = config
        if was_training:
            model.train()
