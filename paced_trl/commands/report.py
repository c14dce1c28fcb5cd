"""`paced-trl report`: figures and one self-contained HTML page of a run."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import OutputArguments
from . import run_command
from .parsing import parse


_DESCRIPTION = """\
Draw the figures of a run or a comparison and write report.html, one file that opens offline: the outcome, the figures
with their numbers, the table of results, and all problems with their completions before and after training, to search
and to sort. The outcome, the table and the warnings are printed; the figures are in figures/ as PNG, for model cards.
A store named by pass_rates and the evaluations given as --baseline are found where they lie.

  paced-trl report --output_dir runs/demo
"""


def run(arguments: Sequence[str]) -> None:
    (output,) = parse("report", [OutputArguments], arguments, description=_DESCRIPTION)
    from rich.console import Console

    from ..report import FIGURES, read_run, terminal_summary, write_report

    if output.output_dir is None:
        raise ValueError("`output_dir` is not given. Name the directory of a run, e.g. `--output_dir runs/demo`.")
    page = write_report(output.output_dir)
    Console().print(terminal_summary(read_run(output.output_dir)))
    print(f"Report: {page}\nFigures: {page.parent / FIGURES}")


if __name__ == "__main__":
    run_command("report")
