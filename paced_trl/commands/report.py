"""`paced-trl report`: figures and one self-contained HTML page of a run."""

from __future__ import annotations

from collections.abc import Sequence

from ..arguments import OutputArguments
from .parsing import entry_point, parse


_DESCRIPTION = """\
Draw the figures of a run or a comparison and write report.html, one file that opens offline.

  paced-trl report --output_dir runs/demo
"""


def run(arguments: Sequence[str]) -> None:
    """Parse, draw, print."""
    (output,) = parse("report", [OutputArguments], arguments, description=_DESCRIPTION)
    from ..report import write_report

    if output.output_dir is None:
        raise ValueError("`output_dir` is not given. Name the directory of a run, e.g. `--output_dir runs/demo`.")
    print(f"Report: {write_report(output.output_dir)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    entry_point("report", run, arguments)


if __name__ == "__main__":
    main()
