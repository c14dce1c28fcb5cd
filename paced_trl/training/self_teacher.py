"""
The student as its own teacher: with its adapter off, or with the average of its adapter in place.

Responsible for making one set of weights act as two models. Knows nothing of prompts and losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import PreTrainedConfig, TrainerCallback


AVERAGE_FILE = "teacher_adapter_average.safetensors"


class SelfTeacher(nn.Module):
    """A teacher that is the student with its adapter off (`decay` None) or averaged; the head must not be trained."""

    def __init__(self, student: PeftModel, decay: float | None = None) -> None:
        super().__init__()
        # In a tuple, so that it is not registered: `eval()`, `to()` and the optimizer would find it here too.
        self._student = (student,)
        self.decay = decay
        self._trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
        # In float32: a bfloat16 average does not move where a step is below half a unit in its last place.
        averaged = {} if decay is None else self._trained
        self._average = {name: p.detach().float().clone() for name, p in averaged.items()}

    @property
    def config(self) -> PreTrainedConfig:
        """The student's configuration, which the loss reads logit rules from."""
        return self._student[0].config

    def get_output_embeddings(self) -> nn.Module:
        return self._student[0].get_output_embeddings()

    @contextmanager
    def in_place_of_student(self) -> Iterator[PeftModel]:
        """Let the student be its teacher: in eval mode, the adapter off or averaged. For use without gradients."""
        student = self._student[0]
        was_training = student.training
        student.eval()
        try:
            with student.disable_adapter() if self.decay is None else self._average_in_place():
                yield student
        finally:
            student.train(was_training)

    @contextmanager
    def _average_in_place(self) -> Iterator[None]:
        # `.data`: what autograd has saved for the student's backward keeps pointing to the parameters, not to values,
        # and finds them as they were.
        own = {name: parameter.data for name, parameter in self._trained.items()}
        try:
            for name, parameter in self._trained.items():
                parameter.data = self._average[name].to(parameter.dtype)
            yield
        finally:
            for name, parameter in self._trained.items():
                parameter.data = own[name]

    def follow(self) -> None:
        """Move the average towards the student: average = decay * average + (1 - decay) * adapter."""
        if self.decay is not None:
            trained = [parameter.detach().float() for parameter in self._trained.values()]
            get_ema_multi_avg_fn(self.decay)(list(self._average.values()), trained, None)

    def save(self, checkpoint: Path) -> None:
        """Write the average into a checkpoint's directory; nothing where the teacher is the base."""
        if self._average:
            save_file({name: tensor.contiguous() for name, tensor in self._average.items()}, checkpoint / AVERAGE_FILE)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint's average; refuse a checkpoint without one, or with that of another adapter."""
        if self.decay is None:
            return
        path = checkpoint / AVERAGE_FILE
        saved = load_file(path) if path.exists() else {}
        if saved.keys() != self._average.keys():
            raise ValueError(
                f"`self_distillation` is 'ema', and the checkpoint {str(checkpoint)!r} has no average of this "
                f"adapter ({AVERAGE_FILE}): it was written with other settings. Start anew in another `output_dir`."
            )
        for name, tensor in saved.items():
            self._average[name].copy_(tensor)


class FollowStudent(TrainerCallback):
    """Move an averaged teacher after each optimizer step."""

    def __init__(self, teacher: SelfTeacher) -> None:
        self.teacher = teacher

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.teacher.follow()
