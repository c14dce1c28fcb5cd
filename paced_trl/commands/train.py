"""`paced-trl train`: distill the teacher into the student, weighted by measured pass rates."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import EstimationArguments, ProblemArguments, PublishArguments, TrainArguments
from .parsing import entry_point, parse


_DESCRIPTION = """\
Distill a teacher into a student with PACED problem weights: forward KL on the teacher's verified completions, then
reverse KL on the student's own. Every option of TRL's DistillationTrainer works; `beta` is chosen by name with --kl.

  paced-trl train --config recipes/demo/recipe.yaml
  paced-trl train --config recipes/demo/recipe.yaml --weighting uniform --output_dir runs/uniform
  accelerate launch --config_file recipes/accelerate/single_gpu.yaml -m paced_trl.commands.train --config X.yaml

  paced-trl train --config recipe.yaml --push_to_hub true --hub_model_id me/student-paced   # private

With push_to_hub, token and repository are checked first, and the finished student is published as `paced-trl publish`
does. Measure pass rates first, with `paced-trl estimate` and the same file. With --validation_set and --eval_strategy,
mean@k of held-out problems is logged while it trains; with --retention_set and --max_forgetting the run ends when what
is not trained is forgotten. Ctrl-C stops after the current step with a checkpoint; the same command continues.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, join the data, distill, print."""
    from trl import ModelConfig

    from ..training.config import PacedConfig

    problem_args, train_args, estimation, publish, args, model_args = parse(
        "train",
        [ProblemArguments, TrainArguments, EstimationArguments, PublishArguments, PacedConfig, ModelConfig],
        arguments,
        description=_DESCRIPTION,
    )
    from contextlib import nullcontext

    from ..processes import Processes
    from ..publishing.publish import check_before_training, publish_run
    from ..training.run import distill
    from .recipe import problems_of, validation_problems, verifier_of
    from .recipe_training import record_provenance, training_problems

    processes = Processes.current()
    repositories = None
    if args.push_to_hub and processes.is_main:
        repositories = check_before_training(args, model_args, publish)
    with verifier_of(args) if args.verifier else nullcontext() as verifier:
        problems = problems_of(problem_args)
        held_out = validation_problems(problem_args, train_args, args, problems)
        problems = training_problems(problems, args, train_args, estimation, verifier)
        distilled = distill(args, model_args, problems, verifier=verifier, validation=held_out)
    if processes.is_main:
        record_provenance(distilled.path, problem_args, train_args, estimation, args, model_args)
        print(f"Student {'reused, it was finished' if distilled.reused else 'saved'}: {distilled.path}")
    for url, is_new in publish_run(distilled.path, repositories, publish) if repositories else []:
        print(f"{'Published' if is_new else 'Unchanged'}: {url}")
    processes.leave()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("train", run, arguments)


if __name__ == "__main__":
    main()
