"""The steps of a recipe from pass rates to a student: what it is trained on, and one distillation."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback

from ..estimation.pass_rates import estimate_pass_rates, read_pass_rates
from ..estimation.references import generate_references, judge_references
from ..evaluation.diagnosis import with_fitted_exponents
from ..generation.engines import closing_generator
from ..problems import ProblemSet
from ..processes import Processes
from ..publishing.provenance import PROVENANCE, write_provenance
from ..settings import FITTED
from ..store.store import PassRateStore
from ..training.config import PacedConfig
from ..training.dataset import MIN_TEACHER_ATTEMPTS, with_pass_rates
from ..training.preflight.self_teacher import check_self_teacher, sample_self_teacher
from ..training.run import Distilled, distill
from ..training.teacher_prompt import teacher_prompt
from ..training.trainer import PacedTrainer
from ..verification.verifier import Verifier
from .estimation_steps import published_pass_rates, warn_of_other_sampling, with_prior_features
from .recipe import Recipe


_TEACHER_COUNTS = {"num_passed": "teacher_num_passed", "num_valid": "teacher_num_valid"}


def training_problems(
    recipe: Recipe, problems: Dataset, verifier: Verifier | None, arms: Sequence[PacedConfig] = ()
) -> Dataset:
    """Join what training needs to the problems: measured pass rates, and references where a stage trains on them."""
    runs = arms or [recipe.training]
    path = recipe.pass_rates
    if has_own_pass_rates(recipe, problems):
        problems = with_prior_features(recipe, problems)
    elif recipe.published_pass_rates is not None or path.exists():
        if recipe.published_pass_rates is not None:
            table = published_pass_rates(recipe, problems)
        else:
            store = PassRateStore(path)
            warn_of_other_sampling(recipe, store.record)
            table = read_pass_rates(problems, store)
        problems = with_pass_rates(problems, table)
        _check_measured(problems, path)
        problems = with_prior_features(recipe, problems)
    elif any(run.uses_pass_rates for run in runs):
        raise ValueError(
            f"There are no pass rates in {str(path)!r}, so problems cannot be weighted. Run `paced-trl estimate` with "
            "the same configuration first, name them with `--pass_rates` or, as a column of the data, with "
            "`--pass_rate_column`, or set `--weighting uniform`."
        )
    if any("dataset" in run.completion_sources for run in runs):
        problems = with_references(recipe, problems, verifier)
    return problems


def has_own_pass_rates(recipe: Recipe, problems: Dataset) -> bool:
    """Return whether problems are weighted by columns of the data: named by a setting, or there and none measured."""
    columns = ("problem_weight", "pass_rate", "num_passed")
    if any(getattr(recipe.data, f"{name}_column") for name in columns):
        return True
    is_measured = recipe.published_pass_rates is not None or recipe.pass_rates.exists()
    return not is_measured and bool(set(columns) & set(problems.column_names))


def with_references(recipe: Recipe, problems: Dataset, verifier: Verifier | None) -> Dataset:
    """Let the teacher write the column `reference`, where the data have none."""
    args = recipe.training
    if "reference" in problems.column_names:
        return judge_references(problems, verifier, unsolved=recipe.references.unsolved)
    if args.self_distillation != "none":
        raise ValueError(
            f"`kl` is {args.kl!r}, which trains on references; the data have none, and with `self_distillation` "
            "there is no teacher to write them. Set `kl: reverse`, or name a column with `--reference_column`."
        )
    if verifier is None:
        raise ValueError(
            f"`kl` is {args.kl!r}, which trains on references; the data have none, and without a `verifier` the "
            "teacher's completions cannot be checked. Set `verifier`, or name a column with `--reference_column`."
        )
    with closing_generator(recipe.teacher(prompts=problems["prompt"])) as teacher:
        references = generate_references(
            ProblemSet(problems, recipe.prompt_settings),
            teacher,
            verifier,
            store=recipe.reference_store,
            num_attempts=recipe.references.num_reference_attempts,
            unsolved=recipe.references.unsolved,
            seed=args.seed,
        )
    if Processes.current().is_main:
        references.to_parquet(recipe.reference_store.with_suffix(".parquet"))
    return references


def check_self_distillation(recipe: Recipe, problems: Dataset, verifier: Verifier | None) -> None:
    """Before training, compare a student that teaches itself with itself in the teacher's place, and show both."""
    args, num_problems = recipe.training, recipe.references.self_teacher_problems
    if args.self_distillation == "none" or num_problems == 0:
        return
    if verifier is None:
        warnings.warn(
            "`self_distillation` is set without a `verifier`, so whether `privileged_context` makes the student a "
            "better teacher is not checked. Name one, or set `self_teacher_problems: 0`.",
            stacklevel=2,
        )
        return
    contexts = zip(problems["prompt"], problems["privileged_context"], strict=True)
    taught = [teacher_prompt(prompt, context, args.privileged_template) for prompt, context in contexts]
    sample = sample_self_teacher(
        problems,
        lambda: recipe.student(prompts=[*problems["prompt"], *taught]),
        verifier,
        student=str(recipe.model.model_name_or_path),
        template=args.privileged_template,
        store=recipe.output_dir / "self_teacher",
        num_problems=num_problems,
        seed=args.seed,
    )
    if Processes.current().is_main:
        print(sample)
    check_self_teacher(sample, force=recipe.references.force)


