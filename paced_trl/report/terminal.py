"""
The report for those who stay in the terminal: the verdict, the table of arms, the warnings.

Says nothing that the page does not say. Ours.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from ..evaluation.tables import as_rich
from .contents import RunContents
from .findings import advice_by_text, warnings_of
from .outcome import run_verdict
from .page import result_rows
from .problem_text import seen


_STYLES = {"better": "bold green", "mixed": "bold yellow", "worse": "bold red", "open": "bold"}


def terminal_summary(contents: RunContents) -> Group:
    """
    Return a summary of a run for a [`rich.console.Console`] to print.

    Args:
        contents ([`RunContents`]): The run.
    """
    verdict = run_verdict(contents)
    parts: list[RenderableType] = [Text.assemble((verdict.word, _STYLES[verdict.kind]), " ", seen(verdict.sentence))]
    rows = result_rows(contents)
    if rows:
        cells = [{escape(seen(name)): escape(seen(value)) for name, value in row.items()} for row in rows]
        table = as_rich(cells)
        table.columns[0].no_wrap = True
        parts.append(table)
    notes = warnings_of(contents)
    notes += [f"{text} ({'; '.join(where)})" for text, where in advice_by_text(contents).items()]
    parts += [Text.assemble(("Warning: ", "yellow"), seen(note)) for note in notes]
    return Group(*parts)
