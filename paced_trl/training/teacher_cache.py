"""
The teacher's final hidden states of references on disk, computed once.

From the second pass over the problems on, a stage on references needs only the teacher's head. States are kept as they
came (number format included), so the loss is the same to the last bit, and they take H numbers a token in place of V.
Responsible for the files, their size, and what they belong to. Knows nothing of models and losses.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from ..run_directory import write_json


logger = logging.getLogger(__name__)

_STATES, _DONE, _SETTINGS = "hidden_states.bin", "done.bin", "settings.json"


class HiddenStateCache:
    """Hidden states of P references, by row of the training set, in files that the processes of a machine share."""

    def __init__(
        self, directory: Path, teacher: str, prompt_ids: Sequence[list[int]], completion_ids: Sequence[list[int]]
    ) -> None:
        # `teacher` identifies its weights: other teachers or references never meet.
        digest = hashlib.sha256(teacher.encode())
        for prompt, completion in zip(prompt_ids, completion_ids, strict=True):
            digest.update(np.array([len(prompt), *prompt, *completion], dtype=np.int64).tobytes())
        self.path = directory / digest.hexdigest()[:16]
        self.starts = np.concatenate([[0], np.cumsum([len(ids) for ids in completion_ids])])
        self._states: torch.Tensor | None = None
        self._done: torch.Tensor | None = None
        if (self.path / _SETTINGS).exists():
            settings = json.loads((self.path / _SETTINGS).read_text())
            self._open(settings["hidden_size"], getattr(torch, settings["dtype"]))

    def has(self, row: int) -> bool:
        """Whether a row's states are in the cache."""
        return self._done is not None and bool(self._done[row])

    def read(self, rows: Sequence[int], num_tokens: int) -> torch.Tensor:
        """Return the states of B cached rows, **shape (B, C, H)** with C `num_tokens`, 0 after a row's last token."""
        assert self._states is not None
        states = self._states.new_zeros(len(rows), num_tokens, self._states.shape[1])
        for position, row in enumerate(rows):
            start, end = self.starts[row : row + 2]
            states[position, : end - start] = self._states[start:end]
        return states

    def write(self, rows: Sequence[int], states: torch.Tensor) -> None:
        """Put the states of B rows into the cache, **shape (B, C, H)**; what follows a row's end is not kept."""
        if self._states is None:
            self._create(states.shape[-1], states.dtype)
        assert self._states is not None and self._done is not None
        states = states.to("cpu")
        for position, row in enumerate(rows):
            start, end = self.starts[row : row + 2]
            self._states[start:end] = states[position, : end - start]
            self._done[row] = 1

    def _create(self, hidden_size: int, dtype: torch.dtype) -> None:
        num_bytes, name = int(self.starts[-1]) * hidden_size * dtype.itemsize, str(dtype).removeprefix("torch.")
        with PartialState().local_main_process_first():
            if not (self.path / _SETTINGS).exists():
                self.path.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(self.path).free
                what = (
                    f"The teacher's hidden states for {len(self.starts) - 1} references ({self.starts[-1]} tokens of "
                    f"{hidden_size} numbers in {name}) take {num_bytes / 1e9:.3g} GB"
                )
                if num_bytes > free:
                    raise ValueError(
                        f"{what}, and the disk under {str(self.path)!r} has {free / 1e9:.3g} GB free. Name "
                        "another one with `teacher_cache`, or leave it out."
                    )
                logger.warning("%s, in %s.", what, self.path)
                # A disk that is full must say so now: later, a mapped file would end the process without a word.
                for file, size in ((_STATES, num_bytes), (_DONE, len(self.starts) - 1)):
                    with open(self.path / file, "ab") as opened:
                        os.posix_fallocate(opened.fileno(), 0, size)
                write_json(self.path / _SETTINGS, {"hidden_size": hidden_size, "dtype": name})
        self._open(hidden_size, dtype)

    def _open(self, hidden_size: int, dtype: torch.dtype) -> None:
        num_tokens = int(self.starts[-1])
        self._states = torch.from_file(
            str(self.path / _STATES), shared=True, size=num_tokens * hidden_size, dtype=dtype
        ).view(num_tokens, hidden_size)
        self._done = torch.from_file(str(self.path / _DONE), shared=True, size=len(self.starts) - 1, dtype=torch.uint8)
