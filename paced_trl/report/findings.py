"""
What a run says, in plain sentences, and what it does not say.

An arm is called best, better or worse only where the interval of a paired difference excludes 0, on held-out problems
and on retention alike. Numbers come from the evaluations and the pass rates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ..estimation.advice import frontier_advice, verdict_advice
from ..evaluation.comparison import BASE, POWER_DIFFERENCES, Comparison
from ..evaluation.differences import Difference, compare_runs, mean_over_runs
from ..evaluation.evaluation import Evaluation
from ..evaluation.tables import describe
from ..store.counts import verdict_totals
from ..store.store import VERDICTS
from ..text import in_percent
from ..training.in_words import SCHEDULE_NAMES
from ..weighting.counts import FrontierShares, frontier_shares
from .contents import RunContents


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Headline(NamedTuple):
    """The result on one held-out set: mean@k of the base student and of the best trained one, and their difference."""

    eval_set: str
    arm: str
    before: Difference
    after: Difference
    change: Difference | None
    num_generations: int
    num_seeds: int


def mean_of(evaluations: Sequence[Evaluation]) -> float:
    """Return the mean of mean@k over the seeds of an arm: without an interval, which costs a bootstrap."""
    return sum(evaluation.mean_at_k for evaluation in evaluations) / len(evaluations)


def trained_arms(contents: RunContents, eval_set: str) -> dict[str, list[Evaluation]]:
    """Return the evaluations of what was trained here: a teacher evaluated beside it is no result of the run."""
    others = {arm: found for arm, found in contents.evaluations.get(eval_set, {}).items() if arm != BASE}
    return {arm: found for arm, found in others.items() if arm in contents.histories} or others


def best_trained(contents: RunContents, eval_set: str) -> str | None:
    """Return the trained arm with the highest mean."""
    arms = trained_arms(contents, eval_set)
    return max(arms, key=lambda arm: mean_of(arms[arm]), default=None)


def difference(
    by_arm: Mapping[str, list[Evaluation]], arm: str, other: str = BASE, **options: int
) -> Difference | None:
    """Return the paired difference `arm` minus `other`, or None where the two cannot be compared."""
    if arm == other or arm not in by_arm or other not in by_arm:
        return None
    with suppress(ValueError):  # evaluated on other problems or under other settings, by separate commands
        return compare_runs(by_arm[arm], by_arm[other], **options)
    return None


def differences(contents: RunContents, eval_sets: Sequence[str], other: str) -> list[tuple[str, str, Difference]]:
    """Return set, arm and paired difference of every trained arm that can be compared with another one."""
    return [
        (name, arm, one)
        for name in eval_sets
        for arm in contents.evaluations[name]
        if arm != BASE and (one := difference(contents.evaluations[name], arm, other)) is not None
    ]


def headlines(contents: RunContents) -> list[Headline]:
    """Return the result on each held-out set where the base student and a trained one were evaluated."""
    found = []
    for eval_set in contents.eval_sets:
        by_arm = contents.evaluations[eval_set]
        arm = best_trained(contents, eval_set)
        if BASE in by_arm and arm is not None:
            means = (mean_over_runs(by_arm[BASE]), mean_over_runs(by_arm[arm]))
            k, num_seeds = by_arm[arm][0].num_generations, len(by_arm[arm])
            found.append(Headline(eval_set, arm, *means, difference(by_arm, arm), k, num_seeds))
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
    training = f"distilled from {_teacher(settings)}"
    kls = {str(run.get("kl")) for run in contents.settings.values()}
    kl = SCHEDULE_NAMES.get(kls.pop(), "") if len(kls) == 1 else ""
    if kl:
        training += f" with {kl}"
    if contents.comparison is not None:
        arms = len({run.arm for run in contents.comparison.runs} - {BASE})
        training += f": {arms} arms with the same problems, steps, data order and seeds"
    return f"{who} was {' and then '.join(filter(None, [measuring, training]))}."


def _teacher(settings: Mapping[str, Any]) -> str:
    kind = settings.get("self_distillation", "none")
    if kind != "none":
        return f"itself, given privileged context (self-distillation, {kind}),"
    teacher = settings.get("teacher_model_name_or_path")
    return f"the teacher {_model_name(teacher)}" if teacher else "its teacher"


def findings(contents: RunContents) -> list[str]:
    """Return one or two sentences per set: which arm is best, which are better or worse than the base student."""
    sentences = []
    for eval_set in contents.eval_sets:
        by_arm = contents.evaluations[eval_set]
        compared = trained_arms(contents, eval_set)
        if len(compared) > 1:
            base = {BASE: by_arm[BASE]} if BASE in by_arm else {}
            sentences.append(best_arm(base | compared, eval_set))
        if BASE in by_arm and len(by_arm) > 1:
            sentences.append(against(by_arm, f"On {eval_set}"))
        if contents.comparison is not None:
            sentences.append(what_could_be_found(contents.comparison, eval_set))
    for eval_set in contents.retention_sets:
        by_arm = contents.evaluations[eval_set]
        sentences.append(against(by_arm, f"On {eval_set}, which no arm trains on"))
    return [sentence for sentence in sentences if sentence]


def best_arm(by_arm: Mapping[str, list[Evaluation]], eval_set: str) -> str:
    """Say which arm is best on a set, if its interval against every other excludes 0, or why none is."""
    means = {arm: mean_of(evaluations) for arm, evaluations in by_arm.items()}
    leader = max(means, key=lambda arm: means[arm])
    k = by_arm[leader][0].num_generations
    mean = f"mean@{k} of {means[leader]:.3f}"
    against = {arm: difference(by_arm, leader, arm) for arm in by_arm if arm != leader}
    open_arms = {arm: found for arm, found in against.items() if found is None or found.low <= 0.0}
    if not open_arms:
        if leader == BASE:
            return f"On {eval_set}, no arm improved: {BASE} is best, with a {mean}."
        return f"On {eval_set}, {leader} is best, with a {mean}: every paired interval against another arm excludes 0."
    closest = max(open_arms, key=lambda arm: means[arm])
    found = open_arms[closest]
    reason = "cannot be compared" if found is None else f"is {describe(found)}, an interval that includes 0"
    return (
        f"On {eval_set}, no arm can be called best: {leader} has the highest {mean}, but its difference to "
        f"{closest} {reason}."
    )


def what_could_be_found(comparison: Comparison, eval_set: str) -> str:
    """Say how small a difference to the control each arm's comparison could have found; empty below two seeds."""
    powers = {arm: power for arm in comparison.arms() if (power := comparison.power(arm, eval_set)) is not None}
    if not powers:
        return ""
    parts, size = [], POWER_DIFFERENCES[0]
    for arm, power in powers.items():
        seeds = power.seeds_for(size)
        more = "needs more problems" if seeds is None else f"takes {seeds} seed{'s' if seeds > 1 else ''}"
        parts.append(f"{arm} from {power.smallest_difference():.3f} (one of {size:g} {more})")
    return (
        f"On {eval_set}, these seeds and problems show a difference to {comparison.control} with a probability of "
        f"80 %: {listed(parts)}. Smaller ones may be there unseen."
    )


