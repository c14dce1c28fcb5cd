"""Tiny random checkpoints of the families that people train, as they lie on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from helpers.tiny_models import build_tiny_tokenizer


_TEXT: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "depth": 1,
    "num_heads": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "out_hidden_size": 32,
    "image_size": 28,
    "patch_size": 14,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

# By name: model type, class of the checkpoint (None: the causal one), settings of the text part.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "LlamaForCausalLM", {}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {}),
    "qwen3_5": ("qwen3_5", "Qwen3_5ForConditionalGeneration", _LINEAR),
    "qwen3_5_text": ("qwen3_5_text", "Qwen3_5ForCausalLM", _LINEAR),
    "qwen3_moe": ("qwen3_moe", "Qwen3MoeForCausalLM", _EXPERTS),
    "gemma3": ("gemma3", "Gemma3ForConditionalGeneration", _SLIDING),
    "gemma3_text": ("gemma3_text", "Gemma3ForCausalLM", _SLIDING),
    "gemma4": (
        "gemma4",
        "Gemma4ForConditionalGeneration",
        _SLIDING | {"global_head_dim": 8, "hidden_size_per_layer_input": 0},
    ),
    "smollm3": ("smollm3", "SmolLM3ForCausalLM", {"no_rope_layers": [1, 0]}),
    "lfm2": ("lfm2", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"]}),
    "ministral3": ("ministral3", "Ministral3ForCausalLM", {}),
    "mistral3": ("mistral3", "Mistral3ForConditionalGeneration", {"model_type": "ministral3"}),
    "olmo3": ("olmo3", "Olmo3ForCausalLM", _SLIDING),
    "phi3": ("phi3", "Phi3ForCausalLM", {}),
    "gpt_oss": ("gpt_oss", "GptOssForCausalLM", _SLIDING | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite": ("granite", "GraniteForCausalLM", {}),
}


def save_checkpoint(family: str, directory: Path, seed: int = 0) -> Path:
    """Write a random checkpoint of a family with the tiny tokenizer, two layers and hidden size 32."""
    model_type, architecture, settings = FAMILIES[family]
    text = {**_TEXT, **settings}
    if architecture.endswith("ForConditionalGeneration"):
        fields: dict[str, Any] = {"text_config": text, "vision_config": dict(_VISION)}
    else:
        fields = text
    config = AutoConfig.for_model(model_type, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)._from_config(config, dtype=torch.float32)
    model.save_pretrained(directory)
    build_tiny_tokenizer().save_pretrained(directory)
    return directory
