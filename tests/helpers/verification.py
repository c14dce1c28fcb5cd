"""Verdicts by short names, tables of rows with the verdict that they must get, and hostile completions."""

from __future__ import annotations

from typing import Any

from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


PASSED, FAILED, UNPARSEABLE = Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE
TIMEOUT, UNVERIFIABLE = Verdict.TIMEOUT, Verdict.UNVERIFIABLE


def explain(rows: list[tuple[Any, ...]], verdicts: list[Verdict]) -> list[tuple[Any, ...]]:
    """Return the rows whose last element is not the verdict they got."""
    return [(*row, str(verdict)) for row, verdict in zip(rows, verdicts, strict=True) if row[-1] is not verdict]


# Beyond any computer, and written so that it does not show before it is computed.
NOT_COMPUTABLE = "\\boxed{\\binom{99999999}{4999999}}"
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


P, F, U, V = Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.UNVERIFIABLE
Table = list[tuple[Any, str, Verdict]]


# Hedges, several boxes, units, mixed numbers, other languages, and thoughts that end otherwise than </think>.
NUMBERS_AS_WRITTEN: Table = [
    (42, "The answer is 42 or 41.", F),
    (42, "The answers are 42 and 41.", F),
    (42, "The answer is not 42.", U),
    (42, "The answer is not 42, it is 41.", F),
    (41, "The answer is not 42, it is 41.", P),
    (42, "\\boxed{42, 41}", F),
    (42, "\\boxed{x \\neq 42}", F),
    (42, "\\boxed{42} or \\boxed{41}", F),
    (6, "\\boxed{5}. Wait, it is \\boxed{6}.", P),
    (5, "\\boxed{5}. Wait, it is \\boxed{6}.", F),
    (1.25, "\\boxed{1 1/4}", P),
    (12, "\\boxed{12.}", P),
    (13, "\\boxed{13°}", P),
    (13, "\\boxed{€13}", P),
    (12, "\\boxed{12 km/h}", P),
    (18, "答案是18", P),
    (3.25, "\\boxed{3\\frac{1}{4}}", P),
    (18.5, "18,5.", P),
    (18, "The answer is 18, since 18 = 3 * 6.", P),
    (82, "\\boxed{78+4}", F),
    (82, "\\boxed{(78) + (4)}", F),
    (42, "It is not 42.", U),
    (42, "It is 42, not 41.", P),
    (42, "either 42 or 41", F),
    (42, "I think 42, or maybe 41.", F),
    (2, "\\boxed{2\\sqrt{3}}", F),
    (2, "\\boxed{2\\pi}", F),
    (2, "\\boxed{2x}", F),
    (5, "\\boxed{5 \\text{ m}^2}", P),
    (5, "\\boxed{5\\,\\mathrm{cm}^3}", P),
    (5, "5m", P),
    (42, "[THINK]41[/THINK]42", P),
    (42, "◁think▷41◁/think▷42", P),
    (42, "<think>42", U),
    (42, "<|channel|>analysis<|message|>41?<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>", P),
    (42, "<|channel|>analysis<|message|>42", U),
    (42, "analysisIs it 41?assistantfinalThe answer is 42.", P),
    (12, "The speed is 12 m/s.", P),
    (18, "The answer is $18 per day", P),
    (3, "x_1 = 3", P),
    (10, "10 - 2\\sqrt5", F),
    (18, "所以答案为：18。", P),
    (18, "答えは18です。", P),
    (18, "Die Antwort ist 18.", P),
    (18, "The answer is 18, and 3 of them are red.", P),
    (42, "The answer cannot be 42.", U),
    (42, "The answer isn't 42", U),
    (1234.5, "1.234,5", F),
    (0.5, "½", P),
    (2.5, "2½", P),
    (7, "The answer is 7 because 3+4=7", P),
    (18, "the answer is 3 * 6 = 18.", P),
    (18, "The answer is 18 = 3 * 6.", P),
    (18, "**Final Answer**\n\n18", P),
    (1500, "\\boxed{1{,}500}", P),
    (-5, "\\boxed{-5}", P),
    (4, "\\boxed{\\sqrt{16}}", F),
    (42, "Between 41 and 42.", F),
    (42, "We get 42 rather than 41.", P),
    (41, "We get 42 rather than 41.", F),
    (18, "答案是 $18$ 元", P),
]


def wrong_rows(name: str, table: Table, **options: Any) -> list[tuple[Any, ...]]:
    """Return the rows whose last element is not the verdict they got; golds are checked by the same rows."""
    with load_verifier(name, **options) as verifier:
        verdicts = verifier([row[1] for row in table], [row[0] for row in table])
        golds = verifier.check_solutions([row[0] for row in table])
    wrong = [(*row, str(verdict)) for row, verdict in zip(table, verdicts, strict=True) if row[2] is not verdict]
    return wrong + [(row[0], gold) for row, gold in zip(table, golds, strict=True) if (row[2] is V) != (gold is V)]
