"""Reward functions as verifiers: forms of completions, thresholds, and functions that raise, hang or are broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers.rewards import (
    reward_as_prompted,
    reward_async,
    reward_boxed,
    reward_broken,
    reward_by_messages,
    reward_by_text,
    reward_or_hang,
    reward_or_raise,
)
from helpers.verification import FAILED, PASSED, TIMEOUT, UNVERIFIABLE
from paced_trl.verification.verifier import Verifier, load_verifier


@pytest.fixture
def load_reward() -> Iterator[Callable[..., Verifier]]:
    opened: list[Verifier] = []

    def load(function: Any, **options: Any) -> Verifier:
        opened.append(
            load_verifier(f"helpers.rewards:{getattr(function, '__name__', function)}", num_workers=1, **options)
        )
        return opened[-1]

    yield load
    for verifier in opened:
        verifier.close()


def test_rewards_become_verdicts_and_completions_get_the_form_that_the_function_wants(
    load_reward: Callable[..., Verifier],
) -> None:
    message = [{"role": "assistant", "content": "7"}]
    by_text, by_messages = load_reward(reward_by_text), load_reward(reward_by_messages)
    assert by_text(["7", "8", "skip", message], [7, 7, 7, 7]) == [PASSED, FAILED, UNVERIFIABLE, PASSED]
    assert by_messages(["7", "8", message], [7, 7, 7]) == [PASSED, FAILED, PASSED]
    prompts = ["1 + 1?", [{"role": "user", "content": "1 + 1?"}]]
    assert load_reward(reward_as_prompted)(["2", "2"], [2, 2], prompt=prompts) == [PASSED, PASSED]
    assert load_reward(reward_as_prompted, completion_format="messages")(["2", "2"], [2, 2], prompt=prompts) == [
        FAILED,
        PASSED,
    ]


def test_async_reward_with_a_threshold_and_a_column(load_reward: Callable[..., Verifier]) -> None:
    bonus = [0.0, 0.49, 0.5, 1.0] * 10
    verdicts = load_reward(reward_async, threshold=0.5)(["x"] * 40, [0] * 40, bonus=bonus)
    assert verdicts == [FAILED, FAILED, PASSED, PASSED] * 10
    with pytest.raises(ValueError, match=r"missing a required argument: 'bonus'.*Add the column"):
        load_reward(reward_async)(["x"], [0])


def test_trl_reward_function(load_reward: Callable[..., Verifier]) -> None:
    pytest.importorskip("math_verify")
    with load_verifier("trl.rewards:accuracy_reward", num_workers=1) as verifier:
        completions = ["\\boxed{\\frac{1}{3}}", "\\boxed{\\frac{1}{2}}", "\\boxed{1}"]
        golds = ["\\frac{1}{3}", "\\frac{1}{3}", "no number"]
        assert verifier(completions, golds) == [PASSED, FAILED, UNVERIFIABLE]
        assert verifier.check_solutions(golds) == [PASSED, PASSED, UNVERIFIABLE]


def test_raising_rows_are_unverifiable_alone_and_logged_once(
    load_reward: Callable[..., Verifier], caplog: pytest.LogCaptureFixture
) -> None:
    verifier = load_reward(reward_or_raise)
    with caplog.at_level(logging.ERROR, logger="paced_trl"):
        verdicts = verifier(["raise" if row in (3, 20) else "fine" for row in range(40)], [0] * 40)
    assert [row for row, verdict in enumerate(verdicts) if verdict is UNVERIFIABLE] == [3, 20]
    assert verdicts.count(PASSED) == 38
    assert len(caplog.records) == 1
    assert "KeyError: 'no such key in the reward function'" in caplog.text


def test_hanging_row_of_a_batched_call_times_out_alone(load_reward: Callable[..., Verifier]) -> None:
    verifier = load_reward(reward_or_hang, timeout=1.0)
    assert (
        verifier(["hang" if row == 2 else "fine" for row in range(5)], [0] * 5)
        == [PASSED] * 2 + [TIMEOUT] + [PASSED] * 2
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("short", "returned 2 rewards for 3 completions"),
        ("scalar", r"returned 0\.5; it must return a list"),
        ("text", r"returned \['good'"),
        ("nan", r"returned nan; .* must be in \[0, 1\]"),
        ("inf", r"returned inf; .* must be in \[0, 1\]"),
        ("-0.5", r"returned -0\.5; .* Rescale"),
        ("2", r"returned 2\.0; .* must be in \[0, 1\]"),
    ],
)
def test_broken_reward_function_is_an_error(
    load_reward: Callable[..., Verifier], kind: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = load_reward(reward_broken)
    with pytest.raises(ValueError, match=rf"helpers\.rewards:reward_broken.*{message}"):
        verifier(["x"] * 3, [0] * 3, kind=[kind] * 3)
    assert verifier(["x"] * 3, [0] * 3, kind=["1.0"] * 3) == [PASSED] * 3


def test_gold_is_usable_if_some_usual_form_of_it_reaches_the_threshold(load_reward: Callable[..., Verifier]) -> None:
    assert load_reward(reward_boxed).check_solutions([7, "x"]) == [PASSED, PASSED]
    assert load_reward(reward_boxed, solution_template="#### {solution}").check_solutions([7]) == [UNVERIFIABLE]
    assert load_reward(reward_or_raise, solution_template="{solution}").check_solutions(["raise", "fine"]) == [
        UNVERIFIABLE,
        PASSED,
    ]


def test_reward_function_that_is_not_there_or_is_none(load_reward: Callable[..., Verifier]) -> None:
    with pytest.raises(ValueError, match=r"\AThe module `helpers.rewards` has no function `reward_missing`, so the"):
        load_reward("reward_missing")(["x"], [0])
    with pytest.raises(ValueError, match=r"\A`helpers.rewards:.*not a function that returns rewards"):
        load_reward("NO_FUNCTION")(["x"], [0])
