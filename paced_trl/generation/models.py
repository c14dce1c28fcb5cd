"""
Load students, teachers and their tokenizers: by a Hub id, a directory, or an adapter on top of either.

Does not depend on what the model is used for: generation, training and publishing live elsewhere.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from peft import PeftConfig, PeftModel
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file, find_adapter_config_file


_WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_GGUF_SCRIPT = "recipes/smollm2-135m-arithmetic/convert_gguf.py"


def default_device() -> torch.device:
    """Return where a model goes when nothing is named: this process's accelerator (`LOCAL_RANK`), else the CPU."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}:
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    if accelerator.type == "mps":
        return accelerator
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", "0")))


def default_dtype(device: str | torch.device) -> torch.dtype:
    """Return the number format for inference on a device: bfloat16 on accelerators that compute in it."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32  # bfloat16 was measured 2.4 times slower
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if kind == "mps" else torch.bfloat16


def check_four_bits() -> None:
    """Refuse weights of 4 or 8 bits where bitsandbytes is not installed: transformers would say so late."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "Weights in 4 or 8 bits need bitsandbytes, which is not installed. Install it with "
            "`pip install 'paced_trl[quantization]'`, or leave out `load_in_4bit`, `load_in_8bit` and "
            "`teacher_load_in_4bit`."
        )


def four_bit_settings(device: str | torch.device | None = None) -> dict[str, Any]:
    """Return the `quantization_config`, as JSON values, of weights in 4 bits (NF4) on a device, None: the default."""
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
    patterns = ("adapter_model.*",) if (directory / ADAPTER_CONFIG_NAME).is_file() else _WEIGHT_PATTERNS
    return sorted(file for pattern in patterns for file in directory.glob(pattern))


def resolve_model_path(name_or_path: str | os.PathLike[str]) -> str:
    """Return what transformers loads for what a user names: a Hub id, or a directory with a model or an adapter."""
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
        `PreTrainedModel` or `PeftModel`: In evaluation mode, on the device. Of a checkpoint with images it is the
        language model where transformers has a class for that.

    Raises:
        FileNotFoundError: If a path does not exist, or an adapter's base does not load.
        ValueError: If a path holds no model, an adapter names no base, or its weights are not those of its base.
    """
    device = default_device() if device is None else torch.device(device)
    _say_what_is_idle()
    # bitsandbytes quantises where the weights arrive.
    quantization: dict[str, Any] = {"quantization_config": four_bit_settings(device)} if load_in_4bit else {}
    model = _load(
        name_or_path,
        revision,
        trust_remote_code=trust_remote_code,
        dtype=default_dtype(device) if dtype == "auto" else dtype,
        attn_implementation=attn_implementation,
        device_map={"": device} if load_in_4bit else None,
        **quantization,
    )
    # transformers decorates `to` in a way that hides its signature from type checkers.
    return model.eval() if load_in_4bit else model.to(device).eval()  # type: ignore[arg-type]


def load_trainable(
    name_or_path: str, *, revision: str | None = None, continue_adapter: bool = False, **options: Any
) -> PreTrainedModel | PeftModel:
    """Load a student or a teacher for training, with `from_pretrained`'s `options` and TRL's defaults for them."""
    options = {"dtype": "float32", **options}
    if isinstance(options["dtype"], str) and options["dtype"] != "auto":
        options["dtype"] = getattr(torch, options["dtype"])
    # A launcher places models itself. Without one, a model is on one device, and not a part of it on each or in main
    # memory, where it is slow: too large a model is an error at once.
    state = PartialState()
    is_placed_here = state.distributed_type == DistributedType.NO and state.device.type not in ("cpu", "mps")
    options.setdefault("device_map", {"": state.device} if is_placed_here else None)
    _say_what_is_idle()
    model = _load(name_or_path, revision, is_trainable=continue_adapter, **options)
    if isinstance(model, PeftModel):
        # Merging into weights of 4 bits would round them once more.
        is_merged = not continue_adapter and not getattr(model, "is_quantized", False)
        becomes = "was merged into its base" if is_merged else "stays an adapter, with its own rank and modules"
        warnings.warn(f"`{name_or_path}` is an adapter and {becomes}.", UserWarning, stacklevel=2)
        if is_merged:
            model = model.merge_and_unload().requires_grad_(True)
            model.name_or_path = model.config._name_or_path = name_or_path
    # An image tower is not trained.
    for _, parameter in other_than_language(base_model_of(model)):
        parameter.requires_grad_(False)
    return model


def load_config(
    name_or_path: str | os.PathLike[str], *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedConfig:
    """Return a model's configuration, an adapter's being its base's; refuses a family that cannot be used."""
    resolved, revision = base_of(name_or_path, revision)
    config = AutoConfig.from_pretrained(resolved, revision=revision or "main", trust_remote_code=trust_remote_code)
    if config.model_type in ("llama4", "llama4_text"):
        raise ValueError(
            f"`{os.fspath(name_or_path)}` is a Llama 4 model (`{config.model_type}`), which is not supported. Take a "
            "model of another family."
        )
    return config


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the auto class that loads a model for every step: for text, or for images and text if it has no other."""
    is_known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForCausalLM if is_known else AutoModelForImageTextToText


def other_than_language(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the named parameters of a model that do not belong to its language model, such as a vision tower's."""
    if model.config.get_text_config() is model.config:
        return []
    language = {id(p) for part in (model.get_decoder(), model.get_output_embeddings()) for p in part.parameters()}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in language]


