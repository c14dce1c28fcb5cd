"""Verdicts of the mathematics verifier by style and kind of answer, and on completions that cannot be computed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from helpers.paths import SHARED
from helpers.verification import (
    FAILED,
    HOSTILE,
    NOT_COMPUTABLE,
    NUMBERS_AS_WRITTEN,
    PASSED,
    TIMEOUT,
    UNPARSEABLE,
    UNVERIFIABLE,
    F,
    P,
    Table,
    U,
    explain,
    wrong_rows,
)
from paced_trl.verification.expressions import expression, is_mathematics, with_both_signs
from paced_trl.verification.math_check import gold_expression
from paced_trl.verification.math_limits import bounded, last_part
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import Verifier, load_verifier


GSM8K = SHARED / "data" / "gsm8k" / "test.jsonl"


@pytest.fixture(scope="module")
def math() -> Iterator[Verifier]:
    pytest.importorskip("math_verify")
    with load_verifier("math", num_workers=2, timeout=4.0) as verifier:
        yield verifier


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
    expected = {"1,234.50": "1234.5", "12 000": "12000", "2e3": "2000", "(1, 2)": "(1, 2)", "x+1": "x+1"}
    assert {text: expression(text) for text in expected} == expected and expression("$x$") == "x"
    found = [expression(text) for text in ("", "x", "B) 3 apples", "3 or 4", "1\n2", "1" * 301)]
    assert [text for text in found if text is not None and is_mathematics(text)] == []
    assert gold_expression("18 dollars and 30 cents") is None


def test_math_from_a_thread(math: Verifier) -> None:
    results: list[Verdict] = []
    thread = threading.Thread(target=lambda: results.extend(math([NOT_COMPUTABLE, "4"], [4, 4])))
    thread.start()
    thread.join(timeout=60)
    assert results == [TIMEOUT, PASSED]


def test_hostile_completions_end_within_the_bound_and_never_pass(math: Verifier) -> None:
    began = time.monotonic()
    with load_verifier("math", num_workers=2, timeout=2.0) as verifier:
        verdicts = verifier(HOSTILE, ["42"] * len(HOSTILE))
    assert time.monotonic() - began < 2.0 * len(HOSTILE)
    assert PASSED not in verdicts and UNVERIFIABLE not in verdicts
    assert verdicts[0] is TIMEOUT
    assert not math(["42"], ["9^{9^9}"])[0].is_valid and math.check_solutions(["9^{9^9}"]) != [PASSED]


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


# The problem's own sum, 78 + 4, in the forms in which a student may repeat it.
OWN_SUM = [
    "(78) + (4)",
    "\\boxed{(78) + (4)}",
    "78--4",
    "\\boxed{78--4}",
    "\\boxed{\\frac{78}{1}+\\frac{4}{1}}",
    "\\boxed{\\frac{78+4}{1}}",
    "$78+4$",
    "The answer is 78 + 4.",
    "78 - (-4)",
    "\\boxed{78 - -4}",
    "\\boxed{4+78}",
    "\\boxed{\\left(78\\right)+4}",
    "78/1 + 4/1",
    "{78}+{4}",
    "\\boxed{78 \\; + \\; 4}",
    "#### 78+4",
    "+78+4",
    "\\boxed{\\text{78}+4}",
    "(78+4)",
    "x = 78 + 4",
    "\\boxed{78+4.0}",
    "\\boxed{82+0}",
    "\\boxed{82 \\cdot 1}",
    "\\boxed{2(41)}",
    "\\boxed{(2)(41)}",
    "78+4",
    "(78+4)/1",
    "\\boxed{(78+4)/1}",
    "\\boxed{\\dfrac{78 + 4}{1}}",
    "78 + 4 = ?",
    "78 ＋ 4",
    "\\boxed{78 \\mathbin{+} 4}",
    "78 plus 4",
    "\\boxed{4 + 7 + 71}",
    "$$78 + 4$$",
    "\\[78+4\\]",
    "\\(78+4\\)",
    "**78 + 4**",
    "<answer>78+4</answer>",
    "\\boxed{78+4=78+4}",
    "3 + 79",
]
SET = "$\\{x|-2\\leq x < 1\\}$"
AS_PEOPLE_WRITE: Table = [
    (SET, "\\boxed{1}", F),
    (SET, "\\boxed{[-2,1)}", P),
    (SET, "\\boxed{\\{x \\mid -2 \\le x < 1\\}}", P),
    (SET, "\\boxed{\\{x|-2\\leq x<2\\}}", F),
    ("1-\\frac{1}{\\mathrm{e}}", "\\boxed{1}", F),
    ("1-\\frac{1}{\\mathrm{e}}", "\\boxed{1-\\frac1e}", P),
    ("1, 2, \\ldots, n", "\\boxed{2}", F),
    ("1, 2, \\ldots, n", "\\boxed{1,2,\\ldots,n}", P),
    ("1011_2", "\\boxed{1011}", F),
    ("1011_2", "\\boxed{1011_2}", P),
    ("1011_2", "\\boxed{1011_{2}}", P),
    ("1011_2", "\\boxed{1011_3}", F),
    ("p \\equiv 1 \\pmod 4", "\\boxed{4}", F),
    ("p \\equiv 3 \\pmod 4", "\\boxed{p \\equiv 3 \\pmod{4}}", P),
    ("p \\equiv 3 \\pmod 4", "\\boxed{p \\equiv 1 \\pmod{4}}", F),
    ("2k\\pi, k \\in \\mathbb{Z}", "\\boxed{2k\\pi}", F),
    ("\\{2k \\mid k \\in \\mathbb{Z}\\}", "\\boxed{\\{2k : k \\in \\mathbb{Z}\\}}", P),
    ("x^2+y^2=4", "\\boxed{4}", F),
    ("x^2+y^2=4", "\\boxed{x^2+y^2=4}", P),
    ("4", "\\boxed{x^2+y^2=4}", F),
    ("4", "\\boxed{2x = 4}", F),
    ("12", "\\boxed{m+n=12}", P),
    ("10!", "\\boxed{10}", F),
    ("10!", "\\boxed{10!}", P),
    ("0.\\dot{3}", "\\boxed{\\frac{1}{3}}", P),
    ("\\{1 \\pm \\sqrt{5}, -2\\}", "\\boxed{-2, 1-\\sqrt{5}, 1+\\sqrt{5}}", P),
    ("0.0000002", "0.0000001", F),
    ("0.0012344", "0.0012341", F),
    ("0.0012344", "\\boxed{0.0012344}", P),
    ("0.3333333", "\\boxed{\\frac13}", F),
    ("(0.0000001, 2)", "\\boxed{(0.0000002, 2)}", F),
    ("(0.0000001, 2)", "\\boxed{(0.0000001, 2)}", P),
    ("\\sqrt{2}", "\\boxed{1.41421356}", P),
    ("\\sqrt{2}", "\\boxed{1.41}", F),
    ("\\{5,6\\}", "\\boxed{5}. Wait, it is \\boxed{6}.", F),
    ("6", "\\boxed{5}. Wait, it is \\boxed{6}.", P),
    ("5", "\\boxed{5}. Wait, it is \\boxed{6}.", F),
    ("5,6", "\\boxed{5} and \\boxed{6}", P),
    ("5,6", "$\\boxed{5}$, $\\boxed{6}$", P),
    ("5,6", "The answers are 5 and 6.", P),
    ("10-2\\sqrt{5}", "**Answer:** 10 - 2√5", P),
    ("10-2\\sqrt{5}", "**Answer:** 10 - 2√3", F),
    ("42", "\\boxed{42 \\text{ or } 41}", F),
    ("42", "$x \\neq 42$", F),
    ("42", "The answer is not $42$.", F),
    ("82", "\\boxed{78+4=82}", P),
    ("82", "\\boxed{82 = 78 + 4}", P),
    ("82", "\\boxed{\\frac{164}{2}}", P),
    ("1/2", "\\boxed{\\frac13+\\frac16}", F),
    ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}", P),
    ("x \\neq 3", "\\boxed{x \\neq 3}", P),
    ("x \\neq 3", "\\boxed{3}", F),
    ("y=2x+3", "\\boxed{y = 2x+3}", P),
    ("y=2x+3", "\\boxed{2x+3}", P),
    ("f(x)=2x", "\\boxed{f(x) = 2x}", P),
    ("\\angle ABC", "\\boxed{\\angle ABC}", P),
    ("4:3", "\\boxed{4:3}", P),
    ("x^2+2x+1", "\\boxed{(x+1)^2}", P),
    ("\\frac{\\pi}{2}", "\\boxed{\\pi/2}", P),
    ("2x", "\\boxed{2}", F),
    ("2", "\\boxed{2x}", F),
    ("5 \\text{ m/s}", "\\boxed{5\\,\\mathrm{m/s}}", P),
    ("\\$1,234.50", "\\boxed{1234.5}", P),
    ("\\log_2 3", "\\boxed{\\log_2 3}", P),
    ("\\log_2 3", "\\boxed{\\log_2 5}", F),
    ("n!", "\\boxed{n!}", P),
    ("-\\infty < x \\leq 2", "\\boxed{(-\\infty,2]}", P),
    ("x \\in [-2, 3]", "\\boxed{[-2,3]}", P),
    ("\\left(-\\infty, 1\\right) \\cup \\left(2, \\infty\\right)", "\\boxed{(-\\infty,1)\\cup(2,\\infty)}", P),
    ("[1,\\infty)", "\\boxed{x\\ge 1}", P),
    ("3 \\times 10^5", "\\boxed{300000}", P),
    ("2^{10}", "\\boxed{1024}", P),
    ("\\text{(C)}", "\\boxed{C}", P),
    ("120^\\circ", "\\boxed{120°}", P),
    ("\\frac{2}{3}\\text{ m}^2", "\\boxed{\\frac23}", P),
    ("18", "答案是18", P),
    ("18", "最终答案是 \\boxed{18}", P),
    ("3\\frac{1}{4}", "\\boxed{\\frac{13}{4}}", P),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\boxed{\\begin{pmatrix} 1 \\\\ 3 \\end{pmatrix}}", F),
    ("5", "<think>The answer is 5.", U),
]


def test_math_reads_all_of_an_answer_or_none_of_it() -> None:
    pytest.importorskip("math_verify")
    assert wrong_rows("math", AS_PEOPLE_WRITE, num_workers=2) == []


def test_math_never_passes_the_problems_own_sum() -> None:
    pytest.importorskip("math_verify")
    with load_verifier("math", num_workers=2) as verifier:
        verdicts = verifier(OWN_SUM, ["82"] * len(OWN_SUM))
    assert [text for text, verdict in zip(OWN_SUM, verdicts, strict=True) if verdict is not F] == []


def test_numeric_agrees_with_math_on_numbers() -> None:
    pytest.importorskip("math_verify")
    assert wrong_rows("math", NUMBERS_AS_WRITTEN, num_workers=2) == []


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
    assert with_both_signs("(1 \\pm 2, 3), a \\mp b") == "(1 + 2, 3), (1 - 2, 3), a - b, a + b"
    assert expression("$\\pm 1$ or \\boxed{\\pm 2}.") == "+ 2, - 2"
