"""
The cards of a published student and of its pass rates: what was done, what came out, how to use and reproduce it.

Words and metadata only; what may be said is in `run.py`. The model card is TRL's own, with its introduction and
example replaced. It says what was measured, and where nothing was measured it says that.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, HfApi, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..evaluation.differences import compare_runs
from ..evaluation.evaluation import Evaluation
from ..evaluation.tables import accuracy, as_markdown, describe
from ..names import hub_id, last_part, library_versions, public_value
from ..report.figures import ReportFigure
from ..settings import as_mapping
from ..store.counts import verdict_totals
from ..store.store import PassRateStore
from ..text import in_percent
from ..training.in_words import PAPER, training_in_words
from .hub import hub_errors_in_one_sentence
from .merged_adapter import Parity
from .run import PublishedRun


Kind = Literal["adapter", "merged", "full"]
_WHAT = {"adapter": "A LoRA adapter", "merged": "A LoRA adapter, merged into the weights", "full": "A fine-tune"}
_TAGS = ["generated_from_trainer", "trl", "distillation", "paced"]
_LICENSE = ("license", "license_name", "license_link")
_SELF_TEACHERS = {
    "base": "itself without its adapter",
    "ema": "itself with the average of its adapter over the steps",
    "copy": "a frozen copy of itself",
}


def model_card(
    run: PublishedRun,
    repo_id: str,
    kind: Kind,
    *,
    figures: Sequence[ReportFigure] = (),
    parity: Parity | None = None,
    pass_rates_repo: str | None = None,
    license_fields: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Return the card of a student; its metadata are valid, because making it reads them back."""
    name = repo_id.split("/")[-1]
    versions = run.provenance.get("versions") or library_versions()
    held_out = [n for n in run.after if n not in run.retention_sets]
    text = _template("model_card").render(
        name=name,
        repo_id=repo_id,
        kind=kind,
        what=_WHAT[kind],
        base_model=run.base_model,
        teacher=_teacher_in_words(run),
        paper=PAPER,
        **_prompting(run),
        parity=parity,
        done=what_was_done(run),
        has_pass_rates=run.store is not None,
        published_pass_rates=run.published_pass_rates,
        is_measured_after=bool(held_out),
        is_measured_before=any(n in run.before for n in held_out),
        figures=figures,
        evaluations=_evaluation_table(run, held_out),
        retention=_evaluation_table(run, [n for n in run.after if n in run.retention_sets]),
        requirements=" ".join(f"{n}=={v}" for n, v in versions.items() if n in ("paced_trl", "trl", "transformers")),
        recipe=_fenced(run.recipe(), width=100),
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
        **dict(license_fields or {}),
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
        interval = f"95 % interval {low:.4f} to {high:.4f}, {_num_measured(evaluation)} problems"
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
    """Return the card of the pass rates of a run, which has a store."""
    from ..estimation.published_pass_rates import COMPLETIONS, TABLE

    assert run.store is not None
    name = repo_id.split("/")[-1]
    counts = verdict_totals(run.store.counts())
    text = _template("dataset_card").render(
        name=name,
        repo_id=repo_id,
        base_model=run.base_model,
        dataset=run.dataset,
        paper=PAPER,
        num_problems=f"{len(run.store.num_generations()):,}",
        num_completions=f"{sum(counts.values()):,}",
        verdicts=_verdicts_in_words(counts),
        completions=completions,
        figures=figures,
        fingerprint=run.store_fingerprint,
        record=_fenced(public_value(run.store.record)),
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


def license_metadata(
    given: str | None, student: str | None, base_model: str | None, *, ask_hub: bool = False, token: str | None = None
) -> dict[str, str]:
    """Return a license as given, else as the card beside the student says, else the Hub's; empty if none is known."""
    if given is not None:
        return {"license": given}
    known, card = None, Path(student).expanduser() / "README.md" if student else None
    if card is not None and card.is_file():
        with contextlib.suppress(ValueError, yaml.YAMLError):  # any README.md may lie there
            known = ModelCard.load(card).data
    if getattr(known, "license", None) is None and ask_hub and base_model is not None:
        # A license is no reason for a publication to fail.
        with contextlib.suppress(OSError), hub_errors_in_one_sentence(base_model):
            known = HfApi(token=token, library_name="paced_trl").model_info(base_model).card_data
    fields = {name: str(getattr(known, name)) for name in _LICENSE if getattr(known, name, None)}
    if "license" not in fields:
        return {}
    if "://" not in fields.get("license_link", "://"):
        # A file of the base model's repository, which is not in this one.
        name = Path(fields.pop("license_link")).name
        if base_model is not None:
            fields["license_link"] = f"https://huggingface.co/{base_model}/blob/main/{name}"
    return fields


def _teacher_in_words(run: PublishedRun) -> str:
    if run.teaches_itself:
        teacher = _SELF_TEACHERS[run.settings["self_distillation"]]
        return f"{teacher}, which saw privileged context (`privileged_template`) that the student did not,"
    if run.teacher is None:
        return "a teacher that is not on the Hub"
    return f"[{run.teacher}](https://huggingface.co/{run.teacher})"


def what_was_done(run: PublishedRun) -> dict[str, str]:
    """Return how a student was trained and how its pass rates were measured, as rows of a table."""
    dataset = f"[{run.dataset}](https://huggingface.co/datasets/{run.dataset})" if run.dataset else None
    problems = run.provenance.get("problems", {})
    done = training_in_words(
        run.settings,
        problems=dataset or _plain(last_part(problems.get("dataset_name")) or "") or None,
        has_references=problems.get("reference_column") is not None,
    )
    if run.settings.get("verifier"):
        done["verifier in training"] = _code(run.settings["verifier"])
    return done if run.store is None else done | _measuring_in_words(run.store)


def _measuring_in_words(store: PassRateStore) -> dict[str, str]:
    generations = list(store.num_generations().values())
    counts = verdict_totals(store.counts())
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
        "verdicts": _verdicts_in_words(counts),
    }


def _record_in_words(record: Mapping[str, Any]) -> str:
    public = {key: public_value(value) for key, value in record.items() if value is not None}
    return ", ".join(f"{_plain(key)} {_code(value)}" for key, value in public.items()) or "unknown"


def _verdicts_in_words(counts: Mapping[str, int]) -> str:
    """Return how many completions have each verdict, and their share."""
    total = max(sum(counts.values()), 1)
    return ", ".join(
        f"{verdict} {count:,} ({in_percent(count / total)})" for verdict, count in counts.items() if count
    )


def _evaluation_table(run: PublishedRun, names: Sequence[str]) -> str:
    """Return accuracies before and after on some sets, with the paired change, as Markdown; no sets, no text."""
    rows = []
    for name in names:
        after, before = run.after[name], run.before.get(name)
        rows.append(
            {
                "set": _plain(name),
                "problems": str(_num_measured(after)),
                "before": accuracy(before) if before else "not measured",
                "after": accuracy(after),
                "change": _change(after, before) if before else "",
            }
        )
    return as_markdown(rows).strip() if rows else ""


def _change(after: Evaluation, before: Evaluation) -> str:
    try:
        return describe(compare_runs(after, before))
    except ValueError:
        return "not comparable: other problems or settings"


def _num_measured(evaluation: Evaluation) -> int:
    """Return how many problems have a valid verdict, and count."""
    return len(evaluation.problem_ids) - len(evaluation.unmeasured)


def _prompting(run: PublishedRun) -> dict[str, Any]:
    """Return what the example needs to ask as the run did: the messages, the question's frame, the sampling."""
    form = run.prompt_form or {"context": None, "before": "", "after": ""}
    records = [evaluation.record.get("generator", {}) for evaluation in run.after.values()]
    measured = next((record["sampling"] for record in records if record.get("sampling")), run.settings)
    options = as_mapping(run.settings.get("chat_template_kwargs"), "chat_template_kwargs")
    temperature = measured.get("temperature", 1.0)
    sampling = {"do_sample": temperature != 0, "max_new_tokens": measured.get("max_completion_length") or 512}
    defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None} if temperature else {}
    # All of them: what is left out is that of the model's `generation_config`.
    for name, default in {**defaults, "repetition_penalty": 1.0}.items():
        sampling[name] = measured.get(name, default)
    parts = [repr(form["before"]), "question", repr(form["after"])]
    return {
        "has_prompts": run.prompt_form is not None,
        "is_chat": form["context"] is not None,
        "context": [repr({key: turn[key] for key in ("role", "content")}) for turn in form["context"] or []],
        "asked": " + ".join(part for part in parts if part != "''"),
        "template_arguments": "".join(f", {key}={value!r}" for key, value in options.items()),
        "sampling": ", ".join(f"{name}={value!r}" for name, value in sampling.items() if value is not None),
    }


def _plain(text: str) -> str:
    """Return text that Markdown shows as it stands; a line break, which ends a row, is a space."""
    return re.sub(r"([\\`*\[\]<>|~$&!])", r"\\\1", re.sub(r"\s+", " ", text))


def _code(value: Any) -> str:
    """Return a value as code in a table; the quotes are longer than any in it."""
    text = re.sub(r"\s+", " ", str(value)).replace("|", "\\|")
    quotes = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{quotes}{padding}{text}{padding}{quotes}"


def _fenced(settings: Any, **options: Any) -> str:
    """Return settings as a block of YAML that no line of theirs can end."""
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, **options).strip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{text}\n{fence}"


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
    environment.filters["plain"] = _plain
    return environment.get_template(f"{name}.md.jinja")
