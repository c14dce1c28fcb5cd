"""
What a run will take: a card's memory item by item and what to change where it does not fit, disk, tokens and hours.

Bytes of models come from `memory.py`. Hours are given only where a rate was measured.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..settings import as_mapping
from .memory import (
    adapter_bytes,
    cache_memory,
    forward_memory,
    loss_buffers,
    model_weights,
    most_at_once,
    training_step,
)


if TYPE_CHECKING:
    from trl import ModelConfig

    from ..settings import EstimationArguments, PlanArguments, TrainArguments
    from .config import PacedConfig

GIB = 2**30
_FEW_ROWS = 8
# Assumed: what the driver and its libraries take, and the share of a card that an allocator can use.
CONTEXT_BYTES, USABLE = 1.0 * GIB, 0.95


@dataclass(frozen=True)
class RunShape:
    """The settings that decide what a run takes; `student` and `teacher` are of [`config_key`]."""

    student: str
    teacher: str | None
    args: PacedConfig
    model_args: ModelConfig
    estimation: EstimationArguments
    train: TrainArguments
    plan: PlanArguments
    num_problems: int
    writes_references: bool  # the teacher, because the data have none

    @property
    def num_tokens(self) -> int:
        """Tokens of a prompt and the longest completion."""
        return self.plan.prompt_tokens + self.completion_tokens

    @property
    def completion_tokens(self) -> int:
        assert self.args.max_completion_length is not None
        return self.args.max_completion_length

    @property
    def local_batch(self) -> int:
        """Completions that a process trains on in a step."""
        return self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps

    @property
    def num_steps(self) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        return max(1, round(self.args.num_train_epochs * self.num_problems / self.local_batch))

    @property
    def share_on_student(self) -> float:
        """Share of the steps that train on the student's own completions."""
        sources = self.args.completion_sources
        if sources != {"dataset", "student"}:
            return float(sources == {"student"})
        switch = self.args.kl_switch
        return 1.0 - (switch if switch <= 1.0 else min(1.0, switch / self.num_steps))

    @property
    def writes_references_in_4bit(self) -> bool:
        """Whether the teacher has 4 bits already while it writes references."""
        kwargs = as_mapping(self.train.teacher_engine_kwargs, "teacher_engine_kwargs")
        in_4bit = kwargs.get("load_in_4bit", self.args.teacher_load_in_4bit)
        return bool(in_4bit and self.writes_references and self.train.teacher_engine == "transformers")

    @property
    def generation_dtype(self) -> torch.dtype:
        return _dtype(self.estimation.generation_dtype)

    @property
    def teacher_dtype(self) -> torch.dtype:
        return _dtype(as_mapping(self.args.teacher_model_init_kwargs, "teacher_model_init_kwargs").get("dtype"))

    @property
    def student_dtype(self) -> torch.dtype:
        return _dtype(self.model_args.dtype)


def _dtype(name: Any) -> torch.dtype:
    """Return the number format that a setting names, else the checkpoint's, which is nearly always bfloat16."""
    return getattr(torch, name) if isinstance(name, str) and name != "auto" else torch.bfloat16


def memory(shape: RunShape) -> dict[str, dict[str, int]]:
    """Return what lies in a card's memory, in bytes, by moment of the run and item."""
    # Servers generate elsewhere; vLLM fills what memory it is given, and needs a sequence's. The engine transformers
    # does that too where no batch size is set, and should have a few rows.
    batch = {"transformers": shape.estimation.generation_batch_size or _FEW_ROWS, "vllm": 1}
    moments = {}
    if shape.estimation.engine in batch:
        rows = batch[shape.estimation.engine]
        moments["estimate"] = _generating(shape, shape.student, shape.generation_dtype, False, rows)
    if shape.teacher is not None and shape.writes_references and shape.train.teacher_engine in batch:
        rows, in_4bit = batch[shape.train.teacher_engine], shape.writes_references_in_4bit
        moments["references"] = _generating(shape, shape.teacher, shape.teacher_dtype, in_4bit, rows)
    moments |= _training(shape)
    return {name: {"driver and libraries": int(CONTEXT_BYTES), **items} for name, items in moments.items()}


