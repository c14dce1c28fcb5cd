"""
What a run says about itself to others, read from its directory, without a local path in it.

Finds the evaluations of exactly these weights and of the base student, and the settings that reproduce the run. Models
and data on the Hub are named by their ids, local ones by the last part of their path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers.utils import ADAPTER_CONFIG_NAME

from ..evaluation.evaluation import TRAINING, Evaluation
from ..generation.completions import Prompt
from ..generation.identity import weights_fingerprint
from ..names import hub_id, last_part, public_value
from ..run_directory import MANIFEST, RunDirectory
from ..store.store import PassRateStore
from ..training.in_words import OPTIMIZATION_SETTINGS, SAMPLING_SETTINGS, STUDENT_SETTINGS
from .provenance import prompt_form, read_provenance


_ARMS = "arms"
FEW_SHOT = "few_shot.json"


@dataclass
class PublishedRun:
    """A finished run, as far as others may know it; models and data that are not on the Hub are None."""

    path: Path
    # With local paths in them: for reading, not for showing.
    settings: dict[str, Any]
    provenance: dict[str, Any]
    base_model: str | None = None
    teacher: str | None = None
    dataset: str | None = None
    # The pass rates, if the run did not measure them.
    published_pass_rates: str | None = None
    store: PassRateStore | None = None
    # Evaluations by set: of the base student, of the trained one, and of both on problems that were trained on.
    before: dict[str, Evaluation] = field(default_factory=dict)
    after: dict[str, Evaluation] = field(default_factory=dict)
    training: dict[str, Evaluation] = field(default_factory=dict)
    # What the sets are made of, as the user names it.
    sources: dict[str, str] = field(default_factory=dict)
    retention_sets: list[str] = field(default_factory=list)

    @property
    def is_adapter(self) -> bool:
        return (self.path / ADAPTER_CONFIG_NAME).exists()

    @functools.cached_property
    def store_fingerprint(self) -> str | None:
        """Checksum of the pass rates: of the store's record and of the verdicts of each problem."""
        return None if self.store is None else store_fingerprint(self.store)

    def example_prompts(self, count: int = 8) -> list[Prompt]:
        """Return a few prompts of the training problems; none if the run does not hold them."""
        path = None if self.store is None else self.store.path.with_suffix(".parquet")
        if path is None or not path.exists() or "prompt" not in pq.read_schema(path).names:
            return []
        return pq.read_table(path, columns=["prompt"])["prompt"].slice(0, count).to_pylist()

    @functools.cached_property
    def prompt_form(self) -> dict[str, Any] | None:
        """What its prompts share, see [`prompt_form`]; None if the run does not hold them."""
        return self.provenance.get("prompt_form") or prompt_form(self.example_prompts(64))

    @functools.cached_property
    def few_shot(self) -> list[dict[str, Any]] | None:
        """The turns before each question that a file of the user's had; None without such a file."""
        problems = self.provenance.get("problems", {})
        if not problems.get("few_shot"):
            return None
        if Path(problems["few_shot"]).is_file():
            return json.loads(Path(problems["few_shot"]).read_text(encoding="utf-8"))
        context = (self.prompt_form or {}).get("context")
        return context[1:] if context and problems.get("system_prompt") else context

    @property
    def teaches_itself(self) -> bool:
        return self.settings.get("self_distillation", "none") != "none"

    def recipe(self) -> dict[str, Any]:
        """Return the settings that reproduce the run, for one YAML file."""
        from trl import DistillationConfig

        from ..training.config import PacedConfig

        inherited = {f.name for f in dataclasses.fields(DistillationConfig)}
        own = [f.name for f in dataclasses.fields(PacedConfig) if f.name not in inherited]
        setting = self.settings.get
        without_effect = {
            "refresh_": setting("refresh") == "never",
            "weight_band": setting("weighting") != "hard_filter",
            "weight_gate": setting("weight_estimator") != "posterior",
            "self_distillation": not self.teaches_itself,
            "privileged_template": not self.teaches_itself,
            "num_train_epochs": (setting("max_steps") or 0) > 0,
            "lora_": not setting("student.use_peft"),
            # How this machine went about it.
            "teacher_cache": True,
        }
        unused = tuple(name for name, is_unused in without_effect.items() if is_unused)
        steps: dict[str, Any] = {}
        for step in ("problems", "pass_rates", "references"):
            steps |= self.provenance.get(step, {})
        steps.pop("references", None)  # a directory of this machine
        steps["dataset_name"] = self.dataset or last_part(steps.get("dataset_name"))
        steps["pass_rates"] = self.published_pass_rates
        if self.few_shot is not None:
            steps["few_shot"] = FEW_SHOT
        if self.store is not None and len(measured := set(self.store.num_generations().values())) == 1:
            # The store may have been made with another number than training was started with.
            steps["num_generations"] = measured.pop()
        models = {
            "model_name_or_path": self.base_model or last_part(setting("student.model_name_or_path")),
            "teacher_model_name_or_path": None
            if self.teaches_itself
            else self.teacher or last_part(setting("teacher_model_name_or_path")),
        }
        training = {name: setting(name) for name in (*own, *SAMPLING_SETTINGS, *OPTIMIZATION_SETTINGS)}
        student = {name: setting(f"student.{name}") for name in STUDENT_SETTINGS}
        switched_off = {name for name, value in {**steps, **student}.items() if value is False}
        return {
            name: public_value(value)
            for name, value in {**steps, **models, **training, **student}.items()
            if name not in switched_off and value not in (None, [], {}) and not name.startswith(unused)
        }


