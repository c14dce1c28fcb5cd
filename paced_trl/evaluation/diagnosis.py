"""
Does the paper's bell show on this student and these problems? From settings to the curve, kept under the run.

Responsible for which problems are asked, for how the loss is set up, and for the files. The mathematics is in
`gradient_snr.py`, the gradients are made in `gradient_sketch.py`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from trl import ModelConfig

from ..processes import Processes
from ..run_directory import write_json
from ..training.config import PacedConfig
from ..training.run import make_trainer, training_settings
from ..training.schedule import stages
from ..weighting.counts import pass_rate_bins
from .gradient_sketch import DEFAULT_SIZE, problem_gradients
from .gradient_snr import RESULT, GradientSNR, gradient_snr


def choose_problems(num_passed: list[int], num_valid: list[int], most: int, seed: int) -> list[int]:
    """
    Return rows of at most `most` problems of each pass rate, at random, in order.

    Args:
        num_passed, num_valid (`list[int]`): Counts per problem, length P; without any, a problem is left out.
        most (`int`): Problems per pass rate.
        seed (`int`): Seed of the choice.
    """
    measured = np.flatnonzero(np.asarray(num_valid) > 0)
    index, last = pass_rate_bins(num_passed, num_valid)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(measured[index == b])[:most] for b in range(last + 1)]
    return sorted(int(row) for row in np.concatenate(chosen))


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

    Args:
        args ([`PacedConfig`]): The run; its `kl` says which loss.
        model_args ([`~trl.ModelConfig`]): The student; with LoRA, the gradients are those of the adapter as it starts.
        dataset (`datasets.Dataset`): Problems as [`PacedTrainer`] needs them, with `num_passed` and `num_valid`.
        problems_per_pass_rate (`int`, *optional*, defaults to `32`): Most problems per pass rate.
        sketch_size (`int`, *optional*, defaults to `8192`): See [`GradientSketch`].

    Returns:
        [`GradientSNR`]: Also in `output_dir/gradient_snr.json`.

    Raises:
        ValueError: If the problems have no counts, or too few pass rates.
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
    rows = choose_problems(dataset["num_passed"][:], dataset["num_valid"][:], problems_per_pass_rate, args.seed)
    dataset = dataset.select(rows)
    args = replace(
        args,
        beta=None,
        kl=stages(args.kl, args.kl_switch)[0],
        weighting="uniform",
        apply_weights="loss",
        refresh="never",
        gradient_accumulation_steps=1,
        output_dir=str(output / "diagnosis"),
    )
    settings = training_settings(args, model_args, dataset) | {"sketch_size": sketch_size}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    trainer = make_trainer(args, model_args, dataset)
    vectors = problem_gradients(trainer, output / "diagnosis" / f"gradients-{digest}.npy", size=sketch_size)
    result = gradient_snr(vectors, dataset["num_passed"][:], dataset["num_valid"][:], seed=args.seed)
    write_json(output / RESULT, {"kl": args.kl, **result.to_dict()})
    return result
