"""The steps of a recipe after training, and on the way: evaluations on held-out and retention sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.evaluation import TRAINING, Evaluation, evaluate_model
from ..generation.completions import SamplingParameters
from ..generation.engines import closing_generator
from ..problems import ProblemSet
from ..processes import Processes
from ..run_directory import MANIFEST, RunDirectory
from ..settings import require_model
from ..verification.verifier import Verifier
from .recipe import Recipe


if TYPE_CHECKING:
    from ..evaluation.curve_evaluation import CurveSettings


def evaluate_sets(
    recipe: Recipe,
    verifier: Verifier,
    directory: Path,
    *,
    verifier_by_set: Mapping[str, Verifier],
    name_or_path: str | None = None,
    beside_trained: bool = False,
) -> dict[str, Evaluation]:
    """Evaluate a model on all evaluation and retention sets, on the training problems if that is asked for."""
    from ..generation.identity import weights_fingerprint

    held_out = recipe.held_out_sets()
    sets = held_out | ({TRAINING: recipe.data.dataset_name} if recipe.evaluation.training_problems else {})
    if not sets:
        raise ValueError(
            "Neither `eval_sets` nor `retention_sets` is given. Name one, e.g. `--eval_sets test=test.jsonl`."
        )
    name_or_path = require_model(name_or_path or recipe.model.model_name_or_path)
    if recipe.data.as_chat == "auto" and (directory / MANIFEST).exists():
        # An evaluation goes on as it was begun, also one of version 0.1.0, whose default was text.
        begun = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["settings"].get("problems", {})
        recipe.as_chat = bool(begun.get("as_chat", recipe.as_chat))
    settings = {
        "model": name_or_path,
        "weights": weights_fingerprint(name_or_path),
        "sets": sets,
        "retention_sets": list(recipe.retention_sets()),
        "problems": recipe.data.record(as_chat=recipe.as_chat),
        "sampling": vars(SamplingParameters.of(recipe.sampling)),
        "chat_template_kwargs": recipe.sampling.chat_template_kwargs,
        "num_eval_generations": recipe.evaluation.num_eval_generations,
        "verifier": verifier.record,
        "seed": recipe.sampling.seed,
    }
    if verifier_by_set:
        settings["verifier_by_set"] = {name: one.record for name, one in verifier_by_set.items()}
    run = RunDirectory(directory, settings)
    if run.status == "finished":
        return {name: Evaluation.load(directory / f"{name}.json") for name in sets}
    problems = {
        name: recipe.held_out_problems(held_out[name]) if name in held_out else recipe.problems() for name in sets
    }
    for name in sets:
        recipe.check_prompts(problems[name], name_or_path)
    run.mark("started")
    prompts = [prompt for held in problems.values() for prompt in held["prompt"]]
    student = recipe.student(name_or_path, prompts=prompts, beside_trained=beside_trained)
    with closing_generator(student) as generator:
        results = {
            name: evaluate_model(
                ProblemSet(problems[name], recipe.prompt_settings),
                generator,
                verifier_by_set.get(name, verifier),
                name=name,
                num_generations=recipe.evaluation.num_eval_generations,
                store=directory / f"{name}_completions",
                seed=recipe.sampling.seed,
            )
            for name in sets
        }
    if Processes.current().is_main:
        for name, result in results.items():
            result.save(directory / f"{name}.json")
            problems[name].to_parquet(directory / f"{name}_problems.parquet")
        run.mark("finished")
    return results


def curve_settings(
    recipe: Recipe, verifier: Verifier, verifier_by_set: Mapping[str, Verifier]
) -> CurveSettings | None:
    """Return how arms are evaluated while they train, on all evaluation and retention sets; None for not at all."""
    from ..evaluation.curve_evaluation import CurveSettings

    if not recipe.comparison.curve_points:
        return None
    return CurveSettings(
        num_points=recipe.comparison.curve_points,
        problems={name: recipe.held_out_problems(data) for name, data in recipe.held_out_sets().items()},
        verifier=verifier,
        verifier_by_set=verifier_by_set,
        sampling=SamplingParameters.of(recipe.sampling),
        chat_template_kwargs=recipe.chat_template_kwargs,
        num_generations=recipe.comparison.num_curve_generations,
        batch_size=recipe.estimation.generation_batch_size,
        seed=recipe.sampling.seed,
    )


def evaluation_path(recipe: Recipe) -> Path:
    """Return where the evaluation of the model goes: OUTPUT_DIR/evaluation/<last part of the model's name>."""
    return recipe.output_dir / "evaluation" / Path(require_model(recipe.model.model_name_or_path)).name


def load_evaluations(directory: Path) -> dict[str, Evaluation]:
    """Read the finished evaluations in a directory, by name of the set."""
    manifest = directory / MANIFEST
    if not manifest.exists() or json.loads(manifest.read_text())["status"] != "finished":
        raise ValueError(
            f"{str(directory)!r} holds no finished evaluation. Run `paced-trl evaluate` for that model; it prints the "
            "directory to name here."
        )
    sets = json.loads(manifest.read_text())["settings"]["sets"]
    return {name: Evaluation.load(directory / f"{name}.json") for name in sets}
