"""
How many generations adaptive allocation needs for the weights that eight of each problem give.

  python scripts/bench_allocation.py                                                        simulated pass rates
  python scripts/bench_allocation.py --config recipes/demo/recipe.yaml --features length    those of a real student

The mark of a distribution is the error of the plug-in weights p(1-p) with K = 8 against the true ones (root mean
square, mean-1 weights). Generations are drawn as the rule asks for them. "To reach the mark" is their average number
when the error first is at or below it; "own stop" is where the rule stops by itself, which knows no truth, with the
error it then has. For a real student, every problem is generated 64 times, the share that passed is taken for the true
pass rate, and generations are drawn from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from rich.console import Console
from rich.progress import track

from paced_trl.evaluation.tables import as_markdown
from paced_trl.weighting.allocation import SCREENING_GENERATIONS, AdaptiveAllocation
from paced_trl.weighting.counts import Floats
from paced_trl.weighting.prior import Prior, credible_intervals
from paced_trl.weighting.prior_features import fit_feature_prior, problem_features
from paced_trl.weighting.weights import problem_weights


NUM_PROBLEMS = 20_000
NUM_GENERATIONS = 8
TRUE_GENERATIONS = 64
ESTIMATORS: dict[str, dict[str, Any]] = {
    "posterior, no gate": {"estimator": "posterior", "gate": False},
    "posterior": {"estimator": "posterior"},
    "plugin": {"estimator": "plugin"},
    "unbiased": {"estimator": "unbiased"},
}


@dataclass
class Result:
    """One line of the table: averages per problem over the seeds."""

    pass_rates: str
    estimator: str
    features: str
    mark: float
    reached: float | None
    own_stop: float
    error: float
    coverage: float


def simulated_pass_rates(rng: np.random.Generator) -> dict[str, Floats]:
    """Return the distributions of true pass rates by name."""
    kind = rng.random(NUM_PROBLEMS)
    mixture = np.where(kind < 0.4, 0.0, np.where(kind < 0.7, 1.0, rng.beta(2, 3, NUM_PROBLEMS)))
    shapes = ((0.4, 0.4), (0.3, 0.9), (1.0, 1.0), (0.2, 0.2))
    return {f"Beta({a}, {b})": rng.beta(a, b, NUM_PROBLEMS) for a, b in shapes} | {
        "0.4 at 0, 0.3 at 1, 0.3 Beta(2, 3)": mixture
    }


def spend(rates: Floats, weighting: dict[str, Any], features: Floats, seed: int) -> dict[str, float]:
    """Let the rule spend generations on problems with these pass rates, past its own stop up to the mark."""
    rng = np.random.default_rng([seed, 1])
    truth = rates * (1.0 - rates)
    truth /= truth.mean()
    passed = rng.binomial(NUM_GENERATIONS, rates)
    mark = error_of(problem_weights(passed, np.full(rates.size, NUM_GENERATIONS)), truth)
    outcomes = rng.random((rates.size, 8 * NUM_GENERATIONS)) < rates[:, None]
    cumulative = np.concatenate([np.zeros((rates.size, 1), np.int64), outcomes.cumsum(axis=1)], axis=1)
    rule = AdaptiveAllocation(NUM_GENERATIONS, weighting=weighting)
    # The same decisions, without a stop of its own before the budget.
    unstopped = AdaptiveAllocation(NUM_GENERATIONS, target_error=1e-9, weighting=weighting)
    usable = np.ones(rates.size, bool)
    targets = np.full(rates.size, SCREENING_GENERATIONS)
    prior: Prior | None = None
    found: dict[str, float] = {"mark": mark}
    fitted_at = 0
    while not {"reached", "own_stop"} <= found.keys():
        passed = cumulative[np.arange(rates.size), targets]
        if prior is None or rule.wants_new_prior(fitted_at, int(targets.sum())):
            prior, fitted_at = fit_feature_prior(passed, targets, features), int(targets.sum())
        error = error_of(problem_weights(passed, targets, prior=prior, **weighting), truth)
        following = unstopped.next_targets(targets, passed, targets, usable, prior)
        if error <= mark:
            found.setdefault("reached", float(targets.mean()))
        if "own_stop" not in found and rule.next_targets(targets, passed, targets, usable, prior) is None:
            low, high = credible_intervals(passed, targets, prior)
            covered = float(np.mean((low <= rates) & (rates <= high)))
            found |= {"own_stop": float(targets.mean()), "error": error, "coverage": covered}
        if following is None:
            found.setdefault("reached", float("nan"))
            break
        targets = following
    return found


def error_of(weights: Floats, truth: Floats) -> float:
    """Return the root mean square difference of mean-1 weights."""
    return float(np.sqrt(np.mean((weights - truth) ** 2)))


def summarized(name: str, estimator: str, features: str, runs: Sequence[dict[str, float]]) -> Result:
    """Average runs of several seeds; a mark that one of them did not reach was not reached."""
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    reached = means.pop("reached")
    return Result(name, estimator, features, reached=None if np.isnan(reached) else reached, **means)


def real_pass_rates(config: str, features: Sequence[str]) -> tuple[Floats, Dataset]:
    """Measure the student of a recipe and features with many generations, or read what was measured before."""
    from paced_trl.commands.estimation_steps import estimate_student, with_prior_features
    from paced_trl.commands.recipe import Recipe

    store = Path("runs/bench_allocation") / Path(config).parent.name / "pass_rates"
    arguments = ["--config", config, "--num_generations", str(TRUE_GENERATIONS), "--pass_rates", str(store)]
    recipe = Recipe.parse(
        "estimate", [*arguments, *(["--prior_features", *features] if features else [])], description=""
    )
    problems = recipe.problems()
    with recipe.verifier() as verifier:
        table = estimate_student(recipe, problems, verifier)
    return np.asarray(table["pass_rate"][:]), with_prior_features(recipe, problems)


def as_rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return the lines of the table."""
    return [
        {
            "pass rates": result.pass_rates,
            "estimator": result.estimator,
            "features": result.features,
            "mark": f"{result.mark:.3f}",
            "to reach the mark": "over 8" if result.reached is None else f"{result.reached:.2f}",
            "own stop": f"{result.own_stop:.2f}",
            "error there": f"{result.error:.3f}",
            "coverage there": f"{result.coverage:.1%}",
        }
        for result in results
    ]