def _generating(shape: RunShape, config: str, dtype: torch.dtype, in_4bit: bool, batch_size: int) -> dict[str, int]:
    weights = model_weights(config, dtype, in_4bit)
    return {
        "weights": weights.total + weights.largest_quantised,
        "keys and values": cache_memory(config, dtype, batch_size, shape.num_tokens),
        "logits": 2 * 4 * batch_size * weights.vocab_size,
    }


def _training(shape: RunShape) -> dict[str, dict[str, int]]:
    args, model_args = shape.args, shape.model_args
    weights = model_weights(shape.student, shape.student_dtype, model_args.load_in_4bit)
    step = training_step(
        shape.student,
        shape.student_dtype,
        args.per_device_train_batch_size,
        shape.num_tokens,
        lora_rank=model_args.lora_r if model_args.use_peft else None,
        in_4bit=model_args.load_in_4bit,
        checkpointing=bool(args.activation_checkpointing),
        autocast=shape.plan.autocast,
    )
    student = {"student": weights.total, "adapter": step.trainable, "optimizer": step.optimizer}
    teacher, teacher_forward, rows = 0, 0, args.per_device_train_batch_size
    if shape.teacher is not None:
        of_teacher = model_weights(shape.teacher, shape.teacher_dtype, args.teacher_load_in_4bit)
        teacher = of_teacher.total
        teacher_forward = forward_memory(shape.teacher, shape.teacher_dtype, rows, shape.num_tokens)
        teacher_forward += of_teacher.largest_quantised
    elif args.self_distillation == "copy":
        teacher = weights.total
    elif args.self_distillation == "ema":
        teacher = step.trainable
    sizes = (rows * shape.completion_tokens, weights.vocab_size, weights.hidden_size)
    divergence = loss_buffers(*sizes, head_is_trained=not model_args.use_peft)
    backward = step.backward + weights.largest_quantised
    most = most_at_once(step, weights.largest_quantised, divergence, teacher_forward)
    moments = {
        "train, a step": {
            **student,
            "gradients": step.gradients,
            "teacher": teacher,
            "activations": backward,
            "divergence and teacher's forward pass, beyond them": most - backward,
        }
    }
    if shape.share_on_student:
        key_values = cache_memory(shape.student, shape.student_dtype, shape.local_batch, shape.num_tokens)
        logits = 2 * 4 * shape.local_batch * weights.vocab_size
        generating = {"teacher": teacher, "keys and values": key_values, "logits": logits}
        moments["train, the student's completions"] = {**student, **generating}
    return moments


def fits(shape: RunShape) -> bool:
    """Whether every moment of a run fits the card."""
    return max(sum(items.values()) for items in memory(shape).values()) <= shape.plan.card * GIB * USABLE


Change = tuple[str, str, dict[str, Any]]


def changes(shape: RunShape) -> list[Change]:
    """Return what can be changed to take less memory: in words, whose settings it is, and the settings."""
    args, model_args = shape.args, shape.model_args
    accumulation, batch_size = args.gradient_accumulation_steps, args.per_device_train_batch_size
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": accumulation * batch_size}
    rows = shape.estimation.generation_batch_size or 0
    note = " (smaller steps: a lower learning_rate and more max_steps)"
    possible: list[tuple[Any, str, dict[str, Any], str]] = [
        (not args.activation_checkpointing, "args", {"activation_checkpointing": True}, ""),
        (rows > _FEW_ROWS, "estimation", {"generation_batch_size": _FEW_ROWS}, ""),
        (shape.teacher is not None and not args.teacher_load_in_4bit, "args", {"teacher_load_in_4bit": True}, ""),
        (batch_size > 1, "args", batch, ""),
        (not model_args.use_peft, "model_args", {"use_peft": True, "dtype": "bfloat16"}, ""),
        (not model_args.load_in_4bit, "model_args", {"load_in_4bit": True}, ""),
        (shape.local_batch > 8 and shape.share_on_student, "args", batch | {"gradient_accumulation_steps": 8}, note),
    ]
    return [
        (" with ".join(f"{name}: {str(value).lower()}" for name, value in settings.items()) + note, whose, settings)
        for is_possible, whose, settings, note in possible
        if is_possible
    ]


