"""`paced-trl train`: distill the teacher into the student, weighted by measured pass rates."""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .recipe import Recipe


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
is not trained is forgotten. Ctrl-C stops after the current step with a checkpoint; the same command continues. A
larger --max_steps extends a finished run.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("train", arguments, description=_DESCRIPTION)
    from ..processes import Processes
    from ..publishing.hub import check_license
    from ..training.preflight.before_loading import check_run
    from .training_steps import check_self_distillation, check_teacher_gate, train_student, training_problems

    args, processes = recipe.training, Processes.current()
    repositories = None
    check_license(recipe.publishing.license)
    if args.push_to_hub and processes.is_main:
        from ..publishing.publish import check_before_training

        repositories = check_before_training(args, recipe.model_config, recipe.publishing)
    with recipe.verifier_if_named() as verifier:
        problems = recipe.problems()
        check_teacher_gate(recipe, args, problems)
        check_run(args, recipe.model_config, problems)
        held_out = recipe.validation_problems(problems)
        problems = training_problems(recipe, problems, verifier)
        check_self_distillation(recipe, problems, verifier)
        distilled = train_student(recipe, args, problems, verifier, held_out, may_extend=True)
    if processes.is_main:
        print(f"Student {'reused, it was finished' if distilled.reused else 'saved'}: {distilled.path}")
    if repositories:
        from ..publishing.publish import publish_run

        for url, is_new in publish_run(distilled.path, repositories, recipe.publishing):
            print(f"{'Published' if is_new else 'Unchanged'}: {url}")
    processes.leave()


if __name__ == "__main__":
    run_command("train")
