"""Problems from every source, their columns, and rows that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from helpers.problem_files import COLUMNS, ROWS, write
from paced_trl.problems import load_problems


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.csv", "p.parquet", "saved_to_disk"])
def test_every_local_source_gives_the_same_problems(tmp_path: Path, name: str) -> None:
    problems = load_problems(write(tmp_path / name, ROWS), **COLUMNS)
    assert problems["prompt"][:] == ["1+1=", "1+2="]
    assert [int(solution) for solution in problems["solution"]] == [2, 3]
    assert problems["source"][:] == ["a", "b"]
    assert len(set(problems["problem_id"])) == 2


def test_problem_ids_depend_on_prompt_and_solution_alone(tmp_path: Path) -> None:
    first = load_problems(write(tmp_path / "a.jsonl", ROWS), **COLUMNS)
    again = load_problems(write(tmp_path / "b.jsonl", [{**row, "source": "c"} for row in reversed(ROWS)]), **COLUMNS)
    assert first["problem_id"][:] == again["problem_id"][::-1]


def test_a_column_of_ids_is_used_when_named(tmp_path: Path) -> None:
    problems = load_problems(write(tmp_path / "p.jsonl", ROWS), **COLUMNS, problem_id_column="source")
    assert problems["problem_id"][:] == ["a", "b"]


def test_mapping_replaces_a_column_of_the_target_name(tmp_path: Path) -> None:
    rows = [{**row, "prompt": "another"} for row in ROWS]
    assert load_problems(write(tmp_path / "p.jsonl", rows), **COLUMNS)["prompt"][:] == ["1+1=", "1+2="]


def test_few_shot_and_system_prompt_come_before_every_prompt(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "0+1="}, {"role": "assistant", "content": "1"}]
    (tmp_path / "turns.json").write_text(json.dumps(turns))
    problems = load_problems(
        write(tmp_path / "p.jsonl", ROWS), **COLUMNS, system_prompt="Add.", few_shot=str(tmp_path / "turns.json")
    )
    assert problems["prompt"][0] == [
        {"role": "system", "content": "Add."},
        *turns,
        {"role": "user", "content": "1+1="},
    ]


def test_as_chat_wraps_text_only(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}]
    path = write(tmp_path / "p.jsonl", [{"prompt": messages, "solution": "1"}])
    assert load_problems(path, as_chat=True)["prompt"][0] == messages
    assert load_problems(write(tmp_path / "q.jsonl", ROWS), **COLUMNS, as_chat=True)["prompt"][0] == [
        {"role": "user", "content": "1+1="}
    ]


def test_reasoning_gym_with_knobs() -> None:
    pytest.importorskip("reasoning_gym")
    problems = load_problems("reasoning_gym:chain_sum?size=5&seed=3&min_terms=2&max_terms=2")
    assert len(problems) == 5
    entry = json.loads(problems["reasoning_gym_entry"][0])
    assert entry["question"] == problems["prompt"][0] and entry["answer"] == problems["solution"][0]
    assert problems["prompt"][0].count("+") + problems["prompt"][0].count("-") == 1
    assert load_problems("reasoning_gym:chain_sum?size=5&seed=4")["prompt"][:] != problems["prompt"][:]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            ROWS,
            {"prompt_column": "questoin"},
            "no column 'questoin' for the prompt and none 'solution' for the solution; it has question, answer, "
            "source. Say which one holds it with `--prompt_column` and `--solution_column`",
        ),
        (ROWS, {"prompt_column": "question"}, "no column 'solution' for the solution"),
        ([{"prompt": " ", "solution": "1"}], {}, "Row 0 .* prompt ' ', which is empty"),
        ([{"prompt": [{"role": "user", "content": ""}], "solution": "1"}], {}, "Row 0 .* empty"),
        ([{"prompt": "a", "solution": "1"}] * 2, {}, "Rows 0 and 1 .* same `problem_id`"),
        ([{"prompt": "a", "solution": "1", "problem_id": 7}] * 2, {}, "Rows 0 and 1 .* same `problem_id` '7'"),
        (ROWS, {**COLUMNS, "max_problems": 0}, "holds no problems"),
    ],
)
def test_unusable_data_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_problems(write(tmp_path / "p.jsonl", rows), **options)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_problems(str(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="empty file"):
        load_problems(str(tmp_path / "empty.jsonl"))


def test_unknown_reasoning_gym_task_and_knob_are_refused() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(ValueError, match="reasoning-gym cannot make 'reasoning_gym:chain_some'"):
        load_problems("reasoning_gym:chain_some")
    with pytest.raises(ValueError, match="reasoning-gym cannot make"):
        load_problems("reasoning_gym:chain_sum?size=2&no_such_knob=1")


def test_few_shot_that_is_no_list_of_messages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "turns.json").write_text('{"role": "user"}')
    with pytest.raises(ValueError, match="not a JSON list of messages"):
        load_problems(write(tmp_path / "p.jsonl", ROWS), **COLUMNS, few_shot=str(tmp_path / "turns.json"))


def test_choices_follow_the_question(tmp_path: Path) -> None:
    rows = [{"question": "Which?", "answer": 1, "choices": ["red", "blue"]}]
    problems = load_problems(write(tmp_path / "p.jsonl", rows), **COLUMNS, choices_column="choices")
    assert problems["prompt"][0] == "Which?\nA. red\nB. blue"
    chat = load_problems(write(tmp_path / "p.jsonl", rows), **COLUMNS, choices_column="choices", as_chat=True)
    assert chat["prompt"][0] == [{"role": "user", "content": "Which?\nA. red\nB. blue"}]
    assert chat["problem_id"] != load_problems(write(tmp_path / "p.jsonl", rows), **COLUMNS)["problem_id"]
    with pytest.raises(ValueError, match=r"whose choices are a str: .* a list of at most 26"):
        load_problems(write(tmp_path / "q.jsonl", ROWS), **COLUMNS, choices_column="source")


def test_a_hub_id_may_name_its_split_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, split: str) -> Dataset:
        asked.append((name, config, split))
        return Dataset.from_list(ROWS)

    monkeypatch.setattr("paced_trl.problem_files.load_dataset", load_dataset)
    load_problems("org/a", config="main", split="test", **COLUMNS)
    load_problems("org/a?split=train", config="main", split="test", **COLUMNS)
    load_problems("org/a?split=train&config=hard", split="test", **COLUMNS)
    assert asked == [("org/a", "main", "test"), ("org/a", "main", "train"), ("org/a", "hard", "train")]
    with pytest.raises(ValueError, match="has the option 'size', and a Hub dataset has `split` and `config` only"):
        load_problems("org/a?size=3", **COLUMNS)