def warnings_of(contents: RunContents) -> list[str]:
    """Return what a reader should know before trusting the numbers, one or two sentences each."""
    notes = []
    if contents.unfinished:
        notes.append(f"Not finished yet, so not shown or not complete: {', '.join(contents.unfinished)}.")
    shares = training_shares(contents)
    if shares is not None and (advice := frontier_advice(shares)):
        notes.append(advice)
    if shares is not None and shares.unmeasured:
        notes.append(
            f"{in_percent(shares.unmeasured)} of the training problems have no valid verdict and are not trained on."
        )
    for what, counts in verdict_counts(contents).items():
        notes += verdict_advice(counts, f" ({what})")
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
    stores = {
        f"training problems, {BASE}": contents.store,
        "training problems, teacher's references": contents.references,
    }
    counts = {what: verdict_totals(store.counts()) for what, store in stores.items() if store is not None}
    for eval_set, by_arm in contents.evaluations.items():
        for arm, evaluations in by_arm.items():
            counts[f"{eval_set}, {arm}"] = {
                verdict: sum(evaluation.verdicts.get(verdict, 0) for evaluation in evaluations) for verdict in VERDICTS
            }
    return {what: by_verdict for what, by_verdict in counts.items() if any(by_verdict.values())}


def against(by_arm: Mapping[str, list[Evaluation]], where: str, other: str = BASE) -> str:
    """Say which arms are better and worse than another one, and of which that cannot be said; "" if none can."""
    than = other if other == BASE else f"the control arm {other}"
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
