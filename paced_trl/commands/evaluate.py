"""`paced-trl evaluate`: accuracy with intervals on held-out and retention problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..settings import (
    EstimationArguments,
    EvaluateArguments,
    ModelArguments,
    OutputArguments,
    ProblemArguments,
    SamplingArguments,
    VerifierArguments,
    require_model,
)
from .parsing import entry_point, parse


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
With --baseline the difference is paired problem by problem. For standard sets the commands of lighteval (which loads
no adapters) and lm-eval are printed; they render prompts and read answers in their own ways.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print."""
    problem_args, model, sampling, estimation, evaluate_args, verifier_args, output = parse(
        "evaluate",
        [
            ProblemArguments,
            ModelArguments,
            SamplingArguments,
            EstimationArguments,
            EvaluateArguments,
            VerifierArguments,
            OutputArguments,
        ],
        arguments,
        description=_DESCRIPTION,
    )
    from rich.console import Console

    from ..evaluation.standard_sets import CHECKED_AGAINST, equivalent_commands
    from ..evaluation.tables import as_rich, evaluation_rows
    from ..processes import Processes
    from .recipe import held_out_sets, verifier_of
    from .recipe_evaluation import evaluate_sets, evaluation_path, load_evaluations

    directory = evaluation_path(model.model_name_or_path, output.output_dir)
    baselines = [load_evaluations(Path(path)) for path in evaluate_args.baseline]
    with verifier_of(verifier_args) as verifier:
        results = evaluate_sets(
            model, problem_args, sampling, estimation, evaluate_args, verifier, directory, seed=sampling.seed
        )
    processes = Processes.current()
    if processes.is_main:
        Console().print(as_rich(evaluation_rows(results, baselines)))
        print(f"Evaluation: {directory}")
        is_chat = bool(problem_args.as_chat or problem_args.system_prompt or problem_args.few_shot)
        commands = equivalent_commands(
            list(held_out_sets(evaluate_args).values()),
            require_model(model.model_name_or_path),
            as_chat=is_chat,
            max_completion_length=sampling.max_completion_length,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        for harness, command in commands.items():
            print(f"Also ({CHECKED_AGAINST[harness]}): {command}")
    processes.leave()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("evaluate", run, arguments)


if __name__ == "__main__":
    main()
