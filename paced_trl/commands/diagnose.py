"""`paced-trl diagnose`: do gradients agree where the student passes sometimes?"""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import DiagnoseArguments, EstimationArguments, ProblemArguments, TrainArguments
from .parsing import entry_point, parse


_DESCRIPTION = """\
Estimate the signal-to-noise ratio of gradients across problems, by how often the student passes them: the curve that
PACED's weight p^a (1-p)^b follows, on your own student and data, with intervals and the exponents that fit it best.

  paced-trl diagnose --config recipes/demo/recipe.yaml
  paced-trl diagnose --config recipes/demo/recipe.yaml --kl reverse --problems_per_pass_rate 100

Measure pass rates first, with `paced-trl estimate` and the same file. One gradient per problem, of the loss of the
run's first stage; with LoRA that of the adapter, else a random projection of the whole gradient. They are kept as they
come, and the same command continues. Writes gradient_snr.json and figures/gradient_snr.png.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, join the data, diagnose, print, draw."""
    from trl import ModelConfig

    from ..training.config import PacedConfig

    problem_args, train_args, estimation, diagnose_args, args, model_args = parse(
        "diagnose",
        [ProblemArguments, TrainArguments, EstimationArguments, DiagnoseArguments, PacedConfig, ModelConfig],
        arguments,
        description=_DESCRIPTION,
    )
    from contextlib import nullcontext

    from ..evaluation.diagnosis import diagnose
    from ..report import write_figure
    from ..report.snr_figure import draw_gradient_snr
    from .recipe import problems_of, verifier_of
    from .recipe_training import training_problems

    with verifier_of(args) if args.verifier else nullcontext() as verifier:
        problems = training_problems(problems_of(problem_args), args, train_args, estimation, verifier)
    result = diagnose(args, model_args, problems, **vars(diagnose_args))
    print(result.summary())
    print(f"Figure: {write_figure(args.output_dir, 'gradient_snr', lambda theme: draw_gradient_snr(result, theme))}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("diagnose", run, arguments)


if __name__ == "__main__":
    main()
