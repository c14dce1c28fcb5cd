"""Verdicts of the verifier for numbers, and options that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.verification import NUMBERS_AS_WRITTEN, F, P, Table, U, V, wrong_rows
from paced_trl.verification.numbers import read_numbers
from paced_trl.verification.verifier import load_verifier


NUMERIC: Table = [
    *(
        (gold, "The answer is 42.", P)
        for gold in (42, 42.0, "42", " 42. ", "#### 42", "6*7=42\n#### 42", "\\boxed{42}")
    ),
    *(
        (42, text, P)
        for text in ("42", "\\boxed{42}", "#### 42", "A: 42", "**Answer:** 42", "6 * 7 = 42", "<answer>42</answer>")
    ),
    *(
        (42, text, P)
        for text in ("<think>41</think> 42", "I see 7 and 6, so 42", "$42$", "\\(42\\)", "$42", "42 €", "42 km/h")
    ),
    *(
        (42, text, F)
        for text in ("41", "\\boxed{41} not 42", "The answer is 42.1", "142", "4,2000", "-42", "42 41", "42!41")
    ),
    *(
        (42, text, U)
        for text in ("", "forty-two", "nan", "inf", "-Infinity", "<think>42</think>", "\\boxed{}", "a42b")
    ),
    ("1,234", "It is 1,234 eggs.", P),
    (1234, "$1,234.00", P),
    (1234, "1 234", P),
    (1234, "1\u202f234", P),
    ("1\\,234", "1{,}234", P),
    (1_000_000, "1,000,000.", P),
    (12, "12,345", F),
    ("-3", "\u22123", P),
    ("-3", "#### -$3", P),
    (-3, "$-3", P),
    (3, "8-5=3", P),
    (3, "10 - 3", P),
    ("2.5e3", "2.5 \\times 10^{3}", P),
    (2500, "2.5E+03", P),
    (0.00025, "2.5 × 10^-4", P),
    (1000, "10³ m", P),
    (5, "5 m²", P),
    ("3/4", "0.75", P),
    (0.75, "\\boxed{\\frac{3}{4}}", P),
    (-0.75, "-\\dfrac{3}{4}", P),
    (2.5, "2 1/2 cups", P),
    (1, "1/0", F),
    ("50%", "0.5", P),
    ("50%", "50", P),
    (0.5, "50%", P),
    (0.5, "50 percent", P),
    ("0.5%", "50%", F),
    ("50\\%", "5000\\%", F),
    ("3,14", "3.14", P),
    ("1/3", "0.3333333", P),
    ("1/3", "0.333", F),
    (1234567, "1234568", F),
    (10**30 + 1, str(10**30 + 1), P),
    (10**30 + 1, str(10**30), F),
    (1e300, "1e300", P),
    (5, "1e9999999", F),
    (5, "9" * 500, F),
    *((gold, "5", V) for gold in (None, True, "five", "5 or 6", "", float("nan"), float("inf"), "1e9999999", "#### ")),
]


def test_numeric_reads_what_people_write() -> None:
    assert wrong_rows("numeric", NUMBERS_AS_WRITTEN) == []


def test_numeric() -> None:
    assert wrong_rows("numeric", NUMERIC) == []


def test_numeric_tolerances_are_those_of_their_definition() -> None:
    verifier = load_verifier("numeric", relative_tolerance=0.05)
    assert verifier(["105", "95", "106", "94.9"], [100] * 4) == [P, P, F, F]
    assert verifier(["-105", "-106", "0", "1e-9"], [-100, -100, 0, 0]) == [P, F, P, F]
    verifier = load_verifier("numeric", relative_tolerance=0, absolute_tolerance=0.5)
    assert verifier(["0.5", "-0.5", "0.51", "100.5"], [0, 0, 0, 100]) == [P, P, F, P]
    for value in range(-40, 41):
        answer = f"{value / 16} apples"
        assert read_numbers(answer)[0] == (value / 16, "")
        [verdict] = load_verifier("numeric", absolute_tolerance=1.0)([answer], [0])
        assert (verdict is P) == (abs(value / 16) <= 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("numeric", {"relative_tolerance": -1}, "`relative_tolerance` must be a finite number of at least 0, not -1"),
        ("numeric", {"absolute_tolerance": float("inf")}, "`absolute_tolerance` must be a finite number"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_verifier(name, **options)
