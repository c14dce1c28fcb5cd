"""
How one number may be written, and whether a text is one number or more than that.

Arithmetic is exact (fractions) and every pattern is bounded, so that it needs no process that could be killed.
"""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from typing import NamedTuple

from .answers import DENIAL, NEGATION, bold_answer


_MAX_DIGITS = 400
_MAX_EXPONENT = 999
_GROUPED = r"[0-9]{1,3}(?:(?:,[0-9]{3}){1,100}|(?: [0-9]{3}){1,100})(?![0-9])"
_DIGITS = rf"(?:(?:{_GROUPED}|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++)"
_POWER = r"\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?\^\s?\{?\s?([-+]?[0-9]++)\s?\}?|[eE]([-+]?[0-9]++)"
_CURRENCY = (
    r"(?:\\?[$€£¥₹₩₽]|USD|EUR|GBP|Rs\.?|\\(?:text|mathrm)\s?\{\s?\\?[$€£¥]\s?\}|"
    r"\\(?:euro|pounds|texteuro)(?![A-Za-z]))"
)
_FRACTION = rf"\\[dtc]?frac\s?\{{\s?(?P<top>-?{_DIGITS})\s?\}}\s?\{{\s?(?P<bottom>-?{_DIGITS})\s?\}}"
_SCALES = {
    "%": Fraction(1, 100),
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
_SCALE_WORD = rf"(?i:(?:hundred\s)?(?:{'|'.join(name for name in _SCALES if name.isalpha())}))"
_NUMBER = re.compile(
    # A sign counts where no word, number or bracket precedes it: in "8-3" it is a subtraction, in "A-3" a hyphen.
    rf"(?P<sign>(?<![\w)\]}}.])[-+](?!\s)|^\s{{0,4}}[-+]\s)?(?:{_CURRENCY}\s?)?(?P<inner_sign>(?<=[$€£¥₹])[-+])?"
    rf"(?:{_FRACTION}"
    rf"|10\s?\^\s?\{{?\s?(?P<ten>[-+]?[0-9]++)\s?\}}?"
    rf"|(?P<number>(?<![A-Za-z_0-9]){_DIGITS})(?:{_POWER})?"
    rf"(?:\s?\\[dtc]?frac\s?\{{\s?(?P<mixed>[0-9]{{1,9}})\s?\}}\s?\{{\s?(?P<under>[0-9]{{1,9}})\s?\}}"
    rf"|(?:(?:(?:\s|\s?[-–]\s?(?=[0-9]{{1,9}}/))(?P<part>[0-9]{{1,9}}))?\s?/\s?(?P<over>{_DIGITS})))?)"
    r"(?:(?P<percent>\s?\\?[%％]|\s(?:percent|per cent|pct)\b)"
    rf"|(?:\\[,;: ]|~|\s){{0,3}}(?P<scale>{_SCALE_WORD})s?(?![A-Za-z])"
    rf"|(?:\\[,;: ]|~|\s){{0,3}}\\(?:text|mathrm)\s?\{{\s?(?P<scale_in_text>{_SCALE_WORD})s?\s?\}})?"
)
_POWER_GROUP = _NUMBER.groupindex["number"] + 1
_DECIMAL_COMMA = re.compile(r"(?<![0-9,.(\[{])([0-9]{1,15}),([0-9]{1,2})(?![0-9,)\]}]|\.[0-9])")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_WIDE = str.maketrans("０１２３４５６７８９．，－＋／（）＝", "0123456789.,-+/()=")
_TEN_TO_SUPERSCRIPT = re.compile(r"(?<![0-9])10([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,6})")
# White space that groups digits, and LaTeX's ways to write it; the minus signs that are no hyphen.
_THIN_SPACE = re.compile(r"(?<=[0-9])(?:[\u00a0\u2009\u202f]|\\[,!;:]|\{,\}(?:\\!)?|,\\!)(?=[0-9]{3})")
_SIGN_IN_WORDS = re.compile(r"(?i)\bnegative\s(?=[0-9$.])|(?:(?<=\bis )|(?<=[=:]\s)|\A\s{0,4})minus\s(?=[0-9$.])")
_TIMES = re.compile(r"(?<=[0-9])\s[x×]\s(?=[0-9])|(?<=[1-9])[x×](?=[0-9])")
_SHORT_FRACTION = re.compile(r"(\\[dtc]?frac)\s{0,3}(?:\{([0-9]{1,15})\}|([0-9]))\s{0,3}(?:\{([0-9]{1,15})\}|([0-9]))")
_VULGAR = dict(
    zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞",
        ["1/2", "1/3", "2/3", "1/4", "3/4", "1/5", "2/5", "3/5", "4/5", "1/6", "5/6", "1/8", "3/8", "5/8", "7/8"],
        strict=True,
    )
)

