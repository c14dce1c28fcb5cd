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

from ..names import hub_id, library_versions, public_value
from ..report.figures import ReportFigure
from ..settings import as_mapping
from ..training.in_words import PAPER
from .merged_adapter import Parity
from .run import PublishedRun
from .run_in_words import (
    evaluation_table,
    num_measured,
    teacher_in_words,
    verdict_counts,
    verdicts_in_words,
    what_was_done,
)


Kind = Literal["adapter", "merged", "full"]
_WHAT = {"adapter": "A LoRA adapter", "merged": "A LoRA adapter, merged into the weights", "full": "A fine-tune"}
_TAGS = ["generated_from_trainer", "trl", "distillation", "paced"]


def model_card(
    run: PublishedRun,
    repo_id: str,
    kind: Kind,
    *,
    figures: Sequence[ReportFigure] = (),
    parity: Parity | None = None,
    pass_rates_repo: str | None = None,
    license_fields: Mapping[str, str] | None = None,
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
        license_fields (`Mapping[str, str]`, *optional*):
            `license` and what belongs to it; see [`license_metadata`].

    Returns:
        `huggingface_hub.ModelCard`: Its metadata are valid: reading them back is part of making it.
    """
    name = repo_id.split("/")[-1]
    versions = run.provenance.get("versions") or library_versions()
    prompts = run.example_prompts()
    held_out = [n for n in run.after if n not in run.retention_sets]
    template_options = as_mapping(run.settings.get("chat_template_kwargs"), "chat_template_kwargs")
    text = _template("model_card").render(
        name=name,
        repo_id=repo_id,
        kind=kind,
        what=_WHAT[kind],
        base_model=run.base_model,
        teacher=teacher_in_words(run),
        paper=PAPER,
        is_chat=bool(prompts) and not isinstance(prompts[0], str),
        template_arguments="".join(f", {key}={value!r}" for key, value in template_options.items()),
        max_completion_length=run.settings.get("max_completion_length") or 512,
        parity=parity,
        done=what_was_done(run),
        has_pass_rates=run.store is not None,
        published_pass_rates=run.published_pass_rates,
        is_measured_after=bool(held_out),
        is_measured_before=any(n in run.before for n in held_out),
        figures=figures,
        evaluations=evaluation_table(run, held_out),
        retention=evaluation_table(run, [n for n in run.after if n in run.retention_sets]),
        requirements=" ".join(f"{n}=={v}" for n, v in versions.items() if n in ("paced_trl", "trl", "transformers")),
        recipe=yaml.safe_dump(run.recipe(), sort_keys=False, allow_unicode=True, width=100).strip(),
        fingerprint=run.store_fingerprint,
        pass_rates_repo=pass_rates_repo,
        versions=", ".join(f"{library} {version}" for library, version in versions.items()),
        from_trl=_sections_of_trl(versions),
    )
    fields = license_fields or {}
    data = ModelCardData(
        base_model=run.base_model,
        datasets=list(dict.fromkeys(filter(None, [run.dataset, run.published_pass_rates, pass_rates_repo]))) or None,
        library_name="peft" if kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=[*_TAGS, "lora"] if kind == "adapter" else _TAGS,
        model_name=name,
        license=fields.get("license"),
        license_name=fields.get("license_name"),
        license_link=fields.get("license_link"),
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
        interval = f"95 % interval {low:.4f} to {high:.4f}, {num_measured(evaluation)} problems"
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
    from ..estimation.published_pass_rates import COMPLETIONS, TABLE

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
        verdicts=verdicts_in_words(counts),
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
        loader=PackageLoader("paced_trl.publishing"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.md.jinja")
