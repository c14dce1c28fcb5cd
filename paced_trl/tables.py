"""
Results as tables, for the terminal and for Markdown.

The words "better" and "worse" appear only where the interval of a paired difference excludes 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from .comparison import BASE, Comparison
from .evaluation import Difference, Evaluation, compare_runs


def describe(difference: Difference) -> str:
    """Return a difference with its interval, and "better" or "worse" only where the interval excludes 0."""
    text = f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if not difference.excludes_zero:
        return text
    return f"{text} {'better' if difference.estimate > 0 else 'worse'}"


def evaluation_rows(
    results: Mapping[str, Evaluation], baselines: Sequence[Mapping[str, Evaluation]] = ()
) -> list[dict[str, str]]:
    """
    Return one row per set: mean@k with its interval, pass@k, length, clipped ratio, and the difference to a baseline.

    Args:
        results (`Mapping[str, Evaluation]`): Evaluations of one model, by set.
        baselines (`Sequence[Mapping[str, Evaluation]]`, *optional*): Evaluations of the baseline, one per seed.
    """
    rows = []
    for name, result in results.items():
        low, high = result.mean_at_k_interval
        k = result.num_generations
        row = {
            "set": name,
            "problems": str(len(result.problem_ids)),
            "mean@k": f"{result.mean_at_k:.3f} [{low:.3f}, {high:.3f}] (k={k})",
            "pass@k": f"{result.pass_at(min(k, max(result.num_valid))):.3f}",
            "tokens": f"{result.mean_completion_length:.1f}",
            "clipped": f"{result.clipped_ratio:.1%}",
        }
        if baselines:
            against = [baseline[name] for baseline in baselines if name in baseline]
            row["- baseline"] = describe(compare_runs(result, against)) if against else ""
        rows.append(row)
    return rows


def comparison_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per arm: mean@k per set, and paired differences to the untouched student and to the control."""
    rows = []
    for arm in comparison.arms():
        runs = [run for run in comparison.runs if run.arm == arm]
        row = {"arm": arm, "seeds": "" if arm == BASE else str(len(runs))}
        for name in comparison.eval_sets:
            evaluations = comparison.evaluations(arm, name)
            mean = sum(evaluation.mean_at_k for evaluation in evaluations) / len(evaluations)
            row[f"{name} mean@{evaluations[0].num_generations}"] = f"{mean:.3f}"
            of_set = f"{name} " if len(comparison.eval_sets) > 1 else ""
            row[f"{of_set}- base"] = "" if arm == BASE else describe(comparison.difference(arm, BASE, name))
            compared = arm not in (BASE, comparison.control)
            row[f"{of_set}- {comparison.control}"] = (
                describe(comparison.difference(arm, comparison.control, name)) if compared else ""
            )
        for name in comparison.retention_sets:
            row[f"{name} (retention)"] = "" if arm == BASE else describe(comparison.difference(arm, BASE, name))
        seconds = [run.train_seconds for run in runs if run.train_seconds]
        row["train"] = f"{sum(seconds) / len(seconds):.0f} s" if seconds else ""
        rows.append(row)
    return rows


def as_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[key] for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_rich(rows: Sequence[Mapping[str, str]], **options: Any) -> Table:
    """Return rows with the same keys as a table for the terminal."""
    table = Table(**options)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*row.values())
    return table
