"""
TRL's trainer with checkpoints that are whole or not there, and runs that go on from them exactly.

Responsible for when files of a checkpoint are written and read; how they are kept whole is in `checkpoints.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import DistillationTrainer

from .checkpoints import SAVING, full_disk_in_words, newest_whole, publish_checkpoint, remove_old


# In a checkpoint's state: whether the run has ended with it, before its last step, as at forgetting or a token budget.
_ENDED = "paced_ended"


class ResumableTrainer(DistillationTrainer):
    """TRL's [`~trl.DistillationTrainer`], with a hook for what a checkpoint holds beside its files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_saving = False
        super().__init__(*args, **kwargs)
        self.add_callback(FindBestCheckpoint())

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; as in [`~transformers.Trainer`], where `True` means the newest checkpoint that is whole."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = self.newest_whole_checkpoint()
            if resume_from_checkpoint is None:
                raise ValueError(
                    f"`resume_from_checkpoint` is True, and {str(self.args.output_dir)!r} has no checkpoint that is "
                    "whole. Leave it out to begin anew."
                )
        if resume_from_checkpoint:
            self._load_state(Path(str(resume_from_checkpoint)))
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        # A kill may have come between the last checkpoint and the removal of the one before.
        self._remove_old(Path(str(self.args.output_dir)))
        return result

    def newest_whole_checkpoint(self) -> str | None:
        """Return the run's newest checkpoint from which it goes on exactly, as its first process finds it."""
        found: list[str | None] = [None]
        if self.is_world_process_zero():
            path = newest_whole(Path(str(self.args.output_dir)), self.state_files)
            found = [None if path is None else str(path)]
        broadcast_object_list(found)
        return found[0]

    @property
    def state_files(self) -> list[str]:
        """Names of the files that a checkpoint of this run holds beside those of every run."""
        return []

    def _load_state(self, checkpoint: Path) -> None:
        """Go on from what a checkpoint holds beside TRL's files."""

    def _save_state(self, checkpoint: Path) -> None:
        """Write what belongs to a checkpoint beside TRL's files."""

    def _get_output_dir(self, trial: Any) -> str:
        run = super()._get_output_dir(trial)
        return str(Path(run, SAVING)) if self._is_saving else run

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run, name = Path(self._get_output_dir(trial)), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        written = run / SAVING / name
        pushes, self.args.push_to_hub = self.args.push_to_hub, False
        self._is_saving = True
        try:
            with full_disk_in_words(run, name):
                super()._save_checkpoint(model, trial)
                # Other processes write their own parts, such as the state of their random numbers.
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self._save_state(written)
                    self._name_best(run)
                    has_ended = self.control.should_training_stop and self.state.global_step < self.state.max_steps
                    self.state.stateful_callbacks[_ENDED] = has_ended  # type: ignore
                    self.state.save_to_json(str(written / "trainer_state.json"))
                    publish_checkpoint(run, name)
                    self._remove_old(run)
        except BaseException:
            shutil.rmtree(written, ignore_errors=True)
            raise
        finally:
            self._is_saving = False
            self.args.push_to_hub = pushes
        self.accelerator.wait_for_everyone()
        self._name_best(run)
        if pushes:
            self._push_from_checkpoint(str(run / name))

    def _remove_old(self, run: Path) -> None:
        """Delete what `save_total_limit` leaves no room for beside the checkpoint of this step and the best one."""
        newest, best = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}", self.state.best_model_checkpoint
        if self.args.should_save and newest.is_dir():
            remove_old(run, self.args.save_total_limit, [newest, *([] if best is None else [Path(best)])])

    def _name_best(self, run: Path) -> None:
        """Have the state name the best checkpoint by its place in the run, not by where it was written."""
        if self.state.best_model_checkpoint is not None:
            self.state.best_model_checkpoint = str(run / Path(self.state.best_model_checkpoint).name)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # TRL has the adapter of a 4-bit student in bfloat16, and PEFT loads it in float32: another run from there on.
        student = cast(torch.nn.Module, self.model)
        dtypes = {name: parameter.dtype for name, parameter in student.named_parameters()}
        super()._load_from_checkpoint(*args, **kwargs)
        for name, parameter in student.named_parameters():
            if parameter.dtype != dtypes[name]:
                parameter.data = parameter.data.to(dtypes[name])

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        # A run that was killed after its last checkpoint resumes with no step left, where transformers takes one more.
        if self.state.global_step >= self.state.max_steps or self.state.stateful_callbacks.get(_ENDED):  # type: ignore
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **kwargs)


class FindBestCheckpoint(TrainerCallback):
    """Let a run that goes on in another place find its best checkpoint there."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        best = Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}")
        if state.best_global_step and best.is_dir():
            state.best_model_checkpoint = str(best)