def check_teacher_gate(recipe: Recipe, args: PacedConfig, problems: Dataset) -> None:
    """Refuse to weight by pass rates of a teacher that cannot be measured."""
    if args.weighting != "teacher_gate" or set(_TEACHER_COUNTS.values()) <= set(problems.column_names):
        return
    attempts, given = recipe.references.num_reference_attempts, "`weighting` is 'teacher_gate'"
    if attempts < MIN_TEACHER_ATTEMPTS:
        raise ValueError(
            f"`num_reference_attempts` is {attempts}, and {given}, which weights by how often the teacher passes: one "
            f"attempt makes no rate. {MIN_TEACHER_ATTEMPTS} are needed, and 4 or more tell rates apart, e.g. "
            "`--num_reference_attempts 4`."
        )
    if recipe.verification.verifier is None:
        raise ValueError(f"{given}, and there is no `verifier` to judge the teacher. Name one.")
    if args.teacher_model_name_or_path is None:
        raise ValueError(f"{given}, and there is no `teacher_model_name_or_path` to measure. Name one.")


def with_teacher_pass_rates(
    recipe: Recipe, args: PacedConfig, problems: Dataset, verifier: Verifier | None
) -> Dataset:
    """Add how often the teacher passes each problem, where problems are weighted by it."""
    if args.weighting != "teacher_gate" or set(_TEACHER_COUNTS.values()) <= set(problems.column_names):
        return problems
    assert verifier is not None  # `check_teacher_gate`
    with closing_generator(recipe.teacher(prompts=problems["prompt"])) as teacher:
        table = estimate_pass_rates(
            ProblemSet(problems, recipe.prompt_settings),
            teacher,
            verifier,
            store=recipe.output_dir / "teacher_pass_rates",
            num_generations=recipe.references.num_reference_attempts,
            seed=recipe.training.seed,
        )
    for name, column in _TEACHER_COUNTS.items():
        problems = problems.add_column(column, table[name][:])
    return problems


def fit_exponents(recipe: Recipe, args: PacedConfig, problems: Dataset) -> PacedConfig:
    """Return settings whose exponents are numbers; the arms and seeds of a comparison share one fit."""
    if FITTED not in (args.weight_alpha, args.weight_beta):
        return args
    seed = args.seed
    args = with_fitted_exponents(
        dataclasses.replace(args, beta=None, seed=recipe.training.seed),
        recipe.model_config,
        problems,
        output_dir=recipe.output_dir,
    )
    return dataclasses.replace(args, beta=None, seed=seed)


def train_student(
    recipe: Recipe,
    args: PacedConfig,
    problems: Dataset,
    verifier: Verifier | None,
    validation: Dataset | dict[str, Dataset] | None,
    callbacks: Callable[[PacedTrainer], Sequence[TrainerCallback]] | None = None,
    *,
    may_extend: bool = False,
) -> Distilled:
    """Distill with these settings, those of the recipe or of one arm, and record where the run comes from."""
    args = fit_exponents(recipe, args, problems)
    problems = with_teacher_pass_rates(recipe, args, problems, verifier)
    distilled = distill(
        args,
        recipe.model_config,
        problems,
        verifier=verifier,
        validation=validation,
        callbacks=callbacks,
        may_extend=may_extend,
    )
    if Processes.current().is_main and not (distilled.path / PROVENANCE).exists():
        measuring = ("num_generations", "allocation", "target_error", "pass_rates")
        teaching = ("references", "num_reference_attempts", "unsolved")
        write_provenance(
            distilled.path,
            student=recipe.model.model_name_or_path,
            teacher=recipe.training.teacher_model_name_or_path,
            problems=recipe.data.record(as_chat=recipe.as_chat),
            pass_rates={name: getattr(recipe.estimation, name) for name in measuring},
            references={name: getattr(recipe.references, name) for name in teaching},
            prompts=problems["prompt"][:64],
        )
    return distilled


def shared_tokens(recipe: Recipe) -> dict[str, int]:
    """Return how many tokens the stores hold that are made once for all arms of a comparison, by what for."""
    stores = {
        "estimation": recipe.pass_rates,
        "references": recipe.reference_store,
        "teacher_pass_rates": recipe.output_dir / "teacher_pass_rates",
    }
    return {
        what: sum(PassRateStore(path).completions(columns=["num_tokens"])["num_tokens"].to_pylist())
        for what, path in stores.items()
        if (path / "manifest.json").exists()
    }


def _check_measured(problems: Dataset, path: Path) -> None:
    """Refuse problems none of which has a pass rate in the store at `path`; warn where some have none."""
    num_unmeasured = sum(num_valid == 0 for num_valid in problems["num_valid"])
    if num_unmeasured == len(problems):
        raise ValueError(
            f"None of the {len(problems)} problems has a pass rate in {str(path)!r}, so there are no weights: other "
            "problems were measured, or with other prompt options. Run `paced-trl estimate` with this configuration."
        )
    if num_unmeasured:
        warnings.warn(
            f"{num_unmeasured} of {len(problems)} problems have no pass rate in {str(path)!r} (not measured, or the "
            "gold is unusable) and get weight 0.",
            stacklevel=2,
        )
