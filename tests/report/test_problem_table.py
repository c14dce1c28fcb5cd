"""The page's table of problems: which rows, which texts, what was read in them, and that no text leaves its data."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.report_runs import RECORD, make_comparison, make_evaluation, make_pass_rates, make_settings, make_store
from paced_trl.evaluation.comparison import BASE
from paced_trl.report import problem_table as table_module
from paced_trl.report.contents import RunContents, read_run
from paced_trl.report.figures import report_figures
from paced_trl.report.findings import advice_by_text, headlines
from paced_trl.report.page import as_script_data, policy_hash, static_text
from paced_trl.report.problem_table import MAX_ANSWER, MAX_SIZE, answer_reader, example_of, problem_table
from paced_trl.store.store import PassRateStore
from paced_trl.training.monitoring.notes import keep_note, keeping_warnings
from paced_trl.verification.verifier import load_verifier


def make_completions(path: Path, texts: dict[str, list[tuple[str, str]]], verifier: str = "exact") -> None:
    """A store of completions with verdicts, by problem."""
    rows = [
        {"problem_id": problem_id, "generation_index": index, "completion": text, "num_tokens": 3}
        | {"finish_reason": "stop", "verdict": verdict}
        for problem_id, completions in texts.items()
        for index, (text, verdict) in enumerate(completions)
    ]
    PassRateStore(path, RECORD | {"verifier": {"name": verifier, "options": {}}}).append(rows)


def test_rows_are_all_problems_with_counts_of_all_seeds(tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path)
    contents = read_run(tmp_path)
    weights = np.linspace(0, 2, 80)
    table = problem_table(contents, weights)
    assert table is not None
    assert table["arms"] == [BASE, "uniform", "paced", "paced_sampling"] and table["arm"] == 3
    assert table["sets"] == ["training", "test", "reversal"]
    assert [sum(row["set"] == number for row in table["rows"]) for number in range(3)] == [80, 60, 30]
    assert contents.pass_rates is not None
    for row, passed, weight in zip(
        table["rows"], contents.pass_rates["num_passed"].to_pylist(), weights, strict=False
    ):
        assert row["counts"] == {0: [passed, 8]} and row["weight"] == pytest.approx(weight, abs=1e-4)
        assert row["made"] == {0: 8} and len(row["shown"][0]) == 4
    for number, arm in enumerate(table["arms"]):
        evaluations = comparison.evaluations(arm, "test")
        expected = np.sum([evaluation.num_passed for evaluation in evaluations], axis=0)
        rows = [row for row in table["rows"] if row["set"] == 1]
        assert [row["counts"][number] for row in rows] == [[p, 4 * len(evaluations)] for p in expected.tolist()]
    assert problem_table(RunContents(tmp_path)) is None


def test_training_problems_have_both_sides_where_they_were_measured_again(tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path)
    for number, run in enumerate(comparison.runs):
        again = make_evaluation("p", 0.6, seed=number, num_problems=80)
        run.evaluations["training"] = replace(again, name="training", problem_ids=[f"p{row}" for row in range(80)])
    comparison.save(tmp_path)
    later = tmp_path / "arms/paced-seed0/evaluation/training_completions"
    make_completions(later, {"p0": [("now I know: 42", "passed")]})
    contents = read_run(tmp_path)
    assert contents.eval_sets == ["test"] and list(contents.before_and_after) == ["test", "training"]
    table = problem_table(contents)
    assert table is not None and contents.pass_rates is not None
    rows = [row for row in table["rows"] if row["set"] == 0]
    before = contents.pass_rates["num_passed"].to_pylist()
    assert [row["counts"][0] for row in rows] == [[passed, 8] for passed in before]
    for number, arm in enumerate(table["arms"][1:], start=1):
        evaluations = [run.evaluations["training"] for run in comparison.runs_of(arm)]
        expected = np.sum([evaluation.num_passed for evaluation in evaluations], axis=0)
        assert [row["counts"][number] for row in rows] == [[passed, 8] for passed in expected.tolist()]
    assert rows[0]["shown"][table["arms"].index("paced")][0][3] == "now I know: 42" and len(rows[0]["shown"][0]) == 4
    figures = {figure.name: figure for figure in report_figures(contents, None)}
    assert "(test, training)" in figures["before_after"].caption and "training" not in figures["accuracy"].alt
    titles = [axes.get_title() for axes in figures["before_after"].draw().figure.axes]
    assert titles[3:] == ["uniform\ntraining", "paced\ntraining", "paced_sampling\ntraining"]


def test_held_out_problems_have_both_sides_and_their_prompts(tmp_path: Path) -> None:
    make_comparison(tmp_path)
    make_completions(tmp_path / "base/test_completions", {"test-0": [("I say 7.", "failed")]}, "numeric")
    later = {"test-0": [("It is 3 + 4 = 42.", "passed"), ("", "unparseable")]}
    make_completions(tmp_path / "arms/paced-seed0/evaluation/test_completions", later, "numeric")
    make_completions(tmp_path / "arms/paced-seed1/evaluation/test_completions", {"test-0": [("no", "failed")]})
    problems = pa.table({"problem_id": ["test-0"], "prompt": ["6 * 7?"], "solution": ["42"]})
    pq.write_table(problems, tmp_path / "base/test_problems.parquet")
    table = problem_table(read_run(tmp_path))
    assert table is not None
    row, other = [row for row in table["rows"] if row["set"] == 1][:2]
    assert (row["id"], row["prompt"], row["solution"]) == ("test-0", "6 * 7?", "42")
    assert row["shown"][0] == [[1, "failed", 3, "I say 7.", "7"]]
    paced = table["arms"].index("paced")
    assert row["shown"][paced] == [[1, "passed", 3, "It is 3 + 4 = 42.", "42"], [2, "unparseable", 3, "", None]]
    assert (other["prompt"], other["shown"]) == (None, {})


def test_the_example_is_the_problem_that_went_furthest(tmp_path: Path) -> None:
    make_comparison(tmp_path)
    ids = [f"test-{number}" for number in range(60)]
    for arm, texts in (("base", ("before", "also before")), ("arms/paced_sampling-seed0/evaluation", ("so", "42"))):
        both = list(zip(texts, ("failed", "passed"), strict=True))
        make_completions(tmp_path / arm / "test_completions", dict.fromkeys(ids, both))
    contents = read_run(tmp_path)
    table = problem_table(contents)
    assert table is not None
    (headline,) = headlines(contents)
    example = example_of(table, headline)
    assert example is not None and example["rose"]
    arm = table["arms"].index("paced_sampling")
    rise = {
        row["id"]: row["counts"][arm][0] / row["counts"][arm][1] - row["counts"][0][0] / row["counts"][0][1]
        for row in table["rows"]
        if row["set"] == 1
    }
    assert rise[example["id"]] == max(rise.values()) > 0
    (base, _, before), (name, _, after) = example["sides"]
    assert (base, name) == ("base, before training", "paced_sampling")
    assert before[1:2] + before[3:4] == ["failed", "before"] and after[1:2] + after[3:4] == ["passed", "42"]
    # A student that got worse is shown where it did.
    worse = headline._replace(before=headline.after, after=headline.before)
    fallen = example_of(table, worse)
    assert fallen is None or rise[fallen["id"]] == min(rise.values())
    assert example_of(table, headline._replace(arm="uniform")) is None  # no completions of it were kept


def test_of_too_many_the_heaviest_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pass_rates(tmp_path / "pass_rates.parquet", make_store(tmp_path / "pass_rates"))
    monkeypatch.setattr(table_module, "MAX_PROBLEMS", 10)
    weights = np.random.default_rng(0).permutation(80).astype(np.float64)
    table = problem_table(read_run(tmp_path), weights)
    assert table is not None
    assert [row["id"] for row in table["rows"]] == [f"p{row}" for row in np.flatnonzero(weights >= 70)]
    assert table["notes"][0] == "Of 80 training problems the 10 of the greatest weight are listed."


@pytest.mark.parametrize("character", ["x", "漢"])
def test_texts_are_shortened_alike_until_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    long = character * 3000
    make_completions(
        tmp_path / "pass_rates", {f"p{n}": [(long, "failed")] * 3 + [(long, "passed")] for n in range(40)}
    )
    size = 40 * 1000 * len(json.dumps(character).strip('"'))
    monkeypatch.setattr(table_module, "MAX_SIZE", size)
    table = problem_table(read_run(tmp_path))
    assert table is not None
    text = as_script_data(table)
    assert size / 4 < len(text) < 1.3 * size
    shown = {tuple(each[1] for each in row["shown"][0]) for row in table["rows"]}
    assert len(shown) == 1 and shown <= {("failed",), ("failed", "passed")}
    assert all("characters ...]" in each[3] for row in table["rows"] for each in row["shown"][0])
    assert "of a longer text" in table["notes"][-1]


def test_what_does_not_fit_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pass_rates(tmp_path / "pass_rates.parquet", make_store(tmp_path / "pass_rates"))
    monkeypatch.setattr(table_module, "MAX_SIZE", 80 * 250 // 2)
    weights = np.arange(80.0)
    table = problem_table(read_run(tmp_path), weights)
    assert table is not None
    with_texts = [row["weight"] for row in table["rows"] if row["shown"]]
    assert 0 < len(with_texts) < 80 and with_texts == weights[-len(with_texts) :].tolist()
    assert f"{80 - len(with_texts)} problems are listed without their completions." in table["notes"]
    assert MAX_SIZE < 5_000_000


@pytest.mark.parametrize(
    ("verifier", "completion", "answer"),
    [
        ("numeric", "5 and 7 make 12, so the answer is 1,234.50.", "1234.5"),
        ("numeric", "The answer is 1/3", "1/3"),
        ("numeric", "It is 12%.", "12%"),
        ("numeric", "I do not know.", None),
        ("math", r"So \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("math", "The answer is 12.", "12"),
        ("math", "Nothing is stated here", None),
        ("choice", "Answer: (B)", "B"),
        ("choice", "A or B", None),
        ("math", "\\boxed{" + "x" * 500 + "}", "x" * MAX_ANSWER + "…"),
    ],
)
def test_answers_are_read_as_the_verifier_reads_them(verifier: str, completion: str, answer: str | None) -> None:
    read = answer_reader({"verifier": {"name": verifier, "options": {}}})
    assert read is not None and read(completion) == answer


@pytest.mark.parametrize(("name", "options"), [("choice", {"choices": "ABC", "index_base": 0}), ("numeric", {})])
def test_what_passes_was_read_as_the_gold(name: str, options: dict[str, Any]) -> None:
    completions = ["Answer: B", "The answer is 1", "(A)", "I say 2, no, 1.", "C is correct", "x", ""]
    read = answer_reader({"verifier": {"name": name, "options": options}})
    assert read is not None
    with load_verifier(name, **options) as verifier:
        verdicts = verifier(completions, [1] * len(completions))
    gold = "B" if name == "choice" else "1"
    assert [verdict == "passed" for verdict in verdicts] == [read(completion) == gold for completion in completions]


def test_whole_texts_and_programs_have_no_answer_to_read() -> None:
    for record in ({}, {"verifier": {"name": "exact"}}, {"verifier": {"name": "python_tests"}}, {"verifier": None}):
        assert answer_reader(record) is None


@pytest.mark.parametrize(
    "text", ["</script>", "<!--<script>", "]]>&amp;", "\u2028\u2029\x00\x1b\u202e", "\ud800", "漢😀"]
)
def test_data_comes_back_and_cannot_leave_its_element(text: str) -> None:
    embedded = as_script_data({text: [text, 1.5, None]})
    assert json.loads(embedded) == {text: [text, 1.5, None]}
    assert embedded.isascii() and embedded.isprintable() and not set("<>&") & set(embedded)
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_script_data(float("nan"))


def test_the_script_is_named_by_its_hash() -> None:
    digest = base64.b64encode(hashlib.sha256("a('é');\n".encode()).digest()).decode()
    assert policy_hash("a('é');\n") == f"'sha256-{digest}'"
    text = static_text("problems.js").lower()
    assert "</script" not in text and "<!--" not in text and "\r" not in text and "innerhtml" not in text


def test_warnings_of_training_are_kept_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with keeping_warnings(tmp_path):
            for step in range(3):
                warnings.warn(f"Something is off at {step}.", stacklevel=1)
            warnings.warn("Some name is old.", DeprecationWarning, stacklevel=1)
        warnings.warn("After the run.", stacklevel=1)
    assert len(shown) == 5
    make_settings(tmp_path, weighting="beta")
    make_store(tmp_path / "pass_rates")
    keep_note(tmp_path, "entropy", "It has collapsed.", 7)
    name = tmp_path.name
    assert advice_by_text(read_run(tmp_path)) == {
        "Something is off at 0.": [name],
        "It has collapsed.": [f"{name}, step 7"],
    }


def test_warnings_that_differ_in_numbers_only_are_one() -> None:
    notes = {
        "one": [{"step": 4, "subject": "entropy", "text": "It fell from 0.41 to 0.2."}],
        "two": [{"step": 6, "subject": "entropy", "text": "It fell from 1,000 to 3."}],
        "three": [{"step": None, "subject": "entropy", "text": "It rose from 0.41 to 0.2."}],
    }
    assert advice_by_text(RunContents(Path("run"), advice=notes)) == {
        "It fell from 0.41 to 0.2.": ["one, step 4", "two, step 6"],
        "It rose from 0.41 to 0.2.": ["three"],
    }


def test_damaged_notes_are_named(tmp_path: Path) -> None:
    make_settings(tmp_path, weighting="beta")
    (tmp_path / "advice.json").write_text('[{"text": "no step"}]')
    with pytest.raises(ValueError, match=r"advice.json' cannot be read \('step'\)"):
        read_run(tmp_path)
