"""Verdicts of every verifier on tables of golds and completions; what becomes of checks that hang, crash or lie."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paced_trl.check import completion_text
from paced_trl.math_verifier import bare_expression, gold_expression

from paced_trl.verification import VALID_VERDICTS, Verdict, Verifier, load_verifier, mark_truncated


GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
PASSED, FAILED, UNPARSEABLE = Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE
TIMEOUT, UNVERIFIABLE = Verdict.TIMEOUT, Verdict.UNVERIFIABLE


@pytest.fixture(scope="module")
def math() -> Iterator[Verifier]:
    pytest.importorskip("math_verify")
    with load_verifier("math", num_workers=2, timeout=4.0) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def reasoning_gym() -> Iterator[Verifier]:
    pytest.importorskip("reasoning_gym")
    with load_verifier("reasoning_gym", num_workers=1) as verifier:
        yield verifier


def explain(rows: list[tuple[Any, ...]], verdicts: list[Verdict]) -> list[tuple[Any, ...]]:
    """Return the rows whose last element is not the verdict they got."""
    return [(*row, str(verdict)) for row, verdict in zip(rows, verdicts, strict=True) if row[-1] is not verdict]


def test_valid_verdicts_are_those_that_count() -> None:
    assert VALID_VERDICTS == (Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.TRUNCATED)
    assert [verdict.is_valid for verdict in Verdict] == [True, True, True, True, False, False]
    assert json.dumps(list(Verdict)[:2]) == '["passed", "failed"]'
    assert f"{Verdict.PASSED}" == "passed" and Verdict("timeout") is Verdict.TIMEOUT


def test_only_wrong_or_missing_answers_become_truncated() -> None:
    verdicts = [PASSED, FAILED, UNPARSEABLE, TIMEOUT, UNVERIFIABLE]
    assert mark_truncated(verdicts, [False] * 5) == verdicts
    cut_off = mark_truncated(verdicts, [True] * 5)
    assert cut_off == [PASSED, Verdict.TRUNCATED, Verdict.TRUNCATED, TIMEOUT, UNVERIFIABLE]


MATH_GOLDS = [18, 18.0, "18", " 18. ", "18.0", "#### 18", "\\boxed{18}", "$18$", "$18", "She has 9 * 2 = 18.\n#### 18"]
MATH_COMPLETIONS = [
    ("18", PASSED),
    ("18.", PASSED),
    ("The answer is 18.", PASSED),
    ("The answer is: 18", PASSED),
    ("the final answer is $18.", PASSED),
    ("So she makes $18 every day.", PASSED),
    ("#### 18", PASSED),
    ("9 * 2 = 18\n#### $18", PASSED),
    ("There are 3 steps. Answer: we need 5 of them.\n#### 18", PASSED),
    ("A: 18", PASSED),
    ("A:18", PASSED),
    ("Answer:18", PASSED),
    ("**Answer:** 18", PASSED),
    ("The answer is **18**.", PASSED),
    ("The answer is *18*", PASSED),
    ("\\boxed{18}", PASSED),
    ("The answer is 17? No, \\boxed{18}", PASSED),
    ("\\boxed{18\\text{ dollars}}", PASSED),
    ("$18$", PASSED),
    ("$$x = 18$$", PASSED),
    ("\\(18\\)", PASSED),
    ("9 * 2 = 18", PASSED),
    ("x = 18", PASSED),
    ("<think>5 or 6</think> 18", PASSED),
    ("<answer>18</answer> Is 5 right too?", PASSED),
    ("18 dollars", PASSED),
    ("18.00", PASSED),
    ("36/2", PASSED),
    ("\\frac{36}{2}", PASSED),
    ("The answer is 81.", FAILED),
    ("-18", FAILED),
    ("The answer is -$18.", FAILED),
    ("The answer is \u221218.", FAILED),
    ("#### 180", FAILED),
    ("18 + 1 = 19", FAILED),
    ("\\boxed{18} or rather \\boxed{17}", FAILED),
    ("<think>18</think> 17", FAILED),
    ("", UNPARSEABLE),
    ("   \n", UNPARSEABLE),
    ("I do not know.", UNPARSEABLE),
    ("The answer is eighteen.", UNPARSEABLE),
    ("\\boxed{}", UNPARSEABLE),
]


def test_math_reads_every_common_answer_style_with_every_gold_style(math: Verifier) -> None:
    rows = [(gold, completion, expected) for gold in MATH_GOLDS for completion, expected in MATH_COMPLETIONS]
    assert explain(rows, math([row[1] for row in rows], [row[0] for row in rows])) == []
    assert math.check_solutions(MATH_GOLDS) == [PASSED] * len(MATH_GOLDS)


MATH_PAIRS = [
    ("1,234", "The answer is 1234.", PASSED),
    ("1234", "The total is 1,234 eggs", PASSED),
    ("1234", "$1,234.00", PASSED),
    (70000, "#### 70,000", PASSED),
    ("-3", "The answer is -3", PASSED),
    ("-3", "The answer is \u22123", PASSED),
    ("-$3", "#### -3", PASSED),
    ("50%", "The answer is 50%", PASSED),
    ("50%", "0.5", PASSED),
    ("50%", "\\boxed{50\\%}", PASSED),
    ("0.5", "1/2", PASSED),
    ("1/2", "The answer is 0.5.", PASSED),
    ("\\frac{1}{2}", "\\boxed{0.5}", PASSED),
    ("\\frac{1}{2}", "\\boxed{\\dfrac{2}{4}}", PASSED),
    ("1/3", "0.333", FAILED),
    ("3\\sqrt{13}", "\\boxed{3\\sqrt{13}}", PASSED),
    ("3\\sqrt{13}", "The answer is 3\\sqrt{13}", PASSED),
    ("3\\sqrt{13}", "3\\sqrt{13}", PASSED),
    ("3\\sqrt{13}", "\\boxed{3}", FAILED),
    ("2\\pi", "$2\\pi$", PASSED),
    ("x^2+1", "\\boxed{1 + x^2}", PASSED),
    ("x^2+1", "The answer is x^2+1", PASSED),
    ("x^2+1", "\\boxed{x^2-1}", FAILED),
    ("(1, 2]", "\\boxed{(1,2]}", PASSED),
    ("(1, 2]", "The answer is (1, 2].", PASSED),
    ("(1, 2]", "The answer is [1, 2].", FAILED),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3, \\pi/2)}", PASSED),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", PASSED),
    ("\\{1,2\\}", "\\boxed{\\{1,3\\}}", FAILED),
    ("1,-2", "\\boxed{-2, 1}", PASSED),
    ("1,22", "The answer is 1.22", PASSED),
    ("18 dollars", "18", PASSED),
    ("5.4 \\text{ cents}", "\\boxed{5.4}", PASSED),
    ("\\$36", "36 dollars", PASSED),
    ("90^\\circ", "\\boxed{90}", PASSED),
    ("1e-05", "0.00001", PASSED),
    (1e-05, "0.00001", PASSED),
    ("10,\\!236", "10236", PASSED),
    ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", PASSED),
    ("\\text{Evelyn}", "\\boxed{\\text{Ruth}}", FAILED),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", PASSED),
    ("Eve", "18", UNVERIFIABLE),
    ("B", "B", UNVERIFIABLE),
    ("yes", "yes", UNVERIFIABLE),
    ("2 hours 30 minutes", "30", UNVERIFIABLE),
    ("", "18", UNVERIFIABLE),
    (None, "18", UNVERIFIABLE),
    (float("nan"), "18", UNVERIFIABLE),
    ("####", "18", UNVERIFIABLE),
    ("\\boxed{", "18", UNVERIFIABLE),
]


def test_math_compares_expressions_and_leaves_unreadable_golds_out(math: Verifier) -> None:
    assert explain(MATH_PAIRS, math([row[1] for row in MATH_PAIRS], [row[0] for row in MATH_PAIRS])) == []
    checked = math.check_solutions([row[0] for row in MATH_PAIRS])
    for (gold, _, expected), verdict in zip(MATH_PAIRS, checked, strict=True):
        assert verdict is (UNVERIFIABLE if expected is UNVERIFIABLE else PASSED), gold


def test_math_reads_messages_and_keeps_the_last_one(math: Verifier) -> None:
    question = {"role": "user", "content": "And 2 + 2? Answer: 5"}
    parts = {
        "role": "assistant",
        "content": [{"type": "text", "text": "The answer "}, {"type": "text", "text": "is 4."}],
    }
    assert math([[question, parts], [{"role": "assistant", "content": "5"}], []], [4, 4, 4]) == [
        PASSED,
        FAILED,
        UNPARSEABLE,
    ]


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K test split is not next to the repository")
def test_every_gsm8k_gold_verifies_against_itself(math: Verifier) -> None:
    answers = [json.loads(line)["answer"] for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 1319 and set(math.check_solutions(answers)) == {PASSED}
    answers = answers[::4]
    assert set(math(answers, answers)) == {PASSED}
    golds = [int(answer.rpartition("####")[2].replace(",", "")) for answer in answers]
    rationales = [answer.rpartition("####")[0] for answer in answers]
    wrong = [f"{rationale}The answer is {gold + 1}." for rationale, gold in zip(rationales, golds, strict=True)]
    assert set(math(wrong, golds)) == {FAILED}


def test_expressions_are_recognised_where_there_are_no_delimiters() -> None:
    expected = {"1,234.50": "1234.50", "12 000": "12000", "2e3": "2000", "(1, 2)": "$(1, 2)$", "x+1": "$x+1$"}
    assert {text: bare_expression(text) for text in expected} == expected
    assert [bare_expression(text) for text in ("", "x", "B) 3 apples", "$x$", "3 or 4", "1\n2", "1" * 301)] == [
        None
    ] * 7
    assert gold_expression("18 dollars and 30 cents") is None


# Beyond any computer, and written so that it does not show before it is computed.
NOT_COMPUTABLE = "\\boxed{\\binom{99999999}{4999999}}"


def test_math_from_a_thread(math: Verifier) -> None:
    results: list[Verdict] = []
    thread = threading.Thread(target=lambda: results.extend(math([NOT_COMPUTABLE, "4"], [4, 4])))
    thread.start()
    thread.join(timeout=60)
    assert results == [TIMEOUT, PASSED]


HOSTILE = [
    NOT_COMPUTABLE,
    # Numbers and expressions too large for any computer.
    "9^{9^9}",
    "$9^{9^9}$",
    "\\boxed{10^{10^{10}}}",
    "\\boxed{100000000!}",
    "\\boxed{(1+x)^{10000}}",
    "1e999999999",
    "The answer is 1e999",
    "\\boxed{" + "9" * 9000 + "}",
    # Nesting.
    "{" * 5000,
    "}" * 5000,
    "\\boxed{" * 2000,
    "\\boxed{" * 500 + "1" + "}" * 500,
    "$" + "(" * 900 + "1" + ")" * 900,
    "\\frac{" * 300 + "1" + "}{1}" * 300,
    "\\left(" * 500,
    "\\begin{pmatrix}" * 200,
    "$\\{" * 500,
    "$x_{" * 400,
    # Megabytes.
    "9" * 1_000_000,
    "a" * 1_000_000,
    "= " * 300_000,
    "The answer is " * 30_000,
    "<answer>" * 50_000,
    "</think>" * 50_000,
    "\\\\" * 100_000,
    "#### " * 50_000,
    "####\n" * 50_000,
    "A:" * 100_000,
    "1," * 100_000,
    "-" * 200_000 + "1",
    # Characters, formats, commands, code.
    "\x00\x01\x1b[31m\x07",
    "\ud800\udfff \udcff",
    "\u202e\u2066",
    "\N{ZERO WIDTH JOINER}" * 1000,
    "\u00b2" * 1000,
    "%s%n%d{0}{a.b}{{",
    "{0.__class__.__mro__}",
    "\\boxed{\\input{/etc/passwd}}",
    "\\boxed{\\write18{true}}",
    "\\boxed{__import__('os').abort()}",
    "$__import__('os')$",
    "exec('1')",
]


def test_hostile_completions_end_within_the_bound_and_never_pass(math: Verifier) -> None:
    began = time.monotonic()
    with load_verifier("math", num_workers=2, timeout=2.0) as verifier:
        verdicts = verifier(HOSTILE, ["42"] * len(HOSTILE))
    assert time.monotonic() - began < 2.0 * len(HOSTILE)
    assert PASSED not in verdicts and UNVERIFIABLE not in verdicts
    assert verdicts[0] is TIMEOUT
    assert not math(["42"], ["9^{9^9}"])[0].is_valid and math.check_solutions(["9^{9^9}"]) != [PASSED]


@pytest.mark.parametrize("name", ["exact", "choice"])
def test_text_verifiers_take_linear_time_on_hostile_completions(name: str) -> None:
    verifier = load_verifier(name)
    units = ["answer ", "answer is ", " ", "(", "*", "A or ", "\n", "option A is ", "\\boxed{", "**A", "A)\n"]
    hostile = HOSTILE + [unit * (200_000 // len(unit)) for unit in units]
    began = time.monotonic()
    verdicts = verifier(hostile, ["B"] * len(hostile))
    assert time.monotonic() - began < 20
    assert PASSED not in verdicts and TIMEOUT not in verdicts


@pytest.mark.parametrize(
    ("options", "gold", "completion", "expected"),
    [
        ({}, "861", "861", PASSED),
        ({}, "861", " 861\n", PASSED),
        ({}, 861, "861", PASSED),
        ({}, "861", "8 61", FAILED),
        ({}, "861", "86", FAILED),
        ({}, "861", "8614", FAILED),
        ({}, "861", "", UNPARSEABLE),
        ({}, "", "861", UNVERIFIABLE),
        ({}, None, "None", UNVERIFIABLE),
        ({}, "Paris", "paris", FAILED),
        ({"ignore_case": True}, "Stra\u00dfe", "STRASSE", PASSED),
        ({}, "caf\u00e9", "cafe\u0301", PASSED),
        ({"normalize": "none"}, "caf\u00e9", "cafe\u0301", FAILED),
        ({"normalize": "none"}, "861", "861 ", FAILED),
        ({"normalize": "whitespace"}, "a b\nc", " a  b c", PASSED),
        ({"normalize": "whitespace"}, "a b", "ab", FAILED),
        ({}, "\ud800", "\ud800", PASSED),
    ],
)
def test_exact(options: dict[str, Any], gold: Any, completion: str, expected: Verdict) -> None:
    verifier = load_verifier("exact", **options)
    assert verifier([completion], [gold]) == [expected]
    assert verifier.check_solutions([gold]) == [UNVERIFIABLE if expected is UNVERIFIABLE else PASSED]


CHOICE_PAIRS = [
    *(
        (gold, "The answer is B.", PASSED)
        for gold in ("B", "b", "(B)", "B.", "**B**", "The answer is B", "\\boxed{B}")
    ),
    *(("B", text, PASSED) for text in ("B", " b ", "(B)", "B.", "**B**", "[B]", "$B$", "B)", "'B'")),
    *(("B", text, PASSED) for text in ("B) foo", "B. foo", "(B) foo", "**B**: foo", "It is (B), as said.")),
    *(
        ("B", text, PASSED)
        for text in ("Answer: B", "answer: (b)", "**Answer:** B", "Answer:\nB", "#### B", "Answer: **B**")
    ),
    ("B", "The correct option is B because A is smaller", PASSED),
    ("B", "The best choice is option B.", PASSED),
    ("B", "Option B is correct, since (A) and (C) are not.", PASSED),
    ("B", "The answer to the question is (B) Paris.", PASSED),
    ("B", "\\boxed{\\text{B}}", PASSED),
    ("B", "$\\boxed{(B)}$", PASSED),
    ("B", "Let me think about it.\nB", PASSED),
    ("B", "The answer is A. No: the answer is B.", PASSED),
    ("B", "<think>The answer is A.</think>The answer is B.", PASSED),
    ("B", "<answer>B</answer>", PASSED),
    ("A", "The answer is A because it is", PASSED),
    ("B", "The answer is C.", FAILED),
    ("B", "The answer is B. No: the answer is A.", FAILED),
    ("B", "A", FAILED),
    ("B", "(A) foo", FAILED),
    ("B", "The answer is not A, it is C", FAILED),
    ("B", "The answer is A or B.", UNPARSEABLE),
    ("B", "Answer: B and C", UNPARSEABLE),
    ("B", "Answer: A/B", UNPARSEABLE),
    ("B", "A) foo\nB) bar", UNPARSEABLE),
    ("B", "Either (A) or (B).", UNPARSEABLE),
    ("A", "A prime number has two divisors.", UNPARSEABLE),
    ("A", "The answer is a prime number.", UNPARSEABLE),
    ("A", "The answer is A prime number.", UNPARSEABLE),
    ("B", "Better not say.", UNPARSEABLE),
    ("B", "The answer is Bern.", UNPARSEABLE),
    ("B", "F", UNPARSEABLE),
    ("B", "", UNPARSEABLE),
    ("F", "B", UNVERIFIABLE),
    ("Paris", "B", UNVERIFIABLE),
    ("A or B", "B", UNVERIFIABLE),
    ("", "B", UNVERIFIABLE),
    (None, "B", UNVERIFIABLE),
    (1, "B", UNVERIFIABLE),
]


def test_choice() -> None:
    verifier = load_verifier("choice")
    assert explain(CHOICE_PAIRS, verifier([row[1] for row in CHOICE_PAIRS], [row[0] for row in CHOICE_PAIRS])) == []
    for gold, _, expected in CHOICE_PAIRS:
        assert verifier.check_solutions([gold]) == [UNVERIFIABLE if expected is UNVERIFIABLE else PASSED], gold


def test_choice_with_other_letters_and_with_indices_as_golds() -> None:
    assert load_verifier("choice", choices="ABCDEFGHIJ")(["J", "Answer: I think it is (J)"], ["J", "J"]) == [
        PASSED,
        PASSED,
    ]
    from_zero, from_one = load_verifier("choice", index_base=0), load_verifier("choice", index_base=1)
    assert from_zero(["B"] * 5, [1, "1", 0, 5, "B"]) == [PASSED, PASSED, FAILED, UNVERIFIABLE, UNVERIFIABLE]
    assert from_one(["B"] * 5, [2, "2", 1, 0, 6]) == [PASSED, PASSED, FAILED, UNVERIFIABLE, UNVERIFIABLE]


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


def reward_by_text(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float | None]:
    return [
        None if text == "skip" else float(text == str(gold)) for text, gold in zip(completions, solution, strict=True)
    ]


def reward_by_messages(completions: list[list[dict[str, str]]], solution: list[Any], **kwargs: Any) -> list[float]:
    return [float(message[0]["content"] == str(gold)) for message, gold in zip(completions, solution, strict=True)]


def reward_as_prompted(prompts, completions, **kwargs):  # type: ignore[no-untyped-def]
    return [
        float(isinstance(prompt, list) == isinstance(text, list))
        for prompt, text in zip(prompts, completions, strict=True)
    ]


async def reward_async(completions: list[str], bonus: list[float], **kwargs: Any) -> list[float]:
    await asyncio.sleep(0.01)
    return list(bonus)


def reward_or_raise(completions: list[str], **kwargs: Any) -> list[float]:
    if "raise" in completions:
        raise KeyError("no such key in the reward function")
    return [1.0 for _ in completions]


def reward_or_hang(completions: list[str], **kwargs: Any) -> list[float]:
    while "hang" in completions:
        pass
    return [1.0 for _ in completions]


def reward_boxed(completions: list[str], solution: list[Any], **kwargs: Any) -> list[float]:
    return [float(f"\\boxed{{{gold}}}" in text) for text, gold in zip(completions, solution, strict=True)]


def reward_broken(completions: list[str], kind: list[str], **kwargs: Any) -> Any:
    broken = {"short": [1.0] * (len(completions) - 1), "scalar": 0.5, "text": ["good"] * len(completions)}
    return broken.get(kind[0], [float(kind[0])] * len(completions) if kind[0] not in broken else None)


@pytest.fixture
def load_reward() -> Iterator[Callable[..., Verifier]]:
    opened: list[Verifier] = []

    def load(function: Any, **options: Any) -> Verifier:
        opened.append(load_verifier(f"{__name__}:{getattr(function, '__name__', function)}", num_workers=1, **options))
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
    with pytest.raises(ValueError, match=f"test_verification:reward_broken.*{message}"):
        verifier(["x"] * 3, [0] * 3, kind=[kind] * 3)
    assert verifier(["x"] * 3, [0] * 3, kind=["1.0"] * 3) == [PASSED] * 3


def test_gold_is_usable_if_some_usual_form_of_it_reaches_the_threshold(load_reward: Callable[..., Verifier]) -> None:
    assert load_reward(reward_boxed).check_solutions([7, "x"]) == [PASSED, PASSED]
    assert load_reward(reward_boxed, solution_template="#### {solution}").check_solutions([7]) == [UNVERIFIABLE]
    assert load_reward(reward_or_raise, solution_template="{solution}").check_solutions(["raise", "fine"]) == [
        UNVERIFIABLE,
        PASSED,
    ]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("maths", ValueError, "did you mean 'math'.*'math', 'exact', 'choice', 'reasoning_gym'.*pkg.module:function"),
        ("reasoning-gym", ValueError, "did you mean 'reasoning_gym'"),
        ("qqqqqq", ValueError, r"Unknown verifier 'qqqqqq'\. Use one of"),
        ("module:", ValueError, "Unknown verifier"),
        ("no_such_package.rewards:reward", ImportError, "no module `no_such_package.rewards`.*PYTHONPATH"),
    ],
)
def test_unknown_verifier(path: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_verifier(path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exact", {"ignore_cases": True}, "no option `ignore_cases`; did you mean `ignore_case`.*`normalize`"),
        ("math", {"ignore_case": True}, r"has no option `ignore_case`\. Its options: none"),
        ("exact", {"normalize": "lower"}, "`normalize` must be .* not 'lower'"),
        ("choice", {"choices": "AAB"}, "`choices` must be different letters"),
        ("choice", {"index_base": 2}, "`index_base` must be 0, 1 or None, not 2"),
        ("math", {"timeout": 0}, "`timeout` must be a positive number of seconds, not 0"),
        ("math", {"num_workers": 0}, "`num_workers` must be at least 1, not 0"),
        (f"{__name__}:reward_boxed", {"threshold": 0}, r"`threshold` must be in \(0, 1\], not 0"),
        (f"{__name__}:reward_boxed", {"completion_format": "chat"}, "`completion_format` must be"),
        (f"{__name__}:reward_boxed", {"solution_template": "x"}, "`solution_template` must contain {solution}; 'x'"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_verifier(name, **options)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("math", "math_verify", "math"), ("reasoning_gym", "reasoning_gym", "reasoning-gym")],
)
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == package else object())
    with pytest.raises(ImportError, match=rf"pip install paced_trl\[{extra}\]"):
        load_verifier(name)


def test_reward_function_that_is_not_there_or_is_none(load_reward: Callable[..., Verifier]) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)could not start.*has no attribute 'reward_missing'"):
        load_reward("reward_missing")(["x"], [0])
    with pytest.raises(RuntimeError, match=r"(?s)could not start.*not a function that returns rewards"):
        load_reward("GSM8K")(["x"], [0])


def test_bad_arguments() -> None:
    verifier = load_verifier("exact")
    with pytest.raises(ValueError, match=r"2 completions and 1 solutions"):
        verifier(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="Column `prompt` has 1 values for 2 solutions"):
        verifier(["a", "b"], ["a", "b"], prompt=["?"])
    with pytest.raises(TypeError, match=r"must be text or a list of messages .* not int: 7"):
        verifier([7], ["a"])  # type: ignore[list-item]
    assert verifier([], []) == [] and verifier.check_solutions([]) == []
    assert completion_text([{"role": "assistant", "content": None}]) == ""


def test_record_holds_what_a_verdict_depends_on() -> None:
    assert load_verifier("exact", ignore_case=True).record == {
        "name": "exact",
        "options": {"normalize": "strip", "ignore_case": True},
    }
    path = f"{__name__}:reward_boxed"
    one, other = load_verifier(path, num_workers=1, timeout=3.0), load_verifier(path, num_workers=2)
    assert one.record == other.record == json.loads(json.dumps(one.record))
    assert one.record["options"]["threshold"] == 1.0


def test_nothing_heavy_is_imported() -> None:
    pytest.importorskip("math_verify")
    script = """
        import sys
        from paced_trl.verification import load_verifier, start_check
        verifier = load_verifier("math")
        assert not {"torch", "transformers", "datasets", "numpy", "sympy"} & set(sys.modules)
        start_check("paced_trl.math_verifier:MathCheck", {}, 1.0)  # what a worker does
        assert "sympy" in sys.modules and not {"torch", "transformers", "datasets"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
