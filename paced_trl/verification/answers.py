"""
Where in a completion the answer is stated: what all checks read alike.

After the thinking, between answer tags, in the last boxes, behind `####`, or behind "the answer is". What a completion
says is not the answer ("is not 42", "we rule out (A)") is no statement. Every pattern is bounded, so that a hostile
megabyte costs linear time.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple


MARKUP = " \t\r\n*_`~\"'"

_THOUGHT = (
    r"(?:[a-z]{1,12}[:_-])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad|monologue|reflection|cot)"
    r"(?:[_-][a-z]{1,12})?"
)
_THOUGHT_ENDS = re.compile(
    rf"(?i)</{_THOUGHT}>|\[/(?:think(?:ing)?|thoughts?|reasoning)\]|◁/{_THOUGHT}▷|<\|/{_THOUGHT}\|>|<\|end_(?:of_)?{_THOUGHT}\|>|<channel\|>"
    r"|<\|inner_suffix\|>|<\|content\|>|<unused95>|Here is my response:"
)
_THOUGHT_BEGINS = re.compile(
    rf"(?i)<{_THOUGHT}>|\[(?:think(?:ing)?|thoughts?|reasoning)\]|◁{_THOUGHT}▷|<\|{_THOUGHT}\|>|<\|(?:begin_of|start|begin)_{_THOUGHT}\|>|<\|channel>"
    r"|<\|inner_prefix\|>|<unused94>|Here is my thought process:"
)
# OpenAI's harmony format, with its special tokens and as it reads when decoding left them out.
_CHANNEL = re.compile(
    r"<\|channel\|>\s{0,4}(\w{1,20})[^<]{0,80}(?:<\|(?!message)[^|<]{1,20}\|>[^<]{0,80})?<\|message\|>"
)
_BARE_CHANNEL = re.compile(r"\A\s{0,9}analysis(?=[A-Z0-9])")
_END_OF_TURN = re.compile(
    r"<\|(?:return|end|call|im_end|eot_id|eom_id|endoftext|end_of_text)\|>|<end_of_turn>|</s>|<eos>"
)

IS = r"is|are|was|were|equals|should be|must be|would be|will be|est|ist|lautet|es|é|è"
_IS_NOT = (
    r"isn[’']t|aren[’']t|wasn[’']t|won[’']t be|can(?:no|[’'])t be|"
    r"could(?:n[’']t| not) be|(?:must|should|would|will) not be|"
    r"n[’']est pas|no es|não é|non è"
)
# The word for an answer and what joins it to the answer itself.
_WORD_FOR_ANSWER = r"(?:(?:final_)?answers?|ans|réponse|antwort|respuesta|resposta|risposta|ответ)"
_JOINED = r"[\"*_\s#]{0,4}(?:[:=→]|\s[-–—](?=\s))"
_IN_ASIAN = (
    r"(?:答案|答え|正解|解答|정답|답|答)[^。\n0-9A-Z]{0,8}?(?:应该是|"
    r"应为|就是|[是为為은는は选選]|[:：=])[\s*_:：]{0,4}"
)
_CORRECTING = (
    r"\b(?:wait|actually|sorry|rather|no)[,:…\s-]{1,4}(?:no[,:\s]{1,3})?(?:it|"
    r"that|this)(?:[’']s|\s(?:is|should be|must be))"
    r"(?!\s(?:not|wrong|incorrect|false)\b)\s"
)
_ANSWER_IS = re.compile(
    rf"(?i)\b{_WORD_FOR_ANSWER}\b"
    rf"(?:[^.\n]{{0,60}}?(?:(?P<not>\b(?:{_IS_NOT})(?!\w))|\b(?:{IS})(?!\w|[’']t))|{_JOINED}|[*_]{{0,3}}\s?\n)"
    rf"[*_\s:]{{0,4}}|(?m:^)a\s?:|{_CORRECTING}|{_IN_ASIAN}"
)
ANCHOR = (
    rf"(?i:\b(?:{_WORD_FOR_ANSWER}|choice|option|opción|opção|opzione)\b(?:[^.\n]{{0,40}}?\b(?:{IS})(?!\w)|{_JOINED}|\.(?=\s\S\Z))"
    rf"[\"*_\s:]{{0,4}}|{_CORRECTING}|{_IN_ASIAN})"
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[。！？；]")
# What models put beside an answer and is no part of it.
CHEERS = re.compile("[✅✔✓☑🎉🎊🎯👍🥳😊🙂😀]\ufe0f?")
# What may be an answer in bold, "**18** apples", or begins a point of a list, "**1.** Apples" and "**Day 3**: 18".
_BOLD = re.compile(r"\*\*([^*\n]{1,60}?(?<![.:)]))\*\*(?!\s?:)|\*\*")
_DOUBT = re.compile(
    r"(?i)\b(?:or|either|nor|but|maybe|perhaps|possibly|probably|could|might|may|can|wait|actually|instead|rather|sorry|"
    r"no|not|never|neither|wrong|incorrect|false|if|whether)\b|n[’']t\b|[?≠]"
)
_EMPHASIS = re.compile(r"(?!(?<=\s)\*\s)(?:\*{1,3}|(?<!\w)_{1,2}|_{1,2}(?!\w))")
# What follows these explains the answer and is not part of it.
_REASON = re.compile(
    r"(?i)[,;]?\s(?:since|because|as(?=\s(?:[a-z\d(]))|which|where|given that|due to|for the reason|that is,|i\.e\.)\s"
    r"|[,，]?(?:因为|因為|なぜなら)|[,;]?\s[(]?(?:and\s)?not\s|\s(?:rather than|instead of)\s"
)
_COMPUTED = re.compile(
    r"(?i)(\d\s?[-+*/×·÷]\s?\d[^,\n]{0,60}),?\s(?:which\s(?:is|equals|gives|makes|comes to)|or)\s(?=[$€£]?\d)"
)
_CORRECTION = re.compile(
    r"(?i)(?:\bbut|\brather|\binstead|\bit[’']s|\bit is|—|sondern|"
    r"mais|sino|mas)\s(?!not\b)(?:is\s|it is\s|it[’']s\s)?(.{1,200})"
)
# Just before an answer: it is said not to be one.
NEGATION = re.compile(
    r"(?i)(?:\b(?:not|never|nor|neither|cannot|no longer|isn[’']t|"
    r"aren[’']t|wasn[’']t|won[’']t|don[’']t|didn[’']t|doesn[’']t|"
    r"can[’']t|couldn[’']t|(?:i|we|you|they) doubt|rather than|"
    r"instead of|(?:anything|all|any) but|other than|different from|except|unlike|excluding|rul(?:e|ed|es|ing) out|"
    r"(?:eliminat|exclud|reject|discard|dismiss)(?:e|es|ed|ing|s)?|whether|if (?:it|this|that|the)|"
    r"(?:might|may|could|would) (?:think|guess|assume|expect)|(?:might|may|could) say|"
    r"(?:wrong|incorrect|false)\s(?:answer|option|choice|result|value|one)s?|"
    r"(?<!no\s)(?<!not\s)(?:more|less|greater|fewer|larger|smaller|higher|lower|bigger) than|"
    r"n[’']est pas|no es|não é|non è|nicht|keine?)(?![A-Za-z])|≠|!=|\\neq?(?![A-Za-z])|不是|并非|不等于|不可能是)"
    r"[\s*_\"'`(\[{}$\\:]{0,8}(?:(?:the|a|an|be|been|equal|to|simply|just|options?|choice|answer|both|either|text|boxed|"
    r"textbf|mathrm|think|believe|say|sure|certain|that|it|it[’']s|is|are|was|were|correct|right|final|true)"
    r"[\s*_\"'`(\[{$\\:]{1,6}){0,6}\Z"
)
_SENTENCE_START = re.compile(r"[.!?…;](?=\s)|[。！？；\n]")
# Just behind an answer: it is said to be wrong.
DENIAL = re.compile(
    r"(?i)[*_$)}\]]{0,4}\s(?:(?:is|was|are|seems|looks|must be|would be)(?:n[’']t|\s(?:\w{1,12}ly\s)?(?:the\s)?"
    r"(?:not|wrong|incorrect|false|impossible))|(?:can(?:no|[’'])t|"
    r"could(?:n[’']t|\snot)) be (?:right|correct|the|true|it))(?!\w)"
)
_RETRACTION = re.compile(
    r"(?i)[.?!…,;。？！吗\n—–-][\s*_$\"')\]}…]{0,4}"
    r"(?:(?:but|wait|hmm+|oh|actually|sorry|hold on|well|so|or|and|ah)[,.!…\s-]{1,6}){0,3}"
    r"(?:no(?:pe)?(?=\s{0,2}[.,!;…—–]|\s{0,2}\Z|\s(?:wait|it[’']s|it is)\b)|"
    r"(?:that|this|it)(?:[’']s|\s(?:is|was|seems|looks|must be))(?:\s\w{1,12}ly)?\s"
    r"(?:wrong|incorrect|false|not\s(?:right|correct|it|true|the\s(?:right|correct|final)?\s?answer))|"
    r"(?:that|this|it)\s(?:isn|wasn|can)[’']t\s(?:be\s)?(?:right|correct|it|true|the answer)|不是|不对|错了)"
    r"(?:\s(?:but|it|because)\b)?[\s.,!;…。，！—–-]{0,6}"
)


# All that may stand between two boxes which together are one answer.
_BETWEEN_BOXES = re.compile(
    r"(?i)(?:[\s$,;&*.]|\\[()\[\],;! ]|\\quad|\\text\s?\{[^{}\w]{0,3}(?:and|or)[^{}\w]{0,3}\}|and|or|und|oder|et|ou|y|"
    r"和|或|、){0,24}"
)


class Statement(NamedTuple):
    """An answer as it is stated: the boxes' content, a `#### ...` line, or the clause behind "the answer is"."""

    text: str
    where: str  # "box", "line", "clause"


