"""
Pass rates that keep up with the student: from its own completions, or measured again by the student as it is now.

Responsible for what `PacedConfig.refresh` means: when a re-estimation is due, which problems it covers, how it is made
(adaptive allocation, in a store of its own, so that a kill loses nothing), and what of it belongs to a checkpoint.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from ..estimation.pass_rates import estimate_pass_rates
from ..generation.completions import SamplingParameters
from ..generation.transformers_engine import TransformersGenerator
from ..settings import as_mapping
from ..verification.verifier import Verifier
from ..weighting.allocation import AdaptiveAllocation
from ..weighting.counts import Floats
from .config import PacedConfig
from .online_pass_rates import OnlinePassRates


Refreshing = Literal["never", "online", "estimate"]

STATE_FILE = "pass_rates.npz"


def refresh_in_force(args: PacedConfig, dataset: Dataset, verifier: Verifier | None) -> Refreshing:
    """Return what `refresh` is: `"auto"` is `"online"` where that is sound and adds no generation, else `"never"`."""
    if args.refresh != "auto":
        return args.refresh
    # Pass rates that follow the student know no features.
    has_estimate = args.weight_estimator == "plugin" or (
        args.weight_estimator == "posterior" and not args.prior_features
    )
    is_sound = args.weighting == "beta" and has_estimate and _has_counts(dataset)
    is_free = verifier is not None and "student" in args.completion_sources
    return "online" if is_sound and is_free else "never"


def _has_counts(dataset: Dataset) -> bool:
    columns = set(dataset.column_names)
    return {"num_passed", "num_valid"} <= columns and "problem_weight" not in columns


def is_due(step: int, *, refresh_steps: int | None, switch: int | None) -> bool:
    """Return whether pass rates are measured again before `step`; `switch` is the first step of stage 2."""
    return step > 0 and (step == switch or (refresh_steps is not None and step % refresh_steps == 0))


class Refresh:
    """The pass rates of a training run with `refresh` `"online"` or `"estimate"`, by row of its training set."""

    def __init__(self, args: PacedConfig, dataset: Dataset, verifier: Verifier | None) -> None:
        if verifier is None:
            raise ValueError(
                f"`refresh` is {args.refresh!r}, and there is no `verifier` to judge the student's completions. Set "
                "one, or `refresh='never'`."
            )
        if not _has_counts(dataset):
            raise ValueError(
                f"`refresh` is {args.refresh!r}, which goes on from counts: `train_dataset` needs `num_passed` and "
                f"`num_valid`, and no `problem_weight`; it has {', '.join(dataset.column_names)}. Run `paced-trl "
                "estimate` first."
            )
        self.args = args
        self.verifier = verifier
        self.pass_rates = OnlinePassRates(
            range(len(dataset)),
            dataset["num_passed"][:],
            dataset["num_valid"][:],
            half_life=args.refresh_half_life if args.refresh == "online" else np.inf,
            weighting=args.weighting_arguments,
        )
        self._num_estimations = 0
        self.num_tokens = 0  # that the student has generated for re-estimations

    def weights(self, previous: Floats) -> Floats:
        """Return the problem weights, **shape (P,)**; where all would be 0, the previous ones, better than none."""
        try:
            return self.pass_rates.weights()
        except ValueError as error:
            warnings.warn(f"The problem weights stay as they are. {error}", UserWarning, stacklevel=2)
            return previous

    def estimate_if_due(self, problems: Dataset, model: Any, tokenizer: Any, *, step: int, switch: int | None) -> bool:
        """Measure pass rates again if it is time, with the student, unwrapped; return whether there are new ones."""
        args = self.args
        if args.refresh != "estimate" or not is_due(step, refresh_steps=args.refresh_steps, switch=switch):
            return False
        # Every problem once in about 1 / share of the re-estimations.
        num_parts = max(1, round(1.0 / args.refresh_share))
        rows = np.arange(self._num_estimations % num_parts, len(problems), num_parts)
        part = [{**problems[row], "problem_id": str(row)} for row in rows.tolist()]
        sampling, template = SamplingParameters.of(args), as_mapping(args.chat_template_kwargs, "chat_template_kwargs")
        generator = TransformersGenerator(model, tokenizer, sampling, chat_template_kwargs=template)
        # Other weights at the same step, of a run that was resumed elsewhere, are another student.
        name = f"step-{step}-{str(generator.record['weights']).rpartition(':')[2][:8]}"
        table = estimate_pass_rates(
            part,
            generator,
            self.verifier,
            store=Path(str(args.output_dir), "refresh", name),
            num_generations=args.refresh_num_generations,
            allocation=AdaptiveAllocation(args.refresh_num_generations, weighting=args.weighting_arguments),
            seed=args.seed,
            progress=False,
        )
        self.pass_rates.replace(rows.tolist(), table["num_passed"][:], table["num_valid"][:], step)
        self._num_estimations += 1
        self.num_tokens += sum(table["num_tokens"][:])
        return True

    def metrics(self) -> dict[str, float]:
        """Return what is worth logging: see [`OnlinePassRates.metrics`], and the tokens that re-estimations took."""
        metrics = self.pass_rates.metrics()
        if self.args.refresh == "estimate":
            metrics["estimation_tokens"] = self.num_tokens
        return metrics

    def save(self, checkpoint: Path) -> None:
        counters = np.array([self._num_estimations, self.num_tokens])
        np.savez(checkpoint / STATE_FILE, allow_pickle=False, counters=counters, **self.pass_rates.state_dict())

    def load(self, checkpoint: Path) -> None:
        """Go on from the state in a checkpoint's directory; refuse a checkpoint without one."""
        path = checkpoint / STATE_FILE
        if not path.exists():
            raise ValueError(
                f"`refresh` is {self.args.refresh!r}, and the checkpoint {str(checkpoint)!r} has no {STATE_FILE}: it "
                "was written by a run without refresh. Start anew, or set `refresh='never'`."
            )
        with np.load(path) as state:
            self.pass_rates.load_state_dict(state)
            self._num_estimations, self.num_tokens = (int(counter) for counter in state["counters"])
