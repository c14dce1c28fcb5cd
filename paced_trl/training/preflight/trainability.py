"""
What can be trained: number formats, quantisation, adapters, teachers, and how models are spread over devices.

Covers combinations that TRL, accelerate or PEFT would refuse late, or silently leave out. Knows no data.
"""

from __future__ import annotations

import copy
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType, is_peft_model
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedConfig

from ...generation.models import auto_class, check_four_bits, is_adapter, other_than_language
from ...settings import as_mapping
from ..config import uses_fsdp


if TYPE_CHECKING:
    from ..config import PacedConfig


def check_adapter(config: PreTrainedConfig, peft_config: Any, *, trust_remote_code: bool = False) -> None:
    """Refuse an adapter that reaches no module, or the head; it is put on the student's modules without weights."""
    targets = getattr(peft_config, "target_modules", None)
    if not targets:
        return
    trial = copy.deepcopy(peft_config)
    trial.init_lora_weights = True  # other initialisations read the weights
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
        trial = on_language_model(trial, model)
        linear = {n.rpartition(".")[2] for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        try:
            adapted: Any = get_peft_model(model, trial)
        except ValueError as error:
            if "target" not in str(error).lower():
                raise
            raise ValueError(
                f"`lora_target_modules` is {_shown(targets)}, and the student, a {type(model).__name__}, has no such "
                f"modules. Its linear layers are {_shown(linear)}; name some but the head, or 'all-linear'."
            ) from error
    # With `modules_to_save=["lm_head"]` the loss reads the trained copy.
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise ValueError(
            f"`lora_target_modules` is {_shown(targets)}, which includes the head, and the loss reads the head's own "
            "weight, so an adapter there would never be trained. Remove it, or train the head itself: "
            "`--lora_modules_to_save lm_head`."
        )
    reached = {name.rpartition(".")[2] for name in adapted.targeted_module_names}
    unknown = set() if isinstance(targets, str) else {t for t in targets if t.rpartition(".")[2] not in reached}
    if unknown:
        warnings.warn(
            f"`lora_target_modules` names {_shown(unknown)}, which the student has not, so nothing is trained there. "
            f"Its linear layers are {_shown(linear)}.",
            stacklevel=2,
        )


def on_language_model(peft_config: Any, model: Any) -> Any:
    """Return an adapter's config without modules that are not the language model's, such as a vision tower's."""
    other = {name.rpartition(".")[0] for name, _ in other_than_language(model)}
    if not other or isinstance(getattr(peft_config, "exclude_modules", None), str):
        return peft_config
    peft_config = copy.deepcopy(peft_config)
    peft_config.exclude_modules = sorted(other | set(peft_config.exclude_modules or ()))
    return peft_config


def _shown(names: str | set[str] | list[str]) -> str:
    return repr(names) if isinstance(names, str) else ", ".join(repr(name) for name in sorted(names))


def check_student_dtype(args: PacedConfig, peft_config: Any) -> None:
    """Refuse to train all weights of a student in float16, where updates and gradients underflow."""
    dtype = str(as_mapping(args.model_init_kwargs, "model_init_kwargs").get("dtype")).removeprefix("torch.")
    if dtype == "float16" and peft_config is None:
        raise ValueError(
            "`dtype` is 'float16' and all weights of the student are trained, whose gradients underflow in it. Use "
            "'float32' (with `fp16` for speed), or LoRA (`use_peft`)."
        )
    if dtype == "bfloat16" and peft_config is None:
        warnings.warn(
            "`dtype` is 'bfloat16' and all weights of the student are trained in it: most updates are smaller than "
            "half a unit in the last place of a weight and are lost. Use 'float32' (with `bf16` for speed), or LoRA "
            "(`use_peft`).",
            stacklevel=2,
        )


def check_base_as_teacher(args: PacedConfig, model: Any, peft_config: Any, revision: str | None) -> None:
    """Refuse the base as teacher of an adapter that goes on being trained: it has not learned what that has."""
    goes_on = args.self_distillation == "base" and peft_config is not None and isinstance(model, str)
    if goes_on and is_adapter(model, revision):
        raise ValueError(
            "`self_distillation` is 'base', which switches the student's adapter off to teach, and the student "
            f"{model!r} is an adapter that goes on being trained: its base would teach, without what it has learned. "
            "Set `self_distillation` to 'copy' or 'ema', or merge the adapter into its base and name that."
        )


def check_quantization(args: PacedConfig, model: Any, quantization_config: Any, peft_config: Any) -> None:
    """Refuse quantisation that cannot train, or that would be silently left out."""
    is_quantized = quantization_config is not None or any(
        getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8)
    )
    if quantization_config is not None or args.teacher_load_in_4bit:
        check_four_bits()
    if quantization_config is not None and not isinstance(model, str):
        raise ValueError(
            "`load_in_4bit` or `load_in_8bit` is set, and the student is a model that is loaded already, so it would "
            "be left out. Give the model's name, or load it quantised yourself."
        )
    if is_quantized and args.use_vllm:
        raise ValueError(
            "`use_vllm` is set and the student is quantised with bitsandbytes, whose weights cannot be synchronised "
            "to vLLM. Leave out `use_vllm`, or train LoRA on the 16-bit student."
        )
    if is_quantized and peft_config is None and not hasattr(model, "peft_config"):
        raise ValueError(
            "The student is quantised and there is no adapter, so nothing could be trained. Set `use_peft`."
        )
    teacher_config = as_mapping(args.teacher_model_init_kwargs, "teacher_model_init_kwargs").get("quantization_config")
    for role, config in (("student", quantization_config), ("teacher", teacher_config)):
        skipped = config.get("llm_int8_skip_modules") if isinstance(config, dict) else None
        skipped = skipped or getattr(config, "llm_int8_skip_modules", None)
        if skipped and not {"lm_head", "embed_out"} & set(skipped):
            raise ValueError(
                f"`llm_int8_skip_modules` of the {role} is {skipped} and leaves out the head, which would be "
                "quantised, and the loss reads it as a dense matrix. Add 'lm_head'."
            )


