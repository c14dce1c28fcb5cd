"""The check that runs a program: Python that the student wrote, against the problem's tests, in a sandbox."""

from __future__ import annotations

import ast
import itertools
import math
import re
import time
from collections.abc import Collection
from typing import Any, ClassVar

from .answers import final_text
from .check import Check, Row, cached
from .python_gold import DEFINITIONS, MAX_SOURCE_LENGTH, Tests, parsed, read_tests
from .sandbox import Isolation, Sandbox, SandboxError
from .verdict import Verdict


_SECONDS_AROUND_A_RUN = 30.0
_FENCE = re.compile(
    r"(?m)^([ \t]{0,24})(?:[-*+]|\d{1,3}[.)])?[ \t]{0,8}(`{3,6}|~{3,6})[ \t]{0,8}\{?\.?([\w+-]{0,20})[^\n`]{0,100}$"
)
_TAGGED = re.compile(
    r"(?is)(\[PYTHON\]|\[BEGIN\]|<code>|<python>)(.{1,100000}?)(?:\[/PYTHON\]|\[DONE\]|</code>|</python>|\Z)"
)
_CODE_LINE = re.compile(
    r"(?m)^(?:(?:async )?def \w|class \w+\s{0,4}[(:]|import \w|from \w[\w.]{0,80} import |print\(|@\w|"
    r"(?:for|while|if|with) [^\n]{1,200}:[ \t]{0,8}(?:#|$)|\w{1,80} ?= ?\S)"
)
_READS_INPUT = re.compile(r"\binput\s{0,3}\(|\bstdin\b|\bopen\s{0,3}\(\s{0,3}0\b|fileinput")


def candidate_program(completion: str, names: Collection[str] = ()) -> str | None:
    """
    Return the program in a completion, or `None`: the last block fenced as Python or of any kind, or all of the text.

    Of several in Python the last counts that defines one of the `names`, or reads input where there are none, with
    the definitions of the blocks before it.
    """
    text = final_text(completion)
    blocks = _blocks(text)
    tagged = None if blocks else _TAGGED.search(text)
    if tagged is not None:
        return tagged[2].strip("\n") or None
    if not blocks:
        return text if _CODE_LINE.search(text) or _is_code(text) else None
    in_python = [block for language, block in blocks if language in ("python", "py", "python3")]
    sources = in_python or [blocks[-1][1]]
    if len(sources) > 1:
        is_wanted = (lambda source: _defined(source) & set(names)) if names else _READS_INPUT.search
        wanted = [index for index, source in enumerate(sources) if is_wanted(source)]
        if wanted:
            before = [source for source in sources[: wanted[-1]] if _only_defines(source)]
            return "\n".join([*before, sources[wanted[-1]]])
    return sources[-1] if sources[-1].strip() else None


