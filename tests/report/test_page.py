"""The report: what it reads, what it says, and that its page is safe and self-contained."""

from __future__ import annotations

import base64
import hashlib
import io
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
from paced_trl.evaluation.differences import compare_runs
from paced_trl.evaluation.tables import comparison_rows
from paced_trl.report import write_report
from paced_trl.report.contents import RunContents, read_run
from paced_trl.report.draw_results import draw_accuracy, draw_before_after
from paced_trl.report.draw_training import draw_training
from paced_trl.report.figures import training_weights
from paced_trl.report.findings import best_arm, findings, mean_with_interval, verdict_counts, warnings_of
from paced_trl.report.problem_text import choose_completions, choose_problems, elide, sample_problems, visible
from paced_trl.report.theme import DARK, LIGHT
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


def test_page_asks_nothing_of_the_network_and_runs_its_own_scripts_only(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "form", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "srcset", "href", "action", "data", "poster", "background"}:
                assert value.startswith(("#", "data:")), (tag, name, value[:80])
    outside_scripts = re.sub(r"<script.*?</script>", "", page.source, flags=re.DOTALL)
    assert not re.search(r"url\(|@import", outside_scripts)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "require-trusted-types-for 'script'" in policy
    (allowed,) = re.findall(r"script-src ([^;]+)", policy)
    scripts = [text for name, text in page.scripts.items() if name not in ("charts", "problem-data")]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert allowed.split() == [f"'sha256-{digest}'" for digest in digests] and len(scripts) == 4
    types = [attributes for tag, attributes in page.elements if tag == "script" and "id" in attributes]
    assert [attributes["type"] for attributes in types] == ["application/json"] * 2
    assert len(page.source) < 1_700_000


