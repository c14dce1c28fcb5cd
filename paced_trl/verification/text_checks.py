"""
The checks that need no mathematics of their own: whole texts, letters, and reasoning-gym's scorers.

Each reads the gold first, so that a gold it cannot read is never held against the student. Also here: where in a
completion the answer is stated. Refuses to know processes, time limits and where rows come from. The paper (PACED,
arXiv 2603.11178) names no verifier but mathematics (`math_verifier.py`); these are ours.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
from typing import Any, ClassVar, Literal

from .check import Check, Row
from .verdict import Verdict


# The completions of a problem come one after the other, so a full cache may simply be cleared.
MAX_CACHED_GOLDS = 10_000

_ANSWER_IS = re.compile(r"(?i)\banswer\b(?:[^.\n]{0,60}?\b(?:is|are)\b|[*_\s]{0,4}[:=])[*_\s:]{0,4}|(?m:^)a\s?:")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)")
_MARKUP = " \t\r\n*_`~\"'"


def require_package(module: str, name: str, extra: str) -> None:
    """Raise `ImportError` that says what to install if the package of a verifier is missing."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"This verifier needs {name}, which is not installed. Run `pip install paced_trl[{extra}]`.")


def final_text(completion: str) -> str:
    """Return what follows the thinking, and of that what stands between the last answer tags, where there are any."""
    text = completion.rpartition("</think>")[2]
    answer = tagged_answer(text)
    return text if answer is None else answer


def tagged_answer(text: str) -> str | None:
    """Return what stands between the last `<answer>` and `</answer>`."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end] if start >= 0 else None


def boxed_span(text: str) -> tuple[int, int] | None:
    """Return where the content of the last `\\boxed{...}` starts and ends; a box left open goes on to the end."""
    start = text.rfind("\\boxed{") + len("\\boxed{")
    if start < len("\\boxed{"):
        return None
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start, start + brace.start()
    return start, len(text)


def boxed_answer(text: str) -> str | None:
    """Return what stands in the last `\\boxed{...}`."""
    span = boxed_span(text)
    return None if span is None else text[slice(*span)]


def stated_answer(text: str) -> str | None:
    """Return the rest of the line after the last "answer is", "Answer:" or "A:", up to the end of its sentence."""
    ends = [match.end() for match in _ANSWER_IS.finditer(text)]
    if not ends:
        return None
    line = text[ends[-1] :].partition("\n")[0]
    return _SENTENCE_END.split(line, maxsplit=1)[0].strip(_MARKUP) or None


class ExactCheck(Check):
    """
    Compare whole texts.

    An empty completion is `UNPARSEABLE`, an empty or missing gold `UNVERIFIABLE`.

    Args:
        normalize (`str`, *optional*, defaults to `"strip"`):
            `"strip"`: ignore white space at both ends and how accents are encoded (Unicode NFC). `"whitespace"`: also
            let any white space equal one space. `"none"`: compare as it stands.
        ignore_case (`bool`, *optional*, defaults to `False`):
            Whether capital and small letters are equal.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(
        self, *, normalize: Literal["strip", "whitespace", "none"] = "strip", ignore_case: bool = False
    ) -> None:
        if normalize not in ("strip", "whitespace", "none"):
            raise ValueError(f'`normalize` must be "strip", "whitespace" or "none", not {normalize!r}.')
        self._normalize = normalize
        self._ignore_case = ignore_case

    def verify(self, rows: list[Row]) -> list[Verdict]:
        return [self._verdict(row) for row in rows]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        return [Verdict.PASSED if self._text(row.solution) else Verdict.UNVERIFIABLE for row in rows]

    def answers(self, rows: list[Row]) -> list[str | None]:
        return [self._text(row.completion) or None for row in rows]

    def _verdict(self, row: Row) -> Verdict:
        solution, completion = self._text(row.solution), self._text(row.completion)
        if not solution:
            return Verdict.UNVERIFIABLE
        if not completion:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if completion == solution else Verdict.FAILED

    def _text(self, value: Any) -> str:
        text = "" if value is None else str(value)
        if self._normalize != "none":
            text = unicodedata.normalize("NFC", text).strip()
        if self._normalize == "whitespace":
            text = " ".join(text.split())
        return text.casefold() if self._ignore_case else text