def keep_four_bit_trainable(model: torch.nn.Module) -> None:
    """Leave the 4-bit weights of a student as they are when it generates on a CPU."""
    # bitsandbytes 0.50 repacks them in eval mode on CPUs with AVX512-BF16, for a kernel without a backward pass, and
    # leaves them so: once the student has generated, no gradient would pass its layers any more.
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_head(role: str, model: Any) -> None:
    """Refuse a loaded model whose head is quantised."""
    head = model.get_output_embeddings()
    if head is not None and not head.weight.is_floating_point():
        raise ValueError(
            f"The head of the {role} holds {head.weight.dtype}, it is quantised, and the loss reads it as a dense "
            "matrix. Load the model with 'lm_head' in `llm_int8_skip_modules`."
        )


def check_sharding(args: PacedConfig) -> None:
    """Refuse to shard on a CPU, where accelerate 1.15 silently leaves it out and each process holds everything."""
    state = args.distributed_state
    if state is None or state.distributed_type not in (DistributedType.MULTI_CPU, DistributedType.NO):
        return
    asked = "DeepSpeed" if args.deepspeed_plugin is not None else "FSDP" if uses_fsdp(args) else None
    if asked is not None:
        raise ValueError(
            f"{asked} is asked for, and training is on the CPU or in a single process, where accelerate "
            "silently leaves it out. Use one GPU per process, or start it with `recipes/accelerate/cpu.yaml`, which "
            "shards nothing."
        )


def warn_of_whole_teacher(args: PacedConfig) -> None:
    """Say what leaves the teacher whole: FSDP, for which TRL 1.16 does not prepare it, and DeepSpeed below ZeRO-3."""
    if uses_fsdp(args):
        warnings.warn(
            "Under FSDP only the student is sharded: each device holds the whole teacher. If it does not fit, use "
            "DeepSpeed ZeRO-3, which shards both, or load it with fewer bits (`teacher_load_in_4bit`).",
            stacklevel=2,
        )
    deepspeed = args.deepspeed_plugin
    if deepspeed is not None and deepspeed.zero_stage < 3 and args.self_distillation not in ("base", "ema"):
        warnings.warn(
            f"DeepSpeed ZeRO-{deepspeed.zero_stage} shards no weights: each device holds the whole teacher, and the "
            "student. If they do not fit, use ZeRO-3, or load the teacher with fewer bits (`teacher_load_in_4bit`).",
            stacklevel=2,
        )


def check_teacher(model: Any, teacher_model: Any, args: PacedConfig, peft_config: Any) -> None:
    """Refuse a teacher that is missing, or that could not do what the settings ask of it."""
    if args.self_distillation == "none" and teacher_model is None:
        raise ValueError(
            "`teacher_model` is None, so there is nothing to distill from. Give a model or its name, or set "
            "`self_distillation`."
        )
    if args.self_distillation != "none" and teacher_model is not None:
        raise ValueError(
            f"`self_distillation` is {args.self_distillation!r}, and a `teacher_model` was given as well. Remove "
            "one of them."
        )
    if args.self_distillation in ("base", "ema") and peft_config is None and not is_peft_model(model):
        raise ValueError(
            f"`self_distillation` is {args.self_distillation!r}, which needs an adapter to switch off or to "
            "average, and all of the student is trained. Set `use_peft` (`peft_config`), or "
            "`self_distillation='copy'`."
        )
    deepspeed = args.deepspeed_plugin
    if args.teacher_cache is not None and deepspeed is not None and deepspeed.zero_stage == 3:
        raise ValueError(
            "`teacher_cache` is set, and under DeepSpeed ZeRO-3 all processes must run the teacher equally often, "
            "which a cache does not. Use ZeRO-2, or leave it out."
        )


def check_other_teacher(
    args: PacedConfig, model: Any, teacher_model: Any, revision: str | None, quantization_config: Any
) -> None:
    """Refuse a teacher that is the student: the loss would be 0. In other number formats the two differ."""
    teacher_options = as_mapping(args.teacher_model_init_kwargs, "teacher_model_init_kwargs")
    in_4bit = args.teacher_load_in_4bit or teacher_options.get("quantization_config") is not None
    if isinstance(model, str) and isinstance(teacher_model, str):
        same = os.path.realpath(model) == os.path.realpath(teacher_model)
        same = same and (revision or "main") == (args.teacher_model_revision or "main")
        same = same and in_4bit == (quantization_config is not None)
    else:
        same = model is teacher_model
    if same:
        name = repr(model) if isinstance(model, str) else "one model in memory"
        raise ValueError(
            f"Student and teacher are the same, {name}, so the loss would be 0 from the first step on. Name a "
            "stronger teacher, or let the student learn from itself with a context that only the teacher sees: "
            "`self_distillation`, with `privileged_context_column`."
        )
