"""
How often the student passes each problem: generation, verification and store put together.

Responsible for the table of pass rates: who gets how many generations (`allocation`), what counts as a valid
generation, and what the table looks like to a person. How a store is filled is in `filling.py`.

Refuses to know weights, training and what the pass rates are used for. Paper (arXiv 2603.11178): p is the share of K
student rollouts that a verifier accepts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from .filling import StoreFiller, open_store, run_record
from .pass_rate import MAX_FAILURE_SHARE, MAX_TRUNCATED_SHARE, MIN_FRONTIER_SHARE, frontier_shares, pass_rates
from .problem_set import ProblemSet
from .progress import GenerationProgress
from .store import VERDICTS, PassRateStore


if TYPE_CHECKING:
    from .completions import Generator
    from .filling import VerifierLike

ALLOCATIONS = ("fixed",)
_BAR_WIDTH = 40


def estimate_pass_rates(
    problems: Dataset | Sequence[dict[str, Any]],
    generator: Generator,
    verifier: VerifierLike,
    *,
    store: PassRateStore | str | os.PathLike[str],
    num_generations: int = 8,
    allocation: Literal["fixed"] = "fixed",
    seed: int = 0,
    slice_size: int | None = None,
    progress: bool = True,
    count_unparseable: bool = True,
    count_truncated: bool = True,
) -> Dataset:
    """
    Measure how often a student passes each problem.

    pass_rate_i = num_passed_i / num_valid_i

    Every completion is on disk with its verdict before it counts. A call that finds completions in the store generates
    only what is missing: after a kill at most one slice is lost, and nothing is generated twice.

    Example:

    ```python
    >>> problems = load_problems("problems.jsonl")
    >>> generator = load_generator("transformers", model_name_or_path="Qwen/Qwen3-0.6B")
    >>> with load_verifier("math") as verifier:
    ...     table = estimate_pass_rates(problems, generator, verifier, store="runs/pass_rates")
    >>> print(summarize_pass_rates(table))
    ```

    Args:
        problems (`datasets.Dataset` or `list[dict]`):
            P problems with `prompt`, `solution` and `problem_id`, as [`load_problems`] makes them. The verifier gets
            the further columns.
        generator (`Generator`):
            The student: see [`load_generator`]. Any callable of the [`~paced_trl.completions.Generator`] protocol.
        verifier ([`Verifier`] or callable):
            Judges completions: `verifier(completions, solutions, **columns) -> list[Verdict]`. Problems whose gold its
            `check_solutions` does not pass get no generations and have `num_valid` 0.
        store ([`PassRateStore`], `str` or `Path`):
            Where completions are kept; created if it does not exist. Its record holds the records of generator and
            verifier and the seed: a store made under others is refused.
        num_generations (`int`, *optional*, defaults to `8`):
            Generations per problem, K. A store that holds more already keeps and counts them.
        allocation (`"fixed"`, *optional*, defaults to `"fixed"`):
            `"fixed"`: `num_generations` for every problem.
        seed (`int`, *optional*, defaults to `0`):
            Seed of all draws. An interrupted and continued run has the completions of an uninterrupted one, up to what
            the generator promises.
        slice_size (`int`, *optional*):
            Completions that are generated, verified and stored at a time: the most that a kill can cost. `None` aims
            at 15 seconds.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a bar, and the first prompt with its completion, on stderr.
        count_unparseable, count_truncated (`bool`, *optional*, defaults to `True`):
            Whether completions without a readable answer, or cut off at the length limit, count as valid and not
            passed. If not, they are left out of `num_valid`.

    Returns:
        `datasets.Dataset`: One row per problem in the problems' order: `problem_id`, `num_passed`, `num_valid`,
        `pass_rate` (fraction in [0, 1], nan where `num_valid` is 0) and one count for each other verdict.

    Raises:
        ValueError: If problems, settings or store do not fit together, before anything is generated; or generator or
            verifier break their protocol.
        StoreLockedError: If another process writes to the store.
    """
    if allocation not in ALLOCATIONS:
        raise ValueError(f"`allocation` is {allocation!r}, which does not exist. It can be: {', '.join(ALLOCATIONS)}.")
    if num_generations < 1:
        raise ValueError(
            f"`num_generations` is {num_generations}: a pass rate needs at least 1 generation per problem."
        )
    checked = ProblemSet(problems)
    opened = open_store(store, run_record(generator, verifier, seed))
    with opened.writing(), GenerationProgress("Pass rates", enabled=progress) as display:
        filler = StoreFiller(checked, generator, verifier, opened, seed=seed, slice_size=slice_size, progress=display)
        if not filler.fill(np.full(len(checked), num_generations)):
            display.note(f"All completions of {len(checked)} problems are in {str(opened.path)!r} already.")
    return _pass_rate_table(checked.ids, opened, count_unparseable=count_unparseable, count_truncated=count_truncated)


def read_pass_rates(
    problems: Dataset | Sequence[dict[str, Any]],
    store: PassRateStore | str | os.PathLike[str],
    *,
    count_unparseable: bool = True,
    count_truncated: bool = True,
) -> Dataset:
    """
    Read the pass rates that a store holds, without generating anything.

    Args:
        problems (`datasets.Dataset` or `list[dict]`):
            P problems with a `problem_id`. Those that the store does not know have `num_valid` 0.
        store ([`PassRateStore`], `str` or `Path`):
            Where [`estimate_pass_rates`] kept the completions.
        count_unparseable, count_truncated (`bool`, *optional*, defaults to `True`):
            As in [`estimate_pass_rates`].

    Returns:
        `datasets.Dataset`: As [`estimate_pass_rates`] returns it.

    Raises:
        FileNotFoundError: If there is no store.
    """
    opened = store if isinstance(store, PassRateStore) else PassRateStore(store)
    ids = problems["problem_id"] if isinstance(problems, Dataset) else [row["problem_id"] for row in problems]
    return _pass_rate_table(
        [str(problem_id) for problem_id in ids],
        opened,
        count_unparseable=count_unparseable,
        count_truncated=count_truncated,
    )


def _pass_rate_table(
    problem_ids: list[str], store: PassRateStore, *, count_unparseable: bool, count_truncated: bool
) -> Dataset:
    counts = store.counts()
    rows = pc.index_in(pa.array(problem_ids, pa.string()), counts["problem_id"].combine_chunks())
    by_verdict = {
        verdict: pc.fill_null(counts[f"num_{verdict}"].take(rows), 0).to_numpy().astype(np.int64)
        for verdict in VERDICTS
    }
    num_passed = by_verdict.pop("passed")
    num_valid = num_passed + by_verdict["failed"]
    num_valid = num_valid + by_verdict["unparseable"] if count_unparseable else num_valid
    num_valid = num_valid + by_verdict["truncated"] if count_truncated else num_valid
    return Dataset.from_dict(
        {
            "problem_id": problem_ids,
            "num_passed": num_passed,
            "num_valid": num_valid,
            "pass_rate": pass_rates(num_passed, num_valid),
            **{f"num_{verdict}": values for verdict, values in by_verdict.items()},
        }
    )


def summarize_pass_rates(table: Dataset) -> str:
    """
    Describe a table of pass rates for a person.

    Args:
        table (`datasets.Dataset`):
            What [`estimate_pass_rates`] returned.

    Returns:
        `str`: Histogram, shares of mastered, frontier and out-of-reach problems, counts of verdicts, and advice where
        the frontier is nearly empty or the verifier fails often.
    """
    num_passed, num_valid = np.asarray(table["num_passed"]), np.asarray(table["num_valid"])
    shares = frontier_shares(num_passed, num_valid)
    verdicts = {verdict: int(np.sum(table[f"num_{verdict}"])) for verdict in VERDICTS}
    total = max(sum(verdicts.values()), 1)
    lines = [f"Pass rates of {len(table)} problems, {sum(verdicts.values())} completions", ""]
    lines += _histogram(num_passed, num_valid)
    lines += [
        "",
        f"  mastered {shares.mastered:.1%}   frontier {shares.frontier:.1%}   out of reach {shares.out_of_reach:.1%}"
        + (f"   unmeasured {shares.unmeasured:.1%}" if shares.unmeasured else ""),
        "  " + "   ".join(f"{verdict} {count} ({count / total:.1%})" for verdict, count in verdicts.items() if count),
    ]
    lines += [f"\nWarning: {text}" for text in _advice(shares, {v: count / total for v, count in verdicts.items()})]
    return "\n".join(lines)


def _histogram(num_passed: np.ndarray, num_valid: np.ndarray) -> list[str]:
    """Draw one bar per possible count if all problems have the same small K, else bars for 0, ten tenths and 1."""
    measured = num_valid > 0
    passed, valid = num_passed[measured], num_valid[measured]
    if valid.size and valid.min() == valid.max() <= 16:
        labels = [f"{count}/{valid[0]}" for count in range(valid[0] + 1)]
        bins = passed
    else:
        labels = ["0", *[f"{low / 10:.1f}-{(low + 1) / 10:.1f}" for low in range(10)], "1"]
        inner = np.minimum(10 * passed // np.maximum(valid, 1), 9) + 1
        bins = np.where(passed == 0, 0, np.where(passed == valid, 11, inner))
    counts = np.bincount(bins, minlength=len(labels))
    width = max(len(label) for label in labels)
    scale = _BAR_WIDTH / max(counts.max(), 1)
    return [
        f"  {label:>{width}} {'█' * max(round(count * scale), int(count > 0)):<{_BAR_WIDTH}} {count}"
        for label, count in zip(labels, counts, strict=True)
    ]


def _advice(shares: Any, verdict_shares: dict[str, float]) -> list[str]:
    advice = []
    if shares.frontier < MIN_FRONTIER_SHARE:
        if shares.mastered > shares.out_of_reach:
            remedy = "most problems are mastered: take harder ones"
        else:
            remedy = (
                "most problems are out of reach: take easier ones, look at some completions (format, length limit, "
                "chat template), or give the student examples in the prompt"
            )
        advice.append(
            f"only {shares.frontier:.1%} of the problems are at the frontier, so nearly all weights are 0; {remedy}."
        )
    failures = verdict_shares["timeout"] + verdict_shares["unverifiable"]
    if failures > MAX_FAILURE_SHARE:
        advice.append(
            f"the verifier failed on {failures:.1%} of the completions, which do not count. Read those with verdict "
            "'timeout' or 'unverifiable' in the store."
        )
    if verdict_shares["truncated"] > MAX_TRUNCATED_SHARE:
        advice.append(
            f"{verdict_shares['truncated']:.1%} of the completions were cut off at the length limit before they had "
            "answered: raise `max_completion_length`."
        )
    return advice