class ChoiceCheck(Check):
    """
    Compare the letter of a multiple choice.

    The last stated choice counts: "The answer is B.", "Answer: (B)", "Option B is correct", `\\boxed{B}`; else a last
    line of a letter alone; else the one letter that opens a line ("B) because ...") or is marked ("(B)", "**B**"). A
    completion that states none, or several at once ("A or B"), is `UNPARSEABLE`.

    Args:
        choices (`str`, *optional*, defaults to `"ABCDE"`):
            The letters.
        index_base (`int`, *optional*):
            Set it where golds are numbers: 0 if 0 means the first choice, 1 if 1 does. `None` means golds are letters.
    """

    in_process: ClassVar[bool] = True
    states_answers: ClassVar[bool] = True

    def __init__(self, *, choices: str = "ABCDE", index_base: int | None = None) -> None:
        if not re.fullmatch("[A-Za-z]+", choices) or len(set(choices.upper())) != len(choices):
            raise ValueError(f'`choices` must be different letters such as "ABCD", not {choices!r}.')
        if index_base not in (None, 0, 1):
            raise ValueError(f"`index_base` must be 0, 1 or None, not {index_base!r}.")
        self._choices = choices.upper()
        self._index_base = index_base
        self._compile()

    def _compile(self) -> None:
        # Every repetition is bounded: a hostile megabyte must cost linear time, as no process is there to be killed.
        letter = f"[{self._choices}]"
        opening, closing = r"[(\[{*_\"'`$]{0,6}", r"[)\]}*_\"'`$.:,;!]"
        # A small letter, and "A" or "I" before a word, may be prose: "the answer is a prime", "Answer: I think".
        prose = r"[AI]\s+(?!(?:because|since|as|and|or|which|due|for|but)\b)[a-z]"
        stated = rf"{opening}((?!{prose}){letter}(?![\w'])|(?i:{letter})(?={closing}|\s{{0,4}}$))"
        anchor = (
            r"\\boxed\s?\{|^\s{0,4}####\s{0,4}|(?i:\b(?:answer|choice|option)\b"
            r"(?:[^.\n]{0,40}?\bis\b|[*_\s]{0,4}[:=])[*_\s:]{0,4}(?:(?:option|choice)\s)?)"
        )
        self._stated = re.compile(rf"(?m)(?:{anchor})(?:\\(?:text|textbf|mathrm|mathbf)\s?\{{)?{stated}")
        self._called_correct = re.compile(
            rf"(?i:\b(?:option|choice|answer))\s{opening}({letter}){closing}{{0,4}}\sis\s(?:the\s)?(?:correct|right|best)"
        )
        self._alone = re.compile(rf"\s*{opening}({letter}){closing}{{0,6}}\s*", re.IGNORECASE)
        self._leading = re.compile(rf"(?m)^[ \t]{{0,4}}{opening}({letter})[)\].:*]")
        self._marked = re.compile(rf"(?:\(|\*\*\(?)({letter})[).:]{{0,2}}(?:\)|\*\*)?(?!\w)")
        self._another = re.compile(rf"{closing}{{0,6}}\s{{0,4}}(?:or|and|/|,|&|\|)\s{{0,4}}{opening}{letter}(?![\w'])")

    def verify(self, rows: list[Row]) -> list[Verdict]:
        return [self._verdict(row) for row in rows]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        return [Verdict.PASSED if self._gold(row.solution) else Verdict.UNVERIFIABLE for row in rows]

    def answers(self, rows: list[Row]) -> list[str | None]:
        return [self._answer(final_text(str(row.completion))) for row in rows]

    def _verdict(self, row: Row) -> Verdict:
        gold = self._gold(row.solution)
        if gold is None:
            return Verdict.UNVERIFIABLE
        answer = self._answer(final_text(str(row.completion)))
        if answer is None:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if answer == gold else Verdict.FAILED

    def _gold(self, solution: Any) -> str | None:
        text = str(solution).strip()
        if self._index_base is None:
            return self._answer(text)
        index = int(text) - self._index_base if re.fullmatch("[0-9]{1,3}", text) else -1
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def _answer(self, text: str) -> str | None:
        statements = [*self._stated.finditer(text), *self._called_correct.finditer(text)]
        if statements:
            last = max(statements, key=lambda match: match.start(1))
            return None if self._another.match(text, last.end(1)) else last.group(1).upper()
        alone = self._alone.fullmatch(text.rstrip().rpartition("\n")[2])
        if alone is not None:
            return alone.group(1).upper()
        for pattern in (self._leading, self._marked):
            letters = {match.group(1) for match in pattern.finditer(text)}
            if letters:
                return letters.pop() if len(letters) == 1 else None
        return None


