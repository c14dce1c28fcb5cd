"""
The rows of the page's table of problems: pass rates before and after, weight, and completions side by side.

Responsible for which problems and how much of their text fit into a page of a few megabytes, and for saying what was
left out. Rows are JSON values, and text is as nobody has checked it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..evaluation.comparison import BASE
from ..evaluation.evaluation import TRAINING, Evaluation
from ..store.store import PassRateStore
from ..text import shortened
from ..verification.verifier import make_check
from ..weighting.counts import Floats
from .contents import RunContents
from .findings import Headline, best_trained
from .problem_text import as_text, choose_completions, last_message


MAX_PROBLEMS = 5_000
# Half of the page for either kind, where there are more of both.
_MAX_HELD_OUT = MAX_PROBLEMS // 2
MAX_SIZE = 2_500_000  # bytes of text, all problems together
_CHUNK = 1_000  # problems whose completions are in memory at once
MAX_ANSWER = 200  # characters
# Other verifiers compare whole texts, run programs or call a function of the user's: they read no answer.
_READ_ANSWERS = ("math", "numeric", "choice")


class _Detail(NamedTuple):
    """How much of a problem is shown: completions of one side, characters of each, of a prompt and of a solution."""

    completions: int
    completion: int
    prompt: int


# The first that fits is taken.
_DETAILS = (
    _Detail(4, 1500, 2000),
    _Detail(4, 700, 1000),
    _Detail(2, 500, 600),
    _Detail(1, 300, 400),
    _Detail(1, 120, 160),
)


def problem_table(contents: RunContents, problem_weights: Floats | None = None) -> dict[str, Any] | None:
    """
    Return the table of problems as JSON values, or None if no problem was measured; weights are of shape (P,).

    `arms` are names, the base student's first, and `arm` the one to show first; `sets` are names, that of the training
    problems first. Rows, as [`_row`] makes them, have numbers that index these.
    """
    arms = [BASE, *(arm for arm in contents.arms if arm != BASE)]
    sets = [TRAINING, *contents.evaluations]
    held_out, num_held_out = _held_out_rows(contents, arms)
    training, num_training = _training_rows(contents, arms, problem_weights, MAX_PROBLEMS - len(held_out))
    rows = training + held_out
    if not rows:
        return None
    _add_completions(contents, rows, arms, sets)
    rows, detail, num_without = _fit(rows)
    notes = []
    if num_training > len(training):
        which = "of the greatest weight" if problem_weights is not None else "first"
        notes.append(f"Of {num_training:,} training problems the {len(training):,} {which} are listed.")
    if num_held_out > len(held_out):
        notes.append(f"Of {num_held_out:,} held-out problems the first {len(held_out):,} are listed.")
    notes.append(
        f"To keep the page small, at most {detail.completions} completions of each side are shown, one of each "
        f"verdict first, and of a longer text {detail.completion:,} characters (of a prompt {detail.prompt:,}). All "
        "are in the stores beside this page."
    )
    if num_without:
        notes.append(f"{num_without:,} problems are listed without their completions.")
    best = best_trained(contents, next(iter(contents.eval_sets), ""))
    arm = arms.index(best) if best is not None else min(1, len(arms) - 1)
    return {"arms": arms, "arm": arm, "sets": sets, "notes": notes, "rows": rows}


def example_of(table: Mapping[str, Any], headline: Headline) -> dict[str, Any] | None:
    """
    Return the held-out problem whose pass rate went furthest the way the mean went, with a completion of both sides.

    They are the first that failed and the first that passed, in the order in which the mean went. None without both.
    """
    arm, number = table["arms"].index(headline.arm), table["sets"].index(headline.eval_set)
    sign = 1 if headline.after.estimate >= headline.before.estimate else -1

    def change(row: Mapping[str, Any]) -> float:
        (passed, valid), (passed_before, valid_before) = row["counts"][arm], row["counts"][0]
        return sign * (passed / valid - passed_before / valid_before)

    rows = [
        row
        for row in table["rows"]
        if row["set"] == number and {0, arm} <= row["shown"].keys() and row["counts"][0][1] and row["counts"][arm][1]
    ]
    if not rows:
        return None
    row = max(rows, key=change)
    if change(row) <= 0:
        return None
    wanted = [verdict == "passed" for verdict in ("failed", "passed")[::sign]]
    sides = [
        next((each for each in row["shown"][side] if (each[1] == "passed") is passes), row["shown"][side][0])
        for side, passes in zip((0, arm), wanted, strict=True)
    ]
    names = (f"{BASE}, before training", headline.arm)
    counts = (row["counts"][0], row["counts"][arm])
    return {**row, "sides": list(zip(names, counts, sides, strict=True)), "rose": sign > 0}


def _training_rows(
    contents: RunContents, arms: Sequence[str], problem_weights: Floats | None, max_rows: int
) -> tuple[list[dict[str, Any]], int]:
    table = contents.pass_rates
    if table is None:
        return [], 0
    chosen: npt.NDArray[np.intp] = np.arange(table.num_rows)
    if table.num_rows > max_rows:
        heaviest = chosen if problem_weights is None else np.argsort(-problem_weights, kind="stable")
        chosen = np.sort(heaviest[:max_rows])
    weights = None if problem_weights is None else problem_weights[chosen].tolist()
    # Before training: the counts that the weights come from, also where an evaluation counted once more.
    after = _counts({arm: found for arm, found in contents.training.items() if arm != BASE}, arms)
    rows = []
    for index, each in enumerate(table.take(chosen).to_pylist()):
        counts = {0: [each["num_passed"], each["num_valid"]], **after.get(each["problem_id"], {})}
        rows.append(_row(0, each, counts, None if weights is None else weights[index]))
    return rows, table.num_rows


def _held_out_rows(contents: RunContents, arms: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """Return a row per held-out problem."""
    rows: list[dict[str, Any]] = []
    for number, (eval_set, by_arm) in enumerate(contents.evaluations.items(), start=1):
        table = contents.held_out_problems.get(eval_set)
        known = {} if table is None else {each["problem_id"]: each for each in table.to_pylist()}
        rows += [
            _row(number, known.get(problem_id, {"problem_id": problem_id}), by_number, None)
            for problem_id, by_number in _counts(by_arm, arms).items()
        ]
    return rows[:_MAX_HELD_OUT], len(rows)


def _counts(by_arm: Mapping[str, Sequence[Evaluation]], arms: Sequence[str]) -> dict[str, dict[int, list[int]]]:
    """Return passed and valid completions by problem and number of the arm, those of its seeds added up."""
    counts: dict[str, dict[int, list[int]]] = {}
    for arm, evaluations in by_arm.items():
        for evaluation in evaluations:
            columns = (evaluation.problem_ids, evaluation.num_passed, evaluation.num_valid)
            for problem_id, passed, valid in zip(*columns, strict=True):
                total = counts.setdefault(problem_id, {}).setdefault(arms.index(arm), [0, 0])
                total[0] += passed
                total[1] += valid
    return counts


def _row(eval_set: int, problem: dict[str, Any], counts: dict[int, list[int]], weight: float | None) -> dict[str, Any]:
    prompt, num_earlier = last_message(problem.get("prompt"))
    return {
        "set": eval_set,
        "id": str(problem["problem_id"]),
        "prompt": prompt,
        "earlier": num_earlier,  # messages before the prompt
        "solution": as_text(problem.get("solution")),
        "reference": None,
        "weight": None if weight is None else round(weight, 4),
        "counts": counts,  # by arm, passed and valid
        "made": {},  # by arm, how many completions there are
        "shown": {},  # by arm: number, verdict, tokens, text and stated answer of some of them
    }


def _add_completions(
    contents: RunContents, rows: list[dict[str, Any]], arms: Sequence[str], sets: Sequence[str]
) -> None:
    """Add completions of each side to the rows, with the answers that the verifier read in them."""
    for number, name in enumerate(sets):
        of_set = {row["id"]: row for row in rows if row["set"] == number}
        stores: dict[str, PassRateStore | None] = {**contents.completions.get(name, {})}
        if number == 0:
            stores[BASE] = contents.store
        for arm, store in stores.items():
            if store is None:
                continue
            reader = answer_reader(store.record)
            for problem_id, completions in _completions(store, list(of_set)):
                row, key = of_set[problem_id], arms.index(arm)
                row["made"][key] = len(completions)
                row["shown"][key] = [
                    [
                        each["generation_index"] + 1,
                        each["verdict"],
                        each["num_tokens"],
                        each["completion"],
                        reader(each["completion"]) if reader is not None else None,
                    ]
                    for each in choose_completions(completions, _DETAILS[0].completions, lambda each: each["verdict"])
                ]
        if number == 0 and contents.references is not None:
            for problem_id, completions in _completions(contents.references, list(of_set), "passed"):
                of_set[problem_id]["reference"] = completions[0]["completion"]


def _completions(
    store: PassRateStore, problem_ids: list[str], verdict: str | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield problems with their completions, in the order of generation."""
    for start in range(0, len(problem_ids), _CHUNK):
        found: dict[str, list[dict[str, Any]]] = {}
        rows = store.completions(problem_ids[start : start + _CHUNK], verdict).to_pylist()
        for row in sorted(rows, key=lambda row: row["generation_index"]):
            found.setdefault(row["problem_id"], []).append(row)
        yield from found.items()


