"""
How good a model is on a set of problems: mean@k, pass@k and maj@k from counts, kept with every setting they depend on.

Completions are made, verified and stored by `estimation/`, so an evaluation differs from an estimation in name only.
A verifier's failure is not the model's: a problem without a valid verdict does not count and is listed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..names import check_ids
from ..run_directory import write_json
from ..store.store import VERDICTS, PassRateStore
from ..weighting.counts import Floats, check_counts, pass_rates
from .intervals import interval_of_mean


if TYPE_CHECKING:
    from datasets import Dataset

    from ..estimation.protocols import VerifierLike
    from ..generation.completions import Generator
    from ..problems import ProblemSet


TRAINING = "training"  # The set that is no held-out one: the problems that were trained on.


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
        majority (`list[float]`, *optional*):
            Probability per problem, length P, that the answer most generations agree on is right, as
            [`majority_votes`] gives it; `None` where the verifier cannot say what a completion answers.

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
    majority: list[float] | None = None

    def __post_init__(self) -> None:
        _, valid = check_counts(self.num_passed, self.num_valid)
        if len(self.problem_ids) != valid.size:
            raise ValueError(
                f"The evaluation on {self.name!r} has {len(self.problem_ids)} problem ids and counts of {valid.size} "
                "problems, so they cannot belong together. Give one of each per problem."
            )
        check_ids(self.problem_ids, f"the evaluation on {self.name!r}")
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
        """95 % interval of [`mean_at_k`], from a bootstrap that resamples problems with their generations."""
        return interval_of_mean(self._measured_pass_rates())

    @property
    def maj_at_k(self) -> float | None:
        """Share of the measured problems whose most frequent answer is right, a tie by chance; `None` if unknown."""
        if self.majority is None:
            return None
        return float(np.mean([vote for vote, valid in zip(self.majority, self.num_valid, strict=True) if valid]))

    @property
    def unmeasured(self) -> list[str]:
        """Ids of the problems without a valid verdict, which do not count."""
        return [problem_id for problem_id, valid in zip(self.problem_ids, self.num_valid, strict=True) if valid == 0]

    def pass_at(self, k: int) -> float:
        """
        Return pass@k: how often at least one of k generations passes, averaged over problems with k valid verdicts.

        For c passes among n valid generations the unbiased estimate is 1 - C(n - c, k) / C(n, k) (Chen et al. 2021,
        arXiv 2107.03374, eq. 1).

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
        """Return the fields as JSON values, and for readers of the file also `mean_at_k`, its interval, `maj_at_k`."""
        interval = list(self.mean_at_k_interval)
        derived = {"mean_at_k": self.mean_at_k, "mean_at_k_interval": interval, "maj_at_k": self.maj_at_k}
        return {**asdict(self), **derived}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """Return the evaluation that [`to_dict`] was called on."""
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values and name != "majority"]
        if missing:
            raise ValueError(
                f"This is no evaluation: the field `{missing[0]}` is missing; it has {', '.join(values) or 'none'}. "
                "Give what `Evaluation.to_dict` or `Evaluation.save` wrote."
            )
        return cls(**{name: values[name] for name in names if name in values})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the evaluation to a JSON file, whole or not at all; its directory is created."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Read the evaluation that [`save`] wrote; a file that holds none is a `ValueError`."""
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


def evaluate_model(
    problems: Dataset | Sequence[dict[str, Any]] | ProblemSet,
    generator: Generator,
    verifier: VerifierLike,
    *,
    name: str,
    num_generations: int = 4,
    store: PassRateStore | str | os.PathLike[str] | None = None,
    seed: int = 0,
    majority: bool = True,
    progress: bool = True,
) -> Evaluation:
    """
    Let a model answer every problem `num_generations` times and judge the completions.

    Args:
        problems (`datasets.Dataset`, `list[dict]` or [`ProblemSet`]): Problems with `prompt` and `solution`.
        generator (`Generator`): Makes the completions: see [`load_generator`].
        verifier ([`Verifier`] or callable): Judges them.
        name (`str`): Name of the set of problems.
        num_generations (`int`, *optional*, defaults to `4`):
            Generations per problem, k. A store that holds more already keeps and counts them.
        store ([`PassRateStore`] or path, *optional*):
            Where completions are kept, so that an interrupted evaluation continues. If `None`, a temporary directory
            that is deleted at the end; processes on several machines need one that they share.
        seed (`int`, *optional*, defaults to `0`): Seed of the generations.
        majority (`bool`, *optional*, defaults to `True`): Whether to count votes for maj@k, where the verifier can.
        progress (`bool`, *optional*, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Evaluation`]: Counts per problem in the order of `problems`.

    Raises:
        ValueError: If the problems cannot be measured, the store belongs to other settings, or no completion has a
            valid verdict.
    """
    from ..estimation.pass_rates import estimate_pass_rates
    from ..processes import Processes

    with ExitStack() as stack:
        if store is None:
            store = stack.enter_context(Processes.current().temporary_directory("paced_trl-evaluation-"))
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
        read_answers = getattr(verifier, "answers", None) if majority else None
        of_answers = [] if read_answers is None else ["problem_id", "completion", "verdict"]
        completions = opened.completions(table["problem_id"], columns=["num_tokens", "finish_reason", *of_answers])
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
        majority=None if read_answers is None else _majority(completions, list(table["problem_id"]), read_answers),
    )


def majority_votes(verdicts: Sequence[str], answers: Sequence[str | None]) -> float:
    """
    Return the probability that the answer that most of a problem's generations agree on is right (maj@k).

    Each valid generation that states an answer has one vote; those that passed agree, however they wrote it, and wrong
    answers that are written differently do not, which can only favour the right one. A tie is broken by chance.
    """
    votes = Counter(
        None if verdict == "passed" else answer
        for verdict, answer in zip(verdicts, answers, strict=True)
        if verdict == "passed" or (answer is not None and verdict in ("failed", "truncated"))
    )
    if not votes or votes[None] < max(votes.values()):
        return 0.0
    return 1.0 / list(votes.values()).count(votes[None])


def _majority(
    completions: pa.Table, problem_ids: Sequence[str], read_answers: Callable[[list[str]], list[str | None] | None]
) -> list[float] | None:
    """Return [`majority_votes`] of each problem, length P, or `None` where the verifier reads no answers."""
    verdicts = completions["verdict"].to_pylist()
    # What passed needs no reading, and what failed to be read once would again.
    rows = [row for row, verdict in enumerate(verdicts) if verdict in ("failed", "truncated")]
    read = read_answers(completions["completion"].take(pa.array(rows, pa.int64())).to_pylist())
    if read is None:
        return None
    answers = dict(zip(rows, read, strict=True))
    by_problem: dict[str, list[int]] = {problem_id: [] for problem_id in problem_ids}
    for row, problem_id in enumerate(completions["problem_id"].to_pylist()):
        by_problem[problem_id].append(row)
    return [
        majority_votes([verdicts[row] for row in owned], [answers.get(row) for row in owned])
        for owned in by_problem.values()
    ]
