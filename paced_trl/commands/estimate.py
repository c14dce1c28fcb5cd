"""`paced-trl estimate`: measure how often the student passes each problem."""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .recipe import Recipe


_DESCRIPTION = """\
Let the student answer every problem NUM_GENERATIONS times, judge the completions, and keep them in a store.

  paced-trl estimate --config recipes/demo/recipe.yaml
  paced-trl estimate --model_name_or_path ./student --dataset_name problems.jsonl --output_dir runs/mine \\
      --prompt_column question --solution_column answer --verifier math --num_generations 8
  paced-trl estimate --model_name_or_path ./student --output_dir runs/sums --verifier reasoning_gym \\
      --dataset_name 'reasoning_gym:chain_sum?size=500&seed=0&max_terms=3'

  paced-trl estimate --config recipe.yaml --allocation adaptive --weight_estimator posterior --weight_gate false

  torchrun --nproc_per_node 4 -m paced_trl.commands.estimate --config recipe.yaml

Several processes, one per GPU (`accelerate launch` works too), share the problems and give the result of one.
Adaptive allocation asks twice, and then where the weights are still uncertain: fewer generations for the same weights.
Stopped or killed, the same command continues: no completion is generated twice.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("estimate", arguments, description=_DESCRIPTION)
    from ..processes import Processes
    from .estimation_steps import describe_pass_rates, estimate_student

    store = recipe.pass_rates
    with recipe.verifier() as verifier:
        problems = recipe.problems()
        table = estimate_student(recipe, problems, verifier)
    processes = Processes.current()
    if processes.is_main:
        print(describe_pass_rates(recipe, problems, table))
        print(f"Pass rates of {len(table)} problems: {store}")
    processes.leave()


if __name__ == "__main__":
    run_command("estimate")
