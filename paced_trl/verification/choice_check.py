"""The check of a multiple choice: which letter, or which of a few words, the completion states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from .answers import ANCHOR, CHEERS, MARKUP, NEGATION, final_text, without_retracted
from .check import Check


_TEXT_COMMAND = re.compile(r"\\(?:text\w{0,6}|mathrm|mathbf|boldsymbol|bf|rm)\s?\{([^{}]{0,60})\}")
_OPENING, _CLOSING = r"[(\[{*_\"'`$“‘]{0,6}", r"[)\]}*_\"'`$.:,;!”’。]"
_IS_WRONG = (
    r"(?:(?:is|are|was|were|can be|must be)\s(?:\w{1,12}\s)?(?:not|wrong|incorrect|false|impossible|out|ruled|"
    r"eliminated|excluded|invalid|untrue)|isn[’']t|aren[’']t|can(?:no|[’'])t|fails|do(?:es)?(?:n[’']t| not))(?!\w)"
)


class ChoiceCheck(Check):
    """
    Compare the letter of a multiple choice, or one of a few words.

    The last stated choice counts: "The answer is B.", "Answer: (B)", "B is correct", `\\boxed{B}`; else a last or
    first line of a letter alone; else the one letter that opens a line ("B) because ...") or is marked ("(B)").
    A completion that states none, or several at once ("A or B"), is `UNPARSEABLE`.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(self, *, choices: str | Sequence[str] = "ABCDE", index_base: int | None = None) -> None:
        if index_base not in (None, 0, 1):
            raise ValueError(f"`index_base` must be 0, 1 or None, not {index_base!r}.")
        # YAML reads an unquoted yes or no as a truth value.
        is_text = isinstance(choices, str)
        names = list(choices) if is_text else [_as_word(choice) for choice in choices]
        self._are_words = any(len(name) != 1 for name in names)
        is_valid = all(
            re.fullmatch(r"\w(?:[\w' -]{0,60}\w)?" if self._are_words else "[A-Za-z]", name) for name in names
        )
        if not names or not is_valid or len({name.casefold() for name in names}) != len(names):
            raise ValueError(
                f'`choices` must be different letters such as "ABCD", or a list of different words such as ["yes", '
                f'"no"], not {choices!r}.'
            )
        self._choices = names if self._are_words else [name.upper() for name in names]
        self._index_base = index_base
        # Every repetition is bounded: a hostile megabyte must cost linear time, as no process is there to be killed.
        if self._are_words:
            words = "|".join(re.escape(name) for name in sorted(self._choices, key=len, reverse=True))
            choice = f"(?i:{words})"
            stated = rf"{_OPENING}({choice})(?![\w'])"
        else:
            choice = f"[{''.join(self._choices)}]"
            # A small letter, and "A" or "I" before a word, may be prose: "the answer is a prime", "Answer: I think".
            prose = r"[AI]\s+(?!(?:because|since|as|and|or|which|due|for|but)\b)[a-z]"
            stated = rf"{_OPENING}((?!{prose}){choice}(?![A-Za-z0-9_'+])|(?i:{choice})(?={_CLOSING}|\s{{0,4}}$))"
        anchor = (
            rf"(?:\\boxed\s?\{{|^\s{{0,4}}####\s{{0,4}}|选项?\s{{0,4}}[:：]?|{ANCHOR}"
            r"|(?i:\b(?:choose|pick|select|opt for|go with|it must be|"
            r"say|only|(?:match|correspond)(?:es|s)?(?: to)?)\s))"
            r"\s{0,2}(?i:(?:option|choice|answer)\s?:?\s)?"
        )
        connector = rf"{_CLOSING}{{0,6}}\s{{0,4}}(?:,\s?)?(?i:or|and|nor|/|,|&|\||versus|vs|but)\s{{0,4}}"
        filler = (
            r"(?i:(?:maybe|perhaps|possibly|also|even|probably|option|"
            r"choice|it|could|might|may|be|it's|is|either)\s{1,2}){0,4}"
        )
        self._stated = re.compile(rf"(?m)(?:{anchor}){stated}")
        self._called_correct = re.compile(
            rf"(?<![\w'\\]){_OPENING}({choice}){_CLOSING}{{0,4}}\s(?:is|must be|would be|has to be)\s"
            r"(?:\w{1,12}ly\s)?(?:the\s|our\s|my\s)?(?i:correct|right|best|true|(?:final\s)?answer)(?!\w)"
        )
        self._alone = re.compile(
            rf"\s*(?:[=-]{{1,2}}>|→|⇒)?\s*\*{{0,3}}(?:(?:option|choice|answer|definitely|clearly),?\s)?{_OPENING}({choice}){_CLOSING}{{0,6}}\s*",
            re.IGNORECASE,
        )
        self._leading = re.compile(
            rf"(?m)^[ \t]{{0,4}}{_OPENING}({choice})(?:[)\].:*]|\s(?=because\b|since\b|[-–—]\s)|,\s(?=not\b))"
        )
        self._marked = re.compile(rf"(?:\(|\*\*\(?)({choice})[).:]{{0,2}}(?:\)|\*\*)?(?!\w)")
        self._first_word = re.compile(
            rf"\A\W{{0,9}}({choice})(?=\s{{0,3}}[,.;:!*\n—–-]|\s{{0,3}}\Z|\s(?:because|since)\b)"
        )
        self._concluded = re.compile(
            rf"(?i:\b(?:so|thus|hence|therefore|is|say|not\s(?:{choice})\sbut)\b)[,:\s]{{1,3}}{_OPENING}({choice}){_CLOSING}{{0,6}}\s*\Z"
        )
        self._mention = re.compile(rf"(?<![\w'])({choice})(?![\w'])")
        self._another = re.compile(rf"{connector}{filler}{_OPENING}{choice}(?![\w'])")
        self._link = re.compile(rf"{connector}{filler}(?:\\boxed\s?\{{)?{_OPENING}")
        self._chained = re.compile(rf"({choice}){connector}{filler}{_OPENING}\Z")
        self._dismissed = re.compile(
            rf"(?:{connector}{filler}{_OPENING}{choice}(?!\w)){{0,4}}{_CLOSING}{{0,4}}\s{_IS_WRONG}"
        )

    def answer(self, completion: str) -> str | None:
        return self._answer(final_text(completion))

    def stated(self, completion: str) -> str | None:
        return self.answer(completion)

    def stated_gold(self, solution: Any) -> str | None:
        if self._are_words and isinstance(solution, bool):
            return self._canonical(_as_word(solution)) or self._canonical(str(solution))
        text = re.sub(r"(?i)\A(?:option|choice|answer)\s+(?=\S)", "", str(solution).strip())
        if self._index_base is None:
            return self._canonical(text.strip(MARKUP + ".")) or self._answer(text)
        index = int(text) - self._index_base if re.fullmatch("[0-9]{1,3}", text) else -1
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def _canonical(self, text: str) -> str | None:
        return next((choice for choice in self._choices if choice.casefold() == text.casefold()), None)

    def _answer(self, text: str) -> str | None:
        text = CHEERS.sub("", _TEXT_COMMAND.sub(r"\1", text))
        # Where words are asked for, "no" answers, unless something else takes the answer back.
        if not self._are_words or re.search(r"(?i)\b(?:wait|(?:that|it)[’']s (?:wrong|not))\b", text):
            text = without_retracted(text)
        found = [*self._stated.finditer(text), *self._called_correct.finditer(text)]
        found.sort(key=lambda match: match.start(1))
        while found and self._is_dismissed(text, *found[-1].span(1)):
            found.pop()
        if found:
            last = found[-1]
            linked = len(found) > 1 and self._link.fullmatch(text[found[-2].end(1) : last.start(1)][:60])
            if self._another.match(text, last.end(1)) or (linked and found[-2][1].upper() != last[1].upper()):
                return None
            return self._canonical(last[1])
        lines = text.strip().splitlines() or [""]
        for line in (lines[-1], lines[0]):
            alone = self._alone.fullmatch(line)
            if alone is not None:
                return self._canonical(alone[1])
        return self._word(text) if self._are_words else self._letter(text)

    def _letter(self, text: str) -> str | None:
        """Return the one letter that opens a line or is marked, and not said to be wrong."""
        end = self._concluded.search(text, max(0, len(text) - 200))
        if end is not None and not self._is_dismissed(text, *end.span(1)):
            return self._canonical(end[1])
        for pattern in (self._leading, self._marked):
            found = [m for m in pattern.finditer(text) if not self._is_dismissed(text, *m.span(1), chain=4)]
            if found:
                is_one = len({match[1] for match in found}) == 1 and not self._another.match(text, found[0].end(1))
                return found[0][1] if is_one else None
        return None

    def _word(self, text: str) -> str | None:
        """Return the word that opens or ends a text, or else the only one of the choices that occurs in it."""
        text = re.sub(r"(?i),?\sno\s(?:doubt|question|matter|problem)\b", "", text)
        for match in (
            self._first_word.match(text),
            self._first_word.match(re.split(r"[.?!]\s", text)[-1]),
            self._concluded.search(text, max(0, len(text) - 200)),
        ):
            if match is not None and not self._is_dismissed(text, *match.span(1)):
                return None if self._another.match(text, match.end(1)) else self._canonical(match[1])
        if "no" in (choice.casefold() for choice in self._choices):  # occurs in any prose
            return None
        found = [m for m in self._mention.finditer(text) if not self._is_dismissed(text, *m.span(1))]
        mentions = {match[1].casefold() for match in found}
        return self._canonical(mentions.pop()) if len(mentions) == 1 else None

    def _is_dismissed(self, text: str, start: int, end: int, *, chain: int = 0) -> bool:
        """Return whether a choice is said to be wrong, or (`chain`) stands in a list with one that is."""
        if NEGATION.search(text[max(0, start - 60) : start]) or self._dismissed.match(text, end):
            return True
        offset = max(0, start - 30)
        before = self._chained.search(text[offset:start]) if chain else None
        return before is not None and self._is_dismissed(
            text, offset + before.start(1), offset + before.end(1), chain=chain - 1
        )


def _as_word(choice: Any) -> str:
    return {True: "yes", False: "no"}[choice] if isinstance(choice, bool) else str(choice).strip()
