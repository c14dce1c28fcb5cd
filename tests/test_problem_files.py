"""Values arrive as they are written, from every kind of file, and what is broken is named by file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from helpers.problem_files import ROWS, write
from paced_trl.problem_files import find_column, read_columns, read_dataset


DIGITS = "123456789012345678901234567890"


def golds(path: Path, content: str | bytes) -> list[Any]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dataset(str(path), exact={"solution"})["solution"][:]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["7", "8"], [7, 8]),
        ([DIGITS], [DIGITS]),
        (["7", DIGITS], ["7", DIGITS]),
        (["-9223372036854775808"], ["-9223372036854775808"]),
        (["0.5", "1.25"], [0.5, 1.25]),
        (["0.10"], ["0.10"]),
        (["1e5", "0.5"], ["1e5", "0.5"]),
        (["3.14159265358979323846"], ["3.14159265358979323846"]),
        (["7", "0.5"], ["7", "0.5"]),
        (["7", '"x"'], ["7", "x"]),
        (['"2024-01-01"', '"12:30"'], ["2024-01-01", "12:30"]),
        (['"007"'], ["007"]),
        (["true"], [True]),
        (["true", '"yes"'], ["true", "yes"]),
        (["null", "7"], [None, 7]),
        (["NaN", "0.5"], [None, 0.5]),
        (["[1, 2]", "[3]"], [[1, 2], [3]]),
        (['[1, "a"]'], ['[1, "a"]']),
        (["[1]", '"1"'], ["[1]", "1"]),
    ],
)
@pytest.mark.parametrize("name", ["p.jsonl", "p.json"])
def test_golds_of_json_arrive_as_written(tmp_path: Path, name: str, written: list[str], expected: list[Any]) -> None:
    rows = [f'{{"prompt": "q", "solution": {gold}}}' for gold in written]
    content = "\n".join(rows) if name == "p.jsonl" else f"[{', '.join(rows)}]"
    found = golds(tmp_path / name, content)
    assert found == expected and [type(gold) for gold in found] == [type(gold) for gold in expected]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["7", "8"], [7, 8]),
        (["007", "8"], ["007", "8"]),
        (["7", "", "8"], [7, None, 8]),
        (["7", "0.5"], ["7", "0.5"]),
        (["0.5"], [0.5]),
        (["+7"], ["+7"]),
        (["1_000"], ["1_000"]),
        (["1,000"], ["1,000"]),
        ([DIGITS], [DIGITS]),
        (["2024-01-01"], ["2024-01-01"]),
        (["True"], ["True"]),
        (["NA", "None"], ["NA", "None"]),
        (["1.50"], ["1.50"]),
        (["two\nlines", 'a "quoted" one'], ["two\nlines", 'a "quoted" one']),
    ],
)
@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ","), ("p.tsv", "\t")])
def test_golds_of_tables_arrive_as_written(
    tmp_path: Path, name: str, delimiter: str, written: list[str], expected: list[Any]
) -> None:
    quoted = ['"' + gold.replace('"', '""') + '"' if set(gold) & set(',"\n') else gold for gold in written]
    content = "\n".join([f"prompt{delimiter}solution", *(f"q{delimiter}{gold}" for gold in quoted)])
    found = golds(tmp_path / name, content)
    assert found == expected and [type(gold) for gold in found] == [type(gold) for gold in expected]


def test_other_columns_of_a_table_are_numbers_where_they_can_be(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"a,b,c,d,e\n1,1.50,,x,true\n02,,,y,False\n1,2,,z,TRUE\n9,9,{DIGITS},,\n")
    columns = read_dataset(str(tmp_path / "p.csv"), exact=()).to_dict()
    assert columns == {
        "a": [1, 2, 1, 9],
        "b": [1.5, None, 2.0, 9.0],
        "c": [None, None, None, DIGITS],
        "d": ["x", "y", "z", None],
        "e": [True, False, True, None],
    }


@pytest.mark.parametrize(
    "name", ["p.ndjson", "p.JSONL", "p.jsonl.gz", "p.json.gz", "p.csv.gz", "p.tsv", "p.TSV.GZ", "p.Json", "p.parquet"]
)
def test_every_ending_is_read(tmp_path: Path, name: str) -> None:
    lower = name.lower().removesuffix(".gz")
    if lower.endswith("parquet"):
        write(tmp_path / name, ROWS)
    else:
        if lower.endswith(("csv", "tsv")):
            separator = "," if lower.endswith("csv") else "\t"
            lines = [separator.join(ROWS[0]), *(separator.join(map(str, row.values())) for row in ROWS)]
        else:
            lines = [json.dumps(row) for row in ROWS]
        content = "\n".join(lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert read_dataset(str(tmp_path / name), exact={"answer"}).to_list() == ROWS
    columns = read_columns(str(tmp_path / name))
    assert columns["question"] == ["1+1=", "1+2="] and list(map(int, columns["answer"])) == [2, 3]


def test_directories_of_save_to_disk(tmp_path: Path) -> None:
    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "one")
    DatasetDict(train=dataset, test=dataset.select([1])).save_to_disk(tmp_path / "splits")
    assert read_dataset(str(tmp_path / "one"), exact=()).to_list() == ROWS
    assert read_dataset(str(tmp_path / "splits"), exact=()).to_list() == ROWS
    assert read_dataset(str(tmp_path / "splits"), split="test", exact=()).to_list() == ROWS[1:]
    assert read_columns(str(tmp_path / "one"))["answer"] == [2, 3]
    with pytest.raises(ValueError, match="has no split 'dev'; it has train, test"):
        read_dataset(str(tmp_path / "splits"), split="dev", exact=())


def test_several_objects_in_a_file_called_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('\ufeff{"a": 1}\n\n{"a": 2}\r\n')
    assert read_dataset(str(tmp_path / "p.json"), exact=())["a"][:] == [1, 2]
    (tmp_path / "q.json").write_text('{"a": 1}')
    assert read_dataset(str(tmp_path / "q.json"), exact=())["a"][:] == [1]
    (tmp_path / "r.jsonl").write_text('{"a": "one\\u2028line"}\n{"a": "two\u2028lines"}\n')
    assert read_dataset(str(tmp_path / "r.jsonl"), exact=())["a"][:] == ["one\u2028line", "two\u2028lines"]


GOOD = '{"a": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", GOOD + "null\n", "line 2 is no object with columns, but null"),
        ("p.jsonl", GOOD + "[1]\n", r"line 2 is no object with columns, but \[1\]"),
        ("p.jsonl", GOOD + '"text"\n', 'line 2 is no object with columns, but "text"'),
        ("p.jsonl", GOOD + '{"a": 1,}\n', "line 2 is not valid JSON .*at column 9"),
        ("p.jsonl", GOOD + GOOD + '{"a": "cut', "line 3 is not valid JSON .Unterminated string"),
        ("p.jsonl", GOOD + "{'a': 1}\n", "line 2 is not valid JSON"),
        ("p.jsonl", GOOD.strip() + GOOD, "line 1 is not valid JSON .Extra data"),
        ("p.jsonl", GOOD + "{" + '"a":[' * 100_000, "line 2 is (not valid JSON|nested too deeply)"),
        ("p.jsonl", GOOD + '{"a": "\\ud800"}\n', "line 2 has half of a character"),
        ("p.jsonl", (GOOD * 2).encode("utf-16"), "in UTF-16 or binary"),
        ("p.jsonl", (GOOD * 2).encode("utf-16-le"), "in UTF-16 or binary"),
        ("p.jsonl", GOOD.encode() + b'{"a": "\xe9"}\n', "line 2 is not in UTF-8 .its byte 8"),
        ("p.jsonl.gz", b"no gzip", "cannot be read .Not a gzipped file"),
        ("p.jsonl.gz", gzip.compress(GOOD.encode() * 99, mtime=0)[:-9], "cannot be read"),
        ("p.json", "[{},\n null]", "object 2 is no object with columns, but null"),
        ("p.json", '[{"a": 1},\n{"a": 2},\n]', "line 3 is not valid JSON"),
        ("p.json", '[{"a": 1},\n{"a": 2', "line 2 is not valid JSON"),
        ("p.json", "3", "object 1 is no object with columns, but 3"),
        ("p.json", GOOD + "null", "line 2 is no object"),
        ("p.csv", "a,b\n1,2\n1\n", "line 3 has 1 cells, and the header names 2 columns"),
        ("p.csv", "a,b\n1,2\n1,2,3\n", "line 3 has 3 cells"),
        ("p.csv", 'a,b\n1,2\n1,"open\n3,4\n', "line 3 is no row .*quotation mark left open"),
        ("p.csv", "a,a\n1,2\n", "line 1 names the column 'a' twice"),
        ("p.tsv", "a\tb\n1,2\n", "line 2 has 1 cells"),
        ("p.csv", "a,b\n1,2\n".encode("utf-16"), "in UTF-16"),
        ("p.parquet", b"PAR1 no parquet PAR1", "cannot be read"),
        ("p.txt", "a question", "is no kind of file that is read"),
    ],
)
def test_what_is_broken_is_named_in_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_dataset(str(tmp_path / name), exact={"a"})
    assert name in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["none.jsonl", "./none", "/no/such/directory", "a/b/c", "none.csv.gz"])
def test_what_is_missing_is_said(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"There is no file (or directory )?'{name}'.*relative paths start at"):
        read_dataset(name, exact=())


def test_a_hub_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(ConnectionError, match=r"'someone/none' is no file or directory here, and the Hub cannot be"):
        read_dataset("someone/none", exact=())


def test_dotted_names_reach_into_objects(tmp_path: Path) -> None:
    rows = [{"reward_model": {"ground_truth": {"value": "1"}, "x.y": 1}}, {"reward_model": None}]
    columns = {"reward_model": [row["reward_model"] for row in rows], "a.b": [1, 2], "a": [{"b": 3}, {"b": 4}]}
    assert find_column(columns, "reward_model.ground_truth.value") == ["1", None]
    assert find_column(columns, "a.b") == [1, 2]
    assert find_column(columns, "reward_model.style") is None and find_column(columns, "none.a") is None
    content = f'{{"reward_model": {{"ground_truth": {DIGITS}}}}}\n{{"reward_model": {{"ground_truth": 0.10}}}}'
    (tmp_path / "p.jsonl").write_text(content)
    dataset = read_dataset(str(tmp_path / "p.jsonl"), exact={"reward_model.ground_truth"})
    assert find_column(dataset, "reward_model.ground_truth") == [DIGITS, "0.10"]


def test_columns_are_read_value_by_value_for_a_verifier(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(f'{{"s": {DIGITS}}}\n{{"s": 0.10}}\n{{"s": 7}}\n{{"s": NaN}}\n{{"t": [1, "a"]}}')
    assert read_columns(str(tmp_path / "p.jsonl")) == {
        "s": [DIGITS, "0.10", 7, None, None],
        "t": [None] * 4 + [[1, "a"]],
    }
