"""Tables that a terminal of 80 columns, and a log file, can show."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from paced_trl.evaluation.arms import DEFAULT_ARMS
from paced_trl.evaluation.tables import TerminalTables


def printed(rows: list[dict[str, str]], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(TerminalTables(rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


ROWS = [
    {
        "arm": arm,
        "seeds": "3",
        "test mean@8": f"0.53{number} [0.512, 0.558]",
        "- base": f"+0.24{number} [+0.221, +0.262] better",
        "- uniform": "" if arm == "uniform" else f"-0.00{number} [-0.020, +0.014]",
        "test: seeds for 0.01": "more problems",
        "facts (retention)": f"-0.12{number} [-0.140, -0.102] worse",
    }
    for number, arm in enumerate(DEFAULT_ARMS)
]


@pytest.mark.parametrize("width", [60, 80, 120, 400])
def test_no_word_number_or_interval_is_broken(width: int) -> None:
    text = printed(ROWS, width)
    assert max(map(len, text.splitlines())) <= width
    cells = {cell.strip() for line in text.splitlines() for cell in re.split("[│┃]", line)}
    for row in ROWS:
        for cell in row.values():
            value, interval, word = re.fullmatch(r"(\S*) ?(\[[^]]*\])? ?(\w*)", cell).groups()  # type: ignore[union-attr]
            assert f"{value} {word}".strip() in cells and (interval is None or interval in cells)


def test_a_wide_terminal_has_one_table_and_a_narrow_one_repeats_the_first_column() -> None:
    assert printed(ROWS, 200).count("paced_sampling ") == 1
    assert printed(ROWS, 80).count("paced_sampling ") == 3
