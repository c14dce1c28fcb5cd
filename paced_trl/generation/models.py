"""Load students, teachers and their tokenizers, and identify their weights.

A model is named by a Hub id, a directory, a GGUF file or a directory with one, or an adapter on top of any of these.
Refuses to know what the model is used for: generation, training and publishing live elsewhere. Not part of the paper.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from peft import PeftConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file, find_adapter_config_file

from .gguf_conversion import content_hash, convert_gguf


_WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def default_device() -> torch.device:
    """Return the device a model goes to when none is named: this process's accelerator, else the CPU.

    Under a launcher the accelerator is the one with this process's `LOCAL_RANK`, and `accelerate launch --cpu` is
    obeyed.

    Returns:
        `torch.device`
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
    """Return the number format for inference on a device.

    Args:
        device (`str` or `torch.device`):
            Where the model will run.

    Returns:
        `torch.dtype`: bfloat16 on accelerators that compute in it, float16 on the others, float32 on the CPU, where
        bfloat16 was measured 2.4 times slower.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if kind == "mps" else torch.bfloat16


def four_bit_settings(device: str | torch.device | None = None) -> dict[str, Any]:
    """Return what `from_pretrained` takes as `quantization_config` for weights of 4 bits (NF4) and a dense head.

    Args:
        device (`str` or `torch.device`, *optional*):
            Where the model will run, which decides the number format it computes in. `None`: [`default_device`].

    Returns:
        `dict`: JSON values, so that settings that hold them can be saved.
    """
    compute = default_dtype(default_device() if device is None else device)
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": str(compute).removeprefix("torch."),
    }


def resolve_model_path(name_or_path: str | os.PathLike[str]) -> str:
    """Turn what a user names into something transformers can load.

    Hub ids, model directories and adapter directories come back as they are. A GGUF file, or a directory that holds
    one and no other weights, is converted once to safetensors (see [`~gguf_conversion.convert_gguf`]).

    Args:
        name_or_path (`str` or `os.PathLike`):
            Hub id, directory or GGUF file. What exists on disk, starts with `.`, `~` or `/`, ends in `.gguf` or has
            more than one slash is a path, everything else a Hub id.

    Returns:
        `str`: Hub id or directory.

    Raises:
        FileNotFoundError: If it is a path and does not exist.
        ValueError: If it is a path that holds no model, or several GGUF files.
        ImportError: If it is a GGUF file and the `gguf` package is missing.
    """
    if not _is_path(name_or_path):
        return os.fspath(name_or_path)
    path = Path(name_or_path).expanduser()
    gguf_file = _find_gguf(path)
    return str(path) if gguf_file is None else convert_gguf(gguf_file)


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
    """Load a causal language model for inference.

    Args:
        name_or_path (`str` or `os.PathLike`):
            Hub id, directory, GGUF file, or an adapter (Hub id or directory with `adapter_config.json`).
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
        `PreTrainedModel` or `PeftModel`: In evaluation mode, on the device. A model that came from a GGUF file carries
        the name it was asked for, so that an adapter trained on it names that file and not a cache directory.

    Raises:
        FileNotFoundError: If a path does not exist, or an adapter's base is such a path.
        ValueError: If a path holds no model, or an adapter names no base.
    """
    device = default_device() if device is None else torch.device(device)
    resolved = resolve_model_path(name_or_path)
    if find_adapter_config_file(resolved, revision=revision) is not None:
        base_name, base_revision = _adapter_base(resolved, revision)
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
    """Load a model's tokenizer, ready for generation: padding on the left and a pad token.

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
            base_name, base_revision = _adapter_base(resolved, revision)
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


def weights_fingerprint(name_or_path: str | os.PathLike[str], *, revision: str | None = None) -> str:
    """Identify a model's weights, so that pass rates of one student are never taken for another's.

    Args:
        name_or_path (`str` or `os.PathLike`):
            As for [`load_model`].
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `str`: For a directory or GGUF file `sha256:...` over the config and each weight file's name, size and content
        (files above 1 GB by 64 blocks of 1 MiB, see [`~gguf_conversion.content_hash`]); the directory's own name does
        not enter. For an adapter the same over its config and weights and its base's fingerprint. For a Hub id
        `id@commit` if the local cache knows the commit, which it does once the model was loaded, else `id@revision`:
        ask after loading.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a path holds no model.
    """
    if not _is_path(name_or_path):
        return _hub_fingerprint(os.fspath(name_or_path), revision or "main")
    path = Path(name_or_path).expanduser()
    gguf_file = _find_gguf(path)
    if gguf_file is not None:
        return f"sha256:{content_hash(gguf_file)}"
    record: dict[str, Any] = {file.name: content_hash(file) for file in _weight_files(path)}
    adapter_config = path / ADAPTER_CONFIG_NAME
    if adapter_config.is_file():
        options = json.loads(adapter_config.read_text(encoding="utf-8"))
        base_name, base_revision = _adapter_base(str(path), None)
        # The base counts by its weights: where it lies is no property of the model.
        options["base_model_name_or_path"] = weights_fingerprint(base_name, revision=base_revision)
        record[ADAPTER_CONFIG_NAME] = options
    else:
        record[CONFIG_NAME] = content_hash(path / CONFIG_NAME)
    return f"sha256:{hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()}"


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    name = os.fspath(name_or_path)
    looks_local = name.startswith((".", "~", os.sep)) or name.endswith(".gguf") or name.count("/") > 1
    return looks_local or Path(name).exists()


def _weight_files(directory: Path) -> list[Path]:
    patterns = ("adapter_model.*",) if (directory / ADAPTER_CONFIG_NAME).is_file() else _WEIGHT_PATTERNS
    return sorted(file for pattern in patterns for file in directory.glob(pattern))


def _find_gguf(path: Path) -> Path | None:
    """Return the GGUF file to convert, `None` for a directory that transformers or peft loads as it is."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"`{path}` is a file but no GGUF file. Give the directory that holds the model.")
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f"`{path}` is read as a path and does not exist (working directory: {Path.cwd()}). Give an existing "
            "directory or GGUF file, or a Hub id (`owner/name`)."
        )
    is_adapter = (path / ADAPTER_CONFIG_NAME).is_file()
    if _weight_files(path) and (is_adapter or (path / CONFIG_NAME).is_file()):
        return None
    gguf_files = sorted(path.glob("*.gguf"))
    if len(gguf_files) == 1 and not is_adapter:
        return gguf_files[0]
    if gguf_files and not is_adapter:
        names = ", ".join(file.name for file in gguf_files)
        raise ValueError(f"`{path}` holds several GGUF files ({names}). Name the one to use; parts are not joined.")
    raise ValueError(
        f"`{path}` holds no model: it needs config.json and safetensors weights, or adapter_config.json and adapter "
        "weights, or one GGUF file."
    )


def _adapter_base(adapter: str, revision: str | None) -> tuple[str, str | None]:
    config = PeftConfig.from_pretrained(adapter, revision=revision)
    base = config.base_model_name_or_path
    if not base:
        raise ValueError(f"The adapter `{adapter}` names no base model. Set `base_model_name_or_path` in its config.")
    if _is_path(base) and not Path(base).expanduser().exists():
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


def _hub_fingerprint(repo_id: str, revision: str) -> str:
    for file in (CONFIG_NAME, ADAPTER_CONFIG_NAME):
        cached = try_to_load_from_cache(repo_id, file, revision=revision)
        if isinstance(cached, str):
            parts = Path(cached).parts
            return f"{repo_id}@{parts[len(parts) - 1 - parts[::-1].index('snapshots') + 1]}"
    return f"{repo_id}@{revision}"
