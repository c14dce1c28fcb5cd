"""Text that must be equal, and the letter of a choice."""

from __future__ import annotations

import time
from typing import Any

import pytest

from helpers.verification import FAILED, HOSTILE, PASSED, TIMEOUT, UNPARSEABLE, UNVERIFIABLE, explain
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


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
