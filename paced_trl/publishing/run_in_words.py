"""
A run in words and tables, for the cards that are published of it: its method, its pass rates, its evaluations.

Responsible for wording only; what may be said is in `published_run.py`, and what is not known is left out or said
to be unknown. Knows nothing of metadata and of the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.differences import compare_runs
from ..evaluation.evaluation import Evaluation
from ..evaluation.tables import as_markdown, describe
from ..names import last_part, public_value
from ..store.store import VERDICTS, PassRateStore
from ..training.in_words import training_in_words
from .run import PublishedRun


_SELF_TEACHERS = {
    "base": "itself without its adapter",
    "ema": "itself with the average of its adapter over the steps",
    "copy": "a frozen copy of itself",
}


def teacher_in_words(run: PublishedRun) -> str:
    """Return who taught the student."""
    if run.teaches_itself:
        teacher = _SELF_TEACHERS[run.settings["self_distillation"]]
        return f"{teacher}, which saw privileged context (`privileged_template`) that the student did not,"
    if run.teacher is None:
        return "a teacher that is not on the Hub"
    return f"[{run.teacher}](https://huggingface.co/{run.teacher})"


def verdict_counts(store: PassRateStore) -> dict[str, int]:
    """Return how many completions of a store have each verdict."""
    counts = store.counts()
    return {verdict: sum(counts[f"num_{verdict}"].to_pylist()) for verdict in VERDICTS}


def what_was_done(run: PublishedRun) -> dict[str, str]:
    """Return how a student was trained and how its pass rates were measured, as rows of a table."""
    dataset = f"[{run.dataset}](https://huggingface.co/datasets/{run.dataset})" if run.dataset else None
    problems = run.provenance.get("problems", {})
    done = training_in_words(
        run.settings,
        problems=dataset or last_part(problems.get("dataset_name")),
        has_references=problems.get("reference_column") is not None,
    )
    return done if run.store is None else done | _measuring_in_words(run.store)


def _measuring_in_words(store: PassRateStore) -> dict[str, str]:
    generations = list(store.num_generations().values())
    counts = verdict_counts(store)
    generator, verifier = store.record.get("generator", {}), store.record.get("verifier", {})
    template = {
        key: generator[key] for key in ("tokenizer", "chat_template", "chat_template_kwargs") if generator.get(key)
    }
    mean = sum(generations) / max(len(generations), 1)
    same = len(set(generations)) == 1
    return {
        "pass rates": f"K = {mean:.2f} completions per problem{'' if same else ' on average'}, {len(generations):,} "
        "problems",
        "sampling": _record_in_words(generator.get("sampling", {})),
        "template": _record_in_words(template),
        "verifier": _record_in_words(verifier if isinstance(verifier, dict) else {"verifier": verifier}),
        "verdicts": verdicts_in_words(counts),
    }


def _record_in_words(record: Mapping[str, Any]) -> str:
    public = {key: public_value(value) for key, value in record.items() if value is not None}
    return ", ".join(f"{key} `{str(value).replace('|', chr(92) + '|')}`" for key, value in public.items()) or "unknown"


def verdicts_in_words(counts: Mapping[str, int]) -> str:
    """Return how many completions have each verdict, and their share."""
    total = max(sum(counts.values()), 1)
    return ", ".join(f"{verdict} {count:,} ({count / total:.1%})" for verdict, count in counts.items() if count)


def evaluation_table(run: PublishedRun, names: Sequence[str]) -> str:
    """Return accuracies before and after on some sets, with the paired change, as Markdown; no sets, no text."""
    rows = []
    for name in names:
        after, before = run.after[name], run.before.get(name)
        rows.append(
            {
                "set": name,
                "problems": str(num_measured(after)),
                "before": _accuracy(before) if before else "not measured",
                "after": _accuracy(after),
                "change": _change(after, before) if before else "",
            }
        )
    return as_markdown(rows).strip() if rows else ""


def _accuracy(evaluation: Evaluation) -> str:
    low, high = evaluation.mean_at_k_interval
    return f"{evaluation.mean_at_k:.3f} [{low:.3f}, {high:.3f}] (k={evaluation.num_generations})"


def _change(after: Evaluation, before: Evaluation) -> str:
    try:
        return describe(compare_runs(after, before))
    except ValueError:
        return "not comparable: other problems or settings"


def num_measured(evaluation: Evaluation) -> int:
    """Return how many problems have a valid verdict, and count."""
    return len(evaluation.problem_ids) - len(evaluation.unmeasured)
