"""
What a run says, in plain sentences, and what it does not say.

Responsible for the words of the report: an arm is called best, better or worse only where the interval of a paired
difference excludes 0, on held-out problems and on retention alike. Numbers come from `evaluation.py` and
`pass_rate.py`; nothing is estimated here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from ..estimation.advice import MAX_FAILURE_SHARE, MAX_TRUNCATED_SHARE, MIN_FRONTIER_SHARE
from ..evaluation.comparison import BASE
from ..evaluation.differences import Difference, compare_runs
from ..evaluation.evaluation import Evaluation
from ..evaluation.tables import describe
from ..store.store import VERDICTS
from ..verification.verdict import VALID_VERDICTS
from ..weighting.counts import FrontierShares, frontier_shares
from .contents import RunContents


UNTOUCHED = "the untouched student"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_KL = {
    "forward": "forward KL",
    "reverse": "reverse KL",
    "jsd": "JSD",
    "akl": "adaptive KL",
    "forward_then_reverse": "forward KL first and reverse KL after",
}


def mean_with_interval(evaluations: Sequence[Evaluation]) -> Difference:
    """
    Return mean@k over problems and seeds with its 95 % interval: the difference to a model that never passes.

    A problem's pass rate is its mean over the evaluations, and the interval is about problems, generations and
    evaluations, one per training seed; of one evaluation it is about problems and generations. See
    [`compare_runs`].
    """
    never = dataclasses.replace(evaluations[0], num_passed=[0] * len(evaluations[0].problem_ids))
    return compare_runs(evaluations, never)


def difference(by_arm: Mapping[str, list[Evaluation]], arm: str, other: str = BASE) -> Difference | None:
    """Return the paired difference `arm` minus `other`, or None where the two cannot be compared."""
    if arm == other or arm not in by_arm or other not in by_arm:
        return None
    try:
        return compare_runs(by_arm[arm], by_arm[other])
    except ValueError:
        # Evaluated on other problems or under other settings, by separate commands.
        return None


def differences(contents: RunContents, eval_sets: Sequence[str], other: str) -> list[tuple[str, str, Difference]]:
    """Return set, arm and paired difference of every arm that can be compared with another one, but the untouched."""
    found = []
    for name in eval_sets:
        by_arm = contents.evaluations[name]
        for arm in by_arm:
            one = difference(by_arm, arm, other) if arm != BASE else None
            if one is not None:
                found.append((name, arm, one))
    return found


def summary(contents: RunContents) -> str:
    """Return what was measured and trained, in a sentence or two."""
    settings = next(iter(contents.settings.values()), {})
    measured = contents.store.record.get("generator", {}).get("model") if contents.store is not None else None
    student = settings.get("student.model_name_or_path") or measured
    who = f"The student {_model_name(student)}" if student else "The student"
    table = contents.pass_rates
    measuring = f"measured on {table.num_rows:,} problems" if table is not None else ""
    if not contents.settings:
        return f"{who} was {measuring}." if measuring else ""
    teacher = settings.get("teacher_model_name_or_path")
    kls = {str(run.get("kl")) for run in contents.settings.values()}
    kl = _KL.get(kls.pop(), "") if len(kls) == 1 else ""
    training = f"distilled from {f'the teacher {_model_name(teacher)}' if teacher else 'its teacher'}"
    if kl:
        training += f" with {kl}"
    if contents.comparison is not None:
        arms = len({run.arm for run in contents.comparison.runs} - {BASE})
        training += f": {arms} arms with the same problems, steps, data order and seeds"
    return f"{who} was {' and then '.join(filter(None, [measuring, training]))}."


def findings(contents: RunContents) -> list[str]:
    """Return one or two sentences per set: which arm is best, which are better or worse than the untouched student."""
    sentences = []
    for eval_set in contents.eval_sets:
        by_arm = contents.evaluations[eval_set]
        if len(by_arm) > 2 or (len(by_arm) > 1 and BASE not in by_arm):
            sentences.append(best_arm(by_arm, eval_set))
        if BASE in by_arm and len(by_arm) > 1:
            sentences.append(against(by_arm, f"On {eval_set}"))
    for eval_set in contents.retention_sets:
        by_arm = contents.evaluations[eval_set]
        sentences.append(against(by_arm, f"On {eval_set}, which no arm trains on"))
    return [sentence for sentence in sentences if sentence]


def best_arm(by_arm: Mapping[str, list[Evaluation]], eval_set: str) -> str:
    """
    Say which arm is best on a set, if its interval against every other arm excludes 0, or why none can be called that.

    Args:
        by_arm (`Mapping[str, list[Evaluation]]`): Evaluations on the set by arm, one per seed.
        eval_set (`str`): Name of the set.
    """
    means = {arm: mean_with_interval(evaluations).estimate for arm, evaluations in by_arm.items()}
    leader = max(means, key=lambda arm: means[arm])
    k = by_arm[leader][0].num_generations
    mean = f"mean@{k} of {means[leader]:.3f}"
    against = {arm: difference(by_arm, leader, arm) for arm in by_arm if arm != leader}
    open_arms = {arm: found for arm, found in against.items() if found is None or found.low <= 0.0}
    if not open_arms:
        if leader == BASE:
            return f"On {eval_set}, no arm improved: {UNTOUCHED} is best, with a {mean}."
        return f"On {eval_set}, {leader} is best, with a {mean}: every paired interval against another arm excludes 0."
    closest = max(open_arms, key=lambda arm: means[arm])
    found = open_arms[closest]
    reason = "cannot be compared" if found is None else f"is {describe(found)}, an interval that includes 0"
    return (
        f"On {eval_set}, no arm can be called best: {_called(leader)} has the highest {mean}, but its difference to "
        f"{_called(closest)} {reason}."
    )


def warnings_of(contents: RunContents) -> list[str]:
    """Return what a reader should know before trusting the numbers, one or two sentences each."""
    notes = []
    if contents.unfinished:
        notes.append(f"Not finished yet, so not shown or not complete: {', '.join(contents.unfinished)}.")
    shares = training_shares(contents)
    if shares is not None and shares.frontier < MIN_FRONTIER_SHARE:
        notes.append(
            f"Only {shares.frontier:.1%} of the training problems are on the frontier, and PACED gives weight to no "
            "others. Use problems of a difficulty in between, or more generations per problem."
        )
    if shares is not None and shares.unmeasured:
        notes.append(f"{shares.unmeasured:.1%} of the training problems have no valid verdict and are not trained on.")
    for what, counts in verdict_counts(contents).items():
        total = sum(counts.values())
        invalid = total - sum(counts[verdict.value] for verdict in VALID_VERDICTS)
        if invalid > MAX_FAILURE_SHARE * total:
            notes.append(
                f"The verifier gave no valid verdict on {invalid / total:.1%} of the completions ({what}). They count "
                "neither as passed nor as failed; check the verifier and the solutions."
            )
        if counts["truncated"] > MAX_TRUNCATED_SHARE * total:
            notes.append(
                f"{counts['truncated'] / total:.1%} of the completions were cut at the maximum length without having "
                f"passed ({what}). A larger max_completion_length may turn failures into passes."
            )
    if contents.comparison is not None and len({run.seed for run in contents.comparison.runs if run.arm != BASE}) == 1:
        notes.append(
            "Each arm was trained with one seed. The intervals cover other problems and other generations, not "
            "another training run: add seeds before reading much into small differences."
        )
    return notes


def advice_by_text(contents: RunContents) -> dict[str, list[str]]:
    """Return what training warned of, with the runs and steps; of texts that differ in numbers only, the first."""
    texts: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for name, notes in contents.advice.items():
        for note in notes:
            step = "" if note["step"] is None else f", step {note['step']}"
            text = texts.setdefault(_NUMBER.sub("#", note["text"]), note["text"])
            found.setdefault(text, []).append(f"{name}{step}")
    return found


def training_shares(contents: RunContents) -> FrontierShares | None:
    """Return the shares of the training problems that were mastered, on the frontier and out of reach."""
    table = contents.pass_rates
    if table is None or not table.num_rows:
        return None
    return frontier_shares(table["num_passed"].to_numpy(), table["num_valid"].to_numpy())


def verdict_counts(contents: RunContents) -> dict[str, dict[str, int]]:
    """Return how many completions got each verdict, by what they were made for; seeds are added up."""
    counts = {}
    for what, store in (
        ("training problems, student before training", contents.store),
        ("training problems, teacher's references", contents.references),
    ):
        if store is not None:
            table = store.counts()
            counts[what] = {verdict: sum(table[f"num_{verdict}"].to_pylist()) for verdict in VERDICTS}
    for eval_set, by_arm in contents.evaluations.items():
        for arm, evaluations in by_arm.items():
            counts[f"{eval_set}, {arm}"] = {
                verdict: sum(evaluation.verdicts.get(verdict, 0) for evaluation in evaluations) for verdict in VERDICTS
            }
    return {what: by_verdict for what, by_verdict in counts.items() if any(by_verdict.values())}


def against(by_arm: Mapping[str, list[Evaluation]], where: str, other: str = BASE) -> str:
    """Say which arms are better and worse than another one, and of which that cannot be said; "" if none can."""
    than = UNTOUCHED if other == BASE else f"the control arm {other}"
    found = {arm: difference(by_arm, arm, other) for arm in by_arm if arm != BASE}
    better = [f"{arm} ({one.estimate:+.3f})" for arm, one in found.items() if one and one.low > 0]
    worse = [f"{arm} ({one.estimate:+.3f})" for arm, one in found.items() if one and one.high < 0]
    neither = [arm for arm, one in found.items() if one and not one.excludes_zero]
    parts = [
        f"{listed(arms)} {'is' if len(arms) == 1 else 'are'} {word} than {than}"
        for arms, word in ((better, "better"), (worse, "worse"))
        if arms
    ]
    if neither:
        parts.append(f"no difference from {than} is shown for {listed(neither)}")
    return f"{where}, {'; '.join(parts)}." if parts else ""


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _model_name(name_or_path: str) -> str:
    """Return the last two parts of a path, which is all of a Hub id."""
    return "/".join(name_or_path.rstrip("/").split("/")[-2:])


def _called(arm: str) -> str:
    return UNTOUCHED if arm == BASE else arm
