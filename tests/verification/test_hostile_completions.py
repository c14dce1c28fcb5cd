"""Ten thousand completions made to hang, crash or fool a verifier: none does, whichever verifier reads them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from helpers.verification import HOSTILE, PASSED, TIMEOUT
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


GOLD = "41.875"  # stated by no family
Family = Callable[[random.Random], str]


def between(draw: random.Random, low: int, high: int) -> int:
    """Draw a size, small and large ones alike."""
    return int(low * (high / low) ** draw.random())


def digits(draw: random.Random, low: int = 1, high: int = 3) -> str:
    return str(draw.randint(10 ** (low - 1), 10**high - 1))


def tower(draw: random.Random) -> str:
    levels = [digits(draw) for _ in range(draw.randint(2, 5))]
    return draw.choice(["^{", "^", "**", "^("]).join(levels) + draw.choice(["}", ")", ""]) * (len(levels) - 1)


def growing(draw: random.Random) -> str:
    number = digits(draw, 4, 9)
    forms = [
        *("{0}!", "({0}!)!", "\\binom{{{0}}}{{{1}}}", "{1}e{0}", "{1}E{0}", "10^{{{0}}}", "\\sqrt[{0}]{{{1}}}"),
        *("(1+x)^{{{0}}}", "(x+y+z)^{{{0}}}", "\\sum_{{k=1}}^{{{0}}}k^{1}", "\\int_0^{{{0}}}x^{{x}}dx"),
        *("\\prod_{{k=1}}^{{{0}}}k", "\\Gamma({0})", "{1}\\uparrow\\uparrow{0}", "\\log(\\log({0}^{{{0}}}))"),
        *("\\gcd({0}^{{{0}}},{1})", "{0}\\bmod{{{1}}}", "\\lim_{{n\\to\\infty}}{0}^{{n!}}"),
    ]
    return draw.choice(forms).format(number, digits(draw))


def nested(draw: random.Random) -> str:
    pairs = ["{ }", "( )", "[ ]", "\\{ \\}", "\\left( \\right)", "\\frac{ }{1}", "\\sqrt{ }", "\\boxed{ }", "x_{ }"]
    pairs += ["2^{ }", "\\text{ }", "| |", "\\binom{ }{2}", "\\begin{pmatrix} \\end{pmatrix}", "\\sin( )", "-( )"]
    opening, closing = draw.choice(pairs).split(" ")
    depth = between(draw, 2, 3000)
    return opening * depth + digits(draw) + closing * draw.choice([0, depth, depth - 1, depth + 1])


def repeated(draw: random.Random) -> str:
    unit = [
        "=",
        "-",
        "+",
        ",",
        ";",
        "$",
        "$$",
        "\\",
        "\\\\",
        "#",
        "1,",
        "1.",
        ".1",
        "1e",
        "9",
        "x(",
        "1/",
        "^",
        "_",
        "&",
    ]
    unit += ["\\(", "\\)", "\\[", "answer", "<answer>", "</think>", "A:", "####"]
    unit += ["The answer is ", "#### ", "\n", " ", "####\n", "\\boxed", "1 + ", "x^2 + ", "\\text{a} ", "or 7 "]
    words = "".join(draw.choice(unit) for _ in range(draw.randint(1, 3)))
    return words * (between(draw, 10, 20_000) // len(words) + 1)


def megabyte(draw: random.Random) -> str:
    unit = draw.choice(
        ["9", "a", "(", "{", "}", "\\boxed{", "$1$ ", "1,000,", "The answer is ", "\x00", "\u00b2", "[", '"']
    )
    return unit * (between(draw, 200_000, 1_000_000) // len(unit))


def characters(draw: random.Random) -> str:
    ranges = [
        (0, 31),
        (127, 159),
        (0xD800, 0xDFFF),
        (0x200B, 0x202E),
        (0x2066, 0x2069),
        (0xFF10, 0xFF19),
        (0x660, 0x669),
    ]
    ranges += [(0x1D7CE, 0x1D7FF), (0x2070, 0x2089), (0xFE00, 0xFE0F), (0x300, 0x36F), (0x1F600, 0x1F64F)]
    chosen = draw.sample(ranges, 2)
    return "".join(chr(draw.randint(*draw.choice(chosen))) for _ in range(between(draw, 1, 400)))


def formats(draw: random.Random) -> str:
    texts = (
        "%s%n%d {0} {} {0.__class__.__mro__} %(name)s {self._gold} ${HOME} `id` $(id) {{{{ %1000000000d {:>999999999}"
    )
    return draw.choice(texts.split()) * between(draw, 1, 50)


def commands(draw: random.Random) -> str:
    texts = [
        "\\input{/etc/passwd}",
        "\\write18{true}",
        "\\def\\x{\\x\\x}\\x",
        "\\loop\\repeat",
        "\\csname x\\endcsname",
    ]
    texts += [
        "__import__('os').abort()",
        "exec('1')",
        "().__class__.__bases__",
        "exit()",
        "(lambda: 0)()",
        "x.subs(x, 1)",
    ]
    texts += ["\\newcommand{\\a}{\\a}\\a", "[0]*10**9", "open('/etc/passwd').read()", "symbols('x')", "\\sympy{1}"]
    return draw.choice(texts)


def enumerations(draw: random.Random) -> str:
    unit = draw.choice(
        ["1", "x", "x^2", "\\frac{1}{2}", "(1,2)", "\\{1\\}", "\\pm 1", "a=1", "\\sqrt{2}", "1 < x < 2"]
    )
    separator = draw.choice([", ", "; ", " \\cup ", " and ", " + ", " & ", " = ", " < ", "\\cdot "])
    return separator.join([unit] * between(draw, 3, 600))


def truncated(draw: random.Random) -> str:
    text = f"We get \\[ x = \\frac{{{digits(draw)}}}{{7}} \\cdot \\left( 2^{{{digits(draw)}}} + y_1 \\right). \\]"
    return text[: draw.randint(1, len(text))] * draw.randint(1, 4)


# Weighted by what they cost: those that reach a parser are rarer, so that ten thousand take less than a minute.
FAMILIES: dict[Family, int] = {characters: 40, repeated: 18, commands: 16, tower: 12, truncated: 6, megabyte: 1}
FAMILIES |= {formats: 3, growing: 2, nested: 2, enumerations: 2}
WRAPPERS = [
    "{}",
    "\\boxed{{{}}}",
    "${}$",
    "The answer is {}",
    "#### {}",
    "<answer>{}</answer>",
    "x = {}",
    "\\[ {} \\]",
]


def hostile_completions(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return pairs of a family's name and a completion; the seed decides all of them."""
    draw = random.Random(seed)
    families = draw.choices(list(FAMILIES), weights=list(FAMILIES.values()), k=number)
    return [(family.__name__, draw.choice(WRAPPERS).format(family(draw))) for family in families]