class ReasoningGymCheck(Check):
    """
    Score answers as the reasoning-gym task itself does; only a full score passes.

    Needs the columns `reasoning_gym_task` (name of the task) and `reasoning_gym_entry` (the task's entry with
    `question`, `answer` and `metadata`, as JSON). `reasoning_gym_config` (the task's knobs as a JSON object) is needed
    where the scorer depends on them, as in `decimal_arithmetic`. The answer is read from answer tags, else from "the
    answer is ...", else from the last line, or from as many last lines as the gold has.

    reasoning-gym gives partial credit, and some scorers raise on junk: an answer that is scored below 1 is `FAILED`,
    one on which the scorer raises `UNPARSEABLE`. A row is `UNVERIFIABLE` if its entry has no answer, if its own answer
    does not score 1, or if nonsense does (`game_of_life_halting`).

    Some scorers evaluate what the student wrote. The worker process bounds time and memory, but is no sandbox.
    """

    columns: ClassVar[tuple[str, ...] | None] = ("reasoning_gym_task", "reasoning_gym_entry")
    optional_columns: ClassVar[tuple[str, ...]] = ("reasoning_gym_config",)

    def __init__(self) -> None:
        require_package("reasoning_gym", "reasoning-gym", "reasoning-gym")
        self._datasets: dict[tuple[str, str], Any] = {}
        self._is_usable: dict[tuple[str, str, str], bool] = {}

    def start(self, timeout: float) -> None:
        import reasoning_gym

        self._create_dataset = reasoning_gym.create_dataset

    def verify(self, rows: list[Row]) -> list[Verdict]:
        return [self._verdict(row) for row in rows]

    def check_solutions(self, rows: list[Row]) -> list[Verdict]:
        return [Verdict.PASSED if self._gold_is_usable(row) else Verdict.UNVERIFIABLE for row in rows]

    def _verdict(self, row: Row) -> Verdict:
        if not self._gold_is_usable(row):
            return Verdict.UNVERIFIABLE
        answers = self._answers(str(row.completion), str(row.solution))
        scores = [self._score(answer, row) for answer in answers]
        if all(score is None for score in scores):
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if any(score is not None and score >= 1 for score in scores) else Verdict.FAILED

    def _gold_is_usable(self, row: Row) -> bool:
        key = (row.columns["reasoning_gym_task"], row.columns["reasoning_gym_entry"], str(row.solution))
        if key not in self._is_usable:
            if len(self._is_usable) >= MAX_CACHED_GOLDS:
                self._is_usable.clear()
            nonsense = self._score("qzx, no answer", row)
            self._is_usable[key] = (
                row.solution is not None
                and self._score(str(row.solution), row) == 1
                and not (nonsense is not None and nonsense >= 1)
            )
        return self._is_usable[key]

    def _score(self, answer: str, row: Row) -> float | None:
        task, config = row.columns["reasoning_gym_task"], row.columns.get("reasoning_gym_config") or "{}"
        entry = json.loads(row.columns["reasoning_gym_entry"])
        if (task, config) not in self._datasets:
            self._datasets[task, config] = self._create_dataset(task, **json.loads(config))
        try:
            return float(self._datasets[task, config].score_answer(answer, entry))
        except MemoryError:
            raise
        except Exception:  # prime_factorization and others on junk
            return None

    def _answers(self, completion: str, solution: str) -> list[str]:
        """Return the ways to read the one answer of a completion: as it stands, and without what surrounds it."""
        text = final_text(completion).strip()
        if not text:
            return []
        num_lines = len(solution.strip().splitlines())
        if num_lines > 1:
            return list(dict.fromkeys([text, "\n".join(text.splitlines()[-num_lines:])]))
        if tagged_answer(completion) is None:
            text = stated_answer(text) or text.rpartition("\n")[2]
        plain = text.strip(_MARKUP + "$").removesuffix(".")
        readings = [text, plain, plain.rpartition("=")[2].strip()]
        if "\\boxed{" in text:
            readings.append(text.rpartition("\\boxed{")[2].partition("}")[0])
        return list(dict.fromkeys(reading for reading in readings if reading))
