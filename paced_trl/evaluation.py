"""
How good a model is on a set of problems, and whether it is better than another.

Responsible for mean@k and pass@k from counts of passes, for the interval of mean@k, for the paired difference of two
runs, and for the file that keeps them together with every setting they depend on. Completions are made, verified and
stored by `estimation.py`, so that an evaluation differs from an estimation in name only: same code, same record. The
paper (PACED, arXiv 2603.11178) reports the mean over 8 generations; the intervals are ours.

A verifier's failure is not the model's: a problem without a valid verdict (`num_valid` 0) does not count, here as
everywhere, and is listed in `unmeasured`. This module knows nothing of training.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from .pass_rate import Floats, check_counts, pass_rates
from .run_directory import write_json


if TYPE_CHECKING:
    from datasets import Dataset

    from .completions import Generator
    from .filling import VerifierLike
    from .store import PassRateStore

CONFIDENCE = 0.95
# What may differ between the records of two sides: the model, which is what is compared, and the draw.
_FREE_FIELDS = {"generator.model", "generator.weights", "generator.dtype", "seed"}
# Numbers drawn at once by the bootstrap: 80 MB.
_MAX_DRAWS = 10_000_000


@dataclass(frozen=True)
class Evaluation:
    """
    What a model did on a set of problems, and under which settings.

    Args:
        name (`str`): Name of the set of problems.
        model (`str` or `None`): Name of the model, as its generator gives it.
        record (`dict[str, Any]`): Every setting the completions and verdicts depend on: the record of the store.
        seed (`int`): Seed of the generations.
        num_generations (`int`): Generations per problem, k.
        problem_ids (`list[str]`): Ids of the problems, length P, each once.
        num_passed (`list[int]`): Generations that passed, per problem, length P.
        num_valid (`list[int]`): Generations with a valid verdict, per problem, length P; at least one is not 0.
        mean_completion_length (`float`): Mean over all completions, in tokens.
        clipped_ratio (`float`): Fraction in [0, 1] of completions that were cut at the maximum length.
        verdicts (`dict[str, int]`): Number of completions with each verdict.

    Raises:
        ValueError: If the columns differ in length, an id occurs twice, counts are invalid, or no problem has a valid
            verdict.
    """

    name: str
    model: str | None
    record: dict[str, Any]
    seed: int
    num_generations: int
    problem_ids: list[str]
    num_passed: list[int]
    num_valid: list[int]
    mean_completion_length: float
    clipped_ratio: float
    verdicts: dict[str, int]

    def __post_init__(self) -> None:
        _, valid = check_counts(self.num_passed, self.num_valid)
        if len(self.problem_ids) != valid.size:
            raise ValueError(
                f"The evaluation on {self.name!r} has {len(self.problem_ids)} problem ids and counts of {valid.size} "
                "problems, so they cannot belong together. Give one of each per problem."
            )
        if len(set(self.problem_ids)) != valid.size:
            twice = next(problem_id for problem_id in self.problem_ids if self.problem_ids.count(problem_id) > 1)
            raise ValueError(
                f"The evaluation on {self.name!r} has the problem id {twice!r} more than once, so runs could not be "
                "compared problem by problem. Give every problem its own id."
            )
        if not valid.any():
            raise ValueError(
                f"No completion of the {valid.size} problems of {self.name!r} has a valid verdict ({self.verdicts}), "
                "so there is nothing to average. Check the verifier and the solutions."
            )

    @property
    def mean_at_k(self) -> float:
        """Mean of the measured problems' pass rates: expected accuracy of one generation, a fraction in [0, 1]."""
        return float(self._measured_pass_rates().mean())

    @property
    def mean_at_k_interval(self) -> tuple[float, float]:
        """
        95 % interval of [`mean_at_k`]: percentiles of a bootstrap that resamples problems with their generations.

        Where all problems have the same pass rate its width is 0, however few they are.
        """
        return _bootstrap_interval(self._measured_pass_rates(), num_resamples=10_000, seed=0)

    @property
    def unmeasured(self) -> list[str]:
        """Ids of the problems without a valid verdict, which do not count."""
        return [problem_id for problem_id, valid in zip(self.problem_ids, self.num_valid, strict=True) if valid == 0]

    def pass_at(self, k: int) -> float:
        """
        Return pass@k: how often at least one of k generations passes, averaged over problems.

        For c passes among n valid generations the unbiased estimate is 1 - C(n - c, k) / C(n, k) (Chen et al. 2021,
        arXiv 2107.03374, eq. 1). As in [`mean_at_k`], problems with too few valid verdicts, here fewer than k, do not
        count.

        Args:
            k (`int`): Generations, from 1 to `num_generations`.

        Returns:
            `float`: Fraction in [0, 1].

        Raises:
            ValueError: If `k` is below 1, or no problem has k valid verdicts.
        """
        passed, valid = check_counts(self.num_passed, self.num_valid)
        if not 1 <= k <= valid.max():
            raise ValueError(
                f"`k` is {k}, but no problem of {self.name!r} has more than {valid.max()} valid verdicts, and pass@k "
                f"needs k of them. Give 1 to {valid.max()}, or evaluate with a larger `num_generations`."
            )
        passed, valid = passed[valid >= k], valid[valid >= k]
        drawn = np.arange(k)[:, None]
        # C(n - c, k) / C(n, k): each of k draws without replacement fails. With too few failures one factor is 0.
        all_fail = np.prod((valid - passed - drawn) / (valid - drawn), axis=0)
        return float(np.mean(1.0 - all_fail))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, and with them, for readers of the file, `mean_at_k` and its interval."""
        derived = {"mean_at_k": self.mean_at_k, "mean_at_k_interval": list(self.mean_at_k_interval)}
        return {**asdict(self), **derived}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """
        Return the evaluation that [`to_dict`] was called on.

        Raises:
            ValueError: If a field is missing.
        """
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise ValueError(
                f"This is no evaluation: the field `{missing[0]}` is missing; it has {', '.join(values) or 'none'}. "
                "Give what `Evaluation.to_dict` or `Evaluation.save` wrote."
            )
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the evaluation to a JSON file, whole or not at all; its directory is created."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """
        Read the evaluation that [`save`] wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no evaluation.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError(f"it holds a {type(values).__name__}, not an object")
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"Cannot read an evaluation from {os.fspath(path)!r}: {error}") from error

    def _measured_pass_rates(self) -> Floats:
        rates = pass_rates(self.num_passed, self.num_valid)
        return rates[~np.isnan(rates)]


