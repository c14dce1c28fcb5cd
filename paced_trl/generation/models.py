"""
Load students, teachers and their tokenizers: by a Hub id, a directory, or an adapter on top of either.

Does not depend on what the model is used for: generation, training and publishing live elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file, find_adapter_config_file


_WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_GGUF_SCRIPT = "recipes/smollm2-135m-arithmetic/convert_gguf.py"


def default_device() -> torch.device:
    """
    Return the device a model goes to when none is named: this process's accelerator, else the CPU.

    Under a launcher that is the one with this process's `LOCAL_RANK`; `accelerate launch --cpu` is obeyed.
    """
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}:
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    if accelerator.type == "mps":
        return accelerator
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", "0")))


def default_dtype(device: str | torch.device) -> torch.dtype:
    """
    Return the number format for inference on a device.

    bfloat16 on accelerators that compute in it, float16 on the others, float32 on the CPU, where bfloat16 was measured
    2.4 times slower.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if kind == "mps" else torch.bfloat16


def four_bit_settings(device: str | torch.device | None = None) -> dict[str, Any]:
    """
    Return what `from_pretrained` takes as `quantization_config` for weights of 4 bits (NF4) and a dense head.

    JSON values, so that settings that hold them can be saved. `device` decides the number format of the computation.
    """
    compute = default_dtype(default_device() if device is None else device)
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": str(compute).removeprefix("torch."),
    }


def base_model_of(model: Any) -> Any:
    """Return what a PEFT model wraps, adapters included: PEFT hides its configuration and `forward`'s signature."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether a model's name is a path: it exists, begins like one, or has more slashes than a Hub id."""
    name = os.fspath(name_or_path)
    looks_local = name.startswith((".", "~", os.sep)) or name.endswith(".gguf") or name.count("/") > 1
    return looks_local or Path(name).exists()


def weight_files(directory: Path) -> list[Path]:
    """Return the files with the weights of a model or an adapter."""
    patterns = ("adapter_model.*",) if (directory / ADAPTER_CONFIG_NAME).is_file() else _WEIGHT_PATTERNS
    return sorted(file for pattern in patterns for file in directory.glob(pattern))


def resolve_model_path(name_or_path: str | os.PathLike[str]) -> str:
    """
    Return what transformers loads for what a user names: a Hub id, or a directory with a model or an adapter.

    Raises:
        FileNotFoundError: If it is a path and does not exist.
        ValueError: If it is a path that holds no model.
    """
    if not is_path(name_or_path):
        return os.fspath(name_or_path)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"`{path}` is read as a path and does not exist (working directory: {Path.cwd()}). Give an existing "
            "directory, or a Hub id (`owner/name`)."
        )
    if path.is_dir() and weight_files(path) and any((path / n).is_file() for n in (CONFIG_NAME, ADAPTER_CONFIG_NAME)):
        return str(path)
    gguf_files = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf"))
    if gguf_files:
        raise ValueError(
            f"`{path}` holds a model as GGUF ({gguf_files[0].name}), which is not loaded. Convert it to a directory "
            f"with safetensors, `python {_GGUF_SCRIPT} {gguf_files[0]} DIRECTORY`, and give that directory."
        )
    if path.is_file():
        raise ValueError(f"`{path}` is a file. Give the directory that holds the model.")
    raise ValueError(
        f"`{path}` holds no model: it needs {CONFIG_NAME} and safetensors weights, or {ADAPTER_CONFIG_NAME} and "
        "adapter weights."
    )


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    load_in_4bit: bool = False,
) -> PreTrainedModel | PeftModel:
    """
    Load a causal language model for inference.

    Args:
        name_or_path (`str` or `os.PathLike`):
            Hub id, directory, or an adapter (Hub id or directory with `adapter_config.json`).
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub. For an adapter, its own; the base's comes from the adapter's config.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`):
            Number format. `"auto"` follows the device, not the checkpoint: see [`default_dtype`].
        device (`str` or `torch.device`, *optional*):
            Where the model goes. `None` means [`default_device`].
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.
        attn_implementation (`str`, *optional*):
            Attention kernel, as in transformers. `None` leaves the choice to transformers.
        load_in_4bit (`bool`, *optional*, defaults to `False`):
            Whether weights are quantised to 4 bits as they load; see [`four_bit_settings`].

    Returns:
        `PreTrainedModel` or `PeftModel`: In evaluation mode, on the device.

    Raises:
        FileNotFoundError: If a path does not exist, or an adapter's base is such a path.
        ValueError: If a path holds no model, or an adapter names no base.
    """
    device = default_device() if device is None else torch.device(device)
    resolved = resolve_model_path(name_or_path)
    if find_adapter_config_file(resolved, revision=revision) is not None:
        base_name, base_revision = adapter_base(resolved, revision)
        base = load_model(
            base_name,
            revision=base_revision,
            dtype=dtype,
            device=device,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
            load_in_4bit=load_in_4bit,
        )
        return PeftModel.from_pretrained(base, resolved, revision=revision).eval()
    quantization: dict[str, Any] = {}
    if load_in_4bit:
        # bitsandbytes quantises where the weights arrive.
        quantization = {"quantization_config": four_bit_settings(device), "device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(
        resolved,
        revision=revision or "main",
        dtype=default_dtype(device) if dtype == "auto" else dtype,
        trust_remote_code=trust_remote_code,
        attn_implementation=attn_implementation,
        **quantization,
    )
    model.name_or_path = model.config._name_or_path = os.fspath(name_or_path)
    if load_in_4bit:
        return model.eval()
    # transformers decorates `to` in a way that hides its signature from type checkers.
    return model.to(device).eval()  # type: ignore[arg-type]


