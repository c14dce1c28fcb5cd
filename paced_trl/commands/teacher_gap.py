"""`paced-trl teacher-gap`: what 4 bits change in the teacher, on your own references."""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .recipe import Recipe


_DESCRIPTION = """\
Measure how far the teacher in 4 bits (`teacher_load_in_4bit`) is from the full one: KL(full || 4 bits) in nats per
token, and the share of tokens for which both find the same one likeliest, with 95 % intervals over references.

  paced-trl teacher-gap --config recipes/qwen3-0.6b-from-qwen3-4b-gsm8k/recipe.yaml
  paced-trl teacher-gap --config X.yaml --num_gap_references 200 --output_dir runs/mine

References are those of the run: the data's own column, or the teacher's verified completions, made now if there are
none yet. One of the two teachers is in memory at a time; several processes, one per GPU, share the references. Writes
OUTPUT_DIR/teacher_gap.json.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("teacher-gap", arguments, description=_DESCRIPTION)
    from ..evaluation.teacher_gap import save_teacher_gap, teacher_gap
    from ..generation.models import check_four_bits
    from ..processes import Processes
    from .training_steps import with_references

    with recipe.verifier_if_named() as verifier:
        problems = recipe.problems()
        recipe.check_prompts(problems, of_teacher=True)
        check_four_bits()
        if "reference" not in problems.column_names:  # those of the data are compared on as they are
            problems = with_references(recipe, problems, verifier)
    gap = teacher_gap(
        lambda in_4bit: recipe.teacher(in_4bit=in_4bit),
        problems,
        num_references=recipe.gap.num_gap_references,
        max_completion_length=recipe.training.max_completion_length or 512,
        seed=recipe.training.seed,
    )
    processes = Processes.current()
    if processes.is_main:
        print(gap.summary())
        print(f"Numbers: {save_teacher_gap(gap, recipe.output_dir)}")
    processes.leave()


if __name__ == "__main__":
    run_command("teacher-gap")