def _load(
    name_or_path: str | os.PathLike[str],
    revision: str | None,
    *,
    is_trainable: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> PreTrainedModel | PeftModel:
    """Load a model, or an adapter on its base: the one way for estimation, training and evaluation."""
    resolved = resolve_model_path(name_or_path)
    config = load_config(name_or_path, revision=revision, trust_remote_code=trust_remote_code)
    if find_adapter_config_file(resolved, revision=revision) is None:
        model: PreTrainedModel = auto_class(config).from_pretrained(
            resolved, revision=revision or "main", trust_remote_code=trust_remote_code, **options
        )
        model.name_or_path = model.config._name_or_path = os.fspath(name_or_path)
        return model
    base = _load(*adapter_base(resolved, revision), trust_remote_code=trust_remote_code, **options)
    return _on_base(base, resolved, revision, is_trainable=is_trainable)


def _on_base(base: Any, adapter: str, revision: str | None, *, is_trainable: bool) -> PeftModel:
    """Put an adapter on its base; PEFT 0.21 only warns where the weights are not those of its modules."""
    options: dict[str, Any] = {"is_trainable": is_trainable, "torch_device": str(base.device)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        model = PeftModel.from_pretrained(base, adapter, revision=revision, **options)
        keys = model.load_adapter(adapter, "default", revision=revision, **options)
    for what, names, there in (
        ("lacks weights for", keys.missing_keys, ""),
        ("has weights for", keys.unexpected_keys, ", which that model has not"),
    ):
        if names:
            raise ValueError(
                f"The adapter `{adapter}` {what} {len(names)} modules of its base `{base.name_or_path}`, a "
                f"{type(base).__name__}, such as {names[0]}{there}. It was trained on another model, or on another "
                f"class of it; train it again, or correct `base_model_name_or_path` in its {ADAPTER_CONFIG_NAME}."
            )
    return model


@functools.cache
def _say_what_is_idle() -> None:
    count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if count > 1 and "LOCAL_RANK" not in os.environ:
        warnings.warn(
            f"{count} GPUs are visible and 1 is used. To use all, start with `torchrun --nproc_per_node {count} -m "
            "paced_trl ...` or `accelerate launch`; to hide the others, set CUDA_VISIBLE_DEVICES.",
            UserWarning,
            stacklevel=3,
        )


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
        if is_adapter and not any(_has_file(resolved, file, revision) for file in _TOKENIZER_FILES):
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


def base_of(name_or_path: str | os.PathLike[str], revision: str | None) -> tuple[str, str | None]:
    """Return what transformers loads for a model, and its revision; for an adapter its base."""
    name = os.fspath(name_or_path)
    while is_adapter(name, revision):
        name, revision = adapter_base(resolve_model_path(name), revision)
    return resolve_model_path(name), revision


def is_adapter(name_or_path: str | os.PathLike[str], revision: str | None) -> bool:
    return find_adapter_config_file(resolve_model_path(name_or_path), revision=revision) is not None


def adapter_base(adapter: str, revision: str | None) -> tuple[str, str | None]:
    """Return name and revision of the model that an adapter was trained on."""
    config = PeftConfig.from_pretrained(adapter, revision=revision)
    base = config.base_model_name_or_path
    if not base:
        raise ValueError(f"The adapter `{adapter}` names no base model. Set `base_model_name_or_path` in its config.")
    try:
        if is_path(base):
            resolve_model_path(base)
        elif not any(_has_file(base, name, config.revision) for name in (CONFIG_NAME, ADAPTER_CONFIG_NAME)):
            raise OSError("it is not in the cache and cannot be reached.")
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"The adapter `{adapter}` was trained on `{base}`, which does not load. Put the base model there, or "
            f"correct `base_model_name_or_path` in the adapter's {ADAPTER_CONFIG_NAME}. What was wrong: {error}"
        ) from error
    return base, config.revision


def _has_file(name: str, file: str, revision: str | None) -> bool:
    # The underscored arguments are what `find_adapter_config_file` asks with: None where a repository has no such
    # file, instead of an exception.
    found = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return found is not None
