"""
The cards of a published student and of its pass rates: what was done, what came out, how to use and reproduce it.

Responsible for words and metadata; what may be said is in `published_run.py`. The model card is TRL's own, made from
TRL's template, with its introduction and its example replaced by ours, which know adapters, students that are on no
Hub, and the form of the prompts. Says only what was measured, and where nothing was measured says that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from .arguments import as_mapping
from .citation import PAPER
from .evaluation import Evaluation, compare_runs
from .merged_adapter import Parity
from .provenance import hub_id, library_versions
from .published_run import PublishedRun, last_part, public_value
from .report.run_figures import ReportFigure
from .schedule import completion_source_for, stages
from .store import VERDICTS, PassRateStore
from .tables import as_markdown, describe


Kind = Literal["adapter", "merged", "full"]
_WHAT = {"adapter": "A LoRA adapter", "merged": "A LoRA adapter, merged into the weights", "full": "A fine-tune"}
_TAGS = ["generated_from_trainer", "trl", "distillation", "paced"]
_KL = {
    "forward": "forward KL(teacher \\|\\| student)",
    "reverse": "reverse KL(student \\|\\| teacher)",
    "jsd": "Jensen-Shannon divergence",
    "forward_then_reverse": "forward KL(teacher \\|\\| student), then reverse KL(student \\|\\| teacher)",
}


def model_card(
    run: PublishedRun,
    repo_id: str,
    kind: Kind,
    *,
    figures: Sequence[ReportFigure] = (),
    parity: Parity | None = None,
    pass_rates_repo: str | None = None,
) -> ModelCard:
    """
    Write the card of a student.

    Args:
        run ([`PublishedRun`]): What was done.
        repo_id (`str`): Repository of the student.
        kind (`"adapter"`, `"merged"` or `"full"`): What the repository holds.
        figures (`Sequence[ReportFigure]`, *optional*): Figures that lie in `figures/` of the repository.
        parity ([`Parity`], *optional*): Of a merged adapter, how it was checked.
        pass_rates_repo (`str`, *optional*): Dataset that holds the pass rates.

    Returns:
        `huggingface_hub.ModelCard`: Its metadata are valid: reading them back is part of making it.
    """
    name = repo_id.split("/")[-1]
    versions = run.provenance.get("versions") or library_versions()
    prompts = run.example_prompts()
    held_out = [n for n in run.after if n not in run.retention_sets]
    template_options = as_mapping(run.settings.get("chat_template_kwargs"))
    text = _template("model_card").render(
        name=name,
        repo_id=repo_id,
        kind=kind,
        what=_WHAT[kind],
        base_model=run.base_model,
        teacher=run.teacher,
        paper=PAPER,
        is_chat=bool(prompts) and not isinstance(prompts[0], str),
        template_arguments="".join(f", {key}={value!r}" for key, value in template_options.items()),
        max_completion_length=run.settings.get("max_completion_length") or 512,
        parity=parity,
        done=_what_was_done(run),
        has_pass_rates=run.store is not None,
        published_pass_rates=run.published_pass_rates,
        is_measured_after=bool(held_out),
        is_measured_before=any(n in run.before for n in held_out),
        figures=figures,
        evaluations=_evaluation_table(run, held_out),
        retention=_evaluation_table(run, [n for n in run.after if n in run.retention_sets]),
        requirements=" ".join(f"{n}=={v}" for n, v in versions.items() if n in ("paced_trl", "trl", "transformers")),
        recipe=yaml.safe_dump(run.recipe(), sort_keys=False, allow_unicode=True, width=100).strip(),
        fingerprint=run.store_fingerprint,
        pass_rates_repo=pass_rates_repo,
        versions=", ".join(f"{library} {version}" for library, version in versions.items()),
        from_trl=_sections_of_trl(versions),
    )
    data = ModelCardData(
        base_model=run.base_model,
        datasets=list(dict.fromkeys(filter(None, [run.dataset, run.published_pass_rates, pass_rates_repo]))) or None,
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=[*_TAGS, "lora"] if kind == "adapter" else _TAGS,
        model_name=name,
        eval_results=evaluation_results(run) or None,
    )
    return ModelCard(_card(data, text))


def evaluation_results(run: PublishedRun) -> list[EvalResult]:
    """Return the accuracies of the trained student with their intervals, as the Hub shows them beside a model."""
    results = []
    for name, evaluation in run.after.items():
        low, high = evaluation.mean_at_k_interval
        data = hub_id(run.sources.get(name))
        metric = f"{name} mean@{evaluation.num_generations}"
        interval = f"95 % interval {low:.4f} to {high:.4f}, {_problems(evaluation)} problems"
        results.append(
            EvalResult(
                task_type="text-generation",
                task_name="Retention" if name in run.retention_sets else "Text Generation",
                # Local data have no id: their name here keeps the sets apart.
                dataset_type=data or name,
                dataset_name=name,
                metric_type="accuracy",
                metric_value=round(evaluation.mean_at_k, 4),
                metric_name=f"{metric} ({interval})",
            )
        )
    return results


def dataset_card(
    run: PublishedRun, repo_id: str, *, figures: Sequence[ReportFigure] = (), completions: bool = False
) -> DatasetCard:
    """
    Write the card of a run's pass rates.

    Args:
        run ([`PublishedRun`]): The run; it has a store.
        repo_id (`str`): Repository of the dataset.
        figures (`Sequence[ReportFigure]`, *optional*): Figures that lie in `figures/` of the repository.
        completions (`bool`, *optional*, defaults to `False`): Whether the completions are in the repository.

    Returns:
        `huggingface_hub.DatasetCard`
    """
    from .pass_rate_dataset import COMPLETIONS, TABLE

    assert run.store is not None
    name = repo_id.split("/")[-1]
    counts = verdict_counts(run.store)
    text = _template("dataset_card").render(
        name=name,
        repo_id=repo_id,
        base_model=run.base_model,
        dataset=run.dataset,
        paper=PAPER,
        num_problems=f"{len(run.store.num_generations()):,}",
        num_completions=f"{sum(counts.values()):,}",
        verdicts=_in_words(counts),
        completions=completions,
        figures=figures,
        fingerprint=run.store_fingerprint,
        record=yaml.safe_dump(public_value(run.store.record), sort_keys=False, allow_unicode=True).strip(),
    )
    configs = [{"config_name": "default", "data_files": [{"split": "train", "path": TABLE}], "default": True}]
    if completions:
        configs.append({"config_name": "completions", "data_files": [{"split": "train", "path": COMPLETIONS}]})
    data = DatasetCardData(
        pretty_name=name,
        tags=["paced", "pass-rates"],
        source_datasets=[run.dataset] if run.dataset else None,
        configs=configs,
    )
    return DatasetCard(_card(data, text))


def verdict_counts(store: PassRateStore) -> dict[str, int]:
    """Return how many completions of a store have each verdict."""
    counts = store.counts()
    return {verdict: sum(counts[f"num_{verdict}"].to_pylist()) for verdict in VERDICTS}


def _what_was_done(run: PublishedRun) -> dict[str, str]:
    settings = run.settings
    dataset = f"[{run.dataset}](https://huggingface.co/datasets/{run.dataset})" if run.dataset else None
    local = last_part(run.provenance.get("problems", {}).get("dataset_name"))
    done = {
        "problems": f"{settings.get('num_problems', '?')} of {dataset or local or 'data that the run does not name'}",
        "weights": _weights_in_words(settings),
        "divergence": _KL.get(str(settings.get("kl")), str(settings.get("kl"))),
        "trained on": _completions_in_words(settings),
        "verifier in training": f"`{settings['verifier']}`" if settings.get("verifier") else "none",
        "learning rate": str(settings.get("learning_rate")),
    }
    if settings.get("kl") == "forward_then_reverse":
        switch = settings.get("kl_switch", 0.5)
        done["divergence"] += f" from {f'{switch:.0%} of the steps' if switch <= 1 else f'step {switch:.0f}'} on"
    if settings.get("refresh") not in (None, "never"):
        done["pass rates in training"] = f"refreshed: `{settings['refresh']}`"
    if run.store is not None:
        done |= _measuring_in_words(run.store)
    return done


def _completions_in_words(settings: Mapping[str, Any]) -> str:
    kls = stages(settings.get("kl", "forward_then_reverse"), settings.get("kl_switch", 0.5))
    words = {
        "dataset": "verified completions of the teacher, or the data's own",
        "student": "the student's completions",
    }
    sources = [completion_source_for(kl, settings.get("completion_source") or "auto") for kl in kls]
    return ", then ".join(words[source] for source in dict.fromkeys(sources))


def _weights_in_words(settings: Mapping[str, Any]) -> str:
    kind = settings.get("weighting", "beta")
    if kind == "uniform":
        return "all 1 (control)"
    applied = {"loss": "in the loss", "sampling": "as the rate at which problems are drawn"}
    where = applied.get(str(settings.get("apply_weights")), "in the loss")
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
        "verdicts": _in_words(counts),
    }


def _record_in_words(record: Mapping[str, Any]) -> str:
    public = {key: public_value(value) for key, value in record.items()}
    return ", ".join(f"{key} `{str(value).replace('|', chr(92) + '|')}`" for key, value in public.items()) or "unknown"


def _in_words(counts: Mapping[str, int]) -> str:
    total = max(sum(counts.values()), 1)
    return ", ".join(f"{verdict} {count:,} ({count / total:.1%})" for verdict, count in counts.items() if count)


def _evaluation_table(run: PublishedRun, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        after, before = run.after[name], run.before.get(name)
        rows.append(
            {
                "set": name,
                "problems": str(_problems(after)),
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


def _problems(evaluation: Evaluation) -> int:
    return len(evaluation.problem_ids) - len(evaluation.unmeasured)


def _sections_of_trl(versions: Mapping[str, str]) -> str:
    """Return TRL's own card from its section on the training procedure on."""
    template = resources.files("trl").joinpath("templates/lm_model_card.md").read_text(encoding="utf-8")
    card = ModelCard.from_template(
        ModelCardData(),
        template_str=template,
        trainer_name="PACED",
        paper_title=PAPER["title"],
        paper_id=PAPER["id"],
        trainer_citation=PAPER["citation"],
        trl_version=versions.get("trl"),
        transformers_version=versions.get("transformers"),
        pytorch_version=versions.get("torch"),
        datasets_version=versions.get("datasets"),
        tokenizers_version=versions.get("tokenizers"),
    )
    sections = re.split(r"(?m)^(?=## )", card.text)
    start = next(n for n, section in enumerate(sections) if section.startswith("## Training procedure"))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)[ \t]+$", "", "".join(sections[start:]))).strip()


def _card(data: ModelCardData | DatasetCardData, text: str) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("paced_trl"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.md.jinja")
