"""`paced-trl plan`: GPU memory, disk, tokens and hours of a run, before anything downloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import require_model
from . import run_command
from .recipe import Recipe


if TYPE_CHECKING:
    from ..training.plan import RunShape


_DESCRIPTION = """\
Say what a run will take, item by item, whether it fits a card, and what to change where it does not.

  paced-trl plan --config recipes/qwen3-0.6b-from-qwen3-4b-gsm8k/recipe.yaml --card 8 --num_problems 7473
  paced-trl plan --config X.yaml --card 24 --output_dir runs/mine --prompt_tokens 400

Of models only their config.json is read. Memory is counted on the real modules, run without contents (within 15 % of
what was measured on CPUs; no GPU was at hand). Hours are given where you give the rates that you measured, or the
file that scripts/check_gpu.py wrote on that card.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("plan", arguments, description=_DESCRIPTION)
    from ..training.plan import report, with_measured_rates

    print(report(with_measured_rates(planned_run(recipe))))


def planned_run(recipe: Recipe) -> RunShape:
    """Return what there is to count of a recipe's run; reads the configurations of its models."""
    from transformers import AutoConfig

    from ..generation.models import resolve_model_path
    from ..training.memory import config_key
    from ..training.plan import RunShape

    args, model = recipe.training, recipe.model_config

    def config_of(name: str, revision: str | None) -> str:
        config = AutoConfig.from_pretrained(
            resolve_model_path(name), revision=revision or "main", trust_remote_code=args.trust_remote_code
        )
        return config_key(config)

    teacher = None
    if args.self_distillation == "none":
        name = require_model(args.teacher_model_name_or_path, "teacher_model_name_or_path")
        teacher = config_of(name, args.teacher_model_revision)
    return RunShape(
        student=config_of(require_model(model.model_name_or_path), model.model_revision),
        teacher=teacher,
        args=args,
        model_args=model,
        estimation=recipe.estimation,
        train=recipe.references,
        plan=recipe.plan,
        num_problems=_count_problems(recipe),
        writes_references="dataset" in args.completion_sources and recipe.data.reference_column is None,
    )


def _count_problems(recipe: Recipe) -> int:
    if recipe.plan.num_problems is not None:
        return recipe.plan.num_problems
    name = recipe.data.dataset_name or ""
    if not (Path(name).exists() or name.startswith("reasoning_gym:")):
        raise ValueError(
            f"`dataset_name` is {name!r}, which is not on this disk, so its problems cannot be counted without a "
            "download. Say how many there are with `--num_problems`."
        )
    # As text: whether prompts become chats is for the tokenizer to say, which may have to be downloaded.
    return len(recipe.load(name, as_chat=False))


if __name__ == "__main__":
    run_command("plan")
