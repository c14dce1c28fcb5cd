"""`paced-trl evaluate`: accuracy with intervals on held-out and retention problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import run_command
from .recipe import Recipe


_DESCRIPTION = """\
Sample NUM_EVAL_GENERATIONS completions per held-out problem, judge them, and print mean@k with a bootstrap interval.

  paced-trl evaluate --config recipes/demo/recipe.yaml
  paced-trl evaluate --config recipes/demo/recipe.yaml --model_name_or_path runs/demo \\
      --baseline runs/demo/evaluation/student
  paced-trl evaluate --model_name_or_path ./student --eval_sets test=test.jsonl --retention_sets facts=facts.jsonl \\
      --verifier exact --output_dir runs/mine

  paced-trl evaluate --config recipes/evaluate/math.yaml --model_name_or_path org/student --output_dir runs/student

Shows mean@k, pass@k, maj@k (where the verifier can tell which answers agree), length and the share that was cut off.
A directory with an adapter is evaluated with its base model. Results go to OUTPUT_DIR/evaluation/<name of the model>.
With --baseline the difference is paired problem by problem. For the sets of the public harnesses see
recipes/evaluate/README.md.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("evaluate", arguments, description=_DESCRIPTION)
    from rich.console import Console

    from ..evaluation.tables import TerminalTables, evaluation_rows
    from ..processes import Processes
    from ..report.contents import BASELINES
    from ..run_directory import write_json
    from .evaluation_steps import evaluate_sets, evaluation_path, load_evaluations

    directory = evaluation_path(recipe)
    baselines = [load_evaluations(Path(path)) for path in recipe.evaluation.baseline]
    with recipe.verifier() as verifier, recipe.verifier_by_set() as by_set:
        results = evaluate_sets(recipe, verifier, directory, verifier_by_set=by_set)
    processes = Processes.current()
    if processes.is_main:
        if baselines:
            write_json(directory / BASELINES, recipe.evaluation.baseline)  # `paced-trl report` looks there
        Console().print(TerminalTables(evaluation_rows(results, baselines)))
        print(f"Evaluation: {directory}")
    processes.leave()


if __name__ == "__main__":
    run_command("evaluate")
