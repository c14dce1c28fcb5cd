"""Problems from every source, their columns, and rows that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from helpers.problem_files import COLUMNS, ROWS, write
from paced_trl.problems import ProblemSet, chat_prompts, load_problems, with_problem_ids


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
    for content in ('{"role": "user"}', "[{", '["text"]'):
        (tmp_path / "turns.json").write_text(content)
        with pytest.raises(ValueError, match="not a JSON list of messages"):
            load_problems(write(tmp_path / "p.jsonl", ROWS), **COLUMNS, few_shot=str(tmp_path / "turns.json"))
    with pytest.raises(FileNotFoundError, match=r"`few_shot` names 'none.json', and there is no such file"):
        load_problems(write(tmp_path / "p.jsonl", ROWS), **COLUMNS, few_shot="none.json")


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


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def turns(*contents: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def test_an_answer_at_the_end_of_the_prompt_is_the_reference(tmp_path: Path) -> None:
    rows = [
        {"prompt": turns("1+1=", "It is 2."), "solution": "2"},
        {"prompt": [{"role": "system", "content": "Add."}, *turns("1+2=", "3?", "Sure?", "Yes, 3.")], "solution": "3"},
    ]
    problems = load_problems(lines(tmp_path / "p.jsonl", rows))
    assert problems["reference"][:] == ["It is 2.", "Yes, 3."]
    assert [prompt[-1]["content"] for prompt in problems["prompt"]] == ["1+1=", "Sure?"]
    own = load_problems(lines(tmp_path / "q.jsonl", [{**row, "reference": "own"} for row in rows]))
    assert own["reference"][:] == ["own", "own"] and own["prompt"][0] == turns("1+1=")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([turns("a"), turns("b", "answer")], "Row 1 .* ends with the assistant's answer, and other rows end with a"),
        ([turns("a", "b"), turns("x", "answer")[1:]], "Row 1 .* ends with the assistant's answer and has nothing"),
    ],
)
def test_answers_that_cannot_be_split_off_are_refused(tmp_path: Path, prompts: list[Any], message: str) -> None:
    rows = [{"prompt": prompt, "solution": "1"} for prompt in prompts]
    with pytest.raises(ValueError, match=message):
        load_problems(lines(tmp_path / "p.jsonl", rows))


def test_messages_without_a_role_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": turns("a"), "solution": "1"}, {"prompt": [{"content": "b"}], "solution": "2"}]
    with pytest.raises(ValueError, match=r"Row 1 .* a message without a `role`"):
        load_problems(lines(tmp_path / "p.jsonl", rows))


def test_references_may_be_messages_and_the_column_of_trl(tmp_path: Path) -> None:
    rows = [{"prompt": "1+1=", "completion": turns("", "It is 2.")[1:], "solution": "2"}]
    problems = load_problems(lines(tmp_path / "p.jsonl", rows))
    assert problems["reference"][:] == ["It is 2."] and "completion" not in problems.column_names
    named = load_problems(lines(tmp_path / "q.jsonl", [{**rows[0], "text": "Two"}]), reference_column="text")
    assert named["reference"][:] == ["Two"]
    for completion in (turns("a", "b"), turns("a"), 3.5, {"role": "assistant", "content": None}):
        path = lines(tmp_path / "r.jsonl", [{**rows[0], "completion": completion}])
        if completion == 3.5:
            assert load_problems(path)["reference"][:] == ["3.5"]
            continue
        with pytest.raises(ValueError, match=r"Row 0 .* is neither text nor one message of the assistant"):
            load_problems(path)


def test_own_weights_and_pass_rates_are_found_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("q,gold,w,rate,c,k\n1+1=,02,0.5,0.25,1,4\n1+2=,03,1.5,0.75,3,4\n")
    problems = load_problems(
        str(tmp_path / "p.csv"),
        prompt_column="q",
        solution_column="gold",
        problem_weight_column="w",
        pass_rate_column="rate",
        num_passed_column="c",
        num_valid_column="k",
    )
    assert problems["solution"][:] == ["02", "03"]
    assert problems["problem_weight"][:] == [0.5, 1.5] and problems["pass_rate"][:] == [0.25, 0.75]
    assert problems["num_passed"][:] == [1, 3] and problems["num_valid"][:] == [4, 4]
    assert set(problems.column_names) == {
        *("prompt", "solution", "problem_id", "problem_weight", "pass_rate", "num_passed", "num_valid")
    }


def test_dotted_columns(tmp_path: Path) -> None:
    rows = [{"prompt": turns("1+1="), "reward_model": {"style": "rule", "ground_truth": "02"}, "extra": {"index": 7}}]
    problems = load_problems(
        lines(tmp_path / "p.jsonl", rows),
        solution_column="reward_model.ground_truth",
        problem_id_column="extra.index",
    )
    assert problems["solution"][:] == ["02"] and problems["problem_id"][:] == ["7"]
    assert problems["reward_model"][0]["style"] == "rule"


def test_data_without_golds_say_so(tmp_path: Path) -> None:
    with_gold = lines(tmp_path / "gold.jsonl", [{"prompt": "a", "reference": "b", "solution": "c"}])
    assert "solution" not in load_problems(with_gold, solution_column="").column_names
    path = lines(tmp_path / "p.jsonl", [{"prompt": "a", "reference": "b"}])
    assert "solution" not in load_problems(path, solution_column="").column_names
    with pytest.raises(ValueError, match="Data without golds have `--solution_column ''`"):
        load_problems(path)
    with pytest.raises(ValueError, match=r"`solutoin_column` names no column of problems. Did you mean `solution_col"):
        load_problems(path, solutoin_column="x")


def test_a_gold_that_was_changed_is_refused_and_nan_is_none(tmp_path: Path) -> None:
    import datetime

    Dataset.from_dict({"prompt": ["a", "b"], "solution": [float("nan"), 2.5]}).to_parquet(tmp_path / "p.parquet")
    assert load_problems(str(tmp_path / "p.parquet"))["solution"][:] == [None, 2.5]
    for gold, kind in ((datetime.datetime(2024, 1, 1), "datetime"), (1.2345678901234568e29, "float")):
        Dataset.from_dict({"prompt": ["a"], "solution": [gold]}).to_parquet(tmp_path / f"{kind}.parquet")
        with pytest.raises(ValueError, match=f"Row 0 .* as a {kind}, which need not be what was written"):
            load_problems(str(tmp_path / f"{kind}.parquet"))


@pytest.mark.parametrize("missing", [None, "", float("nan")])
def test_a_problem_without_an_id_is_refused_where_others_have_one(tmp_path: Path, missing: Any) -> None:
    given = 1.5 if isinstance(missing, float) else "x"
    data = Dataset.from_dict({"prompt": ["a", "b"], "solution": ["1", "2"], "problem_id": [given, missing]})
    data.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match=r"Row 1 of .* has no problem id"):
        load_problems(str(tmp_path / "p.parquet"))


def test_plain_rows_get_the_ids_that_loading_gives(tmp_path: Path) -> None:
    rows = [{"prompt": "1+1=", "solution": 2}, {"prompt": turns("1+2="), "solution": 3}]
    for row in rows:
        loaded = load_problems(lines(tmp_path / "p.jsonl", [row]))
        assert ProblemSet([row]).ids == loaded["problem_id"][:] == with_problem_ids(loaded)["problem_id"][:]


def test_chat_prompts_have_ids_of_their_own_unless_the_data_named_them(tmp_path: Path) -> None:
    rows = [{"prompt": "1+1=", "solution": "2"}]
    path = lines(tmp_path / "p.jsonl", rows)
    plain, chat = load_problems(path), load_problems(path, as_chat=True)
    assert chat_prompts(plain).to_list() == chat.to_list() and chat["problem_id"] != plain["problem_id"]
    named = load_problems(lines(tmp_path / "q.jsonl", [{**rows[0], "problem_id": "a"}]))
    assert chat_prompts(named)["problem_id"][:] == ["a"]


def test_ids_and_hashes_are_those_of_version_0_1_0() -> None:
    text = ProblemSet([{"prompt": "1+1=", "solution": 2}])
    chat = ProblemSet([{"prompt": turns("1+1="), "solution": "2"}])
    assert (text.ids, text.hashes) == (["379ce8d8a40d6095"], ["379ce8d8a40d6095"])
    assert (chat.ids, chat.hashes) == (["f032cbf916d8ce9f"], ["f883153834e0c4ea"])
