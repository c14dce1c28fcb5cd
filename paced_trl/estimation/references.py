"""
References: completions to train the student on.

Attempts of the teacher in rounds until a completion is verified, references that the user brings, and what becomes of
problems without a verified one. Attempts are generated, verified and stored as pass rates are, in `filling.py`.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from datasets import Dataset

from ..generation.completions import Completion
from ..problems import ProblemSet, with_column
from ..store.store import PassRateStore
from ..text import in_percent
from .filling import filling
from .protocols import verify_all


if TYPE_CHECKING:
    from ..generation.completions import Generator
    from .protocols import VerifierLike

UNSOLVED_POLICIES = ("drop", "solution", "keep")
_MANY_UNSOLVED = 0.5
_FATES = {
    "drop": "were dropped",
    "solution": "got their solution as reference",
    "keep": "kept a completion that failed",
}


def generate_references(
    problems: Dataset | Sequence[dict[str, Any]] | ProblemSet,
    generator: Generator,
    verifier: VerifierLike,
    *,
    store: PassRateStore | str | os.PathLike[str],
    num_attempts: int = 4,
    unsolved: Literal["drop", "solution", "keep"] = "drop",
    seed: int = 0,
    slice_size: int | None = None,
    progress: bool = True,
) -> Dataset:
    """
    Let a teacher answer problems and keep a verified completion of each as `reference`.

    Every problem gets one attempt, then those without a passed completion get another, up to `num_attempts`. The first
    passed completion wins; one that ended by itself goes before one that was cut off at the length limit, which would
    teach the student to stop in the middle. An empty completion never becomes a reference.

    Example:

    ```python
    >>> teacher = load_generator("transformers", model_name_or_path="Qwen/Qwen3-4B")
    >>> with load_verifier("math") as verifier:
    ...     dataset = generate_references(problems, teacher, verifier, store="runs/references")
    >>> dataset["reference"][0]
    ```

    Args:
        problems (`datasets.Dataset` or `list[dict]`):
            P problems, as in [`estimate_pass_rates`].
        generator (`Generator`):
            The teacher, as in [`estimate_pass_rates`].
        verifier ([`Verifier`] or callable):
            As in [`estimate_pass_rates`]. Problems whose gold is unusable are dropped under every policy.
        store ([`PassRateStore`], `str` or `Path`):
            Where attempts are kept, a directory of its own. As in [`estimate_pass_rates`], a rerun generates only what
            is missing.
        num_attempts (`int`, *optional*, defaults to `4`):
            Most completions per problem. With a greedy teacher more than 1 changes nothing.
        unsolved (`"drop"`, `"solution"` or `"keep"`, *optional*, defaults to `"drop"`):
            What becomes of problems without a passed completion. `"drop"`: left out. `"solution"`: the text of the
            gold is the reference, which makes sense only where it is a worked solution in the style of the teacher; a
            bare answer teaches the student to skip the reasoning. `"keep"`: the first completion, though it failed.
        seed (`int`, *optional*, defaults to `0`):
            Seed of all draws.
        slice_size (`int`, *optional*):
            As in [`estimate_pass_rates`].
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a bar, the first completion and the shares of solved problems on stderr.

    Returns:
        `datasets.Dataset`: The problems that have a reference, in their order, with their columns and `reference`, the
        text of a completion.

    Raises:
        ValueError: If problems, settings or store do not fit together, or no problem gets a reference.
        StoreLockedError: If another process writes to the store.
    """
    if unsolved not in UNSOLVED_POLICIES:
        raise ValueError(f"`unsolved` is {unsolved!r}; it can be: {', '.join(UNSOLVED_POLICIES)}.")
    if num_attempts < 1:
        raise ValueError(f"`num_attempts` is {num_attempts}: a reference needs at least 1 attempt.")
    checked = problems if isinstance(problems, ProblemSet) else ProblemSet(problems)
    if unsolved == "solution":
        _check_solutions_are_texts(checked)
    with filling(
        "References", checked, generator, verifier, store, seed=seed, slice_size=slice_size, progress=progress
    ) as filler:
        for attempts in range(1, num_attempts + 1):
            solved = _first_texts(filler.store, checked.ids, verdict="passed")
            is_unsolved = np.array([problem_id not in solved for problem_id in checked.ids])
            filler.fill(np.where(is_unsolved, attempts, 0))
        solved = _first_texts(filler.store, checked.ids, verdict="passed")
        references = {
            problem_id: solved.get(problem_id)
            for problem_id, usable in zip(checked.ids, filler.is_usable, strict=True)
            if usable
        }
        num_solved = sum(reference is not None for reference in references.values())
        _settle_unsolved(references, unsolved, checked, filler.store)
        num_unsolved, num_unusable = len(references) - num_solved, len(checked) - len(references)
        report = (
            f"The teacher solved {num_solved} of {len(checked)} problems ({in_percent(num_solved / len(checked))}) in "
            f"at most {num_attempts} attempts; {in_percent(num_unsolved / len(checked))} stayed unsolved and "
            f"{_FATES[unsolved]}. "
            + (f"{num_unusable} were dropped because their solution is unusable. " if num_unusable else "")
            + f"{sum(text is not None for text in references.values())} problems have a reference."
        )
        filler.progress.note(report)
    kept = [row for row, problem_id in enumerate(checked.ids) if references.get(problem_id)]
    if not kept:
        raise ValueError(f"{report} Read some completions in {str(filler.store.path)!r}, and give a stronger teacher.")
    if num_solved < _MANY_UNSOLVED * len(checked):
        warnings.warn(f"{report} Read some completions in {str(filler.store.path)!r}.", UserWarning, stacklevel=2)
    texts = [references[checked.ids[row]] for row in kept]
    return with_column(checked.dataset.select(kept), "reference", texts)


def judge_references(problems: Dataset, verifier: VerifierLike | None, *, unsolved: str = "drop") -> Dataset:
    """Verify references that the user brings; those that do not pass are treated as `unsolved` says."""
    if unsolved not in UNSOLVED_POLICIES:
        raise ValueError(f"`unsolved` is {unsolved!r}; it can be: {', '.join(UNSOLVED_POLICIES)}.")
    if verifier is None or "solution" not in problems.column_names:
        missing = "no verifier" if verifier is None else "no solution to compare with"
        warnings.warn(
            f"The {len(problems)} references of the data are trained on unverified, because there is {missing}.",
            UserWarning,
            stacklevel=2,
        )
        return problems
    checked = ProblemSet(problems)
    given = checked.columns(range(len(checked)))
    references = given.pop("reference")
    has_text = [isinstance(text, str) and bool(text.strip()) for text in references]
    completions = [Completion(str(text or ""), 0, "stop") for text in references]
    verdicts = verify_all(verifier, completions, given)
    passed = [there and verdict == "passed" for there, verdict in zip(has_text, verdicts, strict=True)]
    if all(passed):
        return problems
    if unsolved == "solution":
        _check_solutions_are_texts(checked)
        golds = zip(references, given["solution"], passed, strict=True)
        texts = [reference if good else gold for reference, gold, good in golds]
        judged = with_column(problems, "reference", texts)
    else:
        judged = problems.select(np.flatnonzero(passed) if unsolved == "drop" else range(len(problems)))
    counts = Counter(verdict for verdict, good in zip(verdicts, passed, strict=True) if not good)
    reasons = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    num_failed = len(passed) - sum(passed)
    report = (
        f"{sum(passed)} of the {len(problems)} references of the data pass the verifier; {num_failed} do not "
        f"({reasons}) and {_FATES[unsolved]} (`unsolved: {unsolved}`)."
    )
    if not len(judged):
        raise ValueError(f"{report} No reference is left to train on: check the verifier with `paced-trl verify`.")
    warnings.warn(report, UserWarning, stacklevel=2)
    return judged


def _check_solutions_are_texts(problems: ProblemSet) -> None:
    for row, solution in enumerate(problems.dataset["solution"]):
        if not isinstance(solution, str) or not solution.strip():
            raise ValueError(
                f"`unsolved` is 'solution', but the solution in row {row} is {solution!r}, which is no text to train "
                "on. Give worked solutions, or use `unsolved='drop'`."
            )


def _first_texts(store: PassRateStore, problem_ids: Sequence[str], verdict: str | None) -> dict[str, str]:
    """Return the first non-empty completion of each problem, those that ended by themselves before those cut off."""
    wanted = set(problem_ids)
    table = store.completions(verdict=verdict).sort_by("generation_index")
    columns = [table[name].to_pylist() for name in ("problem_id", "completion", "finish_reason")]
    rows = [row for row in zip(*columns, strict=True) if row[0] in wanted and row[1].strip()]
    texts: dict[str, str] = {}
    for reason in ("stop", "length"):
        for problem_id, text, finish_reason in rows:
            if finish_reason == reason:
                texts.setdefault(problem_id, text)
    return texts


def _settle_unsolved(
    references: dict[str, str | None], unsolved: str, problems: ProblemSet, store: PassRateStore
) -> None:
    """Give problems without a passed completion what the policy says; `None` stays where there is nothing."""
    open_ids = [problem_id for problem_id, reference in references.items() if reference is None]
    if unsolved == "solution":
        solutions = dict(zip(problems.ids, problems.dataset["solution"], strict=True))
        references.update({problem_id: solutions[problem_id] for problem_id in open_ids})
    elif unsolved == "keep":
        texts = _first_texts(store, open_ids, verdict=None)
        references.update({problem_id: texts.get(problem_id) for problem_id in open_ids})
