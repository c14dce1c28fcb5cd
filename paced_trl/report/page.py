"""
One self-contained HTML page about a run, and its figures as PNG.

Responsible for putting together what `run_contents.py` reads, `findings.py` says, `run_figures.py` draws and
`problem_samples.py` chooses. The page opens from a file, asks the network for nothing, and is the same, byte for byte,
for the same directory and libraries. Completions are untrusted: everything is escaped, and the page's own policy
forbids requests and all scripts but its own, which it names by their hashes. Without scripts the page shows the
figures as images, and some of the problems.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.comparison import BASE
from ..evaluation.tables import comparison_rows, evaluation_rows
from ..store.store import VERDICTS
from ..weighting.weights import effective_sample_size
from .charts import charts
from .contents import RunContents, read_run
from .embedding import as_script_data, policy_hashes, static_text
from .figures import TrainingWeights, report_figures, training_weights
from .findings import advice_by_text, difference, findings, summary, training_shares, verdict_counts, warnings_of
from .outcome import run_verdict
from .problem_table import problem_table
from .problem_text import MAX_COMPLETION, MAX_PROMPT, elide, sample_problems, visible
from .settings_shown import MAIN_SETTINGS, flat, settings_of, versions
from .theme import DARK, FIGURES, LIGHT, render


REPORT = "report.html"


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
        light, dark = render(figure.draw, LIGHT), render(figure.draw, DARK)
        (directory / f"{figure.name}.png").write_bytes(light)
        figures.append({"text": figure, "light": _data_uri(light), "dark": _data_uri(dark)})
    path = contents.path / REPORT
    path.write_text(_page(contents, weights, figures), encoding="utf-8")
    return path


def _page(contents: RunContents, weights: TrainingWeights | None, figures: list[dict[str, Any]]) -> str:
    environment = Environment(
        loader=PackageLoader("paced_trl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["elide_prompt"] = functools.partial(elide, max_length=MAX_PROMPT)
    environment.filters["elide_completion"] = functools.partial(elide, max_length=MAX_COMPLETION)
    environment.filters["interval_apart"] = _interval_apart
    environment.filters["setting"] = lambda value: value if isinstance(value, str) else json.dumps(value, default=str)
    common, by_run = settings_of(contents)
    main = [name for name in MAIN_SETTINGS if name in common]
    if common.get("max_steps", -1) > 0 and "num_train_epochs" in main:
        main.remove("num_train_epochs")  # without effect
    values = weights.values if weights is not None else None
    table = problem_table(contents, values)
    data = {"charts": charts(contents, weights)} | ({"problem-data": table} if table is not None else {})
    names = ["d3-7.9.2.min.js", "plot-0.6.17.min.js", "charts.js", *(["problems.js"] if table is not None else [])]
    scripts = [static_text(name) for name in names]
    return environment.get_template("report.html.jinja").render(
        verdict=run_verdict(contents),
        style=static_text("page.css"),
        scripts=scripts,
        script_hashes=policy_hashes(scripts),
        data={name: as_script_data(value) for name, value in data.items()},
        problem_notes=table["notes"] if table is not None else [],
        advice=advice_by_text(contents),
        themes=[LIGHT, DARK],
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
        samples=sample_problems(contents, values),
        arm_colors=[theme.arm_colors(contents.arms) for theme in (LIGHT, DARK)],
        base=BASE,
        control=contents.comparison.control if contents.comparison is not None else None,
        main_settings={name: common[name] for name in main},
        other_settings={name: common[name] for name in sorted(common) if name not in main},
        settings_by_run=by_run,
        record=flat(contents.store.record) if contents.store is not None else {},
        versions=versions(contents),
    )


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


def result_rows(contents: RunContents) -> list[dict[str, str]]:
    """Return the result table: an arm per row for a comparison, else a model and set per row."""
    if contents.comparison is not None:
        return comparison_rows(contents.comparison)
    rows = []
    for arm in contents.arms:
        by_sets = {name: by_arm for name, by_arm in contents.evaluations.items() if arm in by_arm}
        results = {name: by_arm[arm][0] for name, by_arm in by_sets.items()}
        student = {name: by_arm[BASE][0] for name, by_arm in by_sets.items() if difference(by_arm, arm) is not None}
        rows += [{"model": arm, **row} for row in evaluation_rows(results, [student] if BASE in contents.arms else [])]
    return rows


def _interval_apart(cell: str) -> Markup:
    """Return a cell of the result table as HTML with its interval on a line of its own, for narrow windows."""
    before, _, rest = cell.partition(" [")
    interval, closing, after = rest.partition("]")
    if not closing:
        return visible(cell)
    return Markup('{}{} <span class="interval">[{}]</span>').format(visible(before), visible(after), visible(interval))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