def final_text(completion: str) -> str:
    """Return what follows the thinking, and of that what stands between the last answer tags, where there are any."""
    text = _after_thinking(completion)
    answer = tagged_answer(text)
    return text if answer is None else answer


def without_retracted(text: str) -> str:
    """Return a text without the sentences that the next words take back: "It is 42? No.", "42. That's wrong."."""
    pieces: list[str] = []
    done = 0
    for match in _RETRACTION.finditer(text):
        start = max(done, match.start() - 300)
        sentence = text[start : match.start()]
        begin = max((end.end() for end in _SENTENCE_START.finditer(sentence)), default=0)
        if re.search(r"\w", sentence[begin:]):
            pieces.append(text[done : start + begin])
            done = match.end()
    return "".join(pieces) + text[done:]


def _after_thinking(completion: str) -> str:
    """Return what follows the last thought; nothing where a thought was begun and never ended."""
    channels = list(_CHANNEL.finditer(completion))
    if channels:
        if channels[-1][1] != "final":
            return ""
        completion = completion[channels[-1].end() :]
    elif _BARE_CHANNEL.match(completion) or (
        completion.lstrip().startswith("analysis") and "assistantfinal" in completion
    ):
        completion = completion.rpartition("assistantfinal")[2] if "assistantfinal" in completion else ""
    text = _THOUGHT_ENDS.split(completion)[-1]
    if _THOUGHT_BEGINS.search(text):
        return ""
    return _END_OF_TURN.split(text.rstrip(), maxsplit=1)[0]


