"""
Results as tables, for the terminal and for Markdown.

"Better" and "worse" appear only where the interval of a paired difference excludes 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ..text import in_percent
from .comparison import BASE, POWER_DIFFERENCES, Comparison
from .differences import Difference, compare_runs
from .evaluation import Evaluation


COST_COLUMNS = {
    "generated": "tokens_generated",
    "student tokens": "student_tokens",
    "teacher tokens": "teacher_tokens",
}


def accuracy(evaluation: Evaluation) -> str:
    """Return mean@k with its interval and k."""
    low, high = evaluation.mean_at_k_interval
    return f"{evaluation.mean_at_k:.3f} [{low:.3f}, {high:.3f}] (k={evaluation.num_generations})"


def describe(difference: Difference) -> str:
    """Return a difference with its interval, and "better" or "worse" only where the interval excludes 0."""
    text = f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if not difference.excludes_zero:
        return text
    return f"{text} {'better' if difference.estimate > 0 else 'worse'}"


def evaluation_rows(
    results: Mapping[str, Evaluation], baselines: Sequence[Mapping[str, Evaluation]] = ()
) -> list[dict[str, str]]:
    """Return one row per set of one model's results, with paired differences to `baselines`, one mapping per seed."""
    rows = []
    has_votes = any(result.maj_at_k is not None for result in results.values())
    for name, result in results.items():
        row = {
            "set": name,
            "problems": str(len(result.problem_ids)),
            "mean@k": accuracy(result),
            "pass@k": f"{result.pass_at(min(result.num_generations, max(result.num_valid))):.3f}",
            **({"maj@k": "" if result.maj_at_k is None else f"{result.maj_at_k:.3f}"} if has_votes else {}),
            "tokens": f"{result.mean_completion_length:.1f}",
            "clipped": in_percent(result.clipped_ratio),
        }
        if baselines:
            against = [baseline[name] for baseline in baselines if name in baseline]
            row["- baseline"] = describe(compare_runs(result, against)) if against else ""
        rows.append(row)
    return rows


def comparison_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per arm: mean@k and paired differences per set, what is retained, what training cost."""
    rows, control = [], comparison.control
    for arm in comparison.arms():
        runs = comparison.runs_of(arm)
        row = {"arm": arm, "seeds": "" if arm == BASE else str(len(runs))}
        for name in comparison.eval_sets:
            k = runs[0].evaluations[name].num_generations
            mean = comparison.mean(arm, name)
            row[f"{name} mean@{k}"] = f"{mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
            of_set = f"{name} " if len(comparison.eval_sets) > 1 else ""
            row[f"{of_set}- base"] = "" if arm == BASE else describe(comparison.difference(arm, BASE, name))
            is_compared = arm not in (BASE, control) and comparison.runs_of(control)
            row[f"{of_set}- {control}"] = describe(comparison.difference(arm, control, name)) if is_compared else ""
        for name in comparison.retention_sets:
            row[f"{name} (retention)"] = "" if arm == BASE else describe(comparison.difference(arm, BASE, name))
        costs = comparison.costs(arm)
        for column, cost in COST_COLUMNS.items():
            row[column] = f"{costs[cost]:,.0f}" if costs else ""
        seconds = [run.train_seconds for run in runs if run.train_seconds]
        row["train"] = f"{sum(seconds) / len(seconds):.0f} s" if seconds else ""
        rows.append(row)
    # Without columns that are empty for every arm.
    return [{name: cell for name, cell in row.items() if any(other[name] for other in rows)} for row in rows]


def curve_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per arm of when its learning curve reached the control's end; empty if there are no curves."""
    rows = []
    for arm in comparison.arms():
        if len(comparison.curve(arm)) < 3:
            continue
        row = {"arm": arm}
        for name in comparison.eval_sets:
            reached = comparison.cost_of_control(arm, name)
            row[f"{name}: tokens"] = "never" if reached is None else f"{reached[0]:,.0f}"
            row[f"{name}: time"] = "never" if reached is None else f"{reached[1]:.0f} s"
            for kept in comparison.retention_sets:
                best = comparison.best_with_retention_of_control(arm, name, kept)
                row[f"{name} with its {kept}"] = "" if best is None else f"{best:.3f}"
        rows.append(row)
    return rows


