"""Verdicts of the verifiers for numbers and JSON values, and of the mathematics verifier by kind of answer."""

from __future__ import annotations

from typing import Any

import pytest
from paced_trl.math_limits import bounded, last_part
from paced_trl.math_verifier import with_both_signs
from paced_trl.numeric_verifier import read_numbers

from paced_trl.verification import Verdict, load_verifier


P, F, U, V = Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.UNVERIFIABLE
Table = list[tuple[Any, str, Verdict]]


def wrong_rows(name: str, table: Table, **options: Any) -> list[tuple[Any, ...]]:
    """Return the rows whose last element is not the verdict they got; golds are checked by the same rows."""
    with load_verifier(name, **options) as verifier:
        verdicts = verifier([row[1] for row in table], [row[0] for row in table])
        golds = verifier.check_solutions([row[0] for row in table])
    wrong = [(*row, str(verdict)) for row, verdict in zip(table, verdicts, strict=True) if row[2] is not verdict]
    return wrong + [(row[0], gold) for row, gold in zip(table, golds, strict=True) if (row[2] is V) != (gold is V)]


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
        assert read_numbers(answer)[0] == (value / 16, False)
        [verdict] = load_verifier("numeric", absolute_tolerance=1.0)([answer], [0])
        assert (verdict is P) == (abs(value / 16) <= 1)


OBJECT = '{"name": "Ada", "age": 36, "tags": ["x", "y"]}'
JSON: Table = [
    (OBJECT, OBJECT, P),
    (OBJECT, 'Sure:\n```json\n{"age": 36.0, "tags": ["x", "y"], "name": "\\u0041da"}\n```\nDone {}.', P),
    ({"name": "Ada", "age": 36, "tags": ["x", "y"]}, f"As {{x}} shows, it is {OBJECT}.", P),
    (OBJECT, f'First {{"name": 1}}, then {OBJECT}', P),
    (OBJECT, f'<think>{OBJECT}</think> {{"name": "Ada"}}', F),
    (OBJECT, '{"name": "Ada", "age": "36", "tags": ["x", "y"]}', F),
    (OBJECT, '{"name": "Ada", "age": 36, "tags": ["y", "x"]}', F),
    (OBJECT, '{"name": "Ada", "age": 36, "tags": ["x", "y"], "more": null}', F),
    (OBJECT, '```json\n{"name": "Ada"', U),
    (OBJECT, "No object here.", U),
    ('{"a": "} ]"}', 'An unclosed [ and then {"a": "} ]"}', P),
    ([1, 2], "[1, 2.0]", P),
    ("1", "The answer is 1.0", P),
    ('"x"', 'I think\n"x"', P),
    (True, "true", P),
    ("true", "1", F),
    ("1", "true", F),
    ("null", "null", P),
    ("0.1", "0.10", P),
    ("12345678901234567890", "12345678901234567891", F),
    *(
        ("1", text, U)
        for text in ("NaN", "[Infinity]", "[1e999]", '{"a": 1, "a": 1}', "9" * 5000, "[" * 9000 + "]" * 9000)
    ),
    *(
        (gold, "1", V)
        for gold in (None, "", "Ada", "NaN", [float("inf")], '{"a": 1, "a": 2}', "[" * 9000 + "]" * 9000, {1j})
    ),
]


def test_json() -> None:
    assert wrong_rows("json", JSON) == []


