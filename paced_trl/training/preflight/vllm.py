"""TRL's `use_vllm`: what it cannot do is refused before models load. What it is given is TRL's own business."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.version import Version
from trl.trainer import distillation_trainer

from ...generation.vllm_engine import refuse_other_libraries
from ...settings import as_mapping


if TYPE_CHECKING:
    from ..config import PacedConfig

# Those that TRL 1.16 knows; it warns of others once models have loaded.
_FIRST, _LAST = "0.22.0", "0.31.0"


def check_vllm(args: PacedConfig, peft_config: Any) -> None:
    """Refuse `use_vllm` where vLLM is missing, of another version, or split otherwise than the processes are."""
    if not args.use_vllm:
        return
    remedy = "Leave out `use_vllm`: the student then generates with the engine that estimates pass rates"
    size = args.vllm_tensor_parallel_size
    if args.vllm_mode == "colocate" and (size < 1 or args.world_size % size):
        raise ValueError(
            f"`vllm_tensor_parallel_size` is {size}, which does not divide the run's {args.world_size} processes. "
            "Choose one that does."
        )
    if not distillation_trainer.is_vllm_available():
        raise ImportError(
            f"`use_vllm` is set, and vLLM is not installed here, which `vllm_mode: {args.vllm_mode}` needs as well. "
            f"{remedy}, or install it in a new environment: `pip install -c constraints-vllm.txt 'paced_trl[vllm]'`."
        )
    try:
        version = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        version = None
    if version is not None:
        if not Version(_FIRST) <= Version(Version(version).base_version) <= Version(_LAST):
            raise ImportError(
                f"`use_vllm` is set with vLLM {version}, and TRL {metadata.version('trl')} goes with {_FIRST} to "
                f"{_LAST}. {remedy}, or install `vllm>=0.30,<0.31`."
            )
        refuse_other_libraries()
    dtype = str(as_mapping(args.model_init_kwargs, "model_init_kwargs").get("dtype")).removeprefix("torch.")
    if peft_config is not None and dtype in ("bfloat16", "float16"):
        warnings.warn(
            f"`use_vllm` is set with LoRA on a base in {dtype}: each transfer to vLLM merges the adapter into the "
            "base and takes it out again, which moves the base by rounding, and the saved adapter stands on one that "
            f"has not moved. {remedy}, or set `dtype: float32`.",
            stacklevel=2,
        )
