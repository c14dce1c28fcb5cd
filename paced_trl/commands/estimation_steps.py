"""The steps of a recipe up to pass rates: features of the prior, measuring, and what to say of the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..estimation.pass_rates import allocation_of, estimate_pass_rates
from ..estimation.published_pass_rates import load_pass_rates
from ..estimation.summary import precision_of, summarize_pass_rates
from ..generation.completions import Generator, SamplingParameters
from ..generation.engines import closing_generator
from ..problems import ProblemSet
from ..processes import Processes
from ..training.dataset import with_pass_rates
from ..verification.verifier import Verifier
from ..weighting.prior_features import SOLUTION_LOG_PROBABILITY, problem_features
from .recipe import Recipe


def estimate_student(recipe: Recipe, problems: Dataset, verifier: Verifier) -> Dataset:
    """Measure the student's pass rates, or read published ones; what the store holds is not generated again."""
    if recipe.published_pass_rates is not None:
        return published_pass_rates(recipe, problems)
    settings = recipe.estimation
    allocation = allocation_of(
        settings.allocation, settings.num_generations, settings.target_error, recipe.weights.weighting_arguments
    )
    recipe.check_prompts(problems)
    with closing_generator(recipe.student(prompts=problems["prompt"])) as generator:
        problems = with_prior_features(recipe, problems, generator)
        table = estimate_pass_rates(
            ProblemSet(problems, recipe.prompt_settings),
            generator,
            verifier,
            store=recipe.pass_rates,
            num_generations=recipe.estimation.num_generations,
            allocation=allocation or "fixed",
            prior_features=recipe.weights.prior_features,
            seed=recipe.sampling.seed,
        )
    if Processes.current().is_main:
        with_pass_rates(problems, table).to_parquet(recipe.pass_rates.with_suffix(".parquet"))
    return table


def published_pass_rates(recipe: Recipe, problems: Dataset) -> Dataset:
    """Return the pass rates of problems that a dataset on the Hub holds, as `estimate_pass_rates` returns them."""
    table, record = load_pass_rates(str(recipe.published_pass_rates), problems)
    warn_of_other_sampling(recipe, record)
    return table


def with_prior_features(recipe: Recipe, problems: Dataset, generator: Generator | None = None) -> Dataset:
    """Add the log-probability of each solution, if it is a feature of the prior and no column yet."""
    name = SOLUTION_LOG_PROBABILITY
    if name not in recipe.weights.prior_features or name in problems.column_names:
        return problems
    known = _measured_column(recipe.pass_rates.with_suffix(".parquet"), name)
    ids = problems["problem_id"][:]
    if all(problem_id in known for problem_id in ids):
        return problems.add_column(name, [known[problem_id] for problem_id in ids])
    if generator is None:
        advice = "Run `paced-trl estimate` with the same `prior_features` first."
        if recipe.published_pass_rates is not None:
            advice = "Published pass rates do not have it: measure your own, or leave the feature out."
        raise ValueError(f"`prior_features` has {name!r}, which was not measured for these problems. {advice}")
    from ..estimation.solution_likelihood import solution_log_probabilities

    values = solution_log_probabilities(problems, generator, progress=Processes.current().is_main)
    return problems.add_column(name, values)


def _measured_column(file: Path, name: str) -> dict[str, Any]:
    measured = Dataset.from_parquet(str(file)) if file.exists() else None
    if measured is None or name not in measured.column_names:
        return {}
    return dict(zip(measured["problem_id"][:], measured[name][:], strict=True))


def describe_pass_rates(recipe: Recipe, problems: Dataset, table: Dataset) -> str:
    """Say what a person should know of a table of pass rates: how they lie, what they cost, how exact they are."""
    text = summarize_pass_rates(table)
    if not any(table["num_valid"]):
        return text
    features = problem_features(with_prior_features(recipe, problems), recipe.weights.prior_features)
    weighting = recipe.weights.weighting_arguments
    return (
        f"{text}\n\n{precision_of(table, recipe.estimation.num_generations, weighting=weighting, features=features)}"
    )


def warn_of_other_sampling(recipe: Recipe, record: dict[str, Any]) -> None:
    """Warn where the student samples otherwise now than when its pass rates were measured."""
    measured = record.get("generator", {}).get("sampling", {})
    now = vars(SamplingParameters.of(recipe.sampling))
    differing = [
        f"`{name}` {measured[name]} and {now[name]}" for name in now if measured.get(name, now[name]) != now[name]
    ]
    if differing:
        warnings.warn(
            f"Pass rates were measured with other sampling parameters than are used now ({', '.join(differing)}), so "
            "they describe another policy than the one that is trained. Use one configuration for both.",
            stacklevel=2,
        )
