"""The report: what it reads, what it says, and that its page is safe and self-contained."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from helpers.report_runs import (
    ARMS,
    RECORD,
    VERDICTS,
    Page,
    make_comparison,
    make_evaluation,
    make_history,
    make_pass_rates,
    make_settings,
    make_store,
)
from paced_trl.evaluation.comparison import BASE, Comparison
from paced_trl.evaluation.differences import compare_runs, mean_over_runs
from paced_trl.evaluation.tables import comparison_rows
from paced_trl.publishing.provenance import PROVENANCE
from paced_trl.report import write_report
from paced_trl.report.contents import BASELINES, RunContents, read_run
from paced_trl.report.draw_results import draw_accuracy, draw_before_after
from paced_trl.report.draw_training import draw_training
from paced_trl.report.figures import training_weights
from paced_trl.report.findings import best_arm, findings, headlines, verdict_counts, warnings_of
from paced_trl.report.page import _samples
from paced_trl.report.problem_table import problem_table
from paced_trl.report.problem_text import choose_completions, choose_samples, visible
from paced_trl.report.theme import BASE_COLOR, DARK_OF, PAPER, arm_colors
from paced_trl.store.store import PassRateStore
from paced_trl.weighting.counts import pass_rate_bins
from paced_trl.weighting.weights import problem_weights


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A comparison and its report, in a directory whose name is markup."""
    directory = tmp_path_factory.mktemp("runs") / "<u>demo"
    made = make_comparison(directory)
    assert write_report(directory) == directory / "report.html"
    return directory, made


@pytest.fixture(scope="module")
def page(comparison: tuple[Path, Comparison]) -> Page:
    return Page(comparison[0] / "report.html")