def main() -> None:
    """Simulate, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="Recipe of a student to measure; without it, simulated pass rates only.")
    parser.add_argument(
        "--features", nargs="*", default=["prompt_length"], help="Sets of features to try, each `name[,name...]`."
    )
    parser.add_argument("--seeds", type=int, default=3, help="Seeds 0 to N - 1.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    args = parser.parse_args()
    results = []
    if args.config:
        sets = {names: names.split(",") for names in args.features}
        rates, problems = real_pass_rates(args.config, sorted({name for names in sets.values() for name in names}))
        tables = {"none": np.zeros((rates.size, 0))}
        tables |= {label: problem_features(problems, names) for label, names in sets.items()}
        for estimator, weighting in track(ESTIMATORS.items(), description="A real student"):
            for name, features in tables.items():
                runs = [spend(rates, weighting, features, seed) for seed in range(args.seeds)]
                results.append(summarized(args.config, estimator, name, runs))
    else:
        none = np.zeros((NUM_PROBLEMS, 0))
        by_seed = [simulated_pass_rates(np.random.default_rng([seed, 0])) for seed in range(args.seeds)]
        for name in track(list(by_seed[0]), description="Simulated pass rates"):
            for estimator, weighting in ESTIMATORS.items():
                runs = [spend(by_seed[seed][name], weighting, none, seed) for seed in range(args.seeds)]
                results.append(summarized(name, estimator, "none", runs))
    Console(width=160).print(as_markdown(as_rows(results)), markup=False, highlight=False)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
