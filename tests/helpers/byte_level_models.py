"""A byte-level tokenizer of few tokens and a Llama that fits it."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast


SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# "Ċ" and "Ġ" are newline and space in the byte-level alphabet. "Ċ2" is what the plain GPT-2 pattern never builds.
TOKENS = [*SPECIAL_TOKENS, *"0123456789+=abcd", "Ċ", "Ġ", "ĊĊ", "Ġ1"]
MERGES = [("Ċ", "Ċ"), ("Ġ", "1")]


def make_tokenizer(tokens: list[str] = TOKENS, **special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = special or {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=[t for t in tokens if t.startswith("<|")], **special
    )


def make_config(vocab_size: int = len(TOKENS), **options: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        **{"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None} | options,
    )


def make_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(make_config())


def logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12).view(1, -1)).logits