def test_page_asks_nothing_of_the_network_and_runs_its_own_script_only(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "form", "base", "foreignobject", "image"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"}:
                assert value.startswith(("#", "data:")), (tag, name, value[:80])
    outside_scripts = re.sub(r"<script.*?</script>", "", page.source, flags=re.DOTALL)
    assert not re.search(r"url\((?!#)|@import", outside_scripts)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "require-trusted-types-for 'script'" in policy
    (allowed,) = re.findall(r"script-src ([^;]+)", policy)
    (script,) = [text for name, text in page.scripts.items() if name != "problem-data"]
    assert allowed == f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    types = [attributes for tag, attributes in page.elements if tag == "script" and "id" in attributes]
    assert [attributes["type"] for attributes in types] == ["application/json"]
    assert len(page.source) < 400_000


def test_a_page_without_problems_allows_no_script(tmp_path: Path) -> None:
    make_settings(tmp_path, weighting="beta")
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": make_history(0)}))
    page = Page(write_report(tmp_path))
    assert "script-src 'none'" in page.source and not page.scripts


def test_links_lead_to_sections_of_the_page(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert len(ids) == len(set(ids)) and len(links) == 7
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert [link.removeprefix("#") for link in links] == sections


def test_what_figures_refer_to_is_in_the_page(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    used = {a[name] for tag, a in page.elements for name in ("href", "xlink:href") if name in a and tag != "link"}
    used |= set(re.findall(r"url\((#[^)]+)\)", page.source))
    assert {name.removeprefix("#") for name in used} <= ids and len(used) > 8


def test_untrusted_text_is_text(page: Page) -> None:
    assert "<script>alert(1)</script>\u241b[31m red U+202E txet </pre><img src=x onerror=alert(2)>" in page.text
    assert "<u>demo" in page.text
    assert "What is 3 & 3?" in page.text or "What is 13 & 13?" in page.text
    assert not [tag for tag, attributes in page.elements if tag == "u" or attributes.get("src") == "x"]
    assert len([tag for tag, _ in page.elements if tag == "script"]) == len(page.scripts) == 2
    assert not set("\x1b\u202e") & set(page.source)


def test_secrets_of_the_settings_are_not_on_the_page(page: Page) -> None:
    assert "hf_secret" not in page.source
    assert ["model_init_kwargs.token", "(not shown)"] in [row for table in page.tables for row in table]


def tables_of(page: Page, *first_cells: str) -> list[list[list[str]]]:
    """The tables whose first cells are these, in this order."""
    found = [next(table for table in page.tables if table[0][0] == cell) for cell in first_cells]
    assert len(found) == len(first_cells)
    return found


def test_settings_tell_what_counts_from_the_rest_and_the_runs_apart(page: Page) -> None:
    main, runs, other = tables_of(page, "student.model_name_or_path", "run", "model_init_kwargs.token")
    assert ["max_steps", "60"] in main and ["learning_rate", "0.0001"] in main
    assert ["num_train_epochs", "3.0"] in other and "max_steps" not in dict(other)
    assert runs[0] == ["run", "seed", "weighting", "apply_weights"]
    assert ["paced_sampling-seed1", "1", "beta", "sampling"] in runs and len(runs) == 7


def test_result_table_is_the_comparison(page: Page, comparison: tuple[Path, Comparison]) -> None:
    rows = comparison_rows(comparison[1])
    ((header, *cells),) = tables_of(page, "arm")
    assert header == list(rows[0])
    assert len(cells) == len(rows) == 4
    for row, shown in zip(rows, cells, strict=True):
        # The interval stands on a line of its own, after the word.
        assert [sorted(cell.split()) for cell in shown] == [sorted((value or "–").split()) for value in row.values()]


def test_verdict_table_is_the_counts(page: Page, comparison: tuple[Path, Comparison]) -> None:
    ((header, *cells),) = tables_of(page, "completions")
    assert header == ["completions", *VERDICTS]
    evaluations = comparison[1].evaluations("uniform", "test")
    passed = sum(evaluation.verdicts["passed"] for evaluation in evaluations)
    (row,) = [row for row in cells if row[0] == "test, uniform"]
    assert row[1].split() == [str(passed), f"{100 * passed / (2 * 60 * 4):.1f}%"]
    assert cells[0][0] == "training problems, base"
    assert sum(int(cell.split()[0]) for cell in cells[0][1:]) == 80 * 8


def test_figures_are_drawn_and_in_the_page(page: Page, comparison: tuple[Path, Comparison]) -> None:
    files = sorted((comparison[0] / "figures").iterdir())
    names = ["accuracy", "before_after", "pass_rates", "training"]
    assert [file.stem for file in files] == names
    shown = [a for tag, a in page.elements if tag == "svg" and a.get("class") == "whole"]
    figures = [a["data-figure"] for tag, a in page.elements if tag == "figure"]
    assert sorted(figures) == names and len(shown) == len(names)
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in shown)
    for file in files:
        image = Image.open(file).convert("RGB")
        pixels = np.asarray(image, dtype=np.float64)
        assert image.width == 1350 and image.height > 300
        assert pixels.std() > 15
        # Paper of the page's own colour, so that no frame shows around a figure.
        assert "#" + pixels[0, 0].astype(np.uint8).tobytes().hex() == PAPER


def test_figures_in_the_page_are_text_and_have_the_pages_colours(page: Page) -> None:
    svgs = re.findall(r'<svg class="whole".*?</svg>', page.source, flags=re.DOTALL)
    assert len(svgs) == 4
    for svg in svgs:
        assert svg.count("<text") > 10 and "font-family" not in svg
        # Every colour is a variable of the page's style; white under grid lines would stay white in the dark.
        assert not re.findall(r"#[0-9a-fA-F]{6}(?=[;\"])", svg)
        assert set(re.findall(r"var\((--[0-9a-f]+)\)", svg)) <= {f"--{c[1:]}" for c in DARK_OF}
    (style,) = re.findall(r"<style>.*?</style>", page.source, flags=re.DOTALL)
    for light, dark in DARK_OF.items():
        assert f"--{light[1:]}: {light};" in style and f"--{light[1:]}: {dark};" in style


def test_every_panel_stands_alone_for_narrow_windows(page: Page) -> None:
    svgs = re.findall(r'<svg viewBox="([^"]+)" width="[0-9]+"><use href="#figure-([a-z_]+)"', page.source)
    # A legend and two panels; a legend and three; two; a legend and two.
    assert [
        sum(name == figure for _, figure in svgs) for name in ("pass_rates", "before_after", "accuracy", "training")
    ] == [3, 4, 2, 3]
    for box, _ in svgs:
        x, y, width, height = map(float, box.split())
        assert x >= -6 and y >= -6 and 40 < width < 400 and 10 < height < 300


def test_numbers_of_a_figure_are_in_a_table(page: Page, comparison: tuple[Path, Comparison]) -> None:
    (table,) = [table for table in page.tables if table[0] == ["set", "student", "what", "value", "low", "high"]]
    found = comparison[1].mean("paced", "test")
    expected = [f"{value:.4g}" for value in (found.estimate, found.low, found.high)]
    assert ["test", "paced", "mean@4", *expected] in table
    assert len([a for tag, a in page.elements if a.get("class") == "more numbers"]) == 4


def test_the_same_run_gives_the_same_page(comparison: tuple[Path, Comparison]) -> None:
    directory = comparison[0]
    before = {file: file.read_bytes() for file in [directory / "report.html", *(directory / "figures").iterdir()]}
    write_report(directory)
    assert {file: file.read_bytes() for file in before} == before


def test_arms_are_called_better_and_best_where_intervals_allow(comparison: tuple[Path, Comparison]) -> None:
    sentences = findings(read_run(comparison[0]))
    assert len(sentences) == 4
    assert sentences[0].startswith("On test, paced_sampling is best, with a mean@4 of 0.")
    assert re.search(r"paced_sampling \(\+0\.\d+\) is better .*; uniform \(-0\.\d+\) is worse", sentences[1])
    assert sentences[1].endswith("no difference from base is shown for paced.")
    assert sentences[2].startswith("On test, these seeds and problems show a difference to uniform with a probability")
    assert re.match(r"On reversal, which no arm trains on, uniform \(-0\.\d+\) is worse than", sentences[3])


def test_no_arm_is_best_within_the_noise() -> None:
    by_arm = {
        BASE: [make_evaluation("test", 0.3, seed=5)],
        "one": [make_evaluation("test", 0.60, seed=1)],
        "two": [make_evaluation("test", 0.61, seed=2)],
    }
    leader, other = sorted(("one", "two"), key=lambda arm: -by_arm[arm][0].mean_at_k)
    sentence = best_arm(by_arm, "test")
    assert "no arm can be called best" in sentence
    assert f"{leader} has the highest" in sentence and f"its difference to {other} is +0." in sentence
    assert best_arm({BASE: by_arm["one"], "worse": by_arm[BASE]}, "test").startswith("On test, no arm improved")


def test_mean_over_runs_is_the_mean_over_seeds() -> None:
    evaluations = [make_evaluation("test", 0.5, seed=seed) for seed in (0, 1, 2)]
    one = mean_over_runs(evaluations[:1])
    assert one.estimate == pytest.approx(evaluations[0].mean_at_k, abs=1e-12)
    assert (one.low, one.high) == pytest.approx(evaluations[0].mean_at_k_interval, abs=1e-12)
    pooled = mean_over_runs(evaluations)
    assert pooled.estimate == pytest.approx(np.mean([e.mean_at_k for e in evaluations]), abs=1e-12)
    assert pooled.high - pooled.low < one.high - one.low


def make_contents(num_passed: list[int], num_valid: list[int], **settings: Any) -> RunContents:
    table = pa.table(
        {"problem_id": [str(i) for i in range(len(num_valid))], "num_passed": num_passed, "num_valid": num_valid}
    )
    return RunContents(Path("run"), pass_rates=table, settings={"run": settings} if settings else {})


def test_an_empty_frontier_is_drawn_without_weights(tmp_path: Path) -> None:
    rows = [
        {"problem_id": f"p{row}", "generation_index": 0, "completion": "1", "num_tokens": 1, "finish_reason": "stop"}
        | {"verdict": "passed" if row else "timeout"}
        for row in range(3)
    ]
    PassRateStore(tmp_path / "pass_rates", RECORD).append(rows)
    page = Page(write_report(tmp_path))
    assert (tmp_path / "figures" / "pass_rates.png").exists()
    assert "(ESS)" not in page.text.split("Terms")[1].split("Verdicts")[0]
    assert "None of the problems is at the frontier" in page.text
    assert "33.3% unmeasured" in page.text and "no completion has a valid verdict" in page.text


def test_warnings_name_what_spoils_the_numbers(tmp_path: Path) -> None:
    contents = make_contents([0] * 30 + [1], [4] * 31)
    contents.unfinished = ["paced-seed1"]
    contents.store = PassRateStore(tmp_path / "store", RECORD)
    verdicts = ["passed"] * 80 + ["timeout"] * 3 + ["truncated"] * 17
    contents.store.append(
        [
            {"problem_id": "p", "generation_index": index, "completion": "", "num_tokens": 1, "finish_reason": "stop"}
            | {"verdict": verdict}
            for index, verdict in enumerate(verdicts)
        ]
    )
    assert list(verdict_counts(contents).values()) == [{v: verdicts.count(v) for v in VERDICTS}]
    unfinished, frontier, verifier, truncated = warnings_of(contents)
    assert "paced-seed1" in unfinished
    assert "Only 3.2% of the problems are at the frontier" in frontier
    assert "The verifier failed on 3.0% of the completions (training problems, base)" in verifier
    assert "17.0% of the completions (training problems, base) were cut" in truncated
    assert warnings_of(make_contents([0, 1, 4], [4] * 3)) == []
    assert (
        "33.3% of the training problems have no valid verdict" in warnings_of(make_contents([0, 1, 1], [0, 4, 4]))[0]
    )


def test_one_seed_is_said_to_be_one(comparison: tuple[Path, Comparison]) -> None:
    contents = read_run(comparison[0])
    assert not [note for note in warnings_of(contents) if "one seed" in note]
    assert contents.comparison is not None
    contents.comparison.runs = [run for run in contents.comparison.runs if run.seed == 0]
    assert [note for note in warnings_of(contents) if "one seed" in note]


def test_a_directory_with_nothing_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"nothing to show. Name the `--output_dir` of `paced-trl estimate`"):
            write_report(directory)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text('{"runs": [')
    with pytest.raises(ValueError, match=r"comparison.json' cannot be read \(.*Delete it"):
        write_report(tmp_path)


def test_single_run_against_its_student(tmp_path: Path) -> None:
    run = tmp_path / 'mi"><u>ne'
    make_settings(run, status="started", weighting="beta", **{"student.model_name_or_path": "models/tiny"})
    (run / "trainer_state.json").write_text(json.dumps({"log_history": make_history(0)}))
    results = {run.name: make_evaluation("test", 0.7, model="mine"), "tiny": make_evaluation("test", 0.4, seed=3)}
    for name, evaluation in results.items():
        evaluation.save(run / "evaluation" / name / "test.json")
        (run / "evaluation" / name / "run.json").write_text(
            json.dumps({"status": "finished", "settings": {"retention_sets": ["reversal"]}})
        )
    assert read_run(run).eval_sets == ["test"]
    make_evaluation("reversal", 0.9, model="mine").save(run / "evaluation" / run.name / "reversal.json")
    assert read_run(run).retention_sets == ["reversal"]
    # What was to change comes before what was to stay.
    assert list(read_run(run).evaluations) == ["test", "reversal"]
    (run / "evaluation" / run.name / "reversal.json").unlink()
    page = Page(write_report(run))
    (header, *rows), verdicts = tables_of(page, "model", "completions")
    assert [row[0] for row in rows] == [BASE, run.name]
    assert [row[0] for row in verdicts[1:]] == ["test, base", f"test, {run.name}"]
    assert "u" not in {tag for tag, _ in page.elements}
    assert rows[1][header.index("mean@k")].startswith(f"{results[run.name].mean_at_k:.3f} (k=4)")
    found = compare_runs(results[run.name], results["tiny"])
    assert rows[1][header.index("- base")].split()[0] == f"{found.estimate:+.3f}"
    assert "distilled from the teacher demo/teacher with forward KL first" in page.text
    assert f"Not finished yet, so not shown or not complete: {run.name}." in page.text
    assert sorted(file.stem for file in (run / "figures").iterdir()) == ["accuracy", "before_after", "training"]


def test_what_the_run_names_elsewhere_is_found(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    make_settings(run, weighting="beta", **{"student.model_name_or_path": "models/tiny"})
    store, rates = tmp_path / "estimate/pass_rates", tmp_path / "estimate/pass_rates.parquet"
    num_passed = make_store(store)
    make_pass_rates(rates, num_passed)
    problems = {"dataset_name": "questions.jsonl", "as_chat": False, "few_shot": "few.json", "system_prompt": None}
    # Names are relative to where the command was run, which is not where the report is made.
    named = {"problems": problems, "pass_rates": {"pass_rates": "estimate/pass_rates", "num_generations": 8}}
    named["references"] = {"references": "estimate/pass_rates"}
    (run / "provenance.json").write_text(json.dumps(named))
    assert BASELINES == "baselines.json" and PROVENANCE == "provenance.json"
    evaluation = run / "evaluation" / "mine"
    make_evaluation("test", 0.7, model="mine").save(evaluation / "test.json")
    elsewhere = tmp_path / "before/evaluation/tiny"
    make_evaluation("test", 0.4, seed=3).save(elsewhere / "test.json")
    (evaluation / BASELINES).write_text(json.dumps(["before/evaluation/tiny", str(tmp_path / "gone")]))
    contents = read_run(run)
    assert contents.store is not None and contents.store.path == store
    assert contents.references is not None and contents.references.path == store
    assert contents.pass_rates is not None and contents.pass_rates["num_passed"].to_pylist() == num_passed.tolist()
    assert list(contents.evaluations["test"]) == [BASE, "mine"]
    page = Page(write_report(run))
    (main,) = tables_of(page, "student.model_name_or_path")
    names = [name for name, _ in main]
    assert names[1:6] == ["teacher_model_name_or_path", "dataset_name", "as_chat", "few_shot", "pass_rates"]
    assert dict(main)["as_chat"] == "false" and "system_prompt" not in names
    # What the run has of its own comes first.
    own = make_store(run / "pass_rates", num_problems=10)
    assert read_run(run).pass_rates.num_rows == len(own) == 10  # type: ignore[union-attr]


def test_without_a_run_the_named_baseline_is_the_base(tmp_path: Path) -> None:
    make_evaluation("test", 0.7, model="mine").save(tmp_path / "evaluation/mine/test.json")
    make_evaluation("test", 0.4, seed=3).save(tmp_path / "elsewhere/evaluation/student/test.json")
    named = tmp_path / "evaluation/mine" / BASELINES
    named.write_text(json.dumps([str(tmp_path / "elsewhere/evaluation/student")]))
    assert list(read_run(tmp_path).evaluations["test"]) == [BASE, "mine"]


def test_a_teacher_evaluated_beside_the_student_is_no_result_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    make_settings(run, weighting="beta", **{"student.model_name_or_path": "models/student"})
    (run / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "paced/forward_kl": 1.0}]}))
    for seed, (model, accuracy) in enumerate({"student": 0.3, "mine": 0.6, "teacher": 0.9}.items()):
        make_evaluation("test", accuracy, model=model, seed=seed).save(run / "evaluation" / model / "test.json")
    contents = read_run(run)
    (headline,) = headlines(contents)
    assert headline.arm == "mine" and list(contents.evaluations["test"]) == [BASE, "mine", "teacher"]
    (sentence,) = findings(contents)
    assert "mine" in sentence and "teacher" in sentence and "best" not in sentence


