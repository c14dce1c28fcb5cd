"""`paced-trl plan`: GPU memory, disk, tokens and hours of a run, before anything downloads."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import EstimationArguments, PlanArguments, ProblemArguments, TrainArguments, require_model
from .parsing import entry_point, parse


_DESCRIPTION = """\
Say what a run will take, item by item, whether it fits a card, and what to change where it does not.

  paced-trl plan --config recipes/qwen3-0.6b-from-qwen3-4b-gsm8k/train.yaml --card 8 --num_problems 7473
  paced-trl plan --config X.yaml --card 24 --output_dir runs/mine --prompt_tokens 400

Of models only their config.json is read. Memory is counted on the real modules, run without contents (within 15 % of
what was measured on CPUs; no GPU was at hand). Hours come from the card's data sheet and assumed efficiencies.
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, count, print."""
    from trl import ModelConfig

    from ..training.config import PacedConfig

    problem_args, train_args, estimation, plan_args, args, model_args = parse(
        "plan",
        [ProblemArguments, TrainArguments, EstimationArguments, PlanArguments, PacedConfig, ModelConfig],
        arguments,
        description=_DESCRIPTION,
    )
    from transformers import AutoConfig

    from ..generation.models import resolve_model_path
    from ..training.memory import config_key
    from ..training.plan import RunShape, report

    def config_of(name: str, revision: str | None) -> str:
        config = AutoConfig.from_pretrained(
            resolve_model_path(name), revision=revision or "main", trust_remote_code=args.trust_remote_code
        )
        return config_key(config)

    teacher = None
    if args.self_distillation == "none":
        name = require_model(args.teacher_model_name_or_path, "teacher_model_name_or_path")
        teacher = config_of(name, args.teacher_model_revision)
    shape = RunShape(
        student=config_of(require_model(model_args.model_name_or_path), model_args.model_revision),
        teacher=teacher,
        args=args,
        model_args=model_args,
        estimation=estimation,
        train=train_args,
        plan=plan_args,
        num_problems=_count_problems(problem_args, plan_args),
        writes_references="dataset" in args.completion_sources and problem_args.reference_column is None,
    )
    print(report(shape))


def _count_problems(problem_args: ProblemArguments, plan_args: PlanArguments) -> int:
    if plan_args.num_problems is not None:
        return plan_args.num_problems
    from pathlib import Path

    from .recipe import problems_of

    name = problem_args.dataset_name or ""
    if not (Path(name).exists() or name.startswith("reasoning_gym:")):
        raise ValueError(
            f"`dataset_name` is {name!r}, which is not on this disk, so its problems cannot be counted without a "
            "download. Say how many there are with `--num_problems`."
        )
    return len(problems_of(problem_args))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("plan", run, arguments)


if __name__ == "__main__":
    main()