# What may surround a number without changing it.
_DELIMITERS = re.compile(
    r"\\[()\[\]]|\\(?:left|right|displaystyle|textstyle|bf|rm)(?![A-Za-z])|[`~]|\\boxed(?=\{)|\\(?:text)?color\s?\{\w{1,20}\}"
)
_EMPHASIS = re.compile(r"\*{1,3}(?=\S)([^*\n]{1,80})(?<=\S)\*{1,3}")
_TEXT = re.compile(
    r"\\(?:text\w{0,6}|math(?:rm|bf|sf|it)|boldsymbol|bm|underline|mbox|hbox|operatorname)\s?\{([^{}]{0,80})\}"
)
UNIT_OF_ONE_LETTER = re.compile(
    r"(?<=[\d})])(?:\\[,;:! ]|~|\s){0,3}\\(?:text|mathrm)\s?\{[\s~]{0,3}[A-Z]\s?\}(?!\s?_)"
)
_POWER_OF_UNIT = r"(?:\s?\^\s?\{?\s?-?[1-9]\s?\}?|[²³])?"
_POWER_OF_UNIT_IN_TEXT = re.compile(rf"(\\(?:text|mathrm|mbox)\s?\{{[^{{}}\d$]{{1,30}}\}}){_POWER_OF_UNIT}")
_SHORT_UNIT = (
    r"(?:k?m|[cdmnµμ]m|mi|ft|in|yd|k?g|mg|lbs?|oz|ml|mL|[dc]l|L|hrs?|h|mins?|secs?|s|ms|k?Hz|[kKMG]B|k?W|kWh|k?N|k?J|V|mph|"
    r"km/h|kph|m/s|Pa|mol|rad|am|pm|st|nd|rd|th|USD|EUR|GBP|rs|cents?|dollars?)"
)
_DEGREE = (
    r"(?:\s?\^\s?\{?\s?(?:\\circ|∘|◦|°)\s?\}?|\s?°|\s?\\(?:degree|circ|degrees)(?![A-Za-z]))(?:\s?[CFK](?![A-Za-z]))?"
)
_NOT_A_UNIT = (
    r"(?:or|and|not|nor|plus|minus|times|over|divided|to|than|less|more|hundred|thousand|million|billion|trillion|"
    r"dozen|half|halves|thirds?|quarters?|fourths?|point|squared|cubed|but|sin|cos|tan|log|ln|mod|if|when|"
    r"is|are|was|were|isn|aren|wasn|can|cannot|could|must|should|would|will|does|doesn|did|may|might|has|have|seems|looks)"
)
_UNIT = re.compile(
    rf"(?:{_DEGREE}|\s?{_CURRENCY}|\s{{0,3}}{_SHORT_UNIT}(?![A-Za-z]){_POWER_OF_UNIT}"
    rf"(?:\s?/\s?{_SHORT_UNIT}(?![A-Za-z]){_POWER_OF_UNIT})?"
    rf"|\s{{1,3}}(?!{_NOT_A_UNIT}(?![A-Za-z]))[A-Za-z]{{2,24}}(?:[-'][a-z]{{1,20}})?{_POWER_OF_UNIT}(?:\s?/\s?[A-Za-z]{{1,24}})?"
    r"|\s{1,3}(?:a|of|per|the)(?=\s)|[元円원個个人岁歳天年月日本只头匹点時时分秒米千克厘]{1,4}){1,8}"
)
_LEFT_OF_EQUALS = re.compile(r"\A[^=]{0,300}(?<![<>!≠])=(?!=)\s{0,4}")
_APPROXIMATELY = re.compile(
    r"(?i)\A(?:(?:only|exactly|about|approximately|around|roughly|simply|just|a total of|still)\s|≈|\\approx|~)\s?"
)
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt|in|notin)(?![A-Za-z])|!=")
_OPERATOR = re.compile(r"[-+*/^!√×÷·±∪]|\\(?:times|cdot|div|sqrt|frac|pi|pm|binom|log|sin|cos|tan|cup)(?![A-Za-z])")
_FILLER = (
    r"(?:(?:maybe|perhaps|possibly|probably|even|else|rather|is|it|it's|that|be|might|could|may|also|the|either|about|an?|"
    r"answer|=)\s{1,3}){0,5}"
)
_CONNECTOR = re.compile(
    r"(?i)(?:\s{0,3}[A-Za-z°%\\{}]{1,24}){0,2}[\s$*_)}]{0,6}"
    rf"(?:(?P<or>[,;(]?\s{{0,3}}(?:\\text\s?\{{)?\s{{0,3}}\b(?:or|to|oder|ou|o|vs\.?|versus|but(?=\s(?:it|that|this)?\s?(?:could|might|may|possibly|perhaps|maybe)))\b\s?\}}?|或者?|还是|還是|または|또는|、)|(?P<and>[,;]?\s{{0,2}}(?:\band\b|\bund\b|&|和)|[,;]))"
    rf"[\s$*_({{\\]{{0,6}}{_FILLER}[\s$*_({{\\]{{0,6}}\Z"
)