@dataclass(frozen=True)
class Difference:
    """
    Difference in mean@k between two sides that answered the same problems, run minus baseline.

    Args:
        estimate (`float`): Mean over problems of the difference in pass rate, in [-1, 1].
        low (`float`): Lower end of the 95 % interval.
        high (`float`): Upper end of the 95 % interval.
        num_problems (`int`): Problems that count: those with a valid verdict in every evaluation of both sides.
    """

    estimate: float
    low: float
    high: float
    num_problems: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0: only then is one side said to be better."""
        return self.low > 0.0 or self.high < 0.0


def evaluate_model(
    problems: Dataset | Sequence[dict[str, Any]],
    generator: Generator,
    verifier: VerifierLike,
    *,
    name: str,
    num_generations: int = 4,
    store: PassRateStore | str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """
    Let a model answer every problem `num_generations` times and judge the completions.

    Args:
        problems (`datasets.Dataset` or `list[dict]`): Problems with `prompt`, `solution` and `problem_id`.
        generator (`Generator`): Makes the completions: see [`load_generator`].
        verifier ([`Verifier`] or callable): Judges them.
        name (`str`): Name of the set of problems.
        num_generations (`int`, *optional*, defaults to `4`):
            Generations per problem, k. A store that holds more already keeps and counts them.
        store ([`PassRateStore`] or path, *optional*):
            Where completions are kept, so that an interrupted evaluation continues. If `None`, a temporary directory
            that is deleted at the end; several processes need one that they share.
        seed (`int`, *optional*, defaults to `0`): Seed of the generations.
        progress (`bool`, *optional*, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Evaluation`]: Counts per problem in the order of `problems`.

    Raises:
        ValueError: If the problems cannot be measured, the store belongs to other settings, or no completion has a
            valid verdict.
    """
    from .estimation import estimate_pass_rates
    from .processes import Processes
    from .store import VERDICTS, PassRateStore

    with ExitStack() as stack:
        if store is None:
            if Processes.current().count > 1:
                raise ValueError(
                    "`store` is None, and several processes cannot share a temporary directory. Name one for the run."
                )
            store = stack.enter_context(tempfile.TemporaryDirectory(prefix="paced_trl-evaluation-"))
        table = estimate_pass_rates(
            problems,
            generator,
            verifier,
            store=store,
            num_generations=num_generations,
            seed=seed,
            progress=progress,
        )
        opened = store if isinstance(store, PassRateStore) else PassRateStore(store)
        completions = opened.completions(table["problem_id"], columns=["num_tokens", "finish_reason"])
    verdicts = {verdict: np.asarray(table[f"num_{verdict}"]) for verdict in VERDICTS}
    return Evaluation(
        name=name,
        model=opened.record["generator"].get("model"),
        record=opened.record,
        seed=seed,
        num_generations=int(np.max(sum(verdicts.values()))),
        problem_ids=list(table["problem_id"]),
        num_passed=list(table["num_passed"]),
        num_valid=list(table["num_valid"]),
        mean_completion_length=pc.mean(completions["num_tokens"]).as_py(),
        clipped_ratio=pc.mean(pc.equal(completions["finish_reason"], "length").cast("float64")).as_py(),
        verdicts={verdict: int(counts.sum()) for verdict, counts in verdicts.items()},
    )


def compare_runs(
    run: Evaluation | Sequence[Evaluation],
    baseline: Evaluation | Sequence[Evaluation],
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """
    Return the paired difference in mean@k, `run` minus `baseline`, with a bootstrap interval over problems.

    Pairing takes out what the problems have in common, which is most of the variance of mean@k. A side may be several
    evaluations, such as one per training seed: a problem's pass rate is then its mean over them. The interval says
    what other problems and other generations could have given; it does not say what other training seeds could have.

    Args:
        run ([`Evaluation`] or sequence of them): One side.
        baseline ([`Evaluation`] or sequence of them): The other. The two need not have as many.
        num_resamples (`int`, *optional*, defaults to `10_000`): Resamples of the bootstrap.
        seed (`int`, *optional*, defaults to `0`): Seed of the bootstrap.

    Returns:
        [`Difference`]: Estimate and 95 % interval. Problems without a valid verdict in some evaluation do not count.

    Raises:
        ValueError: If a side is empty, problems or settings other than the model differ, `num_resamples` is below 1,
            or no problem has a valid verdict everywhere.

    Example:

    ```python
    >>> difference = compare_runs(paced, uniform)
    >>> print(f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
    ```
    """
    sides = [[side] if isinstance(side, Evaluation) else list(side) for side in (run, baseline)]
    for side, argument in zip(sides, ("run", "baseline"), strict=True):
        if not side:
            raise ValueError(f"`{argument}` holds no evaluation, so there is nothing to compare. Give at least one.")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` is {num_resamples}, which gives no interval. Give 1 or more.")
    reference = sides[0][0]
    for other in [*sides[0], *sides[1]]:
        _check_comparable(reference, other)
    rates = [np.stack([_pass_rates_in_order(e, reference.problem_ids) for e in side]).mean(axis=0) for side in sides]
    # Sums over seeds in another order must not make a difference of 1e-17 out of none.
    differences = np.round(rates[0] - rates[1], 12)
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        raise ValueError(
            f"None of the {len(reference.problem_ids)} problems of {reference.name!r} has a valid verdict in every "
            "evaluation, so no problem can be compared. Check the verifier."
        )
    low, high = _bootstrap_interval(differences, num_resamples=num_resamples, seed=seed)
    return Difference(float(differences.mean()), low, high, num_problems=differences.size)


def _pass_rates_in_order(evaluation: Evaluation, problem_ids: Sequence[str]) -> Floats:
    """Return the pass rates of **shape (P,)** in the order of `problem_ids`, nan where there is no valid verdict."""
    row_of = {problem_id: row for row, problem_id in enumerate(evaluation.problem_ids)}
    rates = pass_rates(evaluation.num_passed, evaluation.num_valid)
    return rates[[row_of[problem_id] for problem_id in problem_ids]]


def _check_comparable(one: Evaluation, other: Evaluation) -> None:
    """Refuse evaluations on different problems or under different settings, naming what differs."""
    for has, lacks in ((one, other), (other, one)):
        extra = sorted(set(has.problem_ids) - set(lacks.problem_ids))
        if extra:
            raise ValueError(
                f"The evaluation of {has.model!r} on {has.name!r} has {len(extra)} problems that the one of "
                f"{lacks.model!r} on {lacks.name!r} lacks, the first {extra[0]!r}: a paired difference needs the same "
                "problems. Evaluate both on the same set."
            )
    settings, other_settings = _settings(one.record), _settings(other.record)
    differing = [
        f"`{key}` {settings.get(key, 'absent')!r} and {other_settings.get(key, 'absent')!r}"
        for key in sorted(settings.keys() | other_settings.keys())
        if settings.get(key, "absent") != other_settings.get(key, "absent")
    ]
    if differing:
        raise ValueError(
            f"The evaluations of {one.model!r} and {other.model!r} on {one.name!r} were made under different "
            f"settings, so a difference would not be the models': {'; '.join(differing)}. Evaluate both alike."
        )


def _settings(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a record's settings by dotted name, without those that may differ."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= _settings(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in _FREE_FIELDS:
            flat[f"{prefix}{key}"] = value
    return flat


def _bootstrap_interval(values: Floats, *, num_resamples: int, seed: int) -> tuple[float, float]:
    """
    Return the 95 % percentile interval of the mean of `values`, **shape (P,)**, over resamples of problems.

    Only how often a value is drawn matters, not for which problem: that is a multinomial draw over the distinct
    values, of which k generations give few.
    """
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    chunk = max(1, _MAX_DRAWS // distinct.size)
    means = [
        rng.multinomial(values.size, counts / values.size, size=min(chunk, num_resamples - start)) @ distinct
        for start in range(0, num_resamples, chunk)
    ]
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(np.concatenate(means) / values.size, [tail, 1.0 - tail])
    return float(low), float(high)
