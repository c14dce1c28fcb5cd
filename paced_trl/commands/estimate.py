"""`paced-trl estimate`: measure how often the student passes each problem."""

from __future__ import annotations

from collections.abc import Sequence

from ..arguments import (
    EstimationArguments,
    ModelArguments,
    OutputArguments,
    ProblemArguments,
    SamplingArguments,
    VerifierArguments,
)
from .parsing import entry_point, parse


_DESCRIPTION = """\
Let the student answer every problem NUM_GENERATIONS times, judge the completions, and keep them in a store.

  paced-trl estimate --config recipes/demo/recipe.yaml
  paced-trl estimate --model_name_or_path ./student --dataset_name problems.jsonl --output_dir runs/mine \\
      --prompt_column question --solution_column answer --verifier math --num_generations 8
  paced-trl estimate --model_name_or_path ./student --output_dir runs/sums --verifier reasoning_gym \\
      --dataset_name 'reasoning_gym:chain_sum?size=500&seed=0&max_terms=3'

Stopped or killed, the same command continues: no completion is generated twice.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, estimate, print."""
    problems, model, sampling, estimation, verifier_args, output = parse(
        "estimate",
        [ProblemArguments, ModelArguments, SamplingArguments, EstimationArguments, VerifierArguments, OutputArguments],
        arguments,
        description=_DESCRIPTION,
    )
    from ..estimation import summarize_pass_rates
    from ..recipe import estimate_student, pass_rates_path, problems_of, verifier_of

    store = pass_rates_path(estimation, output.output_dir)
    with verifier_of(verifier_args) as verifier:
        table = estimate_student(problems_of(problems), model, sampling, estimation, verifier, store)
    print(summarize_pass_rates(table))
    print(f"Pass rates of {len(table)} problems: {store}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("estimate", run, arguments)


if __name__ == "__main__":
    main()
