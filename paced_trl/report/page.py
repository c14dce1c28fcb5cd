"""
One self-contained HTML page about a run, its figures as PNG, and a summary for the terminal.

Responsible for putting together what the other modules read, say, draw and choose. The page opens from a file, asks
the network for nothing, and is the same, byte for byte, for the same directory and libraries. Completions are
untrusted: everything is escaped, and the page's own policy forbids requests and all scripts but its own, which it
names by its hash. Without scripts the page shows some of the problems.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from ..evaluation.comparison import BASE
from ..evaluation.tables import TerminalTables, comparison_rows, describe, evaluation_rows
from ..store.store import VERDICTS
from ..text import in_percent, printable
from ..weighting.weights import effective_sample_size
from .contents import RunContents, read_run
from .figures import TrainingWeights, report_figures, training_weights
from .findings import (
    advice_by_text,
    difference,
    findings,
    headlines,
    summary,
    training_shares,
    verdict_counts,
    warnings_of,
)
from .outcome import run_outcome
from .problem_table import example_of, problem_table
from .problem_text import choose_samples, visible
from .settings_shown import main_settings, settings_of, store_record, versions
from .theme import DARK_OF, FIGURES, arm_colors, as_png_and_svg


REPORT = "report.html"
# Problems that the page shows without scripts.
_MAX_SAMPLES = 30
# In a script element nothing is escaped by the parser, and all of these are legal inside JSON's strings only.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
_STYLES = {"better": "bold green", "mixed": "bold yellow", "worse": "bold red", "open": "bold"}


def write_report(output_dir: str | os.PathLike[str]) -> Path:
    """
    Draw the figures of a run or a comparison and write its page.

    Args:
        output_dir (`str` or path): The `--output_dir` of `paced-trl estimate`, `train`, `evaluate` or `compare`.

    Returns:
        `Path`: `output_dir/report.html`. The figures are in the page, and beside it in `figures/`.

    Raises:
        ValueError: If there is nothing to show, or a file is damaged.

    Example:

    ```python
    >>> write_report("runs/demo")
    PosixPath('runs/demo/report.html')
    ```
    """
    contents = read_run(output_dir)
    weights = training_weights(contents)
    directory = contents.path / FIGURES
    directory.mkdir(exist_ok=True)
    figures = []
    for figure in report_figures(contents, weights):
        png, svg, drawing = as_png_and_svg(figure.name, figure.alt, figure.draw)
        (directory / f"{figure.name}.png").write_bytes(png)
        figures.append({"text": figure, "svg": svg, "header": drawing.header, "rows": drawing.rows})
    path = contents.path / REPORT
    path.write_text(_page(contents, weights, figures), encoding="utf-8")
    return path


def terminal_summary(contents: RunContents) -> Group:
    """
    Return what the page says in short: the outcome, the table of arms, the warnings.

    Args:
        contents ([`RunContents`]): The run.

    Returns:
        `rich.console.Group`: For a [`rich.console.Console`] to print.
    """
    outcome = run_outcome(contents)
    sentence = printable(outcome.sentence)
    parts: list[RenderableType] = [Text.assemble((outcome.word, _STYLES[outcome.kind]), " ", sentence)]
    rows = result_rows(contents)
    if rows:
        cells = [{escape(printable(name)): escape(printable(cell)) for name, cell in row.items()} for row in rows]
        parts.append(TerminalTables(cells))
    notes = warnings_of(contents)
    notes += [f"{text} ({'; '.join(where)})" for text, where in advice_by_text(contents).items()]
    parts += [Text.assemble(("Warning: ", "yellow"), printable(note)) for note in notes]
    return Group(*parts)


def result_rows(contents: RunContents) -> list[dict[str, str]]:
    """Return the result table: an arm per row for a comparison, else a model and set per row."""
    if contents.comparison is not None:
        return comparison_rows(contents.comparison)
    rows = []
    for arm in contents.arms:
        by_sets = {name: by_arm for name, by_arm in contents.evaluations.items() if arm in by_arm}
        results = {name: by_arm[arm][0] for name, by_arm in by_sets.items()}
        student = {name: by_arm[BASE][0] for name, by_arm in by_sets.items() if difference(by_arm, arm) is not None}
        for row in evaluation_rows(results, [student] if BASE in contents.arms else []):
            rows.append({"model": arm, **{key.replace("- baseline", f"- {BASE}"): cell for key, cell in row.items()}})
    return rows


def static_text(name: str) -> Markup:
    """Return a file of `static/`, to stand in the page as it is."""
    text = importlib.resources.files("paced_trl.report").joinpath("static", name).read_text(encoding="utf-8")
    # Browsers hash what they have parsed, and they parse every line end as a line feed.
    return Markup(text.replace("\r\n", "\n"))


def policy_hash(script: str) -> Markup:
    """Return the source of a `script-src` directive that allows this script."""
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'")


def as_script_data(value: Any) -> Markup:
    """Return JSON in ASCII for a `<script type="application/json">`, which no text inside it can end."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES))


