"""
What is known of the student or the teacher without its weights: config, tokenizer and the tokens that end it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ...generation.identity import declared_eos_token_ids, eos_token_ids
from ...generation.models import load_config, load_tokenizer, resolve_model_path


@dataclass(frozen=True)
class Side:
    """The student or the teacher (`role`) without its weights; `tokenizer` is `None` where none can be found."""

    role: str
    name: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase | None
    eos_token_ids: list[int]

    @property
    def vocab_size(self) -> int:
        """Rows of the head."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def context_length(self) -> int | None:
        """Most positions, `None` where the model has no such limit."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)


def read_side(
    role: str,
    model: Any,
    processing_class: Any = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Side:
    """Read the config and tokenizer of a model, named or given; `processing_class` is its tokenizer if given."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    name = resolve_model_path(model) if isinstance(model, str) else str(model.name_or_path)
    if isinstance(model, str):
        config = load_config(name, revision=revision, trust_remote_code=trust_remote_code)
    else:
        config = model.config
    if tokenizer is None and name:
        try:
            tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
        except (OSError, ValueError):
            warnings.warn(
                f"The {role} {name!r} comes without a tokenizer that loads, so whether its tokens are those of the "
                "other model was not checked. Put the tokenizer's files beside its weights.",
                stacklevel=2,
            )
    if tokenizer is None:
        ends: list[int] = []
    elif isinstance(model, str):
        ends = declared_eos_token_ids(name, revision, tokenizer, trust_remote_code=trust_remote_code)
    else:
        ends = eos_token_ids(model, tokenizer)
    return Side(role, name, config, tokenizer, ends)
