"""`paced-trl diagnose`: do gradients agree where the student passes sometimes?"""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .recipe import Recipe


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
    recipe = Recipe.parse("diagnose", arguments, description=_DESCRIPTION)
    from ..evaluation.diagnosis import diagnose
    from ..report import write_figure
    from ..report.draw_results import draw_gradient_snr
    from ..training.preflight.before_loading import check_run
    from .training_steps import training_problems

    with recipe.verifier_if_named() as verifier:
        problems = recipe.problems()
        check_run(recipe.training, recipe.model_config, problems)
        problems = training_problems(recipe, problems, verifier)
    result = diagnose(recipe.training, recipe.model_config, problems, **vars(recipe.diagnosis))
    print(result.summary())
    figure = write_figure(recipe.output_dir, "gradient_snr", lambda: draw_gradient_snr(result))
    print(f"Figure: {figure}")


if __name__ == "__main__":
    run_command("diagnose")
