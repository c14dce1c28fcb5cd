"""
What of a gold or an answer is mathematics, in the notation that math-verify reads whole.

Unicode, units, set builders, number bases and dots are rewritten. Text only; nothing is parsed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from .answers import boxed_span
from .numbers import UNIT_OF_ONE_LETTER, normalized, read_number, without_units


MAX_LENGTH = 300  # characters; what is longer is a text, not an answer
_MAX_CHANGED = 16  # parts of an expression that are changed to see whether it is read whole
_RECURRING_DECIMAL = re.compile(r"(?<![\d.])(\d{1,15})\.(\d{0,15})\\(?:overline|bar|dot)\{(\d{1,15})\}")
_FORMULA = re.compile(r"\${1,2}([^$]+)\${1,2}|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SCIENTIFIC_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?[eE][-+]?\d{1,3}")
_TEXT_COMMAND = re.compile(r"\\(?:text\w*|mathrm|mbox|operatorname|begin|end|mathbb|mathcal)\s*\{[^{}]*\}")
_MATHEMATICS = re.compile(r"[\d\\+*/^=<>|-]|[A-Za-z)]!")
DECIMAL_COMMA = re.compile(r"-?\d+,\d{1,2}")  # one number or two
# Letters that mean prose rather than a product of variables.
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|min|max|gcd|lcm|mod)(?![A-Za-z]))"
    r"(?:[A-Za-z]{3,}|(?i:an|as|at|be|by|do|he|if|in|is|it|no|of|on|or|so|to|we)|am|pm|cm|mm|km|kg|mg|ft|hr)(?![A-Za-z])"
)
_SYMBOLS = {
    "\u2212": "-",
    "\\varnothing": "\\emptyset",
    "∅": "\\emptyset",
    "π": "\\pi ",
    "∞": "\\infty ",
    "≤": "\\leq ",
    "≥": "\\geq ",
    "≠": "\\neq ",
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "÷": "\\div ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "±": "\\pm ",
    "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}",
    "θ": "\\theta ",
    "→": "\\to ",
    "²": "^{2}",
    "³": "^{3}",
    "⁴": "^{4}",
    "\\leqslant": "\\leq",
    "\\geqslant": "\\geq",
    "\\infin ": "\\infty ",
    "\\quad": " ",
    "\\qquad": " ",
    "\\backslash": "\\setminus",
    "\\dots": "\\ldots",
    "\\cdots": "\\ldots",
    "…": "\\ldots ",
    "...": "\\ldots ",
}
_SYMBOL = re.compile(
    "|".join(
        re.escape(symbol) + ("(?![A-Za-z])" if symbol[-1].isalpha() and symbol[0] == "\\" else "")
        for symbol in sorted(_SYMBOLS, key=len, reverse=True)
    )
)
_ROOT = re.compile(r"(?:√|(?<![\\A-Za-z])sqrt)\s?(?:\{([^{}]{1,40})\}|\(([^()]{1,40})\)|([\d.]{1,20}|[A-Za-z]))")
_PLAIN_PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])")
_MULTI_DIGIT_EXPONENT = re.compile(r"\^\s?(-?\d{2,9}|-\d|\d{1,9}\.\d{1,9})(?![\d.])")
_STYLE = re.compile(
    r"\\(?:text)?color\s?\{[^{}]{0,30}\}|\\(?:boldsymbol|bm|underline|mathbf|mathit|mathsf)(?=\s?\{\s?[-\d.,/]{1,40}\s?\})"
)
_LETTER_FRACTION = re.compile(
    r"(\\[dtc]?frac)(?:\s?\{([^{}]{1,20})\}|\s?(\d)|\s([A-Za-z]))\s?(?:\{([^{}]{1,20})\}|([A-Za-z\d]))"
)
_BLACKBOARD = re.compile(r"\\(?:mathbb|Bbb)\s?(?:\{\s?([A-Z])\s?\}|([A-Z])(?![A-Za-z]))")
_UPRIGHT = re.compile(r"\\(?:mathrm|text|mathit|operatorname|mathbf|bm|boldsymbol)\s?\{\s?([A-Za-z])\s?\}")
_LIST_WORD = re.compile(r"\\text\s?\{\s{0,3}(?:and|or|,)\s{0,3}\}")
_IN_BASE = re.compile(
    r"(?<![\w.])(?:\\(?:text|mathrm)\s?\{\s?)?(?=[A-F]{0,40}\d)([\dA-F]{1,40})(?:\\(?:text|mathrm)\s?\{\s?([\dA-F]{1,40}))?\s?\}?_\s?"
    r"(?:\{\s?(?:\\text\s?\{\s?)?(\d{1,2}|[a-z]{3,8})\s?\}?\s?\}|(\d))(?!\d)"
)
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
_BASES |= {"ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16"}
_MARKS = {"p": ">0", "n": "<0", "o": "\\geq 0"}
_WITH_LETTERS = 100  # added to a base where the digits are written as pairs: 1A_{16} is 0110 in base 116
_SET_BUILDER = re.compile(
    r"\A\s*\\?(?:left\s*)?\\?\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\,|\s)*(?:\||\\mid|\\vert|:|\\colon|\\;\|)\s*(.{1,200}?)\s*\\?(?:right\s*)?\\?\}\s*\Z"
)
_SET_OF = re.compile(
    r"\A\s*\\?(?:left\s*)?\\?\{\s*+((?![A-Za-z]\s*(?:\||\\mid|:|\\in))[^|:{}]{2,60}?)\s*(?:\||\\mid|:)\s*(.{1,100}?)\s*"
    r"\\?(?:right\s*)?\\?\}\s*\Z"
)
_IN_NUMBERS = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*\\in\s*\\mathbb\s?\{?([NZQC])\}?(?![A-Za-z])")
_MODULO = re.compile(
    r"\s*(?:\\pmod\s?|\(\s?\\?[bp]?mod(?:\s|\\ )?|"
    r"(?<=[\w}])\s*\\mod\s?)(?:\{\s?(\w{1,9})\s?\}|(\d{1,9}|[a-z]))(?:(?<!\})\s?\))?"
)
_SPECIAL_NUMBERS = re.compile(
    r"\\mathbb\{([NZQRC])\}\s?(?:(?P<up>\^|_)\s?(?:\{\s?)?(?P<mark>\+|-|\*|>\s?0|<\s?0|(?:\\geq?|\\ge)\s?0|0)(?:\s?\})?)"
)
_SAME_NAME = re.compile(r"([A-Za-z])(?:_\{?\d\}?)?\s?=\s?([^=]{1,60})")
_HALF_LINE = re.compile(r"\s*([A-Za-z])\s*(<|>|\\leq?|\\geq?|\\lt|\\gt)(?![A-Za-z])\s*([^<>=]{1,40}?)\s*")
_EITHER = re.compile(r"\s*(?:\\text\s?\{\s{0,3}or\s{0,3}\}|\bor\b|\\lor(?![a-z])|\\vee(?![a-z]))\s*")
_BETWEEN = re.compile(
    r"\A\s*([^<>=\\]{1,40}|-?\\infty|-?\\[dt]?frac\{[^{}]*\}\{[^{}]*\})\s*(<|\\leq?|\\lt)(?![A-Za-z])\s*([A-Za-z])\s*"
    r"(<|\\leq?|\\lt)(?![A-Za-z])\s*([^<>=\\]{1,40}|\\infty|-?\\[dt]?frac\{[^{}]*\}\{[^{}]*\})\s*\Z"
)
_DEGREE_SIGN = re.compile(r"\^\s?\{?\s?(?:\\circ|∘|°)\s?\}?|°|\\degree(?![A-Za-z])")
_OPERATOR = re.compile(
    r"[-+*×·÷⊕⊖⊗∗•|^]|\\(?:sqrt|times|cdot|div|pm|oplus|ominus|otimes|ast|bullet|binom|gcd|lcm|max|min|sum|prod|int|l?floor|l?ceil|mod|"
    r"bmod|log|ln|exp|sin|cos|tan|cot|operatorname|vert|mid)(?![A-Za-z])|\)\s?\(|\d\s?\(|\)\s?\d|\d\)?!|\\[lr](?:floor|ceil)"
)
_POWER = re.compile(r"-?(?:\d+|\(-?\d+\))\^(?:-?\d+|\(-?\d+\))")
_IS_SET = re.compile(
    r"\\?(?:left)?\s?[(\[{][^()\[\]]{0,80},[^()\[\]]{0,80}[)\]}]|\\mathbb\{[A-Z]\}|\\\{[^{}]{1,80}\\\}"
)
_PART = re.compile(
    r"\\(?:text\w{0,6}|mbox|begin|end)\s?\{[^{}]{0,80}\}|(?P<number>\d+(?:\.\d+)?)|(?P<space>\\mathbb\s?\{[A-Z]\})"
    r"|(?P<relation>\\(?:leq?|geq?|lt|gt|neq?|equiv)(?![A-Za-z])|[<>])|(?P<set>\\(?:cup|cap|setminus|notin)(?![A-Za-z]))"
    r"|(?P<constant>\\(?:pi|infty|alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|sigma|emptyset|Xi|Lambda)(?![A-Za-z]))"
    r"|\\[A-Za-z]+|(?P<letter>[A-Za-z])"
)
_OTHER = {"<": ">", ">": "<", "\\leq": "\\geq", "\\le": "\\ge", "\\geq": "\\leq", "\\ge": "\\le", "\\lt": "\\gt"}
_OTHER |= {"\\gt": "\\lt", "\\neq": "=", "\\ne": "=", "\\equiv": "<", "\\cup": "\\cap", "\\cap": "\\cup"}
_OTHER |= {"\\setminus": "\\cup", "\\notin": "="}


def readable(text: str) -> str:
    """Return a text without notations that math-verify misreads, such as `10\\,000`, `√5` and `0.\\overline{3}`."""
    text = _ROOT.sub(
        lambda match: f"\\sqrt{{{match[1] or match[2] or match[3]}}}", text.replace("**", "^").replace("^*", "^{*}")
    )
    text = _MULTI_DIGIT_EXPONENT.sub(r"^{\1}", _PLAIN_PI.sub(r"\\pi ", _STYLE.sub("", text)))
    text = _LETTER_FRACTION.sub(lambda m: f"{m[1]}{{{m[2] or m[3] or m[4]}}}{{{m[5] or m[6]}}}", text)
    text = _BLACKBOARD.sub(lambda match: f"\\mathbb{{{match[1] or match[2]}}}", text)
    text = _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)
    text = re.sub(r"-\s?\\?\$(?=[\d.])", "-", text)
    text = re.sub(r"(?<=\d)\\[,;:!](?=\d{3}(?!\d))", "", text)
    text = _RECURRING_DECIMAL.sub(_fraction_of_recurring, text)
    return _UPRIGHT.sub(r"\1", UNIT_OF_ONE_LETTER.sub("", text))


def _fraction_of_recurring(match: re.Match[str]) -> str:
    whole, start, period = match.groups()
    numerator = int(whole + start + period) - int(whole + start)
    return f"\\frac{{{numerator}}}{{{'9' * len(period)}{'0' * len(start)}}}"


def expression(text: str) -> str | None:
    """Return the mathematics that a text is or holds, without delimiters; `None` for prose and several."""
    text = readable(text).strip(" \t\r\n*_`~\"'").strip()
    if len(text) > MAX_LENGTH:
        return None
    span = boxed_span(text)
    if span is not None:
        text = text[slice(*span)]
    number = read_number(text)
    is_fraction = re.search(r"/\s?\d|frac|[½-⅞]", text) or DECIMAL_COMMA.fullmatch(text.rpartition("=")[2].strip())
    if number is not None and not number.is_percent and not is_fraction:
        return str(number)
    if _SCIENTIFIC_NUMBER.fullmatch(text):
        return f"{Decimal(text):f}"
    formulas = ["".join(groups) for groups in _FORMULA.findall(text)]
    if formulas:
        between = _FORMULA.sub("\0", text).strip(" .,;:\0")
        if len(formulas) > 1 and re.sub(r"(?i)\b(?:and|or)\b|[\s,;.\0]", "", between):
            return None
        text = ", ".join(formulas)
    elif "$" in text and number is None:
        return None
    text = _DEGREE_SIGN.sub("", text).strip().rstrip(".,;:。 ").strip()
    if not text or ("\n" in text and span is None and not formulas):
        return None
    text = re.sub(r"\s+", " ", text)
    return with_both_signs(_rewritten(text))


def is_mathematics(text: str) -> bool:
    """Return whether an expression is one, and no word or prose."""
    return bool(_MATHEMATICS.search(text)) and not _WORD.search(_TEXT_COMMAND.sub(" ", text))


def _rewritten(text: str) -> str:
    """Return an expression with bases, dots and set builders as math-verify can read all of them."""
    text = _SPECIAL_NUMBERS.sub(_set_of_numbers, _IN_BASE.sub(_in_base, re.sub(r"\A\((\d+)\)_", r"\1_", text)))
    text = re.sub(r"\\mathbb\{([A-Z])\}\s?\^\s?\{?\s?([\dmn])\s?\}?", r"\\Psi_{\1}^{\2}", text)
    text = text.replace("\\ldots", "\\Lambda")
    text = re.sub(r"\A\s*[A-Za-z]\s*\\in(?![A-Za-z])\s*", "", text)
    text = _IN_NUMBERS.sub(lambda match: f"{match[1]} = \\Psi_{{{match[2]}}}", text)
    text = _MODULO.sub(lambda match: f" + \\Xi_{{m}} \\cdot {match[1] or match[2]}", text).replace("\\bmod", "\\mod")
    text = text.replace("\\equiv", "=") if "\\Xi_{m}" in text else text
    text = re.sub(r"\A\s*\\?\{\s*(\([^(){}]{1,60}\))\s*\\?\}\s*\Z", r"\1", text)
    text = _SET_OF.sub(lambda match: f"{match[1]}, {match[2]}" if "\\Psi_" in match[2] else match[0], text)
    builder = _SET_BUILDER.match(text)
    if builder is not None and builder[1] in builder[2]:
        text = builder[2].rstrip("\\ ")
    text = _LIST_WORD.sub(", ", _without_same_name(text))
    between = _BETWEEN.match(text)
    if between is not None and builder is not None:
        low, left, _, right, high = between.groups()
        text = ("(" if left in ("<", "\\lt") else "[") + f"{low}, {high}" + (")" if right in ("<", "\\lt") else "]")
    return text


def _in_base(match: re.Match[str]) -> str:
    digits, base = match[1] + (match[2] or ""), match[3] or match[4]
    base = _BASES.get(base, base)
    if digits.isdigit() or not base.isdigit() or not all(int(digit, 16) < int(base) for digit in digits):
        return f"{digits}\\Xi_{{{base}}}"
    return "".join(f"{int(digit, 16):02}" for digit in digits) + f"\\Xi_{{{int(base) + _WITH_LETTERS}}}"


def _set_of_numbers(match: re.Match[str]) -> str:
    """Return the positive, the negative, or the not negative numbers of a kind, however they are marked."""
    kind, mark = match[1], match["mark"].replace(" ", "")
    if mark == "*" and kind != "N":
        return match[0]
    sign = "n" if mark[0] in "-<" else "o" if mark == "0" or mark[0] == "\\" else "p"
    if kind == "R":
        return {"p": "(0, \\infty)", "n": "(-\\infty, 0)", "o": "[0, \\infty)"}[sign]
    return f"\\Psi_{{{'Z' if kind == 'N' else kind}}} {{\\Xi_{{{sign}}}}}"


def _without_same_name(text: str) -> str:
    """Return "x = 1, x = 2" and "x = 1, 2" as "1, 2", and "x < -1 or x > 1" as a union of intervals."""
    parts = _EITHER.split(text)
    lines = [_HALF_LINE.fullmatch(part) for part in parts]
    if len(parts) > 1 and all(line is not None and line[1] == lines[0][1] for line in lines):  # type: ignore[index]
        return " \\cup ".join(_interval(line) for line in lines if line is not None)
    parts = elements(", ".join(_LIST_WORD.split(", ".join(parts))))
    named = [_SAME_NAME.fullmatch(part) for part in parts]
    names = {name[1] for name in named if name is not None}
    if len(parts) < 2 or len(names) != 1 or named[0] is None:
        return text
    return ", ".join(part if name is None else name[2] for part, name in zip(parts, named, strict=True))


def _interval(line: re.Match[str]) -> str:
    is_below, is_closed = line[2][:2] in ("<", "\\l"), line[2] not in ("<", ">", "\\lt", "\\gt")
    if is_below:
        return f"(-\\infty, {line[3]}{']' if is_closed else ')'}"
    return f"{'[' if is_closed else '('}{line[3]}, \\infty)"


def factors(text: str) -> list[str]:
    """Return the sets that a product is made of, `[0,1] \\times [0,2]`; nothing where a text is no such product."""
    parts = re.split(r"\s*\\times\s*", text)
    is_product = len(parts) > 1 and all(_IS_SET.fullmatch(part) for part in parts)
    return parts if is_product else []


def as_written(text: str) -> str:
    """Return an expression as people write it: bases, dots and sets of numbers that were rewritten for math-verify."""
    text = re.sub(r"((?:\d\d)+)\\Xi_\{1(\d\d)\}", lambda m: _letters(m[1]) + f"_{{{int(m[2])}}}", text)
    text = re.sub(r"\\Psi_\{(\w)\} \{\\Xi_\{(\w)\}\}", lambda m: f"\\mathbb{{{m[1]}}}_{{{_MARKS[m[2]]}}}", text)
    text = re.sub(r"(\d)\\Xi_\{(\w{1,8})\}", r"\1_{\2}", text).replace("\\Lambda", "\\ldots")
    text = re.sub(r"\\Psi_\{(\w)\}\^\{(\w)\}", r"\\mathbb{\1}^{\2}", text)
    text = re.sub(r"= \\Psi_\{(\w)\}", r"\\in \\mathbb{\1}", text)
    return re.sub(r" = (.*) \+ \\Xi_\{m\} \\cdot (\w+)", r" \\equiv \1 \\pmod{\2}", text)


def _letters(pairs: str) -> str:
    return "".join("0123456789ABCDEF"[int(pairs[start : start + 2])] for start in range(0, len(pairs), 2))


def is_to_be_computed(text: str) -> bool:
    """Return whether an expression is numbers and operations still to be done; a power stands for its value."""
    text = without_units(re.sub(r"_\{[^{}]{0,20}\}", "", text).rpartition("=")[2])
    if read_number(text) is not None or not re.search(r"\d", text):
        return False
    text = re.sub(r"\\(?:left|right)(?![A-Za-z])|[\s{}$]|\\[,;:! ]", "", re.sub(r"\\[dtc]?frac", "/", text))
    if _POWER.fullmatch(text):
        return False
    return bool(
        _OPERATOR.search(re.sub(r"\A[-+]|(?<=\()[-+](?=[\d.]+\))|(?<=[\^(,\[])-", "", text))
        or re.search(r"\d--?\d|\d/\d+/|\A-\(-", text)
    )


def with_both_signs(text: str) -> str:
    """Return an expression with each `\\pm` written out; math-verify reads it in front of a single number only."""
    if "\\pm" not in text:
        return text
    text = re.sub(r"\A\\(?:left\\)?\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\\(?:right\\)?\}\Z", r"\1", text)
    signs = ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"})
    written_out = [
        re.sub(r"\\(pm|mp)(?![A-Za-z])", lambda match, sign=sign: sign[match[1]], element)  # type: ignore[misc]
        for element in elements(text)
        for sign in signs
    ]
    return ", ".join(dict.fromkeys(written_out))


def elements(text: str) -> list[str]:
    """Return the parts of a list, split at the commas outside of brackets."""
    found, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            found.append(text[start:position].strip())
            start = position + 1
    return [*found, text[start:].strip()]


def with_one_part_changed(text: str) -> Iterator[list[str]]:
    """Yield an expression with one digit, letter, relation or set sign changed at a time, in two ways each."""
    parts = [part for part in _PART.finditer(text) if part.lastgroup is not None and not _is_name(text, part)]
    step = max(1, len(parts) / _MAX_CHANGED)
    for part in (parts[int(index * step)] for index in range(min(len(parts), _MAX_CHANGED))):
        kind, old = part.lastgroup, part[0]
        if kind == "number":
            new = [str(int(float(old)) + 3), str(int(float(old)) + 14)]
        elif kind == "letter":
            new = [letter for letter in "vwuz" if letter != old.lower()][:2]
        elif kind == "space":
            new = ["\\mathbb{Q}", "\\mathbb{N}"]
        elif kind == "constant":
            new = ["\\psi ", "\\rho "]
        else:
            new = [_OTHER.get(old, "="), "="]
        yield [f"{text[: part.start()]}{changed}{text[part.end() :]}" for changed in new]


def _is_name(text: str, part: re.Match[str]) -> bool:
    """Return whether a part belongs to the name on the left side of `x = 3` or `f(2) = 3`."""
    before, after = text[: part.start()], text[part.end() :]
    is_variable = part.lastgroup == "letter" and not re.search(r"=\s*\Z", before)
    if is_variable and re.match(r"(?:_\{?\w\}?|\([a-z]\))?\s?=", after):
        return True
    is_index = part.lastgroup in ("letter", "number") and re.search(r"[A-Za-z][_(]\{?\Z", before)
    return bool(is_index and re.match(r"[)}]?\s?=", after))


def plain_gold(text: str) -> bool:
    """Return whether a text is words around a single number, "18 dollars", with no mathematics left over."""
    rest, num_numbers = re.subn(r"\d[\d,]*(?:\.\d+)?|\.\d+", " ", normalized(text))
    words = r"(?:[\s.,!?'\"%$€£¥*:;-]|(?:[A-Za-z]{2,}|[aAI])(?![A-Za-z]))*"
    return num_numbers == 1 and re.fullmatch(words, rest) is not None
