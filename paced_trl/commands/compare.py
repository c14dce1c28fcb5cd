"""`paced-trl compare`: train several arms with the same budget and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..arguments import EstimationArguments, EvaluateArguments, ProblemArguments, TrainArguments
from ..comparison import ComparisonArguments
from .parsing import entry_point, parse


_DESCRIPTION = """\
Train several arms on the same problems, references, steps, data order and seeds, and compare them with a control.

  paced-trl compare --config recipes/demo/recipe.yaml
  paced-trl compare --config recipes/demo/recipe.yaml --seeds 0 1 2 --output_dir runs/demo-3-seeds

Pass rates and references are made once. Arms and seeds that are finished are reused; stopped or killed, the same
command continues. Writes comparison.json, comparison.md, figures and report.html.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, run every step for every arm, print the table."""
    from trl import ModelConfig

    from ..config import PacedConfig

    problem_args, train_args, estimation, evaluate_args, comparison_args, args, model_args = parse(
        "compare",
        [
            ProblemArguments,
            TrainArguments,
            EstimationArguments,
            EvaluateArguments,
            ComparisonArguments,
            PacedConfig,
            ModelConfig,
        ],
        arguments,
        description=_DESCRIPTION,
    )
    from rich.console import Console

    from ..comparison import arm_config, run_comparison
    from ..distillation import Distilled, distill
    from ..evaluation import Evaluation
    from ..recipe import (
        describe_pass_rates,
        estimate_student,
        evaluate_sets,
        named_sets,
        pass_rates_path,
        problems_of,
        record_provenance,
        training_problems,
        validation_problems,
        verifier_of,
    )
    from ..report import write_report
    from ..tables import as_markdown, as_rich, comparison_rows

    output_dir = Path(args.output_dir)
    with verifier_of(args) as verifier:
        problems = problems_of(problem_args)
        held_out = validation_problems(problem_args, train_args, args, problems)
        store = pass_rates_path(estimation, args.output_dir)
        table = estimate_student(problems, model_args, args, estimation, args, verifier, store)
        print(describe_pass_rates(problems, table, estimation, args, store))
        data = training_problems(problems, args, train_args, estimation, verifier)

        def train(settings: dict[str, Any], directory: Path) -> Distilled:
            arm = arm_config(args, settings, directory)
            distilled = distill(arm, model_args, data, verifier=verifier, validation=held_out)
            record_provenance(directory, problem_args, train_args, estimation, args, model_args)
            return distilled

        def evaluate(name_or_path: str | None, directory: Path) -> dict[str, Evaluation]:
            return evaluate_sets(
                model_args,
                problem_args,
                args,
                estimation,
                evaluate_args,
                verifier,
                directory,
                seed=args.seed,
                name_or_path=name_or_path,
            )

        comparison = run_comparison(
            output_dir,
            comparison_args,
            list(named_sets(evaluate_args.eval_sets, "eval_sets")),
            list(named_sets(evaluate_args.retention_sets, "retention_sets")),
            train=train,
            evaluate=evaluate,
        )
    rows = comparison_rows(comparison)
    (output_dir / "comparison.md").write_text(as_markdown(rows))
    Console().print(as_rich(rows))
    print(f"Report: {write_report(output_dir)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("compare", run, arguments)


if __name__ == "__main__":
    main()