def test_the_first_screen_says_from_where_to_where(comparison: tuple[Path, Comparison], page: Page) -> None:
    (headline,) = headlines(read_run(comparison[0]))
    made = comparison[1]
    assert (headline.eval_set, headline.arm, headline.num_seeds) == ("test", "paced_sampling", 2)
    assert headline.before == made.mean(BASE, "test") and headline.after == made.mean("paced_sampling", "test")
    assert headline.change == made.difference("paced_sampling", BASE, "test")
    overview = page.text.split("Overview")[-1].split("Pass rates before training")[0]
    numbers = "".join(overview.split())
    assert f"base{headline.before.estimate:.3f}[{headline.before.low:.3f},{headline.before.high:.3f}]" in numbers
    assert f"→paced_sampling{headline.after.estimate:.3f}" in numbers
    assert f"{headline.change.estimate:+.3f}[" in numbers and "mean@4on60problems,meanover2runs" in numbers


def test_the_course_of_the_completions_is_on_the_first_screen(tmp_path: Path) -> None:
    make_settings(tmp_path, weighting="beta")
    history = [{"step": 1, "paced/forward_kl": 1.0, "completions/mean_length": 9.0, "completions/clipped_ratio": 0.1}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    page = Page(write_report(tmp_path))
    places = [(tag, a.get("id") or a.get("data-figure")) for tag, a in page.elements if tag in ("section", "figure")]
    assert places[:4] == [
        ("section", "overview"),
        ("figure", "completions"),
        ("section", "figures"),
        ("figure", "training"),
    ]
    # What our sentences have in backticks is code.
    assert (
        "cut off at <code>max_completion_length</code>." in page.source
        and "`" not in page.text.split("PACED report")[-1]
    )


def test_self_distillation_is_named(tmp_path: Path) -> None:
    make_settings(tmp_path, weighting="beta", self_distillation="ema", privileged_template="{prompt} {hint}")
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": make_history(0)}))
    page = Page(write_report(tmp_path))
    assert "distilled from itself, given privileged context (self-distillation, ema)" in page.text
    (main,) = tables_of(page, "student.model_name_or_path")
    assert main[1:3] == [["self_distillation", "ema"], ["privileged_template", "{prompt} {hint}"]]
    # The file may name a teacher that this run did without.
    assert "teacher_model_name_or_path" not in dict(main) and "demo/teacher" not in page.text.split("Settings")[0]


def test_base_has_one_name(page: Page) -> None:
    for name in ("untouched", "baseline", "before training, student"):
        assert name not in page.text.split("PACED report")[-1], name


def test_evaluations_under_other_settings_are_shown_and_not_compared(tmp_path: Path) -> None:
    make_settings(tmp_path, **{"student.model_name_or_path": "tiny"})
    make_evaluation("test", 0.4).save(tmp_path / "evaluation/tiny/test.json")
    make_evaluation("test", 0.7, k=8, num_problems=20).save(tmp_path / "evaluation/mine/test.json")
    page = Page(write_report(tmp_path))
    (table,) = tables_of(page, "model")
    assert [row[-1] for row in table] == ["- base", "–", "–"]
    assert " better" not in page.text and "no difference" not in page.text


def test_pass_rates_alone_without_prompts(tmp_path: Path) -> None:
    num_passed = make_store(tmp_path / "pass_rates")
    page = Page(write_report(tmp_path))
    assert sorted(file.stem for file in (tmp_path / "figures").iterdir()) == ["pass_rates"]
    assert "The student demo/student was measured on 80 problems." in page.text
    assert f"{np.mean((num_passed > 0) & (num_passed < 8)):.1%} frontier" in page.text
    assert "Problem p0" in page.text or "Problem p1" in page.text
    assert "Results" not in page.text


def test_a_damaged_table_gives_way_to_the_store(tmp_path: Path) -> None:
    num_passed = make_store(tmp_path / "pass_rates")
    (tmp_path / "pass_rates.parquet").write_bytes(b"PAR1 no")
    with pytest.warns(UserWarning, match="cannot be read and is left out"):
        table = read_run(tmp_path).pass_rates
    assert table is not None
    counted = dict(zip(table["problem_id"].to_pylist(), table["num_passed"].to_pylist(), strict=True))
    assert counted == {f"p{row}": passed for row, passed in enumerate(num_passed)}
    assert table["num_valid"].to_pylist() == [8] * 80


def test_samples_carry_solution_weight_and_reference(tmp_path: Path) -> None:
    num_passed = make_store(tmp_path / "pass_rates")
    make_pass_rates(tmp_path / "pass_rates.parquet", num_passed)
    rows = [
        {"problem_id": f"p{row}", "generation_index": index, "completion": f"{verdict} {row}", "num_tokens": 2}
        | {"finish_reason": "stop", "verdict": verdict}
        for row in range(80)
        for index, verdict in enumerate(["failed", "passed"])
    ]
    PassRateStore(tmp_path / "references", RECORD).append(rows)
    contents = read_run(tmp_path)
    weights = training_weights(contents)
    assert weights is not None
    table = problem_table(contents, weights.values)
    assert table is not None
    samples = _samples(table["rows"])
    assert len(samples) == 30 and len({sample["id"] for sample in samples}) == 30
    rates = [sample["counts"][0][0] / sample["counts"][0][1] for sample in samples]
    assert rates == sorted(rates) and set(rates) == {passed / 8 for passed in num_passed}
    expected = problem_weights(num_passed, [8] * 80)
    for sample in samples:
        row = int(sample["id"][1:])
        passed, valid = sample["counts"][0]
        assert sample["prompt"] == f"What is {row} & {row}?" and sample["solution"] == "42"
        assert sample["reference"] == f"passed {row}"
        assert sample["weight"] == pytest.approx(expected[row], abs=1e-4)
        assert sample["made"][0] == valid == 8 and len(sample["shown"][0]) == 4
        kinds = {"passed" for _ in range(passed)} | {"failed" for _ in range(8 - passed)}
        assert {one[1] for one in sample["shown"][0]} == kinds
    # Without scripts the page shows them.
    page = Page(write_report(tmp_path))
    assert page.text.count("Reference by the teacher, passed") == 30 and "passed 40" in page.text


def test_the_last_message_of_a_chat_is_shown(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    rates = pa.table({"problem_id": ["a"], "prompt": [messages], "solution": [2], "num_passed": [1], "num_valid": [2]})
    table = problem_table(RunContents(tmp_path, pass_rates=rates))
    assert table is not None
    (sample,) = _samples(table["rows"])
    assert (sample["prompt"], sample["earlier"], sample["solution"]) == ("1+1?", 1, "2")
    assert (sample["shown"], sample["reference"], sample["weight"]) == ({}, None, None)


def test_choose_samples_spreads_over_pass_rates() -> None:
    num_passed = [0] * 100 + [8] * 100 + [4] * 3 + [0]
    num_valid = [8] * 203 + [0]
    chosen = choose_samples(num_passed, num_valid, 11)
    assert chosen == choose_samples(num_passed, num_valid, 11)
    rates = [num_passed[row] / num_valid[row] if num_valid[row] else None for row in chosen]
    assert rates == [0.0] * 4 + [0.5] * 3 + [1.0] * 3 + [None]
    # Evenly spaced, not the first ones.
    assert chosen[:4] == [12, 37, 62, 87]
    assert choose_samples([1, 2], [2, 2], 30) == [0, 1]


def test_choose_completions_shows_every_verdict() -> None:
    rows = list(enumerate(["failed"] * 5 + ["passed", "truncated"]))
    assert [index for index, _ in choose_completions(rows, 4, lambda row: row[1])] == [0, 1, 5, 6]
    assert [index for index, _ in choose_completions(rows, 2, lambda row: row[1])] == [0, 5]
    assert choose_completions([], 4, str) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\nb"),
        ("tab\there", '<span class="unseen" title="U+0009">\u2409</span>'),
        ("\x00", '<span class="unseen" title="U+0000">\u2400</span>'),
        ("\x7f", '<span class="unseen" title="U+007F">\u2421</span>'),
        ("\x85", '<span class="unseen" title="U+0085">U+0085</span>'),
        ("\u200b", '<span class="unseen" title="U+200B">U+200B</span>'),
        ("\u2066", '<span class="unseen" title="U+2066">U+2066</span>'),
        ("\U000e0041", '<span class="unseen" title="U+E0041">U+E0041</span>'),
        ("<&>\"'", "&lt;&amp;&gt;&#34;&#39;"),
        ("é 漢 😀", "é 漢 😀"),
    ],
)
def test_visible_spells_out_what_cannot_be_seen(text: str, shown: str) -> None:
    assert shown in visible(text)


