"""Tasks of reasoning_gym, by its own scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.verification import FAILED, PASSED, UNPARSEABLE, UNVERIFIABLE
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import Verifier, load_verifier


@pytest.fixture(scope="module")
def reasoning_gym() -> Iterator[Verifier]:
    pytest.importorskip("reasoning_gym")
    with load_verifier("reasoning_gym", num_workers=1) as verifier:
        yield verifier


def reasoning_gym_rows(task: str, size: int = 3, **knobs: Any) -> tuple[list[Any], dict[str, list[str]]]:
    import reasoning_gym as library

    entries = list(library.create_dataset(task, size=size, seed=3, **knobs))
    columns = {
        "reasoning_gym_task": [task] * size,
        "reasoning_gym_entry": [json.dumps(entry, default=str) for entry in entries],
        "reasoning_gym_config": [json.dumps(knobs)] * size,
    }
    return [entry["answer"] for entry in entries], columns


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{}", PASSED),
        ("<answer>{}</answer>", PASSED),
        ("<think>1</think>First 3 + 4.\n<answer> {} </answer>", PASSED),
        ("The answer is {}.", PASSED),
        ("<think>1</think>The answer is {}.", PASSED),
        ("So we add them.\nAnswer: {}", PASSED),
        ("3 + 4 + 5 = {}", PASSED),
        ("\\boxed{{{}}}", PASSED),
        ("It is **{}**.\n{}", PASSED),
        ("{}0", FAILED),
        ("So it is {} in all", FAILED),
        ("", UNPARSEABLE),
        ("<answer></answer>", UNPARSEABLE),
    ],
)
def test_reasoning_gym_reads_the_answer_and_wants_a_full_score(
    reasoning_gym: Verifier, form: str, expected: Verdict
) -> None:
    golds, columns = reasoning_gym_rows("chain_sum")
    assert reasoning_gym.check_solutions(golds, **columns) == [PASSED] * 3
    assert reasoning_gym([form.format(gold, gold) for gold in golds], golds, **columns) == [expected] * 3


def test_reasoning_gym_tasks_with_traps(reasoning_gym: Verifier) -> None:
    golds, columns = reasoning_gym_rows("prime_factorization")
    assert reasoning_gym([golds[0], "junk", "2 × 2"], golds, **columns) == [PASSED, UNPARSEABLE, FAILED]
    # No gold at all, and a scorer that any text satisfies: nothing can be learned from either.
    for task in ("propositional_logic", "game_of_life_halting"):
        golds, columns = reasoning_gym_rows(task)
        assert reasoning_gym.check_solutions(golds, **columns) == [UNVERIFIABLE] * 3
        assert reasoning_gym(["True"] * 3, golds, **columns) == [UNVERIFIABLE] * 3
    # This scorer's tolerance comes from the task's knobs.
    golds, columns = reasoning_gym_rows("decimal_arithmetic", max_num_decimal_places=2, min_num_decimal_places=2)
    near = [str(float(gold) + 0.009) for gold in golds]
    assert reasoning_gym(near, golds, **columns) == [PASSED] * 3
    del columns["reasoning_gym_config"]
    assert reasoning_gym(near, golds, **columns) == [FAILED] * 3
    # An answer of several lines is compared whole.
    golds, columns = reasoning_gym_rows("mini_sudoku")
    assert "\n" in golds[0]
    completions = [f"I see.\n{golds[0]}", f"<answer>{golds[1]}</answer>", golds[0]]
    assert reasoning_gym(completions, golds, **columns) == [PASSED, PASSED, FAILED]


def test_reasoning_gym_names_the_missing_column(reasoning_gym: Verifier) -> None:
    with pytest.raises(ValueError, match=r"needs the column `reasoning_gym_task`.*have only `solution`, `prompt`"):
        reasoning_gym(["1"], ["1"], prompt=["?"])
