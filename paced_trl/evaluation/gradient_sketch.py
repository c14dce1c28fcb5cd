"""
The gradient of each problem's own loss, small enough to keep: as it is, or as a random projection.

Responsible for turning a trainer's loss on one problem into a vector whose inner products are those of the gradients.
A projection is a signed sum of the gradient's coordinates into D buckets (a count sketch): inner products are kept in
expectation, and off by about |g| |h| / sqrt(D). Memory, beside one gradient: one byte per trained parameter for the
signs, and P x D numbers of four bytes. Ours; what the vectors are for is in `gradient_snr.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm


if TYPE_CHECKING:
    from ..training.trainer import PacedTrainer
    from ..weighting.counts import Floats

DEFAULT_SIZE = 8192


class GradientSketch:
    """
    A fixed random projection of a model's gradient to D numbers; the gradient itself where it has no more.

    Args:
        parameters (`list[torch.nn.Parameter]`): What is trained.
        size (`int`, *optional*, defaults to `8192`): D.
        seed (`int`, *optional*, defaults to `0`): Seed of the signs.
    """

    def __init__(self, parameters: list[nn.Parameter], size: int = DEFAULT_SIZE, seed: int = 0) -> None:
        self.parameters = parameters
        num_coordinates = sum(parameter.numel() for parameter in parameters)
        self.is_exact = num_coordinates <= size
        self.size = num_coordinates if self.is_exact else size
        generator = torch.Generator().manual_seed(seed)
        self._signs = [
            (torch.randint(0, 2, (parameter.numel(),), generator=generator, dtype=torch.int8) * 2 - 1).to(
                parameter.device
            )
            for parameter in ([] if self.is_exact else parameters)
        ]

    def of_gradients(self) -> Floats:
        """Return the vector of the parameters' present gradients, **shape (D,)**; no gradient counts as 0."""
        gradients = [
            torch.zeros_like(parameter).flatten() if parameter.grad is None else parameter.grad.flatten()
            for parameter in self.parameters
        ]
        if self.is_exact:
            return torch.cat([gradient.float().cpu() for gradient in gradients]).double().numpy()
        total = torch.zeros(self.size)
        offset = 0
        for gradient, signs in zip(gradients, self._signs, strict=True):
            # Coordinate i of all goes to bucket i modulo D: parameters begin where the one before ended.
            start = offset % self.size
            signed = nn.functional.pad(gradient.float() * signs, (start, -(start + gradient.numel()) % self.size))
            total += signed.view(-1, self.size).sum(dim=0).cpu()
            offset += gradient.numel()
        return total.double().numpy()


def problem_gradients(trainer: PacedTrainer, path: Path, *, size: int = DEFAULT_SIZE, progress: bool = True) -> Floats:
    """
    Return the gradient of each training problem's unweighted distillation loss, **shape (P, D)**.

    The loss is the trainer's own, on one problem: the mean over its completion tokens of the divergence in force.

    Args:
        trainer ([`PacedTrainer`]): Not trained yet; its weights are not applied.
        path (`Path`): `.npy` file in which the vectors are kept as they come; those that it holds are not made again.
        size (`int`, *optional*, defaults to `8192`): Largest D; see [`GradientSketch`].
        progress (`bool`, *optional*, defaults to `True`): Whether to show a progress bar.
    """
    model: Any = trainer.model
    dataset: Any = trainer.train_dataset
    sketch = GradientSketch([p for p in model.parameters() if p.requires_grad], size)
    if path.exists():
        vectors = np.lib.format.open_memmap(path, mode="r+")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(dataset), sketch.size))
        vectors[:] = np.nan  # to do
    model.train()
    batch_size = trainer.args.per_device_train_batch_size
    bar = tqdm(total=len(dataset), desc="Gradients", unit="problem", disable=not progress)
    for start in range(0, len(dataset), batch_size):
        rows = range(start, min(start + batch_size, len(dataset)))
        if np.isnan(vectors[rows]).any():
            for row, inputs in zip(rows, _single_problems(trainer, [dataset[row] for row in rows]), strict=True):
                model.zero_grad(set_to_none=True)
                trainer.accelerator.backward(trainer.compute_loss(model, inputs))
                vectors[row] = sketch.of_gradients()
        bar.update(len(rows))
    bar.close()
    model.zero_grad(set_to_none=True)
    return np.asarray(vectors, dtype=np.float64)


def _single_problems(trainer: PacedTrainer, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the loss gets of each problem alone; their completions are made together."""
    batch = trainer._generate_and_score_completions(rows)
    for row in range(len(rows)):
        single = {name: value[row : row + 1] for name, value in batch.items() if value.ndim > 0}
        single["row_weight"] = torch.ones_like(single["row_weight"])
        yield {**single, "num_items_in_batch": single["completion_mask"].sum()}
