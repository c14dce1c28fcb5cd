"""`paced-trl train`: distill the teacher into the student, weighted by measured pass rates."""

from __future__ import annotations

from collections.abc import Sequence

from ..arguments import EstimationArguments, ProblemArguments, TrainArguments
from .parsing import entry_point, parse


_DESCRIPTION = """\
Distill a teacher into a student with PACED problem weights: forward KL on the teacher's verified completions, then
reverse KL on the student's own. Every option of TRL's DistillationTrainer works; `beta` is chosen by name with --kl.

  paced-trl train --config recipes/demo/recipe.yaml
  paced-trl train --config recipes/demo/recipe.yaml --weighting uniform --output_dir runs/uniform
  accelerate launch --config_file recipes/accelerate/single_gpu.yaml -m paced_trl.commands.train --config X.yaml

Measure pass rates first, with `paced-trl estimate` and the same file. With --validation_set and --eval_strategy,
mean@k of held-out problems is logged while it trains. Ctrl-C stops after the current step with a checkpoint; the same
command continues.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, join the data, distill, print."""
    from trl import ModelConfig

    from ..config import PacedConfig

    problem_args, train_args, estimation, args, model_args = parse(
        "train",
        [ProblemArguments, TrainArguments, EstimationArguments, PacedConfig, ModelConfig],
        arguments,
        description=_DESCRIPTION,
    )
    from contextlib import nullcontext

    from ..distillation import distill
    from ..processes import Processes
    from ..recipe import problems_of, training_problems, validation_problems, verifier_of

    with verifier_of(args) if args.verifier else nullcontext() as verifier:
        problems = problems_of(problem_args)
        held_out = validation_problems(problem_args, train_args, args, problems)
        problems = training_problems(problems, args, train_args, estimation, verifier)
        distilled = distill(args, model_args, problems, verifier=verifier, validation=held_out)
    processes = Processes.current()
    if processes.is_main:
        print(f"Student {'reused, it was finished' if distilled.reused else 'saved'}: {distilled.path}")
    processes.leave()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("train", run, arguments)


if __name__ == "__main__":
    main()
