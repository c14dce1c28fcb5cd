"""
A run in words and tables, for the cards that are published of it: its method, its pass rates, its evaluations.

Responsible for wording only; what may be said is in `published_run.py`, and what is not known is left out or said
to be unknown. Knows nothing of metadata and of the Hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.evaluation import Evaluation, compare_runs
from ..evaluation.tables import as_markdown, describe
from ..store.store import VERDICTS, PassRateStore
from ..training.schedule import completion_source_for, stages
from .run import PublishedRun, last_part, public_value


_KL = {
    "forward": "forward KL(teacher \\|\\| student)",
    "reverse": "reverse KL(student \\|\\| teacher)",
    "jsd": "Jensen-Shannon divergence",
    "akl": "adaptive KL (arXiv 2404.02657)",
    "forward_then_reverse": "forward KL(teacher \\|\\| student), then reverse KL(student \\|\\| teacher)",
}
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
    settings = run.settings
    dataset = f"[{run.dataset}](https://huggingface.co/datasets/{run.dataset})" if run.dataset else None
    local = last_part(run.provenance.get("problems", {}).get("dataset_name"))
    done = {
        "problems": f"{settings.get('num_problems', '?')} of {dataset or local or 'data that the run does not name'}",
        "weights": _weights_in_words(settings),
        "divergence": _KL.get(str(settings.get("kl")), str(settings.get("kl"))),
        "trained on": _completions_in_words(run),
        "verifier in training": f"`{settings['verifier']}`" if settings.get("verifier") else "none",
        "learning rate": str(settings.get("learning_rate")),
    }
    if settings.get("kl") == "forward_then_reverse":
        switch = settings.get("kl_switch", 0.5)
        done["divergence"] += f" from {f'{switch:.0%} of the steps' if switch <= 1 else f'step {switch:.0f}'} on"
    if settings.get("max_forgetting") is not None:
        done["ends"] = f"when accuracy on a retention set has fallen by more than {settings['max_forgetting']}"
    if settings.get("refresh") not in (None, "never"):
        done["pass rates in training"] = f"refreshed: `{settings['refresh']}`"
    if run.store is not None:
        done |= _measuring_in_words(run.store)
    return done


def _completions_in_words(run: PublishedRun) -> str:
    settings = run.settings
    kls = stages(settings.get("kl", "forward_then_reverse"), settings.get("kl_switch", 0.5))
    has_references = run.provenance.get("problems", {}).get("reference_column") is not None
    references = "the completions in the data" if has_references else "the teacher's verified completions"
    words = {"dataset": references, "student": "the student's own completions"}
    sources = [completion_source_for(kl, settings.get("completion_source") or "auto") for kl in kls]
    return ", then ".join(words[source] for source in dict.fromkeys(sources))


def _weights_in_words(settings: Mapping[str, Any]) -> str:
    kind = settings.get("weighting", "beta")
    if kind == "uniform":
        return "all 1 (control)"
    applied = {"loss": "in the loss", "sampling": "as the rate at which problems are drawn"}
    where = applied.get(str(settings.get("apply_weights")), "in the loss")
    if settings.get("replay_share"):
        where += f"; mastered problems have {settings['replay_share']:.0%} of the weight"
    if kind == "hard_filter":
        low, high = settings.get("weight_band", (0.2, 0.8))
        return f"1 for pass rates from {low} to {high}, else 0; {where}"
    alpha, beta = settings.get("weight_alpha", 1.0), settings.get("weight_beta", 1.0)
    estimator = settings.get("weight_estimator", "plugin")
    return f"`p^a (1-p)^b` with a = {alpha:g}, b = {beta:g}, estimator `{estimator}`, mean 1; {where}"


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
