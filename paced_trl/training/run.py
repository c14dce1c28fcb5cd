"""
One distillation from settings to a saved student: checked, trained, continued where it was stopped, saved.

This is what `paced-trl train` and each arm of `paced-trl compare` run. The method itself is in `trainer.py`.

How a run resumes: `OUTPUT_DIR/run.json` holds the settings that decide the result, and whether the run has finished;
the same settings continue it, others are refused. It goes on from the newest checkpoint that is whole
(`checkpoints.py`), and takes the steps that it would have taken uninterrupted, bit for bit on the same machine.
`OUTPUT_DIR/checkpoint-N` holds

    model.safetensors or adapter_model.safetensors   the student's trained weights, in the format they are trained in
    optimizer.pt, scheduler.pt, scaler.pt            moments, learning rate, and with fp16 the loss scale
    rng_state.pth (rng_state_0.pth, ...)             random numbers of each process, for sampling and dropout
    trainer_state.json                               step, logs, costs so far, best checkpoint
    pass_rates.npz                                   with `refresh`: counts, and the step each was observed at
    teacher_adapter_average.safetensors              with `self_distillation: ema`: the averaged adapter
    files.json                                       every other file with its size and SHA-256

The divergence, the problems of a batch and their order need no file: they follow from step and seed. A re-estimation
or an evaluation that was interrupted goes on in its own store. With `save_total_limit`, an old checkpoint is deleted
only after the new one is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import ModelConfig

from ..run_directory import RunDirectory, write_json
from ..verification.verifier import Verifier
from .checkpoints import SAVING, clear_unfinished, full_disk_in_words, newest_whole, step_of, training_alone
from .config import PacedConfig, rollout_engine_in_force
from .monitoring.notes import keeping_warnings
from .monitoring.training_progress import TrainingProgress
from .monitoring.validation import VALIDATION
from .preflight.before_loading import models_of
from .refresh import refresh_in_force
from .schedule import stages, switch_step
from .trainer import PacedTrainer


COSTS = "costs.json"
# Settings that do not change what is trained, and may differ between a run and its continuation; the first by prefix.
_PREFIXES = ("hub_", "log_", "logging_", "save_", "report_", "push_", "dataloader_num", "ddp_", "vllm_server")
_INCIDENTAL = {"output_dir", "run_name", "disable_tqdm", "project", "trackio_space_id", "resume_from_checkpoint"}


def training_settings(
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    validation: Dataset | Mapping[str, Dataset] | None = None,
) -> dict[str, Any]:
    """Return what decides a run's result: its settings, its models and a hash of its data."""
    settings = {
        key: value for key, value in args.to_dict().items() if key not in _INCIDENTAL and not key.startswith(_PREFIXES)
    }
    settings["rollout_engine"] = rollout_engine_in_force(args)
    if args.self_distillation == "none":
        del settings["privileged_template"]  # of no effect, and its default has changed since 0.1
    student = {f"student.{key}": value for key, value in vars(model_args).items()}
    data: dict[str, Any] = {"train_dataset": _digest(dataset), "num_problems": len(dataset)}
    held_out = validation if isinstance(validation, Mapping) else {VALIDATION: validation}
    for name, problems in held_out.items():
        if problems is not None:
            # Its completions move the random state on, and it may choose the best checkpoint or end the run.
            data[f"{name}_set"] = _digest(problems)
    return settings | student | data


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def make_trainer(
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    *,
    validation: Dataset | dict[str, Dataset] | None = None,
    verifier: Verifier | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> PacedTrainer:
    """Return the trainer of a run, models loaded; arguments are those of [`distill`]."""
    models = models_of(args, model_args)
    args.model_init_kwargs = models.pop("model_init_kwargs")
    return PacedTrainer(
        args=args,
        train_dataset=dataset,
        eval_dataset=validation,
        verifier=verifier,
        callbacks=list(callbacks),
        **models,
    )


@dataclass
class Distilled:
    """A finished distillation: the student's directory, what training logged and cost, whether it was done before."""

    path: Path
    log_history: list[dict[str, float]]
    costs: dict[str, float]
    reused: bool


def distill(
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    *,
    verifier: Verifier | None = None,
    validation: Dataset | dict[str, Dataset] | None = None,
    callbacks: Callable[[PacedTrainer], Sequence[TrainerCallback]] | None = None,
    may_extend: bool = False,
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
        validation (`datasets.Dataset` or `dict[str, Dataset]`, *optional*): As in [`make_trainer`].
        callbacks (`Callable`, *optional*): Returns further callbacks of the trainer that it is given.
        may_extend (`bool`, *optional*, defaults to `False`):
            Whether a larger `max_steps` or `num_train_epochs` extends the run in the directory, instead of being
            refused as another run. The first stage keeps its length; the learning rate has what the longer schedule
            has at each further step.

    Raises:
        ValueError: If models, data or directory do not fit together: before weights load.
        KeyboardInterrupt: If Ctrl-C ended the run, after its checkpoint was written.
    """
    if str(args.resume_from_checkpoint or "true").lower() not in ("true", "false"):
        raise ValueError(
            f"`resume_from_checkpoint` is {args.resume_from_checkpoint!r}, but a run goes on by itself from the "
            "newest whole checkpoint in `output_dir`. Leave it out; to go back further, delete the later checkpoints."
        )
    args.refresh = refresh_in_force(args, dataset, verifier)
    is_earlier = _goes_on_with_trl(args)
    settings = training_settings(args, model_args, dataset, validation)
    longer = _extended_settings(args, settings) if may_extend else set()
    run = RunDirectory(str(args.output_dir), settings, may_differ=longer)
    if run.status == "finished" and not longer:
        return _finished(run)
    # The Trainer would push every checkpoint with its training_args.bin, into a repository that is public by default.
    # A finished run is published from a list of files instead (`publishing/publish.py`).
    args.push_to_hub = False
    is_main = PartialState().is_main_process
    if is_earlier and is_main:
        print(
            f"The run in {run.path} was begun by an earlier version, where TRL generated the student's completions, "
            "and goes on so (`rollout_engine: trl`).",
            flush=True,
        )
    with training_alone(run.path) if is_main else nullcontext():
        run = RunDirectory(str(args.output_dir), settings, may_differ=longer)
        if run.status == "finished" and not longer:  # by the process that has just held the directory
            return _finished(run)
        if is_main:
            clear_unfinished(run.path)
        with keeping_warnings(run.path) if is_main else nullcontext(), full_disk_in_words(run.path, "the student"):
            distilled = _train(run, args, model_args, dataset, verifier, validation, callbacks)
        # Models and optimizer hold each other in circles: the next arm must not load beside them.
        clear_device_cache(garbage_collection=True)
        return distilled


def _goes_on_with_trl(args: PacedConfig) -> bool:
    """Settle the engine, of a run that is there as it began; return whether an earlier version began it with TRL's."""
    stored = RunDirectory.stored_settings(str(args.output_dir))
    is_earlier = bool(stored) and "rollout_engine" not in stored and not args.use_vllm
    if stored and args.rollout_engine == "auto":
        args.rollout_engine = stored.get("rollout_engine", "trl")
    args.rollout_engine = rollout_engine_in_force(args)
    return is_earlier and args.rollout_engine == "trl" and "student" in args.completion_sources


def _extended_settings(args: PacedConfig, settings: dict[str, Any]) -> set[str]:
    """Return which settings may differ from those of the run in the directory because they extend it."""
    path = Path(str(args.output_dir))
    stored = RunDirectory.stored_settings(path)
    name = "max_steps" if settings["max_steps"] > 0 else "num_train_epochs"
    is_same_measure = bool(stored) and (stored["max_steps"] > 0) == (name == "max_steps")
    longer = is_same_measure and stored[name] < settings[name]
    first_stage = stored.get("first_stage_steps")
    if longer:
        done = newest_whole(path)
        if done is None:
            raise ValueError(
                f"`{name}` is {settings[name]}, and the run in {str(path)!r} with {stored[name]} left no checkpoint "
                "to extend it from. Choose another `--output_dir`."
            )
        if first_stage is None and len(stages(args.kl, args.kl_switch)) == 2 and args.kl_switch <= 1.0:
            max_steps = json.loads((done / "trainer_state.json").read_text())["max_steps"]
            first_stage = switch_step(max_steps, args.kl_switch)
        print(f"Extending the run in {path} from {name} {stored[name]} to {settings[name]}.", flush=True)
    if first_stage is not None:
        if first_stage < 2:
            raise ValueError(
                f"The run in {str(path)!r} has a first stage of {first_stage} steps, and `kl_switch` cannot say so of "
                "a longer one: up to 1 it is a fraction. Choose another `--output_dir`."
            )
        # A stage that grew with the run would be gone back to.
        settings["first_stage_steps"] = first_stage
        args.kl_switch = float(first_stage)
    return {name, "first_stage_steps"} if longer else set()


def _finished(run: RunDirectory) -> Distilled:
    history = json.loads((run.path / "trainer_state.json").read_text())["log_history"]
    costs = json.loads((run.path / COSTS).read_text()) if (run.path / COSTS).exists() else {}
    return Distilled(run.path, history, costs, reused=True)


def _train(
    run: RunDirectory,
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    verifier: Verifier | None,
    validation: Dataset | dict[str, Dataset] | None,
    callbacks: Callable[[PacedTrainer], Sequence[TrainerCallback]] | None,
) -> Distilled:
    """Train from the newest whole checkpoint, or from the start, and save the student."""
    stop, is_main = StopCleanly(), PartialState().is_main_process
    trainer = make_trainer(args, model_args, dataset, validation=validation, verifier=verifier, callbacks=[stop])
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(TrainingProgress())
    # After the trainer's own, such as its clock.
    for callback in () if callbacks is None else callbacks(trainer):
        trainer.add_callback(callback)
    was_begun = run.status == "started"
    if is_main:
        run.mark("started")
    # The others look for checkpoints in the directory that the first makes.
    PartialState().wait_for_everyone()
    checkpoint = trainer.newest_whole_checkpoint()
    if checkpoint is not None and is_main:
        print(f"Going on from step {step_of(Path(checkpoint))} ({checkpoint}).", flush=True)
    elif was_begun and is_main:
        print(f"The run in {run.path} left no whole checkpoint: it starts again from step 0.", flush=True)
    trainer.train(resume_from_checkpoint=checkpoint)
    if stop.stopped:
        # A launcher ends all processes when the first is gone: the checkpoint must be whole by then.
        PartialState().wait_for_everyone()
        raise KeyboardInterrupt
    trainer.save_model()
    trainer.save_state()
    costs = trainer.figures.costs(trainer.state)
    if is_main:
        # TRL's and PEFT's cards name no base and local paths; `publish` writes the card.
        (run.path / "README.md").unlink(missing_ok=True)
        write_json(run.path / COSTS, costs)
        shutil.rmtree(run.path / SAVING, ignore_errors=True)
        run.mark("finished")
    # Whoever loads the student next must find all of it.
    PartialState().wait_for_everyone()
    return Distilled(run.path, trainer.state.log_history, costs, reused=False)


class StopCleanly(TrainerCallback):
    """
    Let Ctrl-C, or a scheduler's SIGTERM, end training after the current step with a checkpoint, in all processes.

    transformers' `enable_jit_checkpoint` is not used: it saves in the middle of a step, whose completions then are
    drawn again from other random numbers.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._requested = self._is_stopping = False
        self._previous: dict[int, Any] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self._requested:
            print("\nStopping after this step, with a checkpoint. Ctrl-C again stops at once.", flush=True)
        self._requested = True
        # A second SIGTERM interrupts nothing: a launcher passes on what the scheduler has sent to all processes.
        if signum == signal.SIGINT:
            signal.signal(signum, self._previous.pop(signum))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # handlers cannot be set elsewhere
            self._previous = {each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        requested = self._requested
        if PartialState().num_processes > 1:
            flag = torch.tensor(int(requested), device=args.device)
            torch.distributed.all_reduce(flag)
            requested = flag.item() > 0
        if requested and state.global_step < state.max_steps:
            self._is_stopping = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # Only now: the checkpoint says whether the run has ended by itself with this step, as at a token budget.
        if self._is_stopping:
            self.stopped = control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for signum in list(self._previous):
            signal.signal(signum, self._previous.pop(signum))
