"""Loading models, adapters and tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from helpers.byte_level_models import logits, make_model, make_tokenizer
from helpers.paths import ROOT
from paced_trl.generation import models
from paced_trl.generation.models import (
    default_device,
    default_dtype,
    load_model,
    load_tokenizer,
    load_trainable,
    resolve_model_path,
)


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


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
    with pytest.raises(ValueError, match="is a file"):
        resolve_model_path(tmp_path / "config.json")


def test_a_gguf_file_names_the_script_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    match = r"holds a model as GGUF \(a.gguf\).*python recipes/smollm2-135m-arithmetic/convert_gguf.py .*/a.gguf DIREC"
    for path in (tmp_path, tmp_path / "a.gguf"):
        with pytest.raises(ValueError, match=match):
            load_model(path, device="cpu")
        with pytest.raises(ValueError, match=match):
            load_tokenizer(path)
    assert (ROOT / "recipes/smollm2-135m-arithmetic/convert_gguf.py").is_file()


def test_load_model_is_ready_for_inference(model_directory: Path) -> None:
    model = load_model(model_directory, device="cpu")
    assert not model.training
    assert model.dtype == torch.float32
    assert model.config._name_or_path == str(model_directory)
    torch.testing.assert_close(logits(model), logits(make_model().eval()))
    assert load_model(model_directory, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_without_a_launcher_a_model_is_on_one_device(model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    from_pretrained = AutoModelForCausalLM.from_pretrained

    def spy(*args: Any, **options: Any) -> Any:
        given.append(dict(options))
        return from_pretrained(*args, **options | {"device_map": None})

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", spy)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 8)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    device = torch.device("cuda", 0)
    for distributed_type, device_map in (("NO", {"": device}), ("MULTI_GPU", None), ("DEEPSPEED", None)):
        state = SimpleNamespace(device=device, distributed_type=distributed_type)
        monkeypatch.setattr(models, "PartialState", lambda state=state: state)
        models._say_what_is_idle.cache_clear()
        with pytest.warns(UserWarning, match=r"8 GPUs are visible and 1 is used.*torchrun --nproc_per_node 8"):
            load_trainable(str(model_directory))
        assert given[-1]["device_map"] == device_map
        assert given[-1]["dtype"] == torch.float32
    # What the caller says holds.
    load_trainable(str(model_directory), device_map="auto", dtype="bfloat16")
    assert (given[-1]["device_map"], given[-1]["dtype"]) == ("auto", torch.bfloat16)


def test_load_model_puts_an_adapter_on_its_base(adapter_directory: Path, model_directory: Path) -> None:
    model = load_model(adapter_directory, device="cpu")
    assert isinstance(model, PeftModel)
    assert not model.training
    assert not torch.allclose(logits(model), logits(make_model().eval()))
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(make_model().eval()))
    assert load_tokenizer(adapter_directory).get_vocab() == make_tokenizer().get_vocab()


def test_an_adapter_goes_where_its_base_is(adapter_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str | None] = []
    load = PeftModel.from_pretrained

    def from_pretrained(*args: Any, **options: Any) -> Any:
        devices.append(options.get("torch_device"))
        return load(*args, **options)

    monkeypatch.setattr(PeftModel, "from_pretrained", from_pretrained)
    load_model(adapter_directory, device="cpu")
    assert devices == ["cpu"]  # by itself, PEFT takes the first GPU in every process


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