def test_json_options() -> None:
    shuffled = '{"tags": ["y", "x"], "age": 36.0, "name": "Ada"}'
    assert load_verifier("json", ignore_order=True)([shuffled, '{"tags": ["y", "y"]}'], [OBJECT] * 2) == [P, F]
    nested = "[[1, [2, 3]], {}, 2.0]"
    assert load_verifier("json", ignore_order=True)(
        ["[2, {}, [[3, 2], 1]]", "[2, {}, [[3, 2, 1]]]"], [nested] * 2
    ) == [P, F]
    keys = load_verifier("json", keys=["age"])
    assert keys(['{"age": 36}', '{"age": 37, "name": "Ada"}', '{"name": "Ada"}', "[1]"], [OBJECT] * 4) == [P, F, F, F]
    assert keys(['{"age": 36}'], ['{"name": 1}']) == [V] and keys.check_solutions(["[1]"]) == [V]
    near = load_verifier("json", float_tolerance=0.01)
    assert near(["[1.005, 2]", "[1.02, 2]", f"[{10**400}, 2]"], ["[1, 2]"] * 3) == [P, F, F]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("numeric", {"relative_tolerance": -1}, "`relative_tolerance` must be a finite number of at least 0, not -1"),
        ("numeric", {"absolute_tolerance": float("inf")}, "`absolute_tolerance` must be a finite number"),
        ("json", {"float_tolerance": float("nan")}, "`float_tolerance` must be a finite number"),
        ("json", {"keys": "age"}, "`keys` must be a list of names .* not 'age'"),
        ("json", {"ignore_order": True, "float_tolerance": 0.1}, "both given.*Set one of them"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_verifier(name, **options)


PM = "\\frac{-1 \\pm \\sqrt{13}}{4}"
MATRIX = "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"
MATH: dict[str, Table] = {
    "tuples": [
        ("(1,2)", "\\boxed{(1, 2)}", P),
        ("(1,2)", "\\boxed{(2,1)}", F),
        ("(1,2)", "\\boxed{\\left(1,\\frac{4}{2}\\right)}", P),
        ("(1,2)", "\\boxed{(1,2,3)}", F),
        ("\\left(\\frac12, 3\\right)", "(0.5, 3)", P),
    ],
    "intervals": [
        ("(-\\infty, 3]", "\\boxed{(-\\infty,3]}", P),
        ("[0,1]", "\\boxed{(0,1)}", F),
        ("(-\\infty,-1)\\cup(1,\\infty)", "\\boxed{(1,\\infty)\\cup(-\\infty,-1)}", P),
        ("(-\\infty,-1)\\cup(1,\\infty)", "\\boxed{(1,\\infty)}", F),
        ("x>3", "\\boxed{(3,\\infty)}", P),
        ("x \\le 3", "\\boxed{3 \\ge x}", P),
        ("\\mathbb{R}", "\\boxed{(-\\infty,\\infty)}", P),
    ],
    "sets": [
        ("\\{1,2,3\\}", "\\boxed{\\{3,1,2\\}}", P),
        ("1,2,3", "\\boxed{3, 2, 1}", P),
        ("\\{1,2\\}", "\\boxed{1}", F),
        ("\\emptyset", "\\boxed{\\varnothing}", P),
        ("\\pm 3", "\\boxed{3, -3}", P),
        ("x = \\pm 3", "\\boxed{x=3, x=-3}", P),
        ("1 \\pm \\sqrt{2}", "\\boxed{1+\\sqrt{2}}", F),
        (f"$x = \\frac{{1}}{{2}}, x = {PM}$", f"\\boxed{{x = {PM}, x = 0.5}}", P),
        (f"$x = \\frac{{1}}{{2}}, x = {PM}$", f"\\boxed{{x = {PM}}}", F),
        (PM, "\\boxed{\\frac{-1 + \\sqrt{13}}{4}, \\frac{-1 - \\sqrt{13}}{4}}", P),
    ],
    "percent": [
        ("25\\%", "\\boxed{25}", P),
        ("25\\%", "\\boxed{0.25}", P),
        ("25\\%", "The answer is 25 percent.", P),
        ("0.25", "25%", P),
        ("25\\%", "\\boxed{52\\%}", F),
    ],
    "units": [
        ("5\\text{ cm}", "5 cm", P),
        ("12\\text{ cm}^2", "\\boxed{12}", P),
        ("45", "\\boxed{45^\\circ}", P),
        ("5", "\\boxed{\\$5.00}", P),
        ("5", "It costs 5€.", P),
        ("5 km/h", "The answer is 6 km/h.", F),
    ],
    "fractions": [
        ("\\frac34", "\\boxed{\\tfrac{3}{4}}", P),
        ("-\\frac{3}{4}", "\\boxed{\\frac{-3}{4}}", P),
        ("2 1/2", "\\boxed{\\frac{5}{2}}", P),
        ("2\\frac{1}{2}", "The answer is 2 1/2.", P),
        ("2 1/2", "\\boxed{1}", F),
        ("\\frac{\\sqrt{3}}{3}", "\\boxed{\\frac{1}{\\sqrt{3}}}", P),
        ("\\frac{3}{4}", "\\boxed{\\frac{4}{3}}", F),
    ],
    "decimals": [
        ("0.5", ".5", P),
        ("0.\\overline{3}", "\\boxed{\\frac13}", P),
        ("\\frac{7}{6}", "\\boxed{1.1\\overline{6}}", P),
        ("0.\\overline{3}", "\\boxed{0.3}", F),
        ("3.14", "\\boxed{\\pi}", F),
    ],
    "words": [
        ("\\text{Evelyn}", "\\boxed{Evelyn}", P),
        ("\\text{Evelyn}", "evelyn", P),
        ("$\\text{Evelyn}$", "The answer is **Evelyn**.", P),
        ("\\text{Evelyn}", "\\boxed{\\text{Ruth}}", F),
        ("\\text{Evelyn}", "The answer is Ruth.", U),
        ("\\text{(B)}", "\\boxed{B}", P),
    ],
    "thousands": [
        ("10,000", "\\boxed{10000}", P),
        ("10000", "\\boxed{10\\,000}", P),
        ("10000", "\\boxed{10{,}000}", P),
        ("1,000,000", "The answer is 1 000 000.", P),
        ("10,000", "\\boxed{10}", F),
    ],
    "matrices": [
        (MATRIX, "\\boxed{\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}}", P),
        (MATRIX, "\\boxed{\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}}", F),
        (MATRIX, "\\boxed{\\begin{pmatrix}1\\\\2\\\\3\\end{pmatrix}}", F),
    ],
    # What the problem states equals its answer and is none.
    "arithmetic": [
        ("82", "78 + 4 = 78 + 4", F),
        ("82", "78 + 4 = 82", P),
        ("8", "There are 5 + 3", F),
        ("2", "2 + 0.", F),
        ("100", "\\boxed{10 \\cdot 10}", F),
        ("2000", "$2 \\times 10^{3}$", P),
        ("-4", "5 - 9 = -4", P),
        ("0.75", "3/4", P),
        ("1+\\sqrt{2}", "\\boxed{\\sqrt{2}+1}", P),
    ],
    "large": [
        ("2^{100000}", "\\boxed{2^{100000}}", P),
        ("4", "\\boxed{2^{100000}}", F),
        ("4", "Since $9^{9^9}$ is large, \\boxed{4}", P),
        ("4", "Since $" + "(" * 30 + "1" + ")" * 30 + "$ is 1, the answer is 4.", P),
        ("4", "\\boxed{4}" + " and so on" * 5000, P),
        ("7", "The answer is 7. " * 400, P),
        ("7", "Total " + "." * 120 + " 7", P),
        ("7", "Total\n" + "-" * 120 + "\n7", P),
    ],
}


def test_math_by_kind_of_answer() -> None:
    pytest.importorskip("math_verify")
    assert wrong_rows("math", [row for table in MATH.values() for row in table], num_workers=2) == []


def test_what_is_beyond_reading_is_replaced_and_nothing_else() -> None:
    for text in (
        "2^{2^{3}} + 9^{4} = 6577",
        "\\frac{\\sqrt{2}}{\\left(1 + \\frac{1}{2}\\right)}",
        "99999 and 12!",
        "f(g(x))",
    ):
        assert bounded(text) == text
    assert "Upsilon" in bounded("10^{99999}") and "Upsilon" in bounded("99999!") and "Upsilon" in bounded("2^{3^{99}}")
    assert bounded("\\boxed{" + "(" * 9 + ")" * 9 + "} 4") == "\\boxed{ \\Upsilon } 4"
    assert bounded("left open " + "( " * 9 + "\n\n(4)") == "left open ( \\Upsilon \n\n(4)"
    assert last_part("x" * 9000) == "x" * 6000
    assert last_part("a" * 9000 + "\\boxed{1}" + "b" * 9000) == "a" * 3000 + "\\boxed{1}" + "b" * 2991
    assert with_both_signs("$(1 \\pm 2, 3), a \\mp b$") == "$(1 + 2, 3), (1 - 2, 3), a - b, a + b$"
    assert with_both_signs("$\\pm 1$ or \\boxed{\\pm 2}.") == "$\\pm 1$ or \\boxed{+ 2, - 2}."