def test_bars_hold_the_problems_of_their_pass_rate() -> None:
    index, last = pass_rate_bins([0, 1, 2, 4, 0], [4, 4, 4, 4, 0])
    assert (index.tolist(), last) == ([0, 1, 2, 4], 4)
    # Many or unequal numbers of generations: tenths, and the ends are for never and always only.
    index, last = pass_rate_bins([0, 1, 31, 32, 5], [32, 32, 32, 32, 10])
    assert (index.tolist(), last) == ([0, 1, 9, 10, 5], 10)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weighting": "beta", "weight_alpha": 0.5, "weight_beta": 2.0},
        {"weighting": "uniform"},
        {"weighting": "hard_filter", "weight_band": [0.3, 0.8]},
    ],
)
def test_the_weight_curve_passes_through_the_weights(settings: dict[str, Any]) -> None:
    num_passed, num_valid = [0, 1, 2, 3, 4, 0], [4, 4, 4, 4, 4, 0]
    weights = training_weights(make_contents(num_passed, num_valid, **settings))
    assert weights is not None and weights.curve is not None
    assert weights.values.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights.curve(np.arange(5) / 4), weights.values[:5], rtol=1e-12)


def test_weights_are_those_of_the_run_that_weights() -> None:
    contents = make_contents([0, 1, 2, 4], [4] * 4, weighting="uniform")
    contents.settings["paced"] = {"weighting": "beta", "weight_beta": 2.0}
    weights = training_weights(contents)
    assert weights is not None and weights.formula == "p^1 (1 − p)^2"
    np.testing.assert_allclose(weights.values, problem_weights([0, 1, 2, 4], [4] * 4, weight_beta=2.0))
    assert contents.pass_rates is not None
    contents.pass_rates = contents.pass_rates.append_column("problem_weight", [[0.0, 2.0, 6.0, 0.0]])
    given = training_weights(contents)
    assert given is not None and given.curve is None and given.values.tolist() == [0.0, 1.0, 3.0, 0.0]
    assert training_weights(make_contents([0, 4], [4, 4])) is None