def _blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of each fenced block, without the indentation of its fence."""
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence[3] and fence[2] == opened[2]:
            blocks.append((opened[3].lower(), _dedented(text[opened.end() : fence.start()], opened)))
            opened = None
    if opened is not None:
        blocks.append((opened[3].lower(), _dedented(text[opened.end() :], opened)))
    return blocks


def _dedented(block: str, fence: re.Match[str]) -> str:
    width = fence.start(2) - fence.start()
    if width == 0:
        return block
    lines = block.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    width = min([width, *indents])
    return "\n".join(line[width:] if line.strip() else "" for line in lines)


def _is_code(text: str) -> bool:
    """Return whether all of a text is Python that does something; a word and a number are Python, too."""
    body = parsed(text) if len(text) <= MAX_SOURCE_LENGTH else None
    return any(
        not isinstance(statement, ast.Expr) or any(isinstance(node, ast.Call) for node in ast.walk(statement))
        for statement in body or []
    )


def _defined(source: str) -> set[str]:
    """Return the names that the top level of a source defines."""
    body = parsed(source) if len(source) <= MAX_SOURCE_LENGTH else None
    if body is None:  # with a mistake in it, it is the program all the same
        return set(re.findall(r"(?m)^(?:def|class|async def)\s+(\w+)", source))
    names: set[str] = set()
    for node in body:
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            inner = (child for target in node.targets for child in ast.walk(target))
            names |= {child.id for child in inner if isinstance(child, ast.Name)}
    return names


def _only_defines(source: str) -> bool:
    allowed = (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    return all(isinstance(node, allowed) for node in parsed(source) or [ast.Pass()])


class PythonTestsCheck(Check):
    """
    Run the completion's program against the problem's tests, each in a sandbox.

    A program that does not compile or exceeds its limits is `FAILED`: they are part of the task. `UNPARSEABLE` is a
    completion without code, `UNVERIFIABLE` a gold whose tests decide nothing and a sandbox that does not start.
    """

    optional_columns: ClassVar[tuple[str, ...]] = ("entry_point", "fn_name", "func_name", "metadata", "starter_code")
    max_memory: ClassVar[int | None] = None  # the programs have a limit of their own, which a worker's would lower

    def __init__(
        self,
        *,
        allow_code_execution: bool = False,
        isolation: Isolation = "namespaces",
        time_limit: float = 10.0,
        memory_limit: int = 1024**3,
        float_tolerance: float = 0.0,
    ) -> None:
        if allow_code_execution is not True:
            raise ValueError(
                "The verifier 'python_tests' executes programs that a model wrote. Set its option "
                "`allow_code_execution: true` if that is what you want."
            )
        if isolation not in ("namespaces", "process"):
            raise ValueError(f'`isolation` must be "namespaces" or "process", not {isolation!r}.')
        if not 0 < time_limit <= 3600:
            raise ValueError(f"`time_limit` must be in (0, 3600] seconds, not {time_limit}.")
        if memory_limit < 64 * 1024**2:
            raise ValueError(
                f"`memory_limit` must be at least 64 MiB, as Python needs some, not {memory_limit} bytes."
            )
        if not 0 <= float_tolerance < math.inf:
            raise ValueError(f"`float_tolerance` must be a finite number of at least 0, not {float_tolerance!r}.")
        self.timeout = time_limit + _SECONDS_AROUND_A_RUN
        self._time_limit = time_limit
        self._float_tolerance = float_tolerance
        self._sandbox = Sandbox(isolation, memory_limit)
        self._tests: dict[str, Tests | None] = {}

    def check_environment(self) -> None:
        try:
            self._sandbox.probe()
        except SandboxError as error:
            raise ValueError(
                f"The sandbox of the verifier 'python_tests' cannot be set up here ({error}). Install bubblewrap "
                "(Debian, Ubuntu: apt-get install bubblewrap) and run where user namespaces are allowed; or, as a "
                'user other than root, set `isolation: "process"`, which leaves network and files open to them.'
            ) from error

    def start(self, timeout: float) -> None:
        self.check_environment()

    def is_usable(self, row: Row) -> bool:
        return self._read(row) is not None

    def stated(self, completion: str) -> str | None:
        program = candidate_program(completion)
        return None if program is None else program.strip()

    def stated_gold(self, solution: Any) -> str | None:
        tests = read_tests(solution)
        if tests is None:
            return None
        return f"{len(tests.pairs)} pairs of input and output" if tests.source is None else tests.source.strip()

    def _read(self, row: Row) -> Tests | None:
        key = repr((row.solution, sorted(row.columns.items())))
        return cached(
            self._tests, key, lambda: read_tests(row.solution, row.columns, float_tolerance=self._float_tolerance)
        )

    def verdict(self, row: Row) -> Verdict:
        tests = self._read(row)
        if tests is None:
            return Verdict.UNVERIFIABLE
        program = candidate_program(str(row.completion), tests.own_names or tests.names)
        if program is None:
            return Verdict.UNPARSEABLE
        if len(program) > MAX_SOURCE_LENGTH:
            return Verdict.FAILED
        has_passed = self._passes_pairs if tests.source is None else self._passes_tests
        return Verdict.PASSED if has_passed(program, tests) else Verdict.FAILED

    def _passes_tests(self, program: str, tests: Tests) -> bool:
        own = tests.own_names
        others = [name for name in tests.names if name not in own]
        return self._sandbox.run_tests(program, tests.source or "", own, others, seconds=self._time_limit)

    def _passes_pairs(self, program: str, tests: Tests) -> bool:
        end = time.monotonic() + self._time_limit
        for given, expected in tests.pairs:
            left = end - time.monotonic()
            if left <= 0:
                return False
            finished = self._sandbox.run_script(program, seconds=left, stdin=given)
            if finished.reason != "exited" or finished.exit_code != 0:
                return False
            if not _same_output(finished.output.decode("utf-8", "replace"), expected, self._float_tolerance):
                return False
        return True


def _same_output(output: str, expected: str, tolerance: float) -> bool:
    """Return whether outputs agree, apart from white space at ends of lines, numbers within the tolerance."""
    ours, theirs = ([line.rstrip() for line in text.strip().splitlines()] for text in (output, expected))
    if ours == theirs or not tolerance:
        return ours == theirs
    one, two = ([line.split() for line in lines] for lines in (ours, theirs))
    if list(map(len, one)) != list(map(len, two)):
        return False
    pairs = zip(itertools.chain(*one), itertools.chain(*two), strict=True)
    return all(_same_word(*pair, tolerance) for pair in pairs)


def _same_word(one: str, two: str, tolerance: float) -> bool:
    if one == two:
        return True
    try:
        return math.isclose(float(one), float(two), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False