def _page(contents: RunContents, weights: TrainingWeights | None, figures: list[dict[str, Any]]) -> str:
    environment = Environment(
        loader=PackageLoader("paced_trl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["prose"] = _prose
    environment.filters["number"] = _number
    environment.filters["share"] = in_percent
    environment.filters["interval_apart"] = _interval_apart
    environment.filters["setting"] = lambda value: value if isinstance(value, str) else json.dumps(value, default=str)
    common, by_run = settings_of(contents)
    main = main_settings(common)
    table = problem_table(contents, weights.values if weights is not None else None)
    script = static_text("problems.js") if table is not None else Markup("")
    shown_headlines = headlines(contents)
    return environment.get_template("report.html.jinja").render(
        outcome=run_outcome(contents),
        style=static_text("page.css"),
        script=script,
        script_hash=policy_hash(script) if script else Markup("'none'"),
        data=as_script_data(table) if table is not None else None,
        problem_notes=table["notes"] if table is not None else [],
        samples=_samples(table["rows"]) if table is not None else [],
        headlines=[(one, describe(one.change) if one.change is not None else "") for one in shown_headlines],
        example=example_of(table, shown_headlines[0]) if table is not None and shown_headlines else None,
        advice=advice_by_text(contents),
        dark_of=DARK_OF,
        name=contents.path.resolve().name,
        summary=summary(contents),
        tiles=_tiles(contents, weights),
        shares=training_shares(contents),
        findings=findings(contents),
        warnings=warnings_of(contents),
        figures=figures,
        rows=result_rows(contents),
        verdicts=VERDICTS,
        verdict_counts=verdict_counts(contents),
        arm_colors=arm_colors(contents.arms),
        base=BASE,
        control=contents.comparison.control if contents.comparison is not None else None,
        main_settings=main,
        other_settings={name: common[name] for name in sorted(common) if name not in main},
        settings_by_run=by_run,
        record=store_record(contents),
        versions=versions(contents),
    )


def _samples(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return some training problems of all pass rates, hardest first."""
    training = [row for row in rows if row["set"] == 0]
    passed, valid = ([row["counts"][0][side] for row in training] for side in (0, 1))
    return [training[index] for index in choose_samples(passed, valid, _MAX_SAMPLES)] if training else []


def _tiles(contents: RunContents, weights: TrainingWeights | None) -> list[tuple[str, str]]:
    """Return the few numbers that say how large the run was, with what they count."""
    tiles = []
    table = contents.pass_rates
    if table is not None:
        tiles.append((f"{table.num_rows:,}", "training problems"))
        per_problem = sorted(set(table["num_valid"].to_pylist()))
        text = str(per_problem[0]) if len(per_problem) == 1 else f"{per_problem[0]}–{per_problem[-1]}"
        tiles.append((text, "judged completions each"))
    if weights is not None:
        tiles.append((f"{effective_sample_size(weights.values):,.0f}", "problems' worth of weight (ESS)"))
    if contents.comparison is not None:
        runs = [run for run in contents.comparison.runs if run.arm != BASE]
        tiles.append((f"{len({run.arm for run in runs})} × {len({run.seed for run in runs})}", "arms × seeds"))
    histories = [history for histories in contents.histories.values() for history in histories]
    steps = max((entry.get("step", 0) for history in histories for entry in history), default=0)
    if steps:
        tiles.append((f"{steps:,}", "training steps" if contents.comparison is None else "steps per arm"))
    return tiles


def _prose(text: str) -> Markup:
    """Return a sentence of ours as HTML: what it has in backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(visible(text))))


def _interval_apart(cell: str) -> Markup:
    """Return a cell of the result table as HTML with its interval on a line of its own, for narrow windows."""
    before, _, rest = cell.partition(" [")
    interval, closing, after = rest.partition("]")
    if not closing:
        return visible(cell)
    return Markup('{}{} <span class="interval">[{}]</span>').format(visible(before), visible(after), visible(interval))


def _number(value: Any) -> str:
    """Return a cell of a figure's table of numbers."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
