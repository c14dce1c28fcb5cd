"""What `verify` says about completions with labels: counts, agreement, the rows behind them, the file it writes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from paced_trl.commands.verify import run
from paced_trl.problems import read_columns
from paced_trl.verification.agreement import as_label, verify_completions
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


ROWS: list[dict[str, Any]] = [
    {"prompt": "2+2?", "completion": "It is 4.", "solution": 4, "correct": True},
    {"prompt": "2+2?", "completion": "It is 5.", "solution": "4", "correct": 0},
    {"prompt": "2+3?", "completion": "It is \x1b[31m6.", "solution": "5", "correct": "passed"},
    {"prompt": "2+3?", "completion": "long " * 200 + "5", "solution": "5", "correct": "wrong"},
    {"prompt": "2+3?", "completion": "No idea.", "solution": "5", "correct": "failed"},
    {"prompt": "2+3?", "completion": "It is 5.", "solution": "five or six", "correct": True},
    {"prompt": "2+3?", "completion": "It is 5.", "solution": "5", "correct": None},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "graded.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


def test_agreement_is_that_of_a_naive_count() -> None:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    with load_verifier("numeric") as verifier:
        report = verify_completions(
            columns["completion"], columns["solution"], verifier, labels=columns["correct"], problems=columns["prompt"]
        )
    table = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for row in report.rows:
        if row.verdict not in (Verdict.TIMEOUT, Verdict.UNVERIFIABLE) and row.label is not None:
            table[row.verdict == "passed", row.label] += 1
    assert report.agreement_table == table == {(True, True): 1, (True, False): 1, (False, True): 1, (False, False): 2}
    assert report.agreement == 3 / 5
    assert [row.row for row in report.disagreements] == [2, 3] and [row.row for row in report.without_verdict] == [5]
    assert report.counts == {"passed": 3, "failed": 2, "unparseable": 1, "unverifiable": 1}
    assert sum(report.counts.values()) == 7 and report.rate > 0


def test_command_prints_the_rows_and_writes_the_verdicts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset_name", str(data), "--verifier", "numeric", "--label_column", "correct"]
    run([*arguments, "--output_dir", str(tmp_path / "out"), "--max_shown", "1"])
    shown = capsys.readouterr().out
    assert "7 completions judged by 'numeric'" in shown and "Agreement with the labels: 60.00% of 5" in shown
    assert "Disagreements: 2, the first 1" in shown and "row 2: failed, label right" in shown
    assert "row 3" not in shown and "row 5: unverifiable, label right" in shown and "\x1b" not in shown
    written = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in written][:3] == ["passed", "failed", "failed"]
    assert written[5] == {
        "row": 5,
        "verdict": "unverifiable",
        "label": True,
        "problem": "2+3?",
        "solution": "five or six",
        "completion": "It is 5.",
        "gold_read": None,
        "answer_read": "5",
    }
    run([*arguments[:4], "--max_problems", "2"])
    shown = capsys.readouterr().out
    assert "2 completions judged" in shown and "Agreement" not in shown and "Disagreements" not in shown


def test_command_says_what_it_read_from_each_answer_and_gold(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("math_verify")
    path = ROOT / "recipes" / "verify" / "mixed_answers.jsonl"
    run(["--dataset_name", str(path), "--label_column", "correct", "--verifier", "math", "--max_shown", "1"])
    shown = capsys.readouterr().out
    assert "Agreement with the labels: 100.00% of 15" in shown and "What was read, of each completion:" in shown
    lines = [line.split(maxsplit=2) for line in shown.splitlines() if line.strip()[:1].isdigit()][1:]
    read = {
        int(row): (verdict, [part.strip() for part in rest.split("  ") if part.strip()])
        for row, verdict, rest in lines
    }
    assert len(read) == 16
    assert read[1] == ("failed", ["82", "(78) + (4)"]) and read[3] == ("failed", ["42", "42 or 41"])
    assert read[5] == ("passed", ["5, -6", "5, -6"]) and read[10] == ("passed", ["1011_{2}", "1011_{2}"])
    assert read[14] == ("unparseable", ["18", "(nothing)"]) and read[15] == (
        "unverifiable",
        ["(nothing)", "Jupiter"],
    )


def test_long_completions_are_shown_by_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    report = verify_completions(["a" * 1000 + " 5"], ["4"], load_verifier("numeric"), labels=[True])
    [line] = [line for line in str(report).splitlines() if "completion " in line]
    assert line.endswith("aaa 5") and "..." in line and len(line) < 350


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_files_of_every_kind(tmp_path: Path, suffix: str) -> None:
    rows = [{"completion": "4\n,", "solution": "4"}, {"completion": "\u00e9", "solution": "5"}]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["completion", "solution"])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    assert read_columns(str(path)) == {"completion": ["4\n,", "\u00e9"], "solution": ["4", "5"]}


def test_other_columns_reach_the_verifier(tmp_path: Path) -> None:
    path = tmp_path / "programs.jsonl"
    row = {"completion": "x", "answer": "x", "question": "?", "bonus": 1.0}
    path.write_text(json.dumps(row))
    run(["--dataset_name", str(path), "--solution_column", "answer", "--prompt_column", "question", *REWARD])


REWARD = ["--verifier", "helpers.rewards:reward_seeing_all"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`dataset_name` is not given"),
        (["--dataset_name", "none.jsonl"], "There is no file 'none.jsonl'"),
        (
            ["--dataset_name", "DATA", "--label_column", "right"],
            "no column 'right' for the label; they have prompt, compl",
        ),
        (["--dataset_name", "DATA", "--completion_column", "text"], "`--completion_column`"),
        (["--dataset_name", "DATA", "--label_column", "prompt"], "label of row 0 is '2\\+2\\?', which says neither"),
    ],
)
def test_what_is_wrong_is_named(data: Path, arguments: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run([str(data) if argument == "DATA" else argument for argument in arguments])


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    files = {"a.jsonl": ("", "holds no rows"), "b.json": ("[1]", "object 1 is no object with columns, but 1")}
    for name, (content, message) in {**files, "c.csv": ("a,b\n", "holds no rows")}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_columns(str(tmp_path / name))
    (tmp_path / "d.jsonl").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_columns(str(tmp_path / "d.jsonl"))


def test_labels() -> None:
    assert [as_label(value) for value in (True, 1, 1.0, "1", "Passed", "true")] == [True] * 6
    assert [as_label(value) for value in (False, 0, 0.0, "0", "failed", " wrong ")] == [False] * 6
    assert [as_label(value) for value in (None, "", float("nan"))] == [None] * 3
    with pytest.raises(ValueError, match="2 completions, 2 solutions and 1 labels"):
        verify_completions(["a", "b"], ["a", "b"], load_verifier("exact"), labels=[True])
    assert verify_completions([], [], load_verifier("exact")).agreement is None


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, paced_trl\n"
        "paced_trl.verify_completions(['4'], [4], paced_trl.load_verifier('numeric'))\n"
        "sys.exit(bool({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