def test_links_lead_to_sections_of_the_page(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert len(ids) == len(set(ids)) and len(links) == 7
    assert {link.removeprefix("#") for link in links} == set(ids) - {"browser", "charts", "problem-data"}


def test_untrusted_text_is_text(page: Page) -> None:
    assert "<script>alert(1)</script>\u241b[31m red U+202E txet </pre><img src=x onerror=alert(2)>" in page.text
    assert "<u>demo" in page.text
    assert "What is 3 & 3?" in page.text or "What is 13 & 13?" in page.text
    assert not [tag for tag, attributes in page.elements if tag == "u" or attributes.get("src") == "x"]
    assert len([tag for tag, _ in page.elements if tag == "script"]) == len(page.scripts) == 6
    assert not set("\x1b\u202e") & set(page.source)


def test_secrets_of_the_settings_are_not_on_the_page(page: Page) -> None:
    assert "hf_secret" not in page.source
    assert ["model_init_kwargs.token", "(not shown)"] in [row for table in page.tables for row in table]


def test_settings_tell_what_counts_from_the_rest_and_the_runs_apart(page: Page) -> None:
    _, _, _, main, runs, other, *_ = page.tables
    assert ["max_steps", "60"] in main and ["learning_rate", "0.0001"] in main
    assert ["num_train_epochs", "3.0"] in other and "max_steps" not in dict(other)
    assert runs[0] == ["run", "seed", "weighting", "apply_weights"]
    assert ["paced_sampling-seed1", "1", "beta", "sampling"] in runs and len(runs) == 7


def test_result_table_is_the_comparison(page: Page, comparison: tuple[Path, Comparison]) -> None:
    rows = comparison_rows(comparison[1])
    header, *cells = page.tables[0]
    assert header == list(rows[0])
    assert len(cells) == len(rows) == 4
    for row, shown in zip(rows, cells, strict=True):
        # The interval stands on a line of its own, after the word.
        assert [sorted(cell.split()) for cell in shown] == [sorted((value or "–").split()) for value in row.values()]


def test_verdict_table_is_the_counts(page: Page, comparison: tuple[Path, Comparison]) -> None:
    header, *cells = page.tables[1]
    assert header == ["completions", *VERDICTS]
    evaluations = comparison[1].evaluations("uniform", "test")
    passed = sum(evaluation.verdicts["passed"] for evaluation in evaluations)
    (row,) = [row for row in cells if row[0] == "test, uniform"]
    assert row[1].split() == [str(passed), f"{100 * passed / (2 * 60 * 4):.1f}%"]
    assert cells[0][0] == "training problems, student before training"
    assert sum(int(cell.split()[0]) for cell in cells[0][1:]) == 80 * 8


def test_figures_are_drawn_and_in_the_page(page: Page, comparison: tuple[Path, Comparison]) -> None:
    files = sorted((comparison[0] / "figures").iterdir())
    assert [file.name for file in files] == ["accuracy.png", "before_after.png", "pass_rates.png", "training.png"]
    embedded = [base64.b64decode(a["src"].split(",")[1]) for tag, a in page.elements if tag == "img"]
    dark = [base64.b64decode(a["srcset"].split(",")[1]) for tag, a in page.elements if tag == "source"]
    assert sorted(embedded) == sorted(file.read_bytes() for file in files)
    assert all(len(a["alt"]) > 40 for tag, a in page.elements if tag == "img")
    for light_png, dark_png in zip(embedded, dark, strict=True):
        for png, theme in ((light_png, LIGHT), (dark_png, DARK)):
            image = Image.open(io.BytesIO(png)).convert("RGB")
            pixels = np.asarray(image, dtype=np.float64)
            assert image.width == 1350 and image.height > 300
            assert pixels.std() > 15
            # Paper of the page's own colour, so that no frame shows around a figure.
            assert "#" + pixels[0, 0].astype(np.uint8).tobytes().hex().upper() == theme.paper


def test_the_same_run_gives_the_same_page(comparison: tuple[Path, Comparison]) -> None:
    directory = comparison[0]
    before = {file: file.read_bytes() for file in [directory / "report.html", *(directory / "figures").iterdir()]}
    write_report(directory)
    assert {file: file.read_bytes() for file in before} == before


def test_arms_are_called_better_and_best_where_intervals_allow(comparison: tuple[Path, Comparison]) -> None:
    sentences = findings(read_run(comparison[0]))
    assert len(sentences) == 3
    assert sentences[0].startswith("On test, paced_sampling is best, with a mean@4 of 0.")
    assert re.search(r"paced_sampling \(\+0\.\d+\) is better .*; uniform \(-0\.\d+\) is worse", sentences[1])
    assert sentences[1].endswith("no difference from the untouched student is shown for paced.")
    assert re.match(r"On reversal, which no arm trains on, uniform \(-0\.\d+\) is worse than", sentences[2])


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


def test_mean_with_interval_is_the_mean_over_seeds() -> None:
    evaluations = [make_evaluation("test", 0.5, seed=seed) for seed in (0, 1, 2)]
    one = mean_with_interval(evaluations[:1])
    assert one.estimate == pytest.approx(evaluations[0].mean_at_k, abs=1e-12)
    assert (one.low, one.high) == pytest.approx(evaluations[0].mean_at_k_interval, abs=1e-12)
    pooled = mean_with_interval(evaluations)
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
    assert "Only 0.0% of the training problems are on the frontier" in page.text
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
    assert "Only 3.2% of the training problems are on the frontier" in frontier
    assert "no valid verdict on 3.0% of the completions" in verifier
    assert "17.0% of the completions were cut" in truncated
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
    (run / "evaluation" / run.name / "reversal.json").unlink()
    page = Page(write_report(run))
    header, *rows = page.tables[0]
    assert [row[0] for row in rows] == [BASE, run.name]
    assert [row[0] for row in page.tables[1][1:]] == ["test, base", f"test, {run.name}"]
    assert "u" not in {tag for tag, _ in page.elements}
    assert rows[1][header.index("mean@k")].startswith(f"{results[run.name].mean_at_k:.3f} (k=4)")
    found = compare_runs(results[run.name], results["tiny"])
    assert rows[1][header.index("- baseline")].split()[0] == f"{found.estimate:+.3f}"
    assert "distilled from the teacher demo/teacher with forward KL first" in page.text
    assert f"Not finished yet, so not shown or not complete: {run.name}." in page.text
    assert sorted(file.stem for file in (run / "figures").iterdir()) == ["accuracy", "before_after", "training"]


def test_evaluations_under_other_settings_are_shown_and_not_compared(tmp_path: Path) -> None:
    make_settings(tmp_path, **{"student.model_name_or_path": "tiny"})
    make_evaluation("test", 0.4).save(tmp_path / "evaluation/tiny/test.json")
    make_evaluation("test", 0.7, k=8, num_problems=20).save(tmp_path / "evaluation/mine/test.json")
    page = Page(write_report(tmp_path))
    assert [row[-1] for row in page.tables[0]] == ["- baseline", "–", "–"]
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
    samples = sample_problems(contents, weights.values)
    assert len(samples) == 30 and len({sample.problem_id for sample in samples}) == 30
    rates = [sample.num_passed / sample.num_valid for sample in samples]
    assert rates == sorted(rates) and set(rates) == {passed / 8 for passed in num_passed}
    expected = problem_weights(num_passed, [8] * 80)
    for sample in samples:
        row = int(sample.problem_id[1:])
        assert sample.prompt == f"What is {row} & {row}?" and sample.solution == "42"
        assert sample.reference == f"passed {row}"
        assert sample.problem_weight == pytest.approx(expected[row])
        assert sample.num_completions == 8 and len(sample.completions) == 4
        kinds = {"passed" for _ in range(sample.num_passed)} | {"failed" for _ in range(8 - sample.num_passed)}
        assert {one["verdict"] for one in sample.completions} == kinds


def test_the_last_message_of_a_chat_is_shown(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    table = pa.table({"problem_id": ["a"], "prompt": [messages], "solution": [2], "num_passed": [1], "num_valid": [2]})
    (sample,) = sample_problems(RunContents(tmp_path, pass_rates=table))
    assert (sample.prompt, sample.num_earlier_messages, sample.solution) == ("1+1?", 1, "2")
    assert (sample.completions, sample.reference, sample.problem_weight) == ([], None, None)


def test_choose_problems_spreads_over_pass_rates() -> None:
    num_passed = [0] * 100 + [8] * 100 + [4] * 3 + [0]
    num_valid = [8] * 203 + [0]
    chosen = choose_problems(num_passed, num_valid, 11)
    assert chosen == choose_problems(num_passed, num_valid, 11)
    rates = [num_passed[row] / num_valid[row] if num_valid[row] else None for row in chosen]
    assert rates == [0.0] * 4 + [0.5] * 3 + [1.0] * 3 + [None]
    # Evenly spaced, not the first ones.
    assert chosen[:4] == [12, 37, 62, 87]
    assert choose_problems([1, 2], [2, 2], 30) == [0, 1]


def test_choose_completions_shows_every_verdict() -> None:
    rows = [{"index": i, "verdict": verdict} for i, verdict in enumerate(["failed"] * 5 + ["passed", "truncated"])]
    assert [row["index"] for row in choose_completions(rows, 4)] == [0, 1, 5, 6]
    assert [row["index"] for row in choose_completions(rows, 2)] == [0, 5]
    assert choose_completions([], 4) == []


def test_elide_keeps_both_ends() -> None:
    assert elide("a" * 30, 30) == "a" * 30
    text = elide("b" + "x" * 1500 + "e", 30)
    assert text.startswith("b" + "x" * 19 + "\n[... 1,472 characters ...]\n") and text.endswith("x" * 9 + "e")


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
    for theme in (LIGHT, DARK):
        colors = theme.arm_colors([BASE, "mine", "paced", "other", "uniform"])
        assert len(set(colors.values())) == 5
        assert colors["paced"] == theme.arm_colors(["paced"])["paced"]
        assert colors[BASE] == theme.base
        assert len(theme.arm_colors(f"arm {number}" for number in range(20))) == 21


def test_figures_show_the_numbers(comparison: tuple[Path, Comparison]) -> None:
    contents = read_run(comparison[0])
    accuracy = draw_accuracy(contents.evaluations, contents.retention_sets)
    for axes, (eval_set, by_arm) in zip(accuracy.axes, contents.evaluations.items(), strict=True):
        dots = [np.asarray(line.get_xdata())[0] for line in axes.lines if line.get_marker() == "o"]
        if eval_set == "test":
            assert dots == pytest.approx([np.mean([e.mean_at_k for e in evals]) for evals in by_arm.values()])
        else:
            expected = [compare_runs(by_arm[arm], by_arm[BASE]).estimate for arm in ARMS]
            assert dots == pytest.approx(expected)
    for axes in draw_before_after({"test": contents.evaluations["test"]}).axes:
        assert sum(bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")) == pytest.approx(1.0)
    divergence, pass_rate = draw_training(contents.histories).axes
    verticals = [line for line in divergence.lines if np.ptp(np.asarray(line.get_xdata())) == 0]
    assert [np.asarray(line.get_xdata())[0] for line in verticals] == [30.0]
    assert [text.get_text().strip() for text in divergence.texts] == ["forward KL", "reverse KL"]
    assert pass_rate.lines


def test_report_loads_without_torch() -> None:
    code = "import sys, paced_trl.report; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