def test_families_are_what_they_say() -> None:
    rows = hostile_completions(10_000)
    assert rows == hostile_completions(10_000) and len(set(rows)) > 7_000
    assert {name for name, _ in rows} == {family.__name__ for family in FAMILIES}
    assert sum(len(text) > 150_000 for _, text in rows) > 50


@pytest.mark.slow
def test_math_survives_ten_thousand_hostile_completions() -> None:
    pytest.importorskip("math_verify")
    completions = [text for _, text in hostile_completions(10_000)]
    began = time.monotonic()
    with load_verifier("math", num_workers=2, timeout=2.0) as verifier:
        counts = Counter(verifier(completions, [GOLD] * len(completions)))
        assert verifier(["41.875", "41.874"], [GOLD, GOLD]) == [Verdict.PASSED, Verdict.FAILED]
    assert time.monotonic() - began < 240
    assert not counts[Verdict.PASSED] and not counts[Verdict.UNVERIFIABLE]
    # A timeout would take the completion out of the pass rate, as if the student had not been asked.
    assert counts[Verdict.TIMEOUT] <= 50


@pytest.mark.parametrize("name", ["numeric", "exact", "choice"])
def test_verifiers_without_processes_survive_them_too(name: str) -> None:
    gold = {"choice": "B"}.get(name, GOLD)
    rows = hostile_completions(2_000, seed=1)
    verifier = load_verifier(name)
    began = time.monotonic()
    verdicts = verifier([text for _, text in rows], [gold] * len(rows))
    assert time.monotonic() - began < 60
    assert {str(verdict) for verdict in verdicts} <= {"failed", "unparseable"}


@pytest.mark.parametrize(
    "unit", ["9", "1,", "1 ", "-", "1/", "10^", "$", ".", "e1", "\\frac{1}{", "1,234", "\\,123", "{"]
)
def test_numbers_are_read_in_linear_time(unit: str) -> None:
    verifier = load_verifier("numeric", absolute_tolerance=0.5)
    began = time.monotonic()
    verdicts = verifier([f"\\boxed{{{unit * 300_000}", unit * 300_000, f"The answer is {unit * 300_000}"], [GOLD] * 3)
    assert time.monotonic() - began < 5
    assert Verdict.PASSED not in verdicts


@pytest.mark.parametrize("name", ["exact", "choice"])
def test_text_verifiers_take_linear_time_on_hostile_completions(name: str) -> None:
    verifier = load_verifier(name)
    units = ["answer ", "answer is ", " ", "(", "*", "A or ", "\n", "option A is ", "\\boxed{", "**A", "A)\n"]
    hostile = HOSTILE + [unit * (200_000 // len(unit)) for unit in units]
    began = time.monotonic()
    verdicts = verifier(hostile, ["B"] * len(hostile))
    assert time.monotonic() - began < 20
    assert PASSED not in verdicts and TIMEOUT not in verdicts