def power_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per arm of what its comparison with the control could have found; empty below two seeds."""
    rows = []
    for arm in comparison.arms():
        row = {"arm": arm}
        for name in comparison.eval_sets:
            power = comparison.power(arm, name)
            if power is None:
                continue
            row[f"{name}: found from"] = f"{power.smallest_difference():.3f}"
            for size in POWER_DIFFERENCES:
                seeds = power.seeds_for(size)
                row[f"{name}: seeds for {size:g}"] = "more problems" if seeds is None else str(seeds)
        rows.append(row)
    columns = max((list(row) for row in rows), key=len, default=[])
    return [{name: row.get(name, "") for name in columns} for row in rows if len(row) > 1]


def describe_power_rows(comparison: Comparison) -> str:
    """Say what the columns of [`power_rows`] are."""
    return (
        f"The smallest difference to {comparison.control} that this comparison finds with a probability of 80 %, and "
        "how many seeds would find smaller ones (`more problems`: no number of seeds would):"
    )


def shared_costs(comparison: Comparison) -> str:
    """Say what was generated once for all arms; empty if nothing was."""
    whose = {
        "estimation": "by the student for pass rates",
        "references": "by the teacher for references",
        "teacher_pass_rates": "by the teacher for its own pass rates",
    }
    parts = [f"{count:,} tokens {whose[what]}" for what, count in comparison.shared_tokens.items() if count]
    return f"Once for all arms: {', '.join(parts)}." if parts else ""


def describe_curve_rows(comparison: Comparison) -> str:
    """Say what the columns of [`curve_rows`] are."""
    text = f"Cost until the final accuracy of {comparison.control}"
    if comparison.retention_sets:
        text += (
            f", and the highest accuracy with no more forgetting than {comparison.control} has at its end, which a "
            "little noise moves far where retention hardly changes"
        )
    return f"{text} (means over seeds):"


def comparison_markdown(comparison: Comparison) -> str:
    parts = [as_markdown(comparison_rows(comparison)), shared_costs(comparison)]
    if at_control := curve_rows(comparison):
        parts += [describe_curve_rows(comparison), as_markdown(at_control)]
    if powers := power_rows(comparison):
        parts += [describe_power_rows(comparison), as_markdown(powers)]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def as_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([row[key] for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


@dataclass(frozen=True)
class TerminalTables:
    """Rows with the same keys, for a rich console: as tables no wider than that, each with the first column."""

    rows: Sequence[Mapping[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [{name: _interval_below(cell) for name, cell in row.items()} for row in self.rows]
        first, *others = rows[0]
        cells = {name: [*name.split(), *(line for row in rows for line in row[name].split("\n"))] for name in rows[0]}
        widths = {name: max(map(cell_len, lines)) for name, lines in cells.items()}
        while others:
            # A border at the left; each column has a space at both sides and a border at the right.
            _, _, *ends = accumulate((widths[name] + 3 for name in (first, *others)), initial=1)
            count = max(1, sum(end <= options.max_width for end in ends))
            names, others = (first, *others[:count]), others[count:]
            table = Table()
            for name in names:
                table.add_column(name, overflow="fold", width=widths[name] if ends[0] <= options.max_width else None)
            for row in rows:
                table.add_row(*(row[name] for name in names))
            yield table


def _interval_below(cell: str) -> str:
    """Return a cell with its interval on a line of its own: `+0.1 [+0.0, +0.2] better` has 16 characters then."""
    found = re.fullmatch(r"(\S+) (\[[^\]]*\])(.*)", cell)
    return cell if found is None else f"{found[1]}{found[3]}\n{found[2]}"