# What makes a later number the answer in place of the one before: "42, no, 43", "42, but it is 43".
_CORRECTED = re.compile(
    r"(?i)(?:\s?[A-Za-z°%]{1,24}){0,2}[\s$*_)}]{0,6}[,;.…—–-]{0,4}\s(?:"
    r"(?:but|although|though)\s(?:it[’']s|it is|the (?:correct|"
    r"right|actual|real|true|final)\s?(?:answer|one|value)?\s?is)|"
    r"(?:oh,?\s)?(?:no|wait|sorry|actually|i mean|"
    r"correction)[,;:…\s-]{1,4}(?:(?:no|wait)[,;:…\s-]{1,4})?(?:it[’']s|it is)?)"
    r"[\s$*_({\\]{0,6}\Z"
)
_REASON_BEHIND = re.compile(
    r"(?i)\A(?P<head>.{0,80}?\d.{0,40}?)(?:[,;:]?\s(?:[-–—]\s)?(?:(?:because|"
    r"since|that is|namely)\b|i\.e\.)|:\s(?=[\d(]+\s?[-+*/×]))"
    r"(?P<tail>(?:(?!=|\b(?:so|thus|hence|therefore|get|answer|total)\b).){0,200})\Z"
)
_OR = re.compile(r"[,;]?\s{0,3}(?:\\text\s?\{\s{0,3}or\s{0,3}\}|\bor\b)\s{0,3}")
_MAX_END = 2000  # characters at the end in which remarks are looked for
_REMARK = re.compile(r"(?<=[\w.%$€£*}])\s{1,2}[(\[]([^()\[\]\n\\]{1,80})[)\]]")
_NUMBER_AND_UNIT = re.compile(r"\d[\d.,/%*$€£]*(?:\s?[A-Za-z°€$£%*²³]{1,20}){0,3}\Z")