def test_every_arm_has_one_colour_of_its_own() -> None:
    assert len(DARK_OF) == len(set(DARK_OF.values())) == 20
    colors = arm_colors([BASE, "mine", "paced", "other", "uniform"])
    assert len(set(colors.values())) == 5 and set(colors.values()) <= DARK_OF.keys()
    assert colors["paced"] == arm_colors(["paced"])["paced"]
    assert colors[BASE] == BASE_COLOR
    assert len(arm_colors(f"arm {number}" for number in range(20))) == 21


def test_figures_show_the_numbers(comparison: tuple[Path, Comparison]) -> None:
    contents = read_run(comparison[0])
    accuracy = draw_accuracy(contents.evaluations, contents.retention_sets).figure
    for axes, (eval_set, by_arm) in zip(accuracy.axes, contents.evaluations.items(), strict=True):
        dots = [np.asarray(line.get_xdata())[0] for line in axes.lines if line.get_marker() == "o"]
        if eval_set == "test":
            assert dots == pytest.approx([np.mean([e.mean_at_k for e in evals]) for evals in by_arm.values()])
        else:
            expected = [compare_runs(by_arm[arm], by_arm[BASE]).estimate for arm in ARMS]
            assert dots == pytest.approx(expected)
    for axes in draw_before_after({"test": contents.evaluations["test"]}).figure.axes:
        assert sum(bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")) == pytest.approx(1.0)
    divergence, pass_rate = draw_training(contents.histories).figure.axes
    verticals = [line for line in divergence.lines if np.ptp(np.asarray(line.get_xdata())) == 0]
    assert [np.asarray(line.get_xdata())[0] for line in verticals] == [30.0]
    assert [text.get_text().strip() for text in divergence.texts] == ["forward KL", "reverse KL"]
    assert pass_rate.lines


def test_report_loads_without_torch() -> None:
    code = "import sys, paced_trl.report; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