def with_changes(shape: RunShape, made: Sequence[Change]) -> RunShape:
    for _, what, settings in made:
        # `beta` follows from `kl`, which stays.
        settings = {**settings, "beta": None} if what == "args" else settings
        shape = dataclasses.replace(shape, **{what: dataclasses.replace(getattr(shape, what), **settings)})
    return shape


def what_would_fit(shape: RunShape) -> list[str] | None:
    """Return the changes that make a run fit its card, none if it does already, `None` if all of them do not."""
    possible = changes(shape)
    number = next((n for n in range(len(possible) + 1) if fits(with_changes(shape, possible[:n]))), None)
    if number is None:
        return None
    needed = possible[:number]
    for change in possible[:number]:
        rest = [other for other in needed if other is not change]
        if fits(with_changes(shape, rest)):
            needed = rest
    return [text for text, _, _ in needed]


def tokens(shape: RunShape) -> dict[str, int]:
    """Return how many tokens are generated, by step, where completions have `completion_share` of the longest."""
    mean = shape.completion_tokens * shape.plan.completion_share
    counts = {"estimate": shape.num_problems * shape.estimation.num_generations * mean}
    if shape.teacher is not None and shape.writes_references:
        counts["references, at most"] = shape.num_problems * shape.train.num_reference_attempts * mean
    counts["train"] = shape.num_steps * shape.share_on_student * shape.local_batch * mean
    return {name: round(count) for name, count in counts.items()}


def hours(shape: RunShape) -> dict[str, float]:
    """Return the hours of what a measured rate was given for; the teacher's completions take the student's rate."""
    found: dict[str, float] = {}
    if shape.plan.tokens_per_second is not None:
        found |= {f"{step} (generating)": n / shape.plan.tokens_per_second / 3600 for step, n in tokens(shape).items()}
    if shape.plan.trained_tokens_per_second is not None:
        length = shape.plan.prompt_tokens + shape.completion_tokens * shape.plan.completion_share
        trained = shape.num_steps * shape.local_batch * length
        found["train (optimizer steps)"] = trained / shape.plan.trained_tokens_per_second / 3600
    return found


def figures_of_shape(config: str) -> dict[str, int]:
    """Return what identifies a model's shape beside measured rates."""
    weights = model_weights(config, torch.bfloat16)
    return {"bytes": weights.total, "vocab_size": weights.vocab_size, "hidden_size": weights.hidden_size}