def answer_reader(record: Mapping[str, Any]) -> Callable[[str], str | None] | None:
    """Return what reads answers, at most 200 characters each, as the verifier of a store's record does."""
    verifier = record.get("verifier") or {}
    if verifier.get("name") not in _READ_ANSWERS:
        return None
    check = make_check(verifier["name"], verifier.get("options") or {})

    def read(completion: str) -> str | None:
        answer = check.stated(completion)
        return answer if answer is None or len(answer) <= MAX_ANSWER else f"{answer[:MAX_ANSWER]}…"

    return read


def _fit(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], _Detail, int]:
    """Shorten the texts of all rows alike until they fit; return the detail, and how many rows lost completions."""
    for detail in _DETAILS:
        fitted = [_shortened(row, detail) for row in rows]
        sizes = [len(json.dumps(row)) for row in fitted]
        if sum(sizes) <= MAX_SIZE:
            return fitted, detail, 0
    # Held-out problems, which have no weight, and the heaviest ones keep theirs.
    weights = np.array([np.inf if row["weight"] is None else row["weight"] for row in rows])
    total, num_without = 0, 0
    for index in np.argsort(-weights, kind="stable"):
        total += sizes[index]
        if total > MAX_SIZE and fitted[index]["shown"]:
            fitted[index] |= {"shown": {}, "reference": None}
            num_without += 1
    return fitted, detail, num_without


def _shortened(row: dict[str, Any], detail: _Detail) -> dict[str, Any]:
    lengths = {"prompt": detail.prompt, "solution": detail.prompt, "reference": detail.completion}
    texts = {name: row[name] and shortened(row[name], length, keep="both") for name, length in lengths.items()}
    shown = {
        arm: [
            [*each[:3], shortened(each[3], detail.completion, keep="both"), each[4]]
            for each in choose_completions(completions, detail.completions, lambda each: each[1])
        ]
        for arm, completions in row["shown"].items()
    }
    return {**row, **texts, "shown": shown}
