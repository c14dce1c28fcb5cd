"""The letter of a choice."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.verification import FAILED, PASSED, UNPARSEABLE, UNVERIFIABLE, F, P, Table, U, V, explain, wrong_rows
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


AS_PEOPLE_WRITE: Table = [
    ("B", "B\nBecause A is smaller and C is wrong.", P),
    ("C", "C is correct.", P),
    ("\\text{C}", "C", P),
    ("$\\textbf{(C)}\\ 5$", "C", P),
    ("\\mathrm{(C)}", "The answer is C", P),
    ("A", "(C) or (A)", U),
    ("A", "We rule out **A**.", U),
    ("C", "We rule out (A) and (B), so (C)", P),
    ("A", "Option A is incorrect.", U),
    ("B", "(A) and (C) are wrong. (B)", P),
    ("B", "\\boxed{A} or \\boxed{B}", U),
    ("B", "The answer is not B.", U),
    ("B", "It is not (B).", U),
    ("B", "Answer: B or possibly C", U),
    ("B", "B or C", U),
    ("A", "Neither (A) nor (B) works, so **C**.", F),
    ("C", "Neither (A) nor (B) works, so **C**.", P),
    ("B", "[THINK]A[/THINK]B", P),
    ("B", "B because it is", P),
    ("B", "答案是B", P),
    ("B", "(B) is the best answer.", P),
    ("B", "I would eliminate A, C, and D.", U),
    ("D", "We can eliminate (A), (B), and (C). **D**", P),
    ("B", "B is not correct.", U),
    ("B", "The answer isn't B", U),
    ("B", "B\n\nThe capital of France is Paris.", P),
    ("B", "B is clearly correct", P),
    ("B", "B.\n\nReasoning: A is too small.", P),
    ("B", "**B**\n\nA is wrong.", P),
    ("B", "(B)\nSince A and C ...", P),
    ("B", "B\n- A: no\n- C: no", P),
    ("C", "The correct choice is C.", P),
    ("C", "C is the right answer.", P),
    ("C", "So C must be correct.", P),
    ("C", "Therefore, (C) is correct.", P),
    ("C", "(C), because 3 > 2.", P),
    ("\\mathbf{C}", "C", P),
    ("\\boxed{\\text{C}}", "C", P),
    ("\\text{(C) } 5", "C", P),
    ("Option C", "C", P),
    ("C)", "C", P),
    ("c", "C", P),
    ("A", "Either A or B.", U),
    ("A", "A, B", U),
    ("A", "A and B are both correct.", U),
    ("A", "The answer is A or maybe B.", U),
    ("A", "The answer is (A) and (B).", U),
    ("A", "(A) / (B)", U),
    ("A", "The answer is not (A).", U),
    ("A", "A is not the answer.", U),
    ("A", "(A) is incorrect.", U),
    ("A", "It cannot be (A).", U),
    ("A", "**A** is wrong", U),
    ("A", "We exclude (A).", U),
    ("A", "Not A.", U),
    ("A", "Definitely not **A**!", U),
    ("A", "Rather than (A), we choose (B).", F),
    ("A", "All but (A)", U),
    ("A", "Option A is out, since", U),
    ("A", "We can discard option (A).", U),
    ("A", "\\boxed{A}, \\boxed{B}", U),
    ("A", "\\boxed{A \\text{ or } B}", U),
    ("A", "(A) is false", U),
    ("B", "◁think▷A◁/think▷B", P),
    ("B", "<think>A</think>\n\n**Answer: B**", P),
    ("B", "<think>The answer is B", U),
    ("B", "Answer is B", P),
    ("B", "The answer: B", P),
    ("B", "Final answer: (B)", P),
    ("B", "My choice: B", P),
    ("B", "Answer:B", P),
    ("B", "正确答案是B。", P),
    ("B", "正确答案：B", P),
    ("B", "\\boxed{\\textbf{(B)}}", P),
    ("B", "$\\boxed{\\mathrm{B}}$", P),
    ("B", "#### B) 5", P),
    ("B", "The best answer is (B) because (A) is not true.", P),
]
YES_OR_NO: Table = [
    ("yes", "Yes, because 2 is even.", P),
    ("yes", "YES", P),
    ("yes", "The answer is yes.", P),
    ("yes", "No.", F),
    ("no", "Is it? No, it is not.", P),
    ("no", "No", P),
    ("no", "I have no idea", U),
    ("yes", "Yes or no", U),
    ("yes", "\\boxed{yes}", P),
    ("yes", "The answer is not yes", U),
    ("yes", "It is even.\nSo yes.", P),
    (True, "Yes", P),
    (False, "yes", F),
    ("Yes.", "Answer: **Yes**", P),
    ("yes", "yesterday", U),
    ("maybe", "yes", V),
    ("yes", "Yes.\nBut the answer is no.", F),
    ("no", "**No**, it is odd", P),
    ("yes", "Answer: yes or no", U),
    ("yes", "Nothing says so, therefore: yes!", P),
    ("yes", "Yes!", P),
    ("yes", "yes.", P),
    ("yes", "'Yes'", P),
    ("no", "No - it does not.", P),
    ("no", "No; it does not.", P),
    ("yes", "The final answer is: Yes", P),
    ("yes", "Answer: yes, since", P),
    ("yes", "\\boxed{\\text{Yes}}", P),
    ("yes", "Not yes", U),
    ("yes", "It is not a yes.", U),
    ("yes", "Both yes and no", U),
    ("yes", "eyes", U),
    ("yes", "**Answer:** Yes", P),
    ("no", "The answer is no.", P),
    ("no", "<think>yes</think>No", P),
    ("no", "nothing", U),
    ("yes", "True", U),
    ("yes", "I think the answer is yes.", P),
    ("yes", "Short answer: yes. Long answer: no.", F),
    ("no", "no, because yes is wrong", P),
    ("YES", "yes", P),
]


def test_choice_reads_what_people_write() -> None:
    assert wrong_rows("choice", AS_PEOPLE_WRITE) == []


def test_choice_of_words() -> None:
    assert wrong_rows("choice", YES_OR_NO, choices=["yes", "no"]) == []
    assert wrong_rows("choice", YES_OR_NO, choices=[True, False]) == []  # as YAML reads yes and no
    true_or_false: Table = [("true", "It is true that 2 is even.", P), ("true", "It is not true.", U)]
    true_or_false += [("false", "This is false.", P), (True, "TRUE", P), (False, "true", F)]
    assert wrong_rows("choice", true_or_false, choices=["true", "false"]) == []
    assert load_verifier("choice", choices=["yes", "no"], index_base=0)(["No."], [1]) == [P]


@pytest.mark.parametrize("choices", [[], ["yes", "Yes"], ["yes", ""], "A1", ["yes", "[no]"]])
def test_choices_that_cannot_be(choices: Any) -> None:
    with pytest.raises(ValueError, match=r"`choices` must be different letters .* or a list of different words"):
        load_verifier("choice", choices=choices)
