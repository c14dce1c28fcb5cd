"""`paced-trl compare`: train several arms with the same budget and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import run_command
from .recipe import Recipe


if TYPE_CHECKING:
    from ..evaluation.comparison import Comparison


_DESCRIPTION = """\
Train several arms on the same problems, references, steps, data order and seeds, and compare them with a control.

  paced-trl compare --config recipes/demo/recipe.yaml
  paced-trl compare --config recipes/demo/recipe.yaml --arms uniform paced --seeds 0 1 2 --output_dir runs/two-arms
  paced-trl compare --config recipes/demo/recipe.yaml --arms sqrt akl --seeds 0 1 2 --output_dir runs/two-arms
  accelerate launch --num_processes 8 -m paced_trl.commands.compare --config recipe.yaml

Pass rates and references are made once. Arms of an earlier comparison in OUTPUT_DIR stay, and what is finished is
reused, so arms and seeds can be added later; stopped or killed, the same command continues. Evaluations on the way
(--curve_points) give learning curves and the path of accuracy and retention; they change nothing of the training and
are not in its time and tokens.
Writes comparison.json (all runs), results.json (the numbers of the tables), comparison.md, figures, report.html.
"""


def run(arguments: Sequence[str]) -> None:
    recipe = Recipe.parse("compare", arguments, description=_DESCRIPTION)
    args, output_dir = recipe.training, recipe.output_dir
    if args.push_to_hub:
        raise ValueError(
            "`push_to_hub` is set, but a comparison trains many students, and which one is to be published it cannot "
            "know. Leave it out, and publish the one you choose afterwards: `paced-trl publish --run "
            f"{output_dir / 'arms'}/ARM --repo USER/NAME`."
        )
    from ..evaluation.arms import arm_config, budget_of, pays_for_estimation
    from ..evaluation.curve_evaluation import CurveEvaluation
    from ..evaluation.evaluation import Evaluation
    from ..evaluation.run_comparison import arms_so_far, check_selection, run_comparison
    from ..processes import Processes
    from ..training.config import refuse_sharding
    from ..training.preflight.before_loading import check_run
    from ..training.run import Distilled
    from . import training_steps as steps
    from .estimation_steps import describe_pass_rates, estimate_student
    from .evaluation_steps import curve_settings, evaluate_sets

    recipe.comparison.complete(args, arms_so_far(output_dir))
    check_selection(recipe.comparison.select_on, list(recipe.eval_sets()))
    if recipe.comparison.curve_points > 0:
        refuse_sharding(args, f"`curve_points` is {recipe.comparison.curve_points}", "Set `curve_points` to 0")
    with recipe.verifier() as verifier, recipe.verifier_by_set() as by_set:
        problems = recipe.problems()
        check_run(args, recipe.model_config, problems)
        arms = {
            name: arm_config(args, settings, str(output_dir))
            for name, settings in recipe.comparison.settings_by_arm.items()
        }
        for arm in arms.values():
            steps.check_teacher_gate(recipe, arm, problems)
        held_out = recipe.validation_problems(problems)
        curve = curve_settings(recipe, verifier, by_set)
        processes = Processes.current()
        if not steps.has_own_pass_rates(recipe, problems):
            table = estimate_student(recipe, problems, verifier)
            processes.wait()
            if processes.is_main:
                print(describe_pass_rates(recipe, problems, table))
        if processes.is_main and recipe.trained_engine != recipe.estimation.engine:
            print(
                f"Arms and base student are evaluated with `engine: {recipe.trained_engine}`: "
                f"`{recipe.estimation.engine}` cannot load what is trained here."
            )
        data = steps.training_problems(recipe, problems, verifier, list(arms.values()))
        steps.check_self_distillation(recipe, data, verifier)

        gated = data  # the other arms' data stay what they were when such an arm is added later
        for arm in arms.values():  # refused before the first arm trains
            steps.fit_exponents(recipe, arm, data)
            gated = steps.with_teacher_pass_rates(recipe, arm, gated, verifier)
        shared = steps.shared_tokens(recipe)
        counted = shared.get("estimation", 0) if recipe.comparison.count_estimation else 0
        paying = []
        for name, arm in arms.items():
            budget_of(arm, counted)  # refused before the first arm trains
            paying += [name] if counted and pays_for_estimation(arm) else []

        def train(settings: dict[str, Any], directory: Path) -> Distilled:
            arm = arm_config(args, settings, str(directory))
            arm.token_budget = budget_of(arm, counted)
            on_the_way = None if curve is None else lambda trainer: [CurveEvaluation(curve, trainer)]
            trained_on = gated if arm.weighting == "teacher_gate" else data
            return steps.train_student(recipe, arm, trained_on, verifier, held_out, on_the_way)

        def evaluate(name_or_path: str | None, directory: Path) -> dict[str, Evaluation]:
            return evaluate_sets(
                recipe, verifier, directory, verifier_by_set=by_set, name_or_path=name_or_path, beside_trained=True
            )

        comparison = run_comparison(
            output_dir,
            recipe.comparison,
            list(recipe.eval_sets()),
            list(recipe.retention_sets()),
            train=train,
            evaluate=evaluate,
            shared_tokens=shared,
            paying=paying,
        )
    if processes.is_main:
        _show(comparison, output_dir)
    processes.leave()


def _show(comparison: Comparison, output_dir: Path) -> None:
    """Write and print the tables, draw the figures."""
    from rich.console import Console

    from ..evaluation import tables
    from ..report import write_report
    from ..run_directory import write_json

    comparison = comparison.selected()
    write_json(output_dir / "results.json", comparison.results())
    (output_dir / "comparison.md").write_text(tables.comparison_markdown(comparison))
    rows, costs = tables.comparison_rows(comparison), ["arm", *tables.COST_COLUMNS, "train"]
    # One table in the files; a terminal is too narrow for it.
    results = [{name: cell for name, cell in row.items() if name not in costs[1:]} for row in rows]
    spent = [{name: row[name] for name in costs if name in row} for row in rows[1:]]
    table = tables.TerminalTables
    printed: list[Any] = [table(results), table(spent), tables.shared_costs(comparison)]
    if at_control := tables.curve_rows(comparison):
        printed += [tables.describe_curve_rows(comparison), table(at_control)]
    if powers := tables.power_rows(comparison):
        printed += [tables.describe_power_rows(comparison), table(powers)]
    for each in printed:
        Console().print(each)
    print(f"Report: {write_report(output_dir)}")


if __name__ == "__main__":
    run_command("compare")
