"""
Does the paper's bell show on this student and these problems? The gradient of each problem's own loss, and the curve.

A gradient is kept as it is, or as a random projection: a signed sum of its coordinates into D buckets (a count
sketch), which keeps inner products in expectation, off by about |g| |h| / sqrt(D). Memory, beside one gradient: one
byte per trained parameter for the signs, and P x D numbers of four bytes. The mathematics is in `gradient_snr.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from trl import ModelConfig

from ..processes import Processes
from ..run_directory import write_json
from ..settings import FITTED
from ..training.config import PacedConfig
from ..training.run import make_trainer, training_settings
from ..training.schedule import stages
from ..training.trainer import PacedTrainer
from ..weighting.counts import Floats, pass_rate_bins
from .gradient_snr import RESULT, GradientSNR, bins_with_pairs, gradient_snr


DEFAULT_SIZE = 8192
# A gradient is of one problem, whatever it weighs and whenever a run would end or be evaluated.
_UNWEIGHTED: dict[str, Any] = {
    "weighting": "uniform",
    "weight_alpha": 1.0,
    "weight_beta": 1.0,
    "apply_weights": "loss",
    "replay_share": 0.0,
    "shuffle_weights": False,
    "token_budget": None,
    "max_forgetting": None,
    "eval_strategy": "no",
    "eval_on_start": False,
    "load_best_model_at_end": False,
    "learning_rate": 0.0,
    "max_steps": 1,
}


class GradientSketch:
    """A fixed random projection of the parameters' gradient to D numbers; the gradient itself where it has no more."""

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


def problem_gradients(trainer: PacedTrainer, path: Path, *, size: int) -> Floats:
    """
    Return the gradient of the trainer's own loss on each training problem alone, unweighted, **shape (P, D)**.

    Vectors are kept in `path` (`.npy`) as they come, and those that it holds are not made again.
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
    bar = tqdm(total=len(dataset), desc="Gradients", unit="problem", disable=None)
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


def rows_per_pass_rate(num_passed: list[int], num_valid: list[int], most: int, seed: int) -> list[int]:
    """Return rows of at most `most` measured problems of each pass rate, drawn at random, in order."""
    measured = np.flatnonzero(np.asarray(num_valid) > 0)
    index, last = pass_rate_bins(num_passed, num_valid)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(measured[index == b])[:most] for b in range(last + 1)]
    return sorted(np.concatenate(chosen).tolist())


def diagnose(
    args: PacedConfig,
    model_args: ModelConfig,
    dataset: Dataset,
    *,
    problems_per_pass_rate: int = 32,
    sketch_size: int = DEFAULT_SIZE,
) -> GradientSNR:
    """
    Estimate the SNR of gradients over the pass rate, under the divergence of the run's first stage.

    With LoRA, the gradients are those of the adapter as it starts. Also in `output_dir/gradient_snr.json`.
    """
    if Processes.current().count > 1:
        raise ValueError(
            f"There are {Processes.current().count} processes, and the gradients of single problems are made in one. "
            "Start it without a launcher."
        )
    if not {"num_passed", "num_valid"} <= set(dataset.column_names):
        raise ValueError(
            f"The problems have no `num_passed` and `num_valid`, so there is no pass rate to sort them by; they have "
            f"{', '.join(dataset.column_names)}. Run `paced-trl estimate` first."
        )
    output = Path(str(args.output_dir))
    rows = rows_per_pass_rate(dataset["num_passed"][:], dataset["num_valid"][:], problems_per_pass_rate, args.seed)
    dataset = dataset.select(rows)
    counts = dataset["num_passed"][:], dataset["num_valid"][:]
    bins_with_pairs(*counts)  # refused before models load
    args = replace(
        args,
        beta=None,
        kl=stages(args.kl, args.kl_switch)[0],
        refresh="never",
        gradient_accumulation_steps=1,
        **_UNWEIGHTED,
        output_dir=str(output / "diagnosis"),
    )
    settings = training_settings(args, model_args, dataset) | {"sketch_size": sketch_size}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    known = output / "diagnosis" / f"snr-{digest}.json"
    if known.exists():
        result = GradientSNR.from_dict(json.loads(known.read_text()))
    else:
        trainer = make_trainer(args, model_args, dataset)
        vectors = problem_gradients(trainer, output / "diagnosis" / f"gradients-{digest}.npy", size=sketch_size)
        result = gradient_snr(vectors, *counts, seed=args.seed)
        write_json(known, result.to_dict())
    write_json(output / RESULT, {"kl": args.kl, **result.to_dict()})
    return result


def with_fitted_exponents(
    args: PacedConfig, model_args: ModelConfig, dataset: Dataset, *, output_dir: Path | None = None
) -> PacedConfig:
    """
    Return settings whose exponents `"fitted"` are numbers: those whose weight follows the SNR of gradients best.

    The gradients are those of [`diagnose`] on the training set, kept in `output_dir` (default: that of `args`), where
    the same fit is found again. `args.output_dir/gradient_snr.json` is the fit of the run. Where the weight has no
    exponents, as `"uniform"`, or none is `"fitted"`, nothing is measured.

    Args:
        args ([`PacedConfig`]): The run.
        model_args ([`~trl.ModelConfig`]): The student.
        dataset (`datasets.Dataset`): The training problems, with `num_passed` and `num_valid`.
        output_dir (`Path`, *optional*): Where gradients are kept, for several runs that share them.

    Raises:
        ValueError: If there are no counts, weights are given with the data, too few pass rates have problems, or
            gradients agree at no pass rate.
    """
    given = {"weight_alpha": args.weight_alpha, "weight_beta": args.weight_beta}
    wanted = [name for name, value in given.items() if value == FITTED]
    if not wanted:
        return args
    if args.weighting != "beta":
        numbers: dict[str, Any] = dict.fromkeys(wanted, 1.0)
        return replace(args, beta=None, **numbers)
    what = f"`{'` and `'.join(wanted)}` cannot be fitted"
    if "problem_weight" in dataset.column_names:
        raise ValueError(f"{what}: the problems bring weights of their own, `problem_weight`. Leave one of them out.")
    run = Path(str(args.output_dir))
    try:
        result = diagnose(replace(args, beta=None, output_dir=str(output_dir or run)), model_args, dataset)
        a, b, explained = result.best_exponents(*(None if v == FITTED else float(v) for v in given.values()))
    except ValueError as error:
        raise ValueError(f"{what}. {error} Or give numbers, e.g. 1 and 1.") from error
    finally:
        clear_device_cache(garbage_collection=True)
    fit = {"kl": args.kl, "weight_alpha": a, "weight_beta": b, **result.to_dict()}
    if not (run / RESULT).exists() or json.loads((run / RESULT).read_text()) != json.loads(json.dumps(fit)):
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / RESULT, fit)
        print(
            f"Fitted to the gradients of {sum(each.num_problems for each in result.bins)} problems: weight_alpha "
            f"{a:g}, weight_beta {b:g}, which explain {explained:.0%} of their signal-to-noise ratio over the pass "
            f"rate (1 and 1: {result.explained_by_default:.0%}); {run / RESULT}",
            flush=True,
        )
    return replace(args, beta=None, weight_alpha=a, weight_beta=b)