def tagged_answer(text: str) -> str | None:
    """Return what stands between the last `<answer>` and `</answer>`."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end] if start >= 0 else None


def boxed_span(text: str, end: int | None = None) -> tuple[int, int] | None:
    """Return where the content of the last `\\boxed{...}` before `end` lies; one left open goes on to `end`."""
    end = len(text) if end is None else end
    start, command = max((text.rfind(command, 0, end), command) for command in ("\\boxed{", "\\fbox{", "\\boxed {"))
    if start < 0:
        return None
    start += len(command)
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:end]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start, start + brace.start()
    return start, end


def boxed_answer(text: str) -> str | None:
    """Return what the last `\\boxed{}` holds, and those before it that only list words part; not one denied."""
    contents: list[str] = []
    end: int | None = None
    for _ in range(50):
        span = boxed_span(text, end)
        if span is None:
            break
        start = max(text.rfind("\\", 0, span[0]), 0)
        if contents and end is not None and not _BETWEEN_BOXES.fullmatch(text[span[1] + 1 : end][:40]):
            break
        if not NEGATION.search(text[max(0, start - 60) : start]) and not DENIAL.match(text, span[1]):
            contents.append(text[slice(*span)])
        elif contents:
            break
        end = start
    return ", ".join(dict.fromkeys(reversed(contents))) if contents else None


def stated_answer(text: str) -> str | None:
    """Return the rest of the line after the last "answer is", "Answer:" or "A:", up to the end of its sentence."""
    for anchor in reversed(list(_ANSWER_IS.finditer(text))[-20:]):
        line = text[anchor.end() :].partition("\n")[0]
        if anchor[0].count('"') == 1:  # JSON: {"answer": 18}
            line = re.split(r'(?<!^)["}]', line, maxsplit=1)[0]
        clause = _SENTENCE_END.split(line, maxsplit=1)[0].strip(MARKUP)
        clause = _without_closing_mark(clause, text[: text.index(clause, anchor.end())].rpartition("\n")[2])
        negated = NEGATION.search(text[max(0, anchor.end() - 90) : anchor.end()])
        begins_negated = re.match(r"(?i)(?:not|never|neither|nicht|keine?|no longer|n[’']est pas)\b|不是", clause)
        if anchor["not"] or negated or begins_negated:
            correction = _CORRECTION.search(clause)
            if correction is None:
                continue
            clause = correction[1].strip(MARKUP)
        clause = _COMPUTED.sub(r"\1 = ", clause)
        clause = re.sub(r"\s[-–—]\Z", "", _REASON.split(clause, maxsplit=1)[0].strip(MARKUP))
        return clause or None
    return None


def _without_closing_mark(clause: str, before: str) -> str:
    """Return a clause without the mark that ends an emphasis begun before it: "The answer is **15** dollars"."""
    marks = [match[0] for match in _EMPHASIS.finditer(before[-300:])]
    opened = next((mark for mark in reversed(marks) if marks.count(mark) % 2), None)
    return clause if opened is None else re.sub(rf"(?<=\S){re.escape(opened)}(?![\w*])", "", clause, count=1)


def bold_answer(text: str) -> str | None:
    """Return what a text's last line has in bold: one passage, of no list or sum, where nothing speaks against it."""
    line = text.rstrip().rpartition("\n")[2][-2000:]
    bold = list(itertools.islice(_BOLD.finditer(line), 2))
    if len(bold) != 1 or _DOUBT.search(line):
        return None
    before, after = line[: bold[0].start()], line[bold[0].end() :]
    is_operand = re.search(r"[-+*/×÷·^√(\\]\s?\Z", before) or re.match(r"\s?[-+*/×÷·^]\s?[\d($\\]|\w", after)
    return None if is_operand or "=" in after or NEGATION.search(before[-90:]) else bold[0][1]


def gsm8k_line(text: str) -> str | None:
    """Return what stands in the last line that begins with `####`."""
    lines = re.findall(r"(?m)^[ \t]*+####[ \t]*+([^\n]{1,200})$", text)
    return lines[-1].strip() if lines else None


def statements(text: str) -> list[Statement]:
    """Return the answers that a text states, the surest first: boxed, behind `####`, behind "the answer is"."""
    found = {"box": boxed_answer(text), "line": gsm8k_line(text), "clause": stated_answer(text)}
    return [Statement(stated, where) for where, stated in found.items() if stated is not None]
