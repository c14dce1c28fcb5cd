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


def wrong_rows(name: str, table: Table, **options: Any) -> list[tuple[Any, ...]]:
    """Return the rows whose last element is not the verdict they got; golds are checked by the same rows."""
    with load_verifier(name, **options) as verifier:
        verdicts = verifier([row[1] for row in table], [row[0] for row in table])
        golds = verifier.check_solutions([row[0] for row in table])
    wrong = [(*row, str(verdict)) for row, verdict in zip(table, verdicts, strict=True) if row[2] is not verdict]
    return wrong + [(row[0], gold) for row, gold in zip(table, golds, strict=True) if (row[2] is V) != (gold is V)]
