"""The letter of a choice."""

from __future__ import annotations

from helpers.verification import FAILED, PASSED, UNPARSEABLE, UNVERIFIABLE, explain
from paced_trl.verification.verifier import load_verifier


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