class StatedNumber(NamedTuple):
    """A number as it was written, with what follows it that scales it: `%`, `million`, or nothing."""

    value: Fraction
    scale_name: str = ""

    @property
    def scale(self) -> Fraction:
        return math.prod((_SCALES[name] for name in self.scale_name.split()), start=Fraction(1))

    @property
    def is_percent(self) -> bool:
        return self.scale_name == "%"

    @property
    def as_answer(self) -> str:
        """One text for all ways to write it, but for a percentage, which is told from its number."""
        return f"{self.value}%" if self.is_percent else str(self.value * self.scale)

    def __str__(self) -> str:
        """Return the number in decimals where they are finite, else as a fraction."""
        text, denominator = str(self.value), self.value.denominator
        places = next((places for places in range(200) if 10**places % denominator == 0), 0)
        if places and len(text) <= 60:
            digits = str(abs(self.value.numerator) * 10**places // denominator).zfill(places + 1)
            text = f"{'-' * (self.value < 0)}{digits[:-places]}.{digits[-places:]}"
        return f"{text}%" if self.is_percent else f"{text} {self.scale_name}".strip()


def normalized(text: str) -> str:
    """Return a text with one way to write digits, signs, separators and short fractions."""
    text = re.sub("[\u2212\u2012\u2013\ufe63]", "-", text.translate(_WIDE))
    text = re.sub(r"(?<!\w)__([^_\n]{1,80})__(?!\w)", r"\1", text)
    text = _TEN_TO_SUPERSCRIPT.sub(lambda match: "10^" + match[1].translate(_SUPERSCRIPTS), text)
    text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda match: " " + _VULGAR[match[0]], text)
    text = _SHORT_FRACTION.sub(lambda m: f"{m[1]}{{{m[2] or m[3]}}}{{{m[4] or m[5]}}}", text)
    text = re.sub(r"(?<=[0-9])\{,\}(?=[0-9]{1,2}(?![0-9]))", ".", text)
    text = re.sub(r"(?<=[0-9])\sand\s(?=[0-9]{1,4}/[0-9])", " ", text)
    text = re.sub(r"(?<=[0-9])(?:\sand)?\s(?:and\s)?a half(?![a-z])", " 1/2", text)
    text = _POWER_OF_UNIT_IN_TEXT.sub(r"\1", _SIGN_IN_WORDS.sub("-", text))
    text = _TIMES.sub(" * ", re.sub(r"(?<=[0-9])_\s?\{?10\}?(?![0-9])", "", text))
    return _DECIMAL_COMMA.sub(r"\1.\2", _THIN_SPACE.sub(",", text))


def read_numbers(text: str) -> list[StatedNumber | None]:
    """Return the numbers in a text, in their order; `None` stands for one that is too large to be meant."""
    return [_number(match) for match in _NUMBER.finditer(normalized(text))]


def _number(match: re.Match[str]) -> StatedNumber | None:
    power = match["ten"] or match.group(_POWER_GROUP) or match.group(_POWER_GROUP + 1) or "0"
    pieces = [match["number"] or "1", match["top"] or "1", match["bottom"] or "1", match["over"] or "1"]
    if any(len(piece) > _MAX_DIGITS for piece in (*pieces, power)) or abs(int(power)) > _MAX_EXPONENT:
        return None
    number, top, bottom, over = (Fraction(re.sub("[, ]", "", piece)) for piece in pieces)
    if bottom == 0 or over == 0 or match["under"] == "0":
        return None
    if match["part"]:  # 2 1/2
        value = number + Fraction(int(match["part"])) / over
    elif match["mixed"]:  # 3\frac{1}{4}
        value = number + Fraction(int(match["mixed"]), int(match["under"]))
    else:
        value = number * top / bottom / over * Fraction(10) ** int(power)
    is_negative = (match["sign"] or "").strip() == "-" or match["inner_sign"] == "-"
    scale_name = "%" if match["percent"] else (match["scale"] or match["scale_in_text"] or "").lower()
    return StatedNumber(-value if is_negative else value, scale_name)


def without_units(text: str) -> str:
    """Return a text without `\\text{...}` around words, delimiters, markup and white space around all of it."""
    text = _TEXT.sub(
        lambda match: f" {match[1]}", UNIT_OF_ONE_LETTER.sub("", _DELIMITERS.sub("", _EMPHASIS.sub(r"\1", text)))
    )
    text = re.sub(r"(?:\\[,;:!]|\\ |~|\\quad|\s){1,9}", " ", text).strip().strip("\"'*").rstrip(".,;:?*。，； ")
    for _ in range(3):  # brackets around all of it, of one kind
        inner = re.fullmatch(r"\{([^{}]*)\}|\(([^(),]*)\)|\$([^$]+)\$?|\$\$([^$]+)\$\$", text)
        if inner is None:
            break
        text = next(group for group in inner.groups() if group is not None).strip().rstrip(".")
    return text


