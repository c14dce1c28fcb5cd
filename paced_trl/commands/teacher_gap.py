"""`paced-trl teacher-gap`: what 4 bits change in the teacher, on your own references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import EstimationArguments, ProblemArguments, TeacherGapArguments, TrainArguments, as_mapping
from .parsing import entry_point, parse


_DESCRIPTION = """\
Measure how far the teacher in 4 bits (`teacher_load_in_4bit`) is from the full one: KL(full || 4 bits) in nats per
token, and the share of tokens for which both find the same one likeliest, with 95 % intervals over references.

  paced-trl teacher-gap --config recipes/qwen3-0.6b-from-qwen3-4b-gsm8k/train.yaml
  paced-trl teacher-gap --config X.yaml --num_gap_references 200 --output_dir runs/mine

References are those of the run: the data's own column, or the teacher's verified completions, made now if there are
none yet. One of the two teachers is in memory at a time; several processes, one per GPU, share the references. Writes
OUTPUT_DIR/teacher_gap.json.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, take the references, compare, print."""
    from trl import ModelConfig

    from ..training.config import PacedConfig

    problem_args, train_args, estimation, gap_args, args, _ = parse(
        "teacher-gap",
        [ProblemArguments, TrainArguments, EstimationArguments, TeacherGapArguments, PacedConfig, ModelConfig],
        arguments,
        description=_DESCRIPTION,
    )
    from contextlib import nullcontext

    from ..evaluation.teacher_gap import save_teacher_gap, teacher_gap
    from ..processes import Processes
    from .recipe import generator_of, problems_of, verifier_of
    from .recipe_training import with_references

    with verifier_of(args) if args.verifier else nullcontext() as verifier:
        problems = with_references(problems_of(problem_args), args, train_args, estimation, verifier)
    options = as_mapping(args.teacher_model_init_kwargs)

    def load(in_4bit: bool) -> Any:
        return generator_of(
            args.teacher_model_name_or_path,
            args,
            batch_size=estimation.generation_batch_size,
            revision=args.teacher_model_revision,
            trust_remote_code=args.trust_remote_code,
            load_in_4bit=in_4bit,
            **{key: options[key] for key in ("dtype", "attn_implementation") if key in options},
        )

    gap = teacher_gap(
        load,
        problems,
        num_references=gap_args.num_gap_references,
        max_completion_length=args.max_completion_length,
        seed=args.seed,
    )
    processes = Processes.current()
    if processes.is_main:
        print(gap.summary())
        print(f"Numbers: {save_teacher_gap(gap, Path(args.output_dir))}")
    processes.leave()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("teacher-gap", run, arguments)


if __name__ == "__main__":
    main()
