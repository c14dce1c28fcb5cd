"""
A run published: what goes to the Hub is staged in a directory of its own, checked, and uploaded.

Only files on a list are staged, configurations are rewritten without local paths, and a directory in which a private
text stands is refused. `RUN/publish` is made anew by every call and stays, so that what was uploaded can be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, ModelCard
from transformers.utils import ADAPTER_CONFIG_NAME
from trl import ModelConfig

from ..evaluation.comparison import BASE
from ..names import hub_id
from ..report.figures import ReportFigure, report_figures, training_weights
from ..settings import PublishArguments, as_mapping
from ..training.config import PacedConfig
from .card import Kind, dataset_card, license_metadata, model_card
from .hub import HubRepository, check_license, check_name, check_repository, hub_errors_in_one_sentence, upload
from .merged_adapter import Parity, merge_adapter
from .privacy import check_nothing_private, private_texts
from .run import FEW_SHOT, PublishedRun, published_base_model, read_published_run


STAGING = "publish"
# All that makes a model, an adapter or a tokenizer; whatever else lies in a run stays there.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
_ADAPTER_FILES = (ADAPTER_CONFIG_NAME, "adapter_model.safetensors")
_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)
# Card, message, and what may be left of an earlier publication, as an adapter where there is a merged model now.
_UPLOADS = {
    "model": (
        ModelCard,
        "Student distilled with paced_trl",
        (*_ADAPTER_FILES, *_MODEL_FILES, FEW_SHOT, "figures/*.png"),
    ),
    "dataset": (DatasetCard, "Pass rates", ("completions/*", "figures/*.png")),
}
_FIGURES = {"model": ("pass_rates", "before_after"), "dataset": ("pass_rates",)}
# What the two models are compared on where the run does not hold its prompts.
_DEFAULT_PROMPTS = ["The capital of France is", "12 + 30 =", "def fibonacci(n):", "Once upon a time"]


@dataclass(frozen=True)
class Repositories:
    """Where a run goes, checked: repositories of the student and, if they are published, of the pass rates."""

    model: HubRepository
    pass_rates: HubRepository | None = None


def check_repositories(
    repo: str, publish: PublishArguments, *, private: bool = True, token: str | None = None
) -> Repositories:
    """
    Make sure that all repositories of a publication can be written to; see [`check_repository`].

    Args:
        repo (`str`): Repository of the student.
        publish ([`PublishArguments`]): What is published beside it.
        private (`bool`, *optional*, defaults to `True`): Whether others must not see it.
        token (`str`, *optional*): Token to write with.
    """
    check_license(publish.license)
    model = check_repository(repo, private=private, token=token)
    dataset = publish.pass_rates_repo
    if dataset is None:
        return Repositories(model)
    return Repositories(model, check_repository(dataset, repo_type="dataset", private=private, token=token))


def check_before_training(args: PacedConfig, model_args: ModelConfig, publish: PublishArguments) -> Repositories:
    """Refuse, before anything expensive, a training run that could not be published at its end."""
    if publish.merge and not model_args.use_peft:
        raise ValueError("`merge` is set, but without `use_peft` there is no adapter to merge. Remove `merge`.")
    published_base_model(publish.base_model, hub_id(model_args.model_name_or_path), is_adapter=model_args.use_peft)
    repo = args.hub_model_id or Path(str(args.output_dir)).resolve().name
    return check_repositories(repo, publish, private=args.hub_private_repo is not False, token=args.hub_token)


def publish_run(
    run_directory: str | os.PathLike[str], repositories: Repositories, publish: PublishArguments
) -> list[tuple[str, bool]]:
    """
    Publish a finished run.

    Args:
        run_directory (`str` or path): Its directory.
        repositories ([`Repositories`]): Where to, from [`check_repositories`].
        publish ([`PublishArguments`]): How.

    Returns:
        `list[tuple[str, bool]]`: Per repository the address of its latest commit, and whether it is new.

    Raises:
        ValueError: If the run cannot be published as it is, before anything is uploaded.
        OSError: If the upload breaks off; the same call continues.
    """
    dataset = repositories.pass_rates.repo_id if repositories.pass_rates else None
    staged = stage_run(
        run_directory,
        repositories.model.repo_id,
        publish,
        pass_rates_repo=dataset,
        ask_hub=True,
        token=repositories.model.token,
    )
    done = []
    for repository, directory in zip(filter(None, (repositories.model, repositories.pass_rates)), staged, strict=True):
        card, message, replaced = _UPLOADS[repository.repo_type]
        with hub_errors_in_one_sentence(repository.repo_id):
            card.load(directory / "README.md").validate()
        done.append(upload(repository, directory, commit_message=message, delete_patterns=replaced))
    return done


def stage_run(
    run_directory: str | os.PathLike[str],
    repo_id: str,
    publish: PublishArguments,
    *,
    pass_rates_repo: str | None = None,
    ask_hub: bool = False,
    token: str | None = None,
) -> list[Path]:
    """
    Write what would be published; the network is asked for nothing but, with `ask_hub`, the base model's license.

    Args:
        run_directory (`str` or path): Directory of the run.
        repo_id (`str`): Repository of the student, which its card names.
        publish ([`PublishArguments`]): How.
        pass_rates_repo (`str`, *optional*): Repository of the pass rates, if they are published.
        ask_hub (`bool`, *optional*, defaults to `False`): Whether to ask the Hub for the base model's license.
        token (`str`, *optional*): Token to ask with.

    Returns:
        `list[Path]`: Directory of the student's files and, if asked for, that of the pass rates.

    Raises:
        ValueError: If the run cannot be published as it is; the message says why.
    """
    check_name(repo_id)
    check_license(publish.license)
    run = read_published_run(run_directory, base_model=publish.base_model)
    if pass_rates_repo is not None and run.store is None:
        raise ValueError(
            f"`pass_rates_repo` is {pass_rates_repo!r}, but the run in {str(run.path)!r} has no store of pass rates. "
            "Leave it out."
        )
    staging = run.path / STAGING
    student = run.settings.get("student.model_name_or_path")
    fields = license_metadata(publish.license, student, run.base_model, ask_hub=ask_hub, token=token)
    if not fields:
        whose = run.base_model or "the student before training"
        where = "" if ask_hub or run.base_model is None else ", and the Hub is asked only when it is published"
        print(
            f"The card names no license: that of {whose} is not known here{where}. State it with `--license`, e.g. "
            "`--license apache-2.0`.",
            flush=True,
        )
    directories = [_stage_model(run, staging, repo_id, publish, pass_rates_repo, fields)]
    if pass_rates_repo is not None:
        directories.append(_stage_pass_rates(run, staging, pass_rates_repo, publish))
    texts = private_texts(namespace=repo_id.split("/")[0], directories=[run.path])
    for directory in directories:
        check_nothing_private(directory, texts, allowed=publish.not_private)
    return directories


def _stage_model(
    run: PublishedRun,
    staging: Path,
    repo_id: str,
    publish: PublishArguments,
    pass_rates_repo: str | None,
    license_fields: Mapping[str, str],
) -> Path:
    if publish.merge and not run.is_adapter:
        raise ValueError(f"`merge` is set, but {str(run.path)!r} holds no adapter to merge. Leave `--merge` out.")
    directory = _fresh(staging / "model")
    source, parity = run.path, None
    if publish.merge:
        source = staging / "merged"
        parity = _merge(run, source, publish)
    weights = _ADAPTER_FILES if run.is_adapter and not publish.merge else _MODEL_FILES
    _stage_files(source, directory, weights, {"base_model_name_or_path": run.base_model})
    _stage_files(run.path, directory, _TOKENIZER_FILES, {})
    if not list(directory.glob("*.safetensors")):
        raise ValueError(
            f"{str(run.path)!r} holds no weights as safetensors, and others are not published: loading them runs "
            "code. Save the student with `save_pretrained`."
        )
    figures = _draw_figures(run, directory, repo_id, "model")
    kind: Kind = "full" if not run.is_adapter else "merged" if publish.merge else "adapter"
    card = model_card(
        run,
        repo_id,
        kind,
        figures=figures,
        parity=parity,
        pass_rates_repo=pass_rates_repo,
        license_fields=license_fields,
    )
    card.save(directory / "README.md")
    recipe = yaml.safe_dump(run.recipe(), sort_keys=False, allow_unicode=True)
    (directory / "recipe.yaml").write_text(recipe, encoding="utf-8")
    if run.few_shot is not None:
        turns = json.dumps(run.few_shot, indent=2, ensure_ascii=False)
        (directory / FEW_SHOT).write_text(turns + "\n", encoding="utf-8")
    return directory


def _stage_pass_rates(run: PublishedRun, staging: Path, repo_id: str, publish: PublishArguments) -> Path:
    from ..estimation.published_pass_rates import write_pass_rate_dataset

    assert run.store is not None
    directory = _fresh(staging / "pass_rates")
    write_pass_rate_dataset(run.store, directory, completions=publish.publish_completions)
    figures = _draw_figures(run, directory, repo_id, "dataset")
    card = dataset_card(run, repo_id, figures=figures, completions=publish.publish_completions)
    card.save(directory / "README.md")
    return directory


def _merge(run: PublishedRun, directory: Path, publish: PublishArguments) -> Parity:
    # The base that training used, if it is still there: the same weights as on the Hub, and no download.
    trained_on = json.loads((run.path / ADAPTER_CONFIG_NAME).read_text())["base_model_name_or_path"]
    parity = merge_adapter(
        run.path,
        directory,
        prompts=run.example_prompts() or _DEFAULT_PROMPTS,
        base=trained_on if hub_id(trained_on) or Path(trained_on).exists() else run.base_model,
        chat_template_kwargs=as_mapping(run.settings.get("chat_template_kwargs"), "chat_template_kwargs"),
    )
    print(f"Merged: {parity}", flush=True)
    return parity


def _fresh(directory: Path) -> Path:
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return directory


def _stage_files(source: Path, directory: Path, patterns: tuple[str, ...], names: Mapping[str, str | None]) -> None:
    """Copy the files that match; of configurations without local paths, `names` instead of the models they name."""
    for path in sorted(path for pattern in patterns for path in source.glob(pattern)):
        target = directory / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith("config.json"):
            values = json.loads(path.read_text(encoding="utf-8"))
            values = {key: value for key, value in values.items() if key not in ("_name_or_path", "name_or_path")}
            values |= {key: value for key, value in names.items() if key in values}
            target.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        elif path.suffix == ".safetensors":
            # Weights take space; another file system than the run's has no links.
            with suppress(OSError):
                os.link(path.resolve(), target)
        if not target.exists():
            shutil.copyfile(path, target)


def _draw_figures(run: PublishedRun, directory: Path, repo_id: str, kind: str) -> list[ReportFigure]:
    """Draw what the report draws of such a run, for the card; return what was drawn."""
    import pyarrow as pa

    from ..estimation.published_pass_rates import published_table
    from ..report.contents import RunContents
    from ..report.theme import as_png

    name = repo_id.split("/")[-1]
    contents = RunContents(run.path, retention_sets=run.retention_sets, settings={name: run.settings}, store=run.store)
    for eval_set, after in run.after.items():
        before = {BASE: [run.before[eval_set]]} if eval_set in run.before else {}
        contents.evaluations[eval_set] = {**before, name: [after]}
    arms = {"before": BASE, "after": name}
    contents.training = {arms[side]: [evaluation] for side, evaluation in run.training.items()}
    if run.store is not None:
        table: Any = published_table(run.store)
        contents.pass_rates = pa.table({c: table[c][:] for c in ("problem_id", "num_passed", "num_valid")})
    figures = [f for f in report_figures(contents, training_weights(contents)) if f.name in _FIGURES[kind]]
    for figure in figures:
        path = directory / "figures" / f"{figure.name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_png(figure.draw))
    return figures
