"""Ten thousand completions made to hang, crash or fool a verifier: none does, whichever verifier reads them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from paced_trl.verification import Verdict, load_verifier


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
    forms = "{0}! ({0}!)! \\binom{{{0}}}{{{1}}} {1}e{0} {1}E{0} 10^{{{0}}} (1+x)^{{{0}}} (x+y+z)^{{{0}}} \\sqrt[{0}]{{{1}}}"
    forms += " \\sum_{{k=1}}^{{{0}}}k^{1} \\int_0^{{{0}}}x^{{x}}dx \\prod_{{k=1}}^{{{0}}}k \\Gamma({0}) {1}\\uparrow\\uparrow{0}"
    forms += " \\log(\\log({0}^{{{0}}})) \\gcd({0}^{{{0}}},{1}) {0}\\bmod{{{1}}} \\lim_{{n\\to\\infty}}{0}^{{n!}}"
    return draw.choice(forms.split()).format(number, digits(draw))


def nested(draw: random.Random) -> str:
    pairs = ["{ }", "( )", "[ ]", "\\{ \\}", "\\left( \\right)", "\\frac{ }{1}", "\\sqrt{ }", "\\boxed{ }", "x_{ }"]
    pairs += ["2^{ }", "\\text{ }", "| |", "\\binom{ }{2}", "\\begin{pmatrix} \\end{pmatrix}", "\\sin( )", "-( )"]
    opening, closing = draw.choice(pairs).split(" ")
    depth = between(draw, 2, 3000)
    return opening * depth + digits(draw) + closing * draw.choice([0, depth, depth - 1, depth + 1])


def repeated(draw: random.Random) -> str:
    unit = "= - + , ; $ $$ \\ \\\\ # 1, 1. .1 1e 9 x( 1/ ^ _ & \\( \\) \\[ answer <answer> </think> A: ####".split()
    unit += ["The answer is ", "#### ", "\n", " ", "####\n", "\\boxed", "1 + ", "x^2 + ", "\\text{a} ", "or 7 "]
    words = "".join(draw.choice(unit) for _ in range(draw.randint(1, 3)))
    return words * (between(draw, 10, 20_000) // len(words) + 1)


def megabyte(draw: random.Random) -> str:
    unit = draw.choice(["9", "a", "(", "{", "}", "\\boxed{", "$1$ ", "1,000,", "The answer is ", "\x00", "\u00b2", "[", '"'])
    return unit * (between(draw, 200_000, 1_000_000) // len(unit))


def characters(draw: random.Random) -> str:
    ranges = [(0, 31), (127, 159), (0xD800, 0xDFFF), (0x200B, 0x202E), (0x2066, 0x2069), (0xFF10, 0xFF19), (0x660, 0x669)]
    ranges += [(0x1D7CE, 0x1D7FF), (0x2070, 0x2089), (0xFE00, 0xFE0F), (0x300, 0x36F), (0x1F600, 0x1F64F)]
    chosen = draw.sample(ranges, 2)
    return "".join(chr(draw.randint(*draw.choice(chosen))) for _ in range(between(draw, 1, 400)))


def formats(draw: random.Random) -> str:
    texts = "%s%n%d {0} {} {0.__class__.__mro__} %(name)s {self._gold} ${HOME} `id` $(id) {{{{ %1000000000d {:>999999999}"
    return draw.choice(texts.split()) * between(draw, 1, 50)


def commands(draw: random.Random) -> str:
    texts = ["\\input{/etc/passwd}", "\\write18{true}", "\\def\\x{\\x\\x}\\x", "\\loop\\repeat", "\\csname x\\endcsname"]
    texts += ["__import__('os').abort()", "exec('1')", "().__class__.__bases__", "exit()", "(lambda: 0)()", "x.subs(x, 1)"]
    texts += ["\\newcommand{\\a}{\\a}\\a", "[0]*10**9", "open('/etc/passwd').read()", "symbols('x')", "\\sympy{1}"]
    return draw.choice(texts)


def enumerations(draw: random.Random) -> str:
    unit = draw.choice(["1", "x", "x^2", "\\frac{1}{2}", "(1,2)", "\\{1\\}", "\\pm 1", "a=1", "\\sqrt{2}", "1 < x < 2"])
    separator = draw.choice([", ", "; ", " \\cup ", " and ", " + ", " & ", " = ", " < ", "\\cdot "])
    return separator.join([unit] * between(draw, 3, 600))


def truncated(draw: random.Random) -> str:
    text = f"We get \\[ x = \\frac{{{digits(draw)}}}{{{digits(draw)}}} \\cdot \\left( 2^{{{digits(draw)}}} + y_1 \\right). \\]"
    return text[: draw.randint(1, len(text))] * draw.randint(1, 4)


# Weighted by what they cost: those that reach a parser are rarer, so that ten thousand take less than a minute.
FAMILIES: dict[Family, int] = {characters: 40, repeated: 18, commands: 16, tower: 12, truncated: 6, megabyte: 1}
FAMILIES |= {formats: 3, growing: 2, nested: 2, enumerations: 2}
WRAPPERS = ["{}", "\\boxed{{{}}}", "${}$", "The answer is {}", "#### {}", "<answer>{}</answer>", "x = {}", "\\[ {} \\]"]


def hostile_completions(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return pairs of a family's name and a completion; the seed decides all of them."""
    draw = random.Random(seed)
    families = draw.choices(list(FAMILIES), weights=list(FAMILIES.values()), k=number)
    return [(family.__name__, draw.choice(WRAPPERS).format(family(draw))) for family in families]