def with_measured_rates(shape: RunShape) -> RunShape:
    """Return a run with the rates of its student that `scripts/check_gpu.py` wrote; given ones stay."""
    path = shape.plan.measured_rates
    if path is None:
        return shape
    again = "Measure this run's models on that card: `python scripts/check_gpu.py --model STUDENT --teacher TEACHER`."
    try:
        rates = json.loads(Path(path).read_text())["rates"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`measured_rates` is {path!r}, which holds no rates ({error!r}). {again}") from error
    student = figures_of_shape(shape.student)
    if rates.get("student") != student:
        raise ValueError(
            f"The rates in {path!r} are of a model with {rates.get('student')}, and this run's student has {student}. "
            f"{again}"
        )
    found: dict[str, float] = {}
    by_rows = {int(rows): rate for rows, rate in rates.get("generating", {}).items()}
    if by_rows:
        most = shape.estimation.generation_batch_size or max(by_rows)
        found["tokens_per_second"] = by_rows[max((rows for rows in by_rows if rows <= most), default=min(by_rows))]
    # The rate of training is that of LoRA with one teacher.
    has_teacher = shape.teacher is not None and figures_of_shape(shape.teacher) == rates.get("teacher")
    if "training" in rates and has_teacher and shape.model_args.use_peft:
        found["trained_tokens_per_second"] = rates["training"]
    missing: dict[str, Any] = {name: rate for name, rate in found.items() if getattr(shape.plan, name) is None}
    return dataclasses.replace(shape, plan=dataclasses.replace(shape.plan, **missing))


def disk(shape: RunShape) -> dict[str, int]:
    """Return bytes on disk: downloads, checkpoints, completions (four characters a token), the teacher's states."""
    student = model_weights(shape.student, torch.bfloat16)
    lora = shape.model_args.use_peft
    trained = model_weights(shape.student, shape.student_dtype).total
    if lora:
        trained = adapter_bytes(shape.student, shape.model_args.lora_r)
    kept = shape.args.save_total_limit or max(1, int(shape.num_steps // max(1, shape.args.save_steps)))
    sizes = {"student, downloaded": student.total, "adapter, trained" if lora else "student, trained": trained}
    if getattr(shape.args.save_strategy, "value", shape.args.save_strategy) != "no":
        sizes["checkpoints with the optimizer's state"] = kept * 3 * trained
    if shape.teacher is not None:
        teacher = model_weights(shape.teacher, torch.bfloat16)
        sizes["teacher, downloaded"] = teacher.total
        if shape.args.teacher_cache is not None:
            numbers = teacher.hidden_size * shape.plan.completion_share
            sizes["teacher's hidden states"] = int(2 * shape.num_problems * shape.completion_tokens * numbers)
    return sizes | {"completions": 4 * sum(tokens(shape).values())}


def in_units(size: float, units: Sequence[str], base: int) -> str:
    """Return a size in the largest unit of which it has one, so that none is rounded to zero: `1.2 GB`."""
    power = 0
    while size >= base and power < len(units) - 1:
        size, power = size / base, power + 1
    return f"{size:.3g} {units[power]}" if size < 100 else f"{size:,.0f} {units[power]}"


_GIBIBYTES, _GIGABYTES = ("B", "KiB", "MiB", "GiB"), ("B", "kB", "MB", "GB", "TB")


def report(shape: RunShape) -> str:
    """Say all of it, one item to a line."""
    card = shape.plan.card
    lines = [f"GPU memory at its peaks (card of {card} GB, of which {card * USABLE:.3g} can be used)"]
    for moment, items in memory(shape).items():
        lines.append(f"  {moment}: {in_units(sum(items.values()), _GIBIBYTES, 1024)}")
        lines += [f"    {in_units(size, _GIBIBYTES, 1024):>9}  {item}" for item, size in items.items() if size]
    made = what_would_fit(shape)
    if made is None:
        lines.append(f"Does not fit {card} GB, not with {', '.join(text for text, _, _ in changes(shape))} either.")
    elif made:
        lines.append(f"Does not fit {card} GB. It would with: {'; '.join(made)}.")
    else:
        lines.append(f"Fits {card} GB.")
    if shape.teacher is not None and shape.writes_references_in_4bit:
        items = _generating(shape, shape.teacher, shape.teacher_dtype, False, _FEW_ROWS)
        if sum(items.values()) + CONTEXT_BYTES <= card * GIB * USABLE:
            lines.append(
                "The teacher writes references in 4 bits, which are unpacked for every token. Alone on the card it "
                f"also fits in its own format ({in_units(sum(items.values()), _GIBIBYTES, 1024)} with {_FEW_ROWS} "
                "completions): `teacher_engine_kwargs: {load_in_4bit: false}`."
            )
    lines.append("Disk")
    lines += [f"    {in_units(size, _GIGABYTES, 1000):>9}  {item}" for item, size in disk(shape).items()]
    lines.append("Tokens generated")
    lines += [f"  {count:>11,}  {step}" for step, count in tokens(shape).items() if count]
    times = hours(shape)
    if times:
        lines.append("Hours, at the rates that were given")
        lines += [f"  {time:>11.2g}  {step}" for step, time in times.items() if time]
    rates = ("tokens_per_second", "trained_tokens_per_second")
    unknown = [name for name in rates if getattr(shape.plan, name) is None]
    if unknown:
        lines.append(
            f"{'Further hours' if times else 'Hours'}: unknown, no rate was given. Give what you measured on that "
            f"card ({' and '.join(f'`--{name}`' for name in unknown)}), or `--measured_rates` with the file that "
            "`python scripts/check_gpu.py --model STUDENT --teacher TEACHER` writes there."
        )
    return "\n".join(lines)
