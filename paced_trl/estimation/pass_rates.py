"""
How often the student passes each problem: what counts as a valid generation, and the table of pass rates.

How a store is filled is in `filling.py`, who gets the next generation in `weighting/allocation.py`, what a person sees
in `summary.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..problems import ProblemSet, with_problem_ids
from ..store.store import PassRateStore
from ..verification.verdict import VALID_VERDICTS
from ..weighting.allocation import SCREENING_GENERATIONS, AdaptiveAllocation
from ..weighting.counts import Floats, pass_rates
from ..weighting.prior import Prior, credible_intervals
from ..weighting.prior_features import fit_feature_prior, problem_features
from .filling import StoreFiller, filling, values_at


if TYPE_CHECKING:
    from ..generation.completions import Generator
    from .protocols import VerifierLike

_VALID = tuple(verdict.value for verdict in VALID_VERDICTS)


def estimate_pass_rates(
    problems: Dataset | Sequence[dict[str, Any]] | ProblemSet,
    generator: Generator,
    verifier: VerifierLike,
    *,
    store: PassRateStore | str | os.PathLike[str],
    num_generations: int = 8,
    allocation: Literal["fixed", "adaptive"] | AdaptiveAllocation = "fixed",
    prior_features: Sequence[str] = (),
    seed: int = 0,
    slice_size: int | None = None,
    progress: bool = True,
) -> Dataset:
    """
    Measure how often a student passes each problem.

    pass_rate_i = num_passed_i / num_valid_i

    Every completion is on disk with its verdict before it counts. A call that finds completions in the store generates
    only what is missing: after a kill what was completed in the last seconds is lost, and nothing is generated twice.

    Example:

    ```python
    >>> problems = load_problems("problems.jsonl")
    >>> generator = load_generator("transformers", model_name_or_path="Qwen/Qwen3-0.6B")
    >>> with load_verifier("math") as verifier:
    ...     table = estimate_pass_rates(problems, generator, verifier, store="runs/pass_rates")
    >>> print(summarize_pass_rates(table))
    ```

    Args:
        problems (`datasets.Dataset`, `list[dict]` or [`ProblemSet`]):
            P problems with `prompt` and `solution`; where they have no `problem_id`, a hash of both becomes it. The
            verifier gets the further columns.
        generator (`Generator`):
            The student: see [`load_generator`]. Any callable of the [`Generator`] protocol.
        verifier ([`Verifier`] or callable):
            Judges completions: `verifier(completions, solutions, **columns) -> list[Verdict]`. Problems whose gold its
            `check_solutions` does not pass get no generations and have `num_valid` 0.
        store ([`PassRateStore`], `str` or `Path`):
            Where completions are kept; created if it does not exist. Its record holds the records of generator and
            verifier and the seed: a store made under others is refused.
        num_generations (`int`, *optional*, defaults to `8`):
            Generations per problem, K; with `"adaptive"` the most on average. A store that holds more already keeps
            and counts them.
        allocation (`str` or [`AdaptiveAllocation`], *optional*, defaults to `"fixed"`):
            `"fixed"`: `num_generations` for every problem. `"adaptive"`: two for every problem, then one more where it
            is expected to lower the error of the weights most, until that is the error of the plug-in estimate with
            `num_generations` each. An [`AdaptiveAllocation`] says for which weights, and at which error to stop; its
            own `num_generations` holds.
        prior_features (`Sequence[str]`, *optional*):
            Columns known before generating that may tell how hard a problem is, or `"prompt_length"`; see
            [`problem_features`]. They sharpen the intervals and the adaptive allocation.
        seed (`int`, *optional*, defaults to `0`):
            Seed of all draws. An interrupted and continued run has the completions of an uninterrupted one, up to what
            the generator promises.
        slice_size (`int`, *optional*):
            Completions that are verified and stored at a time: the most that a kill can cost beside what is being
            generated. `None`: what 10 seconds bring.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a bar, and the first prompt with its completion, on stderr.

    Returns:
        `datasets.Dataset`: One row per problem in the problems' order: `problem_id`, `num_passed`, `num_valid`,
        `pass_rate` (fraction in [0, 1], nan where `num_valid` is 0), `pass_rate_low` and `pass_rate_high` (95 %
        credible interval), `num_tokens` of its completions, and one count for each other verdict.
        [`read_pass_rates`] makes the same table of a store, also without those cut off or unparseable.

    Raises:
        ValueError: If problems, settings or store do not fit together, before anything is generated; or generator or
            verifier break their protocol.
        StoreLockedError: If another process writes to the store.
    """
    rule = allocation_of(allocation, num_generations)
    if num_generations < 1:
        raise ValueError(
            f"`num_generations` is {num_generations}: a pass rate needs at least 1 generation per problem."
        )
    checked = problems if isinstance(problems, ProblemSet) else ProblemSet(problems)
    features = problem_features(checked.dataset, prior_features)
    with filling(
        "Pass rates", checked, generator, verifier, store, seed=seed, slice_size=slice_size, progress=progress
    ) as filler:
        if rule is None:
            num_new = filler.fill(np.full(len(checked), num_generations))
        else:
            num_new = _fill_adaptively(filler, rule, features)
        if not num_new:
            filler.progress.note(
                f"All completions of {len(checked)} problems are in {str(filler.store.path)!r} already."
            )
    return pass_rate_table(checked.ids, filler.store.counts(), features=features)


def allocation_of(
    allocation: str | AdaptiveAllocation,
    num_generations: int,
    target_error: float | None = None,
    weighting: Mapping[str, Any] | None = None,
) -> AdaptiveAllocation | None:
    """Return the rule of adaptive allocation that settings mean, None for "fixed"."""
    if isinstance(allocation, AdaptiveAllocation):
        return allocation
    if allocation == "adaptive":
        return AdaptiveAllocation(num_generations, target_error, weighting)
    if allocation != "fixed":
        raise ValueError(f"`allocation` is {allocation!r}, which does not exist. It can be: fixed, adaptive.")
    if target_error is not None:
        raise ValueError(
            f"`target_error` is {target_error}, and with `allocation` {allocation!r} nothing stops there. Use "
            "`allocation='adaptive'`."
        )
    return None


def _fill_adaptively(filler: StoreFiller, rule: AdaptiveAllocation, features: Floats) -> int:
    """Fill the store round by round; return how many completions were generated."""
    targets = np.full(len(filler.problems), SCREENING_GENERATIONS)
    num_new = fitted_at = 0
    while True:
        num_new += filler.fill(targets, total=rule.num_generations * len(targets))
        # Only the first generations of a store that holds more: a continued run must take the same decisions.
        verdicts = filler.first_verdicts(targets)
        passed, valid = verdicts["passed"], np.sum([verdicts[verdict] for verdict in _VALID], axis=0)
        if rule.wants_new_prior(fitted_at, int(targets.sum())):
            prior, fitted_at = fit_feature_prior(passed, valid, features), int(targets.sum())
        following = rule.next_targets(targets, passed, valid, filler.is_usable, prior)
        if following is None:
            return num_new
        targets = following


def read_pass_rates(
    problems: Dataset | Sequence[dict[str, Any]],
    store: PassRateStore | str | os.PathLike[str],
    *,
    prior_features: Sequence[str] = (),
    count_unparseable: bool = True,
    count_truncated: bool = True,
) -> Dataset:
    """
    Read the pass rates that a store holds, without generating anything.

    Args:
        problems (`datasets.Dataset` or `list[dict]`):
            P problems with `problem_id`, or with `prompt` and `solution`. Those that the store does not know have
            `num_valid` 0.
        store ([`PassRateStore`], `str` or `Path`):
            Where [`estimate_pass_rates`] kept the completions.
        prior_features (`Sequence[str]`, *optional*):
            As in [`estimate_pass_rates`].
        count_unparseable, count_truncated (`bool`, *optional*, defaults to `True`):
            Whether completions without a readable answer, or cut off at the length limit, count as valid and not
            passed. If not, they are left out of `num_valid`.

    Returns:
        `datasets.Dataset`: As [`estimate_pass_rates`] returns it.

    Raises:
        FileNotFoundError: If there is no store.
    """
    opened = store if isinstance(store, PassRateStore) else PassRateStore(store)
    dataset = with_problem_ids(problems if isinstance(problems, Dataset) else Dataset.from_list(list(problems)))
    left_out = {"unparseable": not count_unparseable, "truncated": not count_truncated}
    return pass_rate_table(
        dataset["problem_id"][:],
        opened.counts(),
        [verdict for verdict in _VALID if not left_out.get(verdict)],
        problem_features(dataset, prior_features),
    )


def pass_rate_table(
    problem_ids: list[str], counts: pa.Table, valid_verdicts: Sequence[str] = _VALID, features: Floats | None = None
) -> Dataset:
    """Make the table of pass rates of what [`PassRateStore.counts`] gives; `features` is of **shape (P, F)**."""
    rows = pc.index_in(pa.array(problem_ids, pa.string()), counts["problem_id"].combine_chunks())
    by_column = {name: values_at(counts[name], rows) for name in counts.column_names if name != "problem_id"}
    num_valid = np.sum([by_column[f"num_{verdict}"] for verdict in valid_verdicts], axis=0)
    num_passed = by_column.pop("num_passed")
    features = np.empty((len(problem_ids), 0)) if features is None else features
    prior = fit_feature_prior(num_passed, num_valid, features) if num_valid.any() else Prior(1.0, 1.0)
    low, high = credible_intervals(num_passed, num_valid, prior)
    return Dataset.from_dict(
        {
            "problem_id": problem_ids,
            "num_passed": num_passed,
            "num_valid": num_valid,
            "pass_rate": pass_rates(num_passed, num_valid),
            "pass_rate_low": low,
            "pass_rate_high": high,
            **by_column,
        }
    )
