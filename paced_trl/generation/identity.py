"""
What identifies a model, its tokenizer and its template in the record of a store.

Two records are equal when completions made under them may be pooled. So they hold contents, not places: a directory's
name, a checksum of the weights in memory, what the tokenizer does to text.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME

from .models import adapter_base, base_of, is_path, load_config, resolve_model_path, weight_files


# Digits before a line break, leading spaces and capitals: where tokenizers with one vocabulary were seen to differ.
_PROBE = "Answer:\n\n12 + 345 = 357\n  The END, naïve\t{x}"
# Larger files are hashed by 64 evenly spaced blocks, first and last byte included, which takes seconds.
_HASHED_WHOLE_BYTES = 10**9
_BLOCK_BYTES = 2**20
_NUM_BLOCKS = 64
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def model_name(name_or_path: str | os.PathLike[str]) -> str:
    """Return a Hub id as it is, and of a local path its last component: moving a model does not make it another."""
    path = Path(name_or_path).expanduser()
    return path.resolve().name if path.exists() else os.fspath(name_or_path)


def model_record(name_or_path: str, revision: str | None) -> dict[str, Any]:
    """Return what identifies a model in a store's record, after it was loaded: then the Hub's cache has the commit."""
    return {"model": model_name(name_or_path), "weights": weights_fingerprint(name_or_path, revision=revision)}


def weights_fingerprint(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> str:
    """
    Identify a model's weights: `id@commit` once the Hub's cache knows the commit, of a directory `sha256:...`.

    That is over its config and the content of its weight files, and of an adapter over its base's fingerprint too.
    """
    if not is_path(name_or_path):
        return _hub_fingerprint(os.fspath(name_or_path), revision or "main")
    path = Path(resolve_model_path(name_or_path))
    record: dict[str, Any] = {file.name: content_hash(file) for file in weight_files(path)}
    adapter_config = path / ADAPTER_CONFIG_NAME
    if adapter_config.is_file():
        options = json.loads(adapter_config.read_text(encoding="utf-8"))
        base_name, base_revision = adapter_base(str(path), None)
        # The base counts by its weights: where it lies is no property of the model.
        options["base_model_name_or_path"] = weights_fingerprint(base_name, revision=base_revision)
        record[ADAPTER_CONFIG_NAME] = options
    else:
        record[CONFIG_NAME] = content_hash(path / CONFIG_NAME)
    return _sha256(json.dumps(record, sort_keys=True))


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's size and content, above 1 GB of 64 blocks, which a training step all touches."""
    path = Path(path)
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}:".encode())
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE_BYTES:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        else:
            for index in range(_NUM_BLOCKS):
                file.seek((size - _BLOCK_BYTES) * index // (_NUM_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def memory_checksum(model: PreTrainedModel) -> str:
    """Return a checksum of a model's weights as they are in memory, adapters included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
            # The sum of the bit patterns is exact, the same on every device, and as fast as reading the weights once.
            bits = tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|{int(bits.sum(dtype=torch.int64))}\n".encode())
    return f"memory:{digest.hexdigest()[:16]}"


def tokenizer_checksum(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a checksum of what a tokenizer does: its definition, or if slow its vocabulary and a probing text."""
    if tokenizer.is_fast:
        definition = json.loads(tokenizer.backend_tokenizer.to_str())
        # What the last call padded and truncated to.
        definition.pop("padding", None)
        definition.pop("truncation", None)
        return _sha256(json.dumps(definition, sort_keys=True))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return _sha256(json.dumps([vocabulary, tokenizer(text=_PROBE)["input_ids"]]))


def chat_template_checksum(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a checksum of a tokenizer's chat template; `None` if it has none."""
    template: Any = tokenizer.chat_template
    if template is None:
        return None
    return _sha256(template if isinstance(template, str) else json.dumps(template, sort_keys=True))


def eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every id that ends a completion, as TRL's trainer has them: the tokenizer's, then those declared."""
    return _merged_eos_token_ids(model.generation_config, tokenizer)


def declared_eos_token_ids(
    name_or_path: str, revision: str | None, tokenizer: PreTrainedTokenizerBase, *, trust_remote_code: bool = False
) -> list[int]:
    """Return the same as `eos_token_ids` without loading the model."""
    base, base_revision = base_of(name_or_path, revision)
    try:
        generation_config = GenerationConfig.from_pretrained(base, revision=base_revision or "main")
    except OSError:
        # There is no such file; then a loaded model takes it from its configuration.
        config = load_config(base, revision=base_revision, trust_remote_code=trust_remote_code)
        generation_config = GenerationConfig.from_model_config(config)
    return _merged_eos_token_ids(generation_config, tokenizer)


def _merged_eos_token_ids(generation_config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    declared = generation_config.eos_token_id if generation_config is not None else None
    ids = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids = [tokenizer.eos_token_id, *ids]
    if not ids:
        raise ValueError(
            "Neither the tokenizer nor the model's generation config has an end-of-sequence token, so every "
            "completion would run to its full length. Set `tokenizer.eos_token`."
        )
    return ids


def _hub_fingerprint(repo_id: str, revision: str) -> str:
    for file in (CONFIG_NAME, ADAPTER_CONFIG_NAME):
        cached = try_to_load_from_cache(repo_id, file, revision=revision)
        if isinstance(cached, str):
            parts = Path(cached).parts
            return f"{repo_id}@{parts[len(parts) - 1 - parts[::-1].index('snapshots') + 1]}"
    return f"{repo_id}@{revision}"


def _sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
