"""
One distillation from settings to a saved student: data joined, checked, trained, continued where it was stopped.

This is what `paced-trl train` and each arm of `paced-trl compare` run. The method itself is in `trainer.py`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoConfig, PreTrainedTokenizerBase, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig, get_peft_config, get_quantization_config

from .arguments import as_mapping, require_model
from .callbacks import CompactProgress, StopCleanly
from .config import PacedConfig
from .models import load_tokenizer, resolve_model_path
from .run_directory import RunDirectory
from .trainer import PacedTrainer
from .verification import Verifier
from .vocabulary import check_same_vocabulary


# Settings that do not change what is trained: they may differ between a run and its continuation.
_INCIDENTAL_PREFIXES = (
    "hub_",
    "log_",
    "logging_",
    "save_",
    "report_",
    "push_",
    "dataloader_num",
    "ddp_",
    "vllm_server",
)
_INCIDENTAL = {"output_dir", "run_name", "disable_tqdm", "project", "trackio_space_id", "resume_from_checkpoint"}


def training_settings(args: PacedConfig, model_args: ModelConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what decides a run's result: its settings, its models and a hash of its training data."""
    settings = {
        key: value
        for key, value in args.to_dict().items()
        if key not in _INCIDENTAL and not key.startswith(_INCIDENTAL_PREFIXES)
    }
    student = {f"student.{key}": value for key, value in vars(model_args).items()}
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return settings | student | {"train_dataset": digest.hexdigest()[:16], "num_problems": len(dataset)}


def check_models(args: PacedConfig, student: str, teacher: str, student_revision: str) -> PreTrainedTokenizerBase:
    """Refuse a pair with different vocabularies, before weights load; return the student's tokenizer."""
    models = ((student, student_revision), (teacher, args.teacher_model_revision or "main"))
    student_tokenizer, teacher_tokenizer = (
        load_tokenizer(name, revision=revision, trust_remote_code=args.trust_remote_code) for name, revision in models
    )
    student_config, teacher_config = (
        AutoConfig.from_pretrained(
            resolve_model_path(name), revision=revision, trust_remote_code=args.trust_remote_code
        )
        for name, revision in models
    )
    check_same_vocabulary(student_tokenizer, teacher_tokenizer, student_config, teacher_config)
    return student_tokenizer


@dataclass
class Distilled:
    """A finished distillation: where the student lies and what training logged, one entry per `logging_steps`."""

    path: Path
    log_history: list[dict[str, float]]
    reused: bool


def distill(
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    *,
    verifier: Verifier | None = None,
) -> Distilled:
    """
    Train a student and save it to `args.output_dir`; continue an interrupted run, reuse a finished one.

    Args:
        args ([`PacedConfig`]):
            The run; `teacher_model_name_or_path` names the teacher. `push_to_hub` is for the caller: nothing is pushed
            here.
        model_args ([`~trl.ModelConfig`]): The student, and LoRA or quantisation.
        dataset (`datasets.Dataset`): Training problems, as [`PacedTrainer`] needs them.
        verifier ([`Verifier`], *optional*): Judges the student's own completions while it trains.

    Raises:
        ValueError: If models, data or directory do not fit together: before weights load.
        KeyboardInterrupt: If Ctrl-C ended the run, after its checkpoint was written.
    """
    student = require_model(model_args.model_name_or_path)
    teacher = require_model(args.teacher_model_name_or_path, "teacher_model_name_or_path")
    run = RunDirectory(str(args.output_dir), training_settings(args, model_args, dataset))
    history = run.path / "trainer_state.json"
    if run.status == "finished":
        return Distilled(run.path, json.loads(history.read_text())["log_history"], reused=True)
    tokenizer = check_models(args, student, teacher, model_args.model_revision)
    args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **as_mapping(args.model_init_kwargs),
    }
    if model_args.use_peft and model_args.lora_target_modules is None:
        # All but the head: PEFT leaves it out, and TRL's loss needs it dense.
        model_args = replace(model_args, lora_target_modules=["all-linear"])
    # The Trainer would push every checkpoint with its training_args.bin, into a repository that is public by default.
    # A finished run is published from a list of files instead (`publication.py`).
    args.push_to_hub = False
    stop = StopCleanly()
    trainer = PacedTrainer(
        model=resolve_model_path(student),
        teacher_model=resolve_model_path(teacher),
        args=args,
        train_dataset=dataset,
        verifier=verifier,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
        callbacks=[stop],
    )
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(CompactProgress())
    if PartialState().is_main_process:
        run.mark("started")
    trainer.train(resume_from_checkpoint=get_last_checkpoint(args.output_dir))
    if stop.stopped:
        raise KeyboardInterrupt
    trainer.save_model()
    trainer.save_state()
    if PartialState().is_main_process:
        run.mark("finished")
    return Distilled(run.path, trainer.state.log_history, reused=False)