def load_tokenizer(
    name_or_path: str | os.PathLike[str], *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """
    Load a model's tokenizer, ready for generation: padding on the left and a pad token.

    Without a pad token of its own a tokenizer pads with its end-of-sequence token. That is harmless here, because
    masks come from lengths and never from comparing with the pad token.

    Args:
        name_or_path (`str` or `os.PathLike`):
            As for [`load_model`]. An adapter without a tokenizer has its base's.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Returns:
        `PreTrainedTokenizerBase`

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If the tokenizer has neither a pad nor an end-of-sequence token.
    """
    path = Path(name_or_path).expanduser()
    if any((path / name).is_file() for name in _TOKENIZER_FILES):
        resolved = str(path)
    else:
        resolved = resolve_model_path(name_or_path)
        is_adapter = find_adapter_config_file(resolved, revision=revision) is not None
        if is_adapter and not _has_tokenizer(resolved, revision):
            base_name, base_revision = adapter_base(resolved, revision)
            return load_tokenizer(base_name, revision=base_revision, trust_remote_code=trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(
        resolved, revision=revision or "main", trust_remote_code=trust_remote_code, padding_side="left"
    )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"The tokenizer of `{name_or_path}` has neither a pad token nor an end-of-sequence token, so batches "
                "cannot be padded and completions cannot end. Set `eos_token` in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def adapter_base(adapter: str, revision: str | None) -> tuple[str, str | None]:
    """Return name and revision of the model that an adapter was trained on."""
    config = PeftConfig.from_pretrained(adapter, revision=revision)
    base = config.base_model_name_or_path
    if not base:
        raise ValueError(f"The adapter `{adapter}` names no base model. Set `base_model_name_or_path` in its config.")
    if is_path(base) and not Path(base).expanduser().exists():
        raise FileNotFoundError(
            f"The adapter `{adapter}` was trained on `{base}`, which does not exist. Put the base model there or "
            f"correct `base_model_name_or_path` in the adapter's {ADAPTER_CONFIG_NAME}."
        )
    return base, config.revision


def _has_tokenizer(name: str, revision: str | None) -> bool:
    for file in _TOKENIZER_FILES:
        # The underscored arguments are what `find_adapter_config_file` asks with: None where a repository has no such
        # file, instead of an exception.
        found = cached_file(
            name,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None:
            return True
    return False
