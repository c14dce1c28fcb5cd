"""
The step of a recipe after training, and on the way: evaluations on held-out and retention sets.

What settings name is in `recipe.py`, which says why; how a model is evaluated is in `evaluation.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.evaluation import TRAINING, Evaluation, evaluate_model
from ..generation.completions import SamplingParameters
from ..processes import Processes
from ..run_directory import MANIFEST, RunDirectory
from ..settings import EstimationArguments, EvaluateArguments, ProblemArguments, as_mapping, require_model
from ..verification.verifier import Verifier
from .recipe import engine_options, generator_of, held_out_sets, model_options, named_sets, problems_of


if TYPE_CHECKING:
    from ..evaluation.arms import ComparisonArguments
    from ..evaluation.curve_evaluation import CurveSettings
    from ..training.config import PacedConfig
    from .recipe import ModelSettings, SamplingSettings


def evaluate_sets(
    model: ModelSettings,
    problem_args: ProblemArguments,
    sampling: SamplingSettings,
    estimation: EstimationArguments,
    evaluation: EvaluateArguments,
    verifier: Verifier,
    directory: Path,
    *,
    seed: int,
    name_or_path: str | None = None,
) -> dict[str, Evaluation]:
    """
    Evaluate a model on all evaluation and retention sets, on the training problems if that is asked for.

    A finished evaluation is read from `directory`.

    Args:
        name_or_path (`str`, *optional*): The model, if it is not the one of the settings.
    """
    from ..generation.models import weights_fingerprint

    held_out = held_out_sets(evaluation)
    sets = held_out | ({TRAINING: problem_args.dataset_name} if evaluation.training_problems else {})
    if not sets:
        raise ValueError(
            "Neither `eval_sets` nor `retention_sets` is given. Name one, e.g. `--eval_sets test=test.jsonl`."
        )
    is_trained_here = name_or_path not in (None, model.model_name_or_path)
    name_or_path = name_or_path or model.model_name_or_path
    settings = {
        "model": name_or_path,
        "weights": weights_fingerprint(require_model(name_or_path)),
        "sets": sets,
        "retention_sets": list(named_sets(evaluation.retention_sets, "retention_sets")),
        "problems": vars(problem_args),
        "sampling": vars(SamplingParameters.of(sampling)),
        "chat_template_kwargs": sampling.chat_template_kwargs,
        "num_eval_generations": evaluation.num_eval_generations,
        "verifier": verifier.record,
        "seed": seed,
    }
    run = RunDirectory(directory, settings)
    if run.status == "finished":
        return {name: Evaluation.load(directory / f"{name}.json") for name in sets}
    problems = {name: problems_of(problem_args, held_out.get(name)) for name in sets}
    run.mark("started")
    engine = engine_options(estimation, is_trained_here=is_trained_here)
    generator = generator_of(name_or_path, sampling, **engine, **model_options(model, name_or_path))
    results = {
        name: evaluate_model(
            problems[name],
            generator,
            verifier,
            name=name,
            num_generations=evaluation.num_eval_generations,
            store=directory / f"{name}_completions",
            seed=seed,
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
    comparison: ComparisonArguments,
    problem_args: ProblemArguments,
    args: PacedConfig,
    estimation: EstimationArguments,
    evaluation: EvaluateArguments,
    verifier: Verifier,
) -> CurveSettings | None:
    """Return how arms are evaluated while they train, on all evaluation and retention sets; None for not at all."""
    from ..evaluation.curve_evaluation import CurveSettings

    if not comparison.curve_points:
        return None
    return CurveSettings(
        num_points=comparison.curve_points,
        problems={name: problems_of(problem_args, data) for name, data in held_out_sets(evaluation).items()},
        verifier=verifier,
        sampling=SamplingParameters.of(args),
        chat_template_kwargs=as_mapping(args.chat_template_kwargs),
        num_generations=comparison.num_curve_generations,
        batch_size=estimation.generation_batch_size,
        seed=args.seed,
    )


def evaluation_path(name_or_path: str | None, output_dir: str | None) -> Path:
    """Return where the evaluation of a model goes: OUTPUT_DIR/evaluation/<last part of the model's name>."""
    if output_dir is None:
        raise ValueError("`output_dir` is not given. Say where results go, e.g. `--output_dir runs/mine`.")
    return Path(output_dir) / "evaluation" / Path(require_model(name_or_path)).name


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