def read_number(text: str) -> StatedNumber | None:
    """Return the number that all of a text is, with a unit, a currency or `x =` around it; else `None`."""
    text = _APPROXIMATELY.sub("", without_units(normalized(text)))
    for candidate in (text, _right_side(text)):
        candidate = without_units(_APPROXIMATELY.sub("", candidate))
        match = _NUMBER.match(candidate)
        if match is None or _RELATION.search(candidate):
            continue
        if match.end() == len(candidate) or _UNIT.fullmatch(candidate, match.end()):
            return _number(match)
    return None


def _right_side(text: str) -> str:
    """Return what a text says that a name or a calculation equals; an equation, such as `2x = 4`, as it is."""
    if text.count("=") != 1:
        return text
    name = re.sub(r"_\s?(?:\{[^{}]*\}|\w)|(?<=[A-Za-z])\s?\([^()]{0,20}\)", "", text.partition("=")[0])
    has_variable = re.search(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", _TEXT.sub("", name))
    return text if has_variable and re.search(r"\d|\^|\\(?:sqrt|frac)", name) else _LEFT_OF_EQUALS.sub("", text)


def is_equation(text: str) -> bool:
    """Return whether a text is an equation that says of no name what it equals, such as `2x = 4`."""
    return text.count("=") == 1 and _right_side(text) == text


def one_side(text: str) -> StatedNumber | None:
    """Return the number that a text is, or the last of the sides of its equations that is one."""
    whole = read_number(text)
    if whole is not None or _RELATION.search(text):
        return whole
    same = [read_number(part) for part in _OR.split(text, maxsplit=3)]
    if len(same) > 1 and all(same_number(one, same[0]) for one in same):
        return same[0]
    if "=" not in text or is_equation(text):
        return None
    sides = [read_number(side) for side in text.split("=")[-6:]]
    return next((side for side in reversed(sides) if side is not None), None)


def read_one_number(text: str) -> StatedNumber | bool | None:
    """
    Return the number that a statement is about: of a chain the last part between `=` that is one.

    `None` is a statement that is not one number: several, one to be computed, a relation, one too large to be meant.
    `False` is one without any.
    """
    whole = one_side(text)
    if whole is not None:
        return whole
    text = without_remarks(normalized(text))
    if is_equation(text):
        return None
    text = text if re.search(r"[!<>]=", text) else text.rpartition("=")[2]
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return False
    if re.search(r"\\[A-Za-z]+|√|[-|]\s?\(?\Z", _TEXT.sub(" ", _DELIMITERS.sub("", text[: matches[0].start()]))):
        return None  # \sqrt{2}, \binom{5}{2}, --3
    if _RELATION.search(text) or re.match(
        r"\s{0,3}(?:[*×·^!√_|±]|\+/-|\\(?:times|cdot|div|sqrt|pi|pm)|[-+/]\s?[\d(\\√])", text[matches[0].end() :]
    ):
        return None
    if re.match(r"[A-Za-z(]", text[matches[0].end() :][:1]) and not _UNIT.match(text, matches[0].end()):
        return None  # 2x, 2(3)
    return _first_of(text, matches)


def _is_dismissed(text: str, number: re.Match[str]) -> bool:
    before = text[max(0, number.start() - 90) : number.start()]
    return NEGATION.search(before) is not None or DENIAL.match(text, number.end()) is not None


def without_remarks(text: str) -> str:
    """Return a text without the brackets that explain the number before them: "18 (9 + 9)", "42 eggs (in 3 boxes)"."""

    def without(remark: re.Match[str]) -> str:
        before = end[max(0, remark.start() - 60) : remark.start()]
        if _NUMBER_AND_UNIT.search(before) is None:
            return remark[0]
        if re.search(r"[A-Za-z]{3}|%|\A\s?=|\bor\b", remark[1]):
            return ""
        last = next(reversed(read_numbers(before)), None)
        return "" if last is not None and _computed(remark[1]) == last.value else remark[0]

    end = text[-_MAX_END:]
    return text[: -len(end)] + _REMARK.sub(without, end) if end else text


def without_explanation(text: str) -> str:
    """Return a text without remarks, and of "18, because 9 + 9" or "18: 9 + 9" what stands before the reason."""
    text = without_remarks(text)
    reason = _REASON_BEHIND.search(text.rstrip().rpartition("\n")[2])
    return reason["head"] if reason is not None and len(_NUMBER.findall(reason["head"])) == 1 else text


def _computed(text: str) -> Fraction | None:
    """Return what a sum of products amounts to, `None` where a text is something else."""
    text = re.sub(r"[\s$€£,]", "", re.sub("[×x·]", "*", text).replace("÷", "/"))
    if not re.fullmatch(r"[-+]?(?:\d{1,9}(?:\.\d{1,9})?[-+*/]){1,20}\d{1,9}(?:\.\d{1,9})?", text):
        return None
    total = Fraction(0)
    for sign, term in re.findall(r"([-+]?)([^-+]+)", text):
        first, *factors = re.split("([*/])", term)
        value = Fraction(first)
        for operator, factor in zip(factors[::2], factors[1::2], strict=True):
            if operator == "/" and not Fraction(factor):
                return None
            value = value * Fraction(factor) if operator == "*" else value / Fraction(factor)
        total += -value if sign == "-" else value
    return total


def _first_of(text: str, matches: list[re.Match[str]]) -> StatedNumber | bool | None:
    """Return the first number that is not said to be wrong, `None` where another is said to be the answer as well."""
    kept = [match for match in matches if not _is_dismissed(text, match)]
    if not kept:
        return False
    first = _number(kept[0])
    for before, after in itertools.pairwise(kept[:3]):
        if _CORRECTED.fullmatch(text[before.end() : after.start()][:80]):
            return _first_of(text, kept[kept.index(after) :])
        is_alternative = _is_alternative(text[before.end() : after.start()], text[after.end() :])
        if is_alternative is None:
            break
        if is_alternative and not same_number(_number(after), first):
            return None
    return first


def bold_number(text: str) -> StatedNumber | None:
    """Return the number that is all of what a text's last line has in bold: "She pays **$18** for 3 shirts."."""
    bold = bold_answer(text)
    return None if bold is None else read_number(bold)


def last_number(text: str) -> StatedNumber | bool | None:
    """
    Return a text's last number that is not said to be wrong, but the only one in bold in its last line first.

    `None` and `False` as in [`read_one_number`].
    """
    bold = bold_number(text)
    if bold is not None:
        return bold
    text = without_explanation(normalized(text))
    matches = list(_NUMBER.finditer(text))
    while matches and _is_dismissed(text, matches[-1]):
        matches.pop()
    if not matches:
        return False
    last = matches[-1]
    if re.search(r"[-|]\s?\(\Z", text[: last.start()]):
        return None
    for before in matches[-2:-1]:
        between = text[before.end() : last.start()][:100]
        is_another = not same_number(_number(before), _number(last))
        if is_another and _is_alternative(between, text[last.end() :]) and not _is_dismissed(text, before):
            return None
    return _number(last)


def _is_alternative(between: str, rest: str) -> bool | None:
    """Return whether what joins two numbers says that the second may be the answer too, `None` if nothing does."""
    link = _CONNECTOR.fullmatch(between)
    if link is None:
        return None
    is_last = re.fullmatch(r"(?:[\s\\]{0,3}[A-Za-z]{1,20}){0,2}[\s.!?$*_)}\\\]]{0,8}", rest[:40]) is not None
    return link["or"] is not None or is_last


def same_number(one: StatedNumber | bool | None, other: StatedNumber | bool | None) -> bool:
    """Return whether both are numbers, and of equal value."""
    if not isinstance(one, StatedNumber) or not isinstance(other, StatedNumber):
        return False
    return any(value == other_value for value, other_value in equal_numbers(one, other))


def equal_numbers(answer: StatedNumber, gold: StatedNumber) -> list[tuple[Fraction, Fraction]]:
    """
    Return the pairs of values that may be compared.

    50% is both 50 and 0.5, and 2 million both 2 ("how many millions?") and 2,000,000, unless both are scaled.
    """
    plain, scaled = (answer.value, gold.value), (answer.value * answer.scale, gold.value * gold.scale)
    if answer.scale_name == gold.scale_name:
        return [plain]
    return [plain, scaled] if "" in (answer.scale_name, gold.scale_name) else [scaled]
