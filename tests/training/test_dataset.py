"""What a row is trained on: its pass rate, and the token that ends its reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from helpers.problem_files import COLUMNS, ROWS, write
from helpers.training import problems as training_problems
from paced_trl.problems import load_problems
from paced_trl.training.dataset import end_of_completion_id, problem_weights_of, with_pass_rates


def test_pass_rates_are_joined_by_id_and_missing_ones_refused(tmp_path: Path) -> None:
    problems = load_problems(write(tmp_path / "p.jsonl", ROWS), **COLUMNS)
    ids = problems["problem_id"][:]
    table = Dataset.from_dict(
        {"problem_id": ids[::-1], "num_passed": [1, 2], "num_valid": [4, 4], "pass_rate": [0.25, 0.5]}
    )
    joined = with_pass_rates(problems, table)
    assert joined["num_passed"][:] == [2, 1] and joined["pass_rate"][:] == [0.5, 0.25]
    with pytest.raises(ValueError, match="1 of 2 problems have no pass rate"):
        with_pass_rates(problems, table.select([0]))


def gated(passed: list[int], valid: list[int]) -> list[float]:
    columns = {"teacher_num_passed": passed, "teacher_num_valid": valid, "problem_weight": [1.0] * len(passed)}
    return problem_weights_of(Dataset.from_dict(columns), kind="teacher_gate").tolist()


def test_the_teacher_s_gate_is_its_pass_rate() -> None:
    assert gated([4, 1, 0, 0], [4, 2, 4, 0]) == pytest.approx([8 / 3, 4 / 3, 0, 0])


@pytest.mark.parametrize(
    ("passed", "valid", "message"),
    [([1, 0], [1, 1], "1 valid attempt per problem"), ([0, 0], [4, 4], "no attempt of the teacher was verified")],
)
def test_a_teacher_without_a_rate_gates_nothing(passed: list[int], valid: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gated(passed, valid)
    with pytest.raises(ValueError, match="has no `teacher_num_passed`"):
        problem_weights_of(training_problems(), kind="teacher_gate")


def test_references_end_with_the_turn_s_own_token(tiny_tokenizer: Any) -> None:
    assert end_of_completion_id(tiny_tokenizer, "text", [1]) == tiny_tokenizer.eos_token_id
    messages = [{"role": "user", "content": "hello"}]
    assert end_of_completion_id(tiny_tokenizer, messages, [1]) == tiny_tokenizer.eos_token_id
    turn_end = tiny_tokenizer.convert_tokens_to_ids("<user>")  # another token than EOS, declared by the model
    tiny_tokenizer.chat_template = tiny_tokenizer.chat_template.replace("<eos>", "<user>")
    assert end_of_completion_id(tiny_tokenizer, messages, [1, turn_end]) == turn_end


def test_the_messages_of_trl_s_column_completion_are_references(make_trainer: Callable) -> None:
    data = training_problems()
    answers = [[{"role": "assistant", "content": text}] for text in data["reference"]]
    of_trl = data.remove_columns("reference").add_column("completion", answers)
    trainer = make_trainer(of_trl, kl="forward")
    assert trainer.train_dataset["reference"][:] == data["reference"][:]
