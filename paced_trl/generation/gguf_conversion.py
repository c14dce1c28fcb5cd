"""One GGUF file in, one ordinary model directory out: safetensors and tokenizer, converted once and cached.

Responsible for what transformers loses on the way: the split of digits, a pad token that is not the end of sequence, a
finite maximum length. Knows nothing of students, teachers or adapters. Not part of the paper.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import constants
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase


# Part of the cache key: raise it when a conversion comes out different, so that old ones are not reused.
CONVERSION_VERSION = 1

# For these values of `tokenizer.ggml.pre` llama.cpp splits off every digit before it applies the GPT-2 pattern (the
# regexes in its llama-vocab.cpp). transformers 5.23 lists none of them in `GGUF_PRE_TOKENIZER_SPLITS` and applies the
# GPT-2 pattern alone, which tokenizes a digit after whitespace differently. Can go when transformers lists them.
DIGIT_SPLITTING_PRE_TOKENIZERS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)

# Tokens that models reserve for padding, or, last, that a chat model no longer uses once another token ends its turns.
PAD_TOKENS = ("<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>")

_HASHED_WHOLE_BYTES = 10**9
_BLOCK_BYTES = 2**20
_NUM_BLOCKS = 64


def content_hash(path: str | os.PathLike[str]) -> str:
    """Hash a file's size and content.

    Files above 1 GB are hashed by their size and 64 evenly spaced blocks of 1 MiB, first and last byte included, so
    that it stays a matter of seconds: an edit that touches none of these blocks goes unseen. A training step touches
    them all.

    Args:
        path (`str` or `os.PathLike`):
            File to hash.

    Returns:
        `str`: SHA-256, 64 hexadecimal digits.
    """
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


def cache_directory() -> Path:
    """Return where conversions are kept: `PACED_TRL_CACHE`, or else `paced_trl` inside `HF_HOME`."""
    return Path(os.environ.get("PACED_TRL_CACHE") or os.path.join(constants.HF_HOME, "paced_trl")).expanduser()


def convert_gguf(gguf_file: str | os.PathLike[str]) -> str:
    """Convert a GGUF file to an ordinary model directory, once, and return the directory.

    The weights are written as float32, which holds every dequantized value exactly: 4 bytes per parameter on disk and
    in memory. The directory appears under its name only when complete; processes that ask at the same time wait for
    the first.

    Args:
        gguf_file (`str` or `os.PathLike`):
            The file. Its content, not its name, is the cache key.

    Returns:
        `str`: Directory with safetensors weights and tokenizer, below [`cache_directory`].

    Raises:
        ImportError: If the conversion is needed and the `gguf` package is not installed.
    """
    gguf_file = Path(gguf_file)
    target = cache_directory() / f"{content_hash(gguf_file)[:32]}-{CONVERSION_VERSION}"
    if target.is_dir():
        return str(target)
    if importlib.util.find_spec("gguf") is None:
        raise ImportError(
            f"`{gguf_file}` is a GGUF file and reading it needs the `gguf` package. Install it with "
            "`pip install paced_trl[smollm2]` (or `pip install gguf`)."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_dir():
            return str(target)
        print(f"Converting {gguf_file} to safetensors, once, into {target}", file=sys.stderr, flush=True)
        partial = target.with_name(f"{target.name}.partial")
        # Whoever wrote it is dead: the lock is ours.
        shutil.rmtree(partial, ignore_errors=True)
        _write_model(gguf_file, partial)
        partial.rename(target)
    return str(target)


def _write_model(gguf_file: Path, directory: Path) -> None:
    # `dequantize=True`, because a model that is still quantized cannot be saved as safetensors.
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, padding_side="left")
    if _pre_tokenizer_name(gguf_file) in DIGIT_SPLITTING_PRE_TOKENIZERS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    _choose_pad_token(tokenizer, model.config.get_text_config().vocab_size)
    # transformers leaves 1e30 when the file states no length for the tokenizer; the model's own limit is the true one.
    max_length = getattr(model.config, "max_position_embeddings", None)
    if max_length is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _pre_tokenizer_name(gguf_file: Path) -> str | None:
    from gguf import GGUFReader

    field = GGUFReader(gguf_file).get_field("tokenizer.ggml.pre")
    return None if field is None else str(field.contents())


def _choose_pad_token(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Replace a pad token that is missing or ends sequences, if the vocabulary has one to spare; else leave it."""
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return
    vocabulary = tokenizer.get_vocab()
    for token in PAD_TOKENS:
        # transformers gives every byte-level tokenizer an `<|endoftext|>`, if need be one without a row in the head.
        if vocabulary.get(token, vocab_size) < vocab_size and token != tokenizer.eos_token:
            tokenizer.pad_token = token
            return
