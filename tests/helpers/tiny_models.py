"""Tiny models and tokenizers, built in memory: no test needs the network or a download."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHARACTERS = "\n" + string.printable[:95]
SPECIAL_TOKENS = ["<pad>", "<eos>", "<user>", "<assistant>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% if message.role == 'assistant' %}<eos>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tiny_tokenizer(*, pad_is_eos: bool = False) -> PreTrainedTokenizerFast:
    """
    Build a tokenizer of 100 tokens: one per character of `string.printable[:95]` and newline, and four special tokens.

    It pads on the left, has a chat template and adds no special token to plain text. `pad_is_eos` uses EOS as the pad
    token, as many published checkpoints do.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *CHARACTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<eos>" if pad_is_eos else "<pad>",
        eos_token="<eos>",
        unk_token="?",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def build_tiny_model(
    architecture: str = "llama", vocab_size: int = 100, seed: int = 0, **config_overrides: Any
) -> PreTrainedModel:
    """
    Build a randomly initialised model of two layers and hidden size 32, in eval mode, float32.

    Args:
        architecture (`str`, *optional*, defaults to `"llama"`):
            A causal `model_type` of transformers, such as `"llama"`, `"qwen3"`, `"gpt2"` or `"mistral"`.
        vocab_size (`int`, *optional*, defaults to `100`):
            Number of tokens; 100 fits the tiny tokenizer.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights. The global random state is left as it was.
        **config_overrides (`Any`):
            Further fields of the configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        # Ten times the usual range: the next token then depends visibly on the context.
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        **config_overrides,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **fields), dtype=torch.float32)
    return model.eval()