def store_fingerprint(store: PassRateStore) -> str:
    """Return a checksum of what a store says: its record, and the verdicts of each problem, counted."""
    counts = store.counts().sort_by("problem_id")
    content = [store.record, counts.select(sorted(counts.column_names)).to_pylist()]
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}"


def read_published_run(path: str | os.PathLike[str], *, base_model: str | None = None) -> PublishedRun:
    """Read a finished run: the `--output_dir` of `train`, or one arm of `compare`."""
    path = Path(path)
    manifest = path / MANIFEST
    values: dict[str, Any] = json.loads(manifest.read_text()) if manifest.exists() else {}
    if values.get("status") != "finished":
        what = "a run that has not finished" if manifest.exists() else "no run"
        raise ValueError(
            f"{str(path)!r} holds {what}, so there is no student to publish. Name the `--output_dir` of a finished "
            "`paced-trl train`."
        )
    settings, provenance = values["settings"], read_provenance(path)
    run = PublishedRun(path, settings, provenance)
    # What was a directory when the run started may be gone by now, or lie elsewhere: its name is no id for that.
    recorded = provenance or {
        "student": hub_id(settings.get("student.model_name_or_path")),
        "teacher": hub_id(settings.get("teacher_model_name_or_path")),
    }
    run.base_model = published_base_model(base_model, recorded["student"], is_adapter=run.is_adapter)
    # A file that serves several runs may name a teacher which this one did without.
    run.teacher = None if run.teaches_itself else recorded["teacher"]
    run.dataset, run.published_pass_rates = recorded.get("dataset"), recorded.get("published_pass_rates")
    # An arm of a comparison shares the pass rates and the base student with the others.
    root = path.resolve().parents[1] if path.resolve().parent.name == _ARMS else path
    named = provenance.get("pass_rates", {}).get("pass_rates")
    for store in filter(None, (named, root / "pass_rates")):
        if (Path(store) / "manifest.json").exists():
            run.store = PassRateStore(store)
            break
    _add_evaluations(run, root)
    return run


def published_base_model(given: str | None, recorded: str | None, *, is_adapter: bool) -> str | None:
    """Return the Hub id of the student before training; refuse what is none, and an adapter without one."""
    if given is not None and hub_id(given) is None:
        raise ValueError(
            f"`base_model` is {given!r}, which is no model on the Hub for others to load. Give its id, such as "
            "`--base_model Qwen/Qwen3-0.6B`."
        )
    if is_adapter and given is None and recorded is None:
        raise ValueError(
            "The student was loaded from a local directory, and an adapter is of use only with its base. Say which "
            "model on the Hub that is, e.g. `--base_model Qwen/Qwen3-0.6B`."
        )
    return given or recorded


def _add_evaluations(run: PublishedRun, root: Path) -> None:
    """Sort the evaluations that lie in the run by the weights that they were made with."""
    try:
        trained: str | None = weights_fingerprint(run.path)
    except (FileNotFoundError, ValueError):
        trained = None  # an adapter whose local base is gone: then the name decides
    base = None if run.store is None else run.store.record.get("generator", {}).get("weights")
    student = Path(str(run.settings.get("student.model_name_or_path"))).name
    files = [*run.path.glob("evaluation/*.json"), *run.path.glob("evaluation/*/*.json")]
    if root != run.path:
        files += root.glob("base/*.json")
    for file in sorted(file for file in files if file.name not in (MANIFEST, "manifest.json")):
        evaluation = Evaluation.load(file)
        generator = evaluation.record.get("generator", {})
        weights, name = generator.get("weights"), Path(str(generator.get("model"))).name
        if weights == trained if trained and weights else name == run.path.resolve().name:
            run.after[file.stem] = evaluation
        elif weights == base if base and weights else name == student:
            run.before[file.stem] = evaluation
        else:
            warnings.warn(
                f"The evaluation {str(file)!r} is of other weights than the run's, and is not published. Run "
                "`paced-trl evaluate` again to have one that is.",
                stacklevel=3,
            )
            continue
        settings = RunDirectory.stored_settings(file.parent)
        run.sources |= {name: data for name, data in settings.get("sets", {}).items() if name == file.stem}
        if file.stem in settings.get("retention_sets", []) and file.stem not in run.retention_sets:
            run.retention_sets.append(file.stem)
    # It shows what training changed, and not how good the student is.
    sides = {"before": run.before, "after": run.after}
    run.training = {side: found.pop(TRAINING) for side, found in sides.items() if TRAINING in found}
    # What was trained for first.
    run.after = dict(sorted(run.after.items(), key=lambda item: item[0] in run.retention_sets))
