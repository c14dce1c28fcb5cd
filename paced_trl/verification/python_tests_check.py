"""
The check that runs a program: Python that the student wrote, against the problem's unit tests or example outputs.

Responsible for finding the program in a completion, for reading the tests, and for what the end of a run means. How
a program is isolated and bounded is in `sandbox.py`. Not in the paper (PACED, arXiv 2603.11178); ours.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import secrets
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .answers import MAX_CACHED_GOLDS, final_text
from .check import Check, Row
from .sandbox import Isolation, Sandbox, SandboxError
from .verdict import Verdict


_MAX_PROGRAM_LENGTH = 100_000  # characters
_SECONDS_AROUND_A_RUN = 30.0
_FENCE = re.compile(r"(?m)^[ \t]{0,8}```[ \t]{0,8}([\w+-]{0,20})[^\n`]{0,100}$")
_CODE_LINE = re.compile(
    r"(?m)^(?:(?:async )?def \w|class \w+\s{0,4}[(:]|import \w|from \w[\w.]{0,80} import |print\(|@\w|"
    r"(?:for|while|if|with) [^\n]{1,200}:[ \t]{0,8}(?:#|$)|\w{1,80} ?= ?\S)"
)
_RUN_TEST_CASE = """
import unittest as _unittest
_result = _unittest.TestResult()
_unittest.defaultTestLoader.loadTestsFromTestCase({name}).run(_result)
assert _result.testsRun and _result.wasSuccessful()
"""


def candidate_program(completion: str) -> str | None:
    """
    Return the program in a completion, or `None` if there is no code in it.

    After the thinking, the last block fenced as Python counts, else the last fenced block; without a fence, the whole
    text if it reads like code. A block that was never closed goes on to the end.
    """
    text = final_text(completion)
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence[1]:
            blocks.append((opened[1].lower(), text[opened.end() : fence.start()]))
            opened = None
    if opened is not None:
        blocks.append((opened[1].lower(), text[opened.end() :]))
    if not blocks:
        return text if _CODE_LINE.search(text) or _is_code(text) else None
    in_python = [block for language, block in blocks if language in ("python", "py", "python3")]
    program = in_python[-1] if in_python else blocks[-1][1]
    return program if program.strip() else None


def _is_code(text: str) -> bool:
    """Return whether all of a text is Python that does something; a word and a number are Python, too."""
    body = _parsed(text) if len(text) <= _MAX_PROGRAM_LENGTH else None
    return any(
        not isinstance(statement, ast.Expr) or any(isinstance(node, ast.Call) for node in ast.walk(statement))
        for statement in body or []
    )


def _parsed(source: str) -> list[ast.stmt] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of `assert f() is 1`
            return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@dataclass(frozen=True)
class _Tests:
    source: str | None  # asserts; None where there are pairs
    pairs: tuple[tuple[str, str], ...] = ()


def read_tests(solution: Any, entry_point: str | None = None) -> _Tests | None:
    """
    Return the tests of a gold, or `None` if it holds none that can be run.

    Args:
        solution (`str`, `list[str]`, `list[dict]` or `dict`):
            Source with asserts, `test_...` functions or `unittest` classes; a list of asserts; pairs of `input` and
            `output`, as a list of dicts or as a dict of two lists. The last two may be JSON text.
        entry_point (`str`, *optional*):
            Name of the function under test, for tests that are a `check(candidate)` function, as HumanEval's are.
    """
    if isinstance(solution, str) and solution.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            solution = json.loads(solution)
    if isinstance(solution, Mapping):
        inputs, outputs = (solution.get(name, solution.get(name + "s")) for name in ("input", "output"))
        if isinstance(inputs, str) and isinstance(outputs, str):
            inputs, outputs = [inputs], [outputs]
        if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
            return None
        solution = [{"input": i, "output": o} for i, o in zip(inputs, outputs, strict=True)]
    if isinstance(solution, Sequence) and not isinstance(solution, str) and solution:
        if all(isinstance(item, str) for item in solution):
            solution = "\n".join(solution)
        elif all(_is_pair(item) for item in solution):
            return _Tests(None, tuple((item["input"], item["output"]) for item in solution))
    return _read_source(solution, entry_point) if isinstance(solution, str) else None


def _is_pair(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("input"), str) and isinstance(item.get("output"), str)


def _read_source(source: str, entry_point: str | None) -> _Tests | None:
    body = _parsed(source)
    if body is None:
        return None
    called = {node.func.id for statement in body for node in _calls(statement) if isinstance(node.func, ast.Name)}
    calls = []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name not in called:
            if node.name.startswith("test") and not node.args.args:
                calls.append(f"\n{node.name}()\n")
            elif node.name == "check" and entry_point is not None and entry_point.isidentifier():
                calls.append(f"\ncheck({entry_point})\n")
        elif isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases):
            calls.append(_RUN_TEST_CASE.format(name=node.name))
    checks_something = calls or any(
        isinstance(node, ast.Assert | ast.Raise | ast.Call) for statement in body for node in _executed(statement)
    )
    return _Tests(source + "".join(calls)) if checks_something else None


def _executed(statement: ast.stmt) -> list[ast.AST]:
    """Return the nodes of a top-level statement; of a definition none, as nothing in it runs by itself."""
    is_definition = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return [] if is_definition else list(ast.walk(statement))


def _calls(statement: ast.stmt) -> list[ast.Call]:
    return [node for node in _executed(statement) if isinstance(node, ast.Call)]


def _same_output(output: str, expected: str) -> bool:
    ours, theirs = ([line.rstrip() for line in text.strip().splitlines()] for text in (output, expected))
    return ours == theirs


class PythonTestsCheck(Check):
    """
    Run the completion's program against the problem's tests, in a sandbox.

    The gold is source with asserts, a list of asserts, or `input`/`output` pairs; see [`read_tests`]. A program that
    raises, ends early, does not compile, uses too much memory or does not end in time is `FAILED`: the program is what
    is judged, and its limits are part of the task. `UNPARSEABLE` is a completion without code, `UNVERIFIABLE` a gold
    without tests and a sandbox that does not start.

    Asserts run in the process of the candidate, as they must to call it. Ending that process, printing, and replacing
    built-ins do not pass them. A program written to deceive can still do so, for instance with results whose `==` is
    always true, or by searching its own process for what the tests hand over; `input`/`output` pairs are compared
    outside and leave no such way.

    Args:
        allow_code_execution (`bool`, *optional*, defaults to `False`):
            Must be `True`: programs that a model wrote are executed on this machine.
        isolation (`str`, *optional*, defaults to `"namespaces"`):
            `"namespaces"`: no network, no other processes, files read-only; Linux. It is no virtual machine: a hole in
            the kernel is a hole in it, and the program may read what the user may read. `"process"`: resource limits
            only; the program can do what the user can do.
        time_limit (`float`, *optional*, defaults to `10.0`):
            Seconds that all runs of one completion's program may take together.
        memory_limit (`int`, *optional*, defaults to 1 GiB):
            Bytes of address space of each of the program's processes.
    """

    optional_columns: ClassVar[tuple[str, ...]] = ("entry_point",)
    max_memory: ClassVar[int | None] = None  # the programs have a limit of their own, which a worker's would lower

    def __init__(
        self,
        *,
        allow_code_execution: bool = False,
        isolation: Isolation = "namespaces",
        time_limit: float = 10.0,
        memory_limit: int = 1024**3,
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
        self.timeout = time_limit + _SECONDS_AROUND_A_RUN
        self._time_limit = time_limit
        self._sandbox = Sandbox(isolation, memory_limit)
        self._tests: dict[tuple[str, str | None], _Tests | None] = {}
        try:
            self._sandbox.probe()
        except SandboxError as error:
            raise ValueError(
                f"The sandbox of the verifier 'python_tests' cannot be set up here ({error}). Run where "
                'user namespaces are allowed (Linux 5.12 or newer), or set `isolation: "process"`, which leaves '
                "network and files open to the programs."
            ) from error

    def is_usable(self, row: Row) -> bool:
        return self._read(row) is not None

    def _read(self, row: Row) -> _Tests | None:
        entry_point = row.columns.get("entry_point")
        key = (repr(row.solution), entry_point)
        if key not in self._tests:
            if len(self._tests) >= MAX_CACHED_GOLDS:
                self._tests.clear()
            self._tests[key] = read_tests(row.solution, entry_point)
        return self._tests[key]

    def verdict(self, row: Row) -> Verdict:
        tests = self._read(row)
        if tests is None:
            return Verdict.UNVERIFIABLE
        program = candidate_program(str(row.completion))
        if program is None:
            return Verdict.UNPARSEABLE
        if len(program) > _MAX_PROGRAM_LENGTH:
            return Verdict.FAILED
        has_passed = self._passes_asserts if tests.source is not None else self._passes_pairs
        return Verdict.PASSED if has_passed(program, tests) else Verdict.FAILED

    def _passes_asserts(self, program: str, tests: _Tests) -> bool:
        word = secrets.token_hex(16)
        finished = self._sandbox.run(program, seconds=self._time_limit, tests=tests.source, word=word)
        return finished.message == word

    def _passes_pairs(self, program: str, tests: _Tests) -> bool:
        end = time.monotonic() + self._time_limit
        for given, expected in tests.pairs:
            left = end - time.monotonic()
            if left <= 0:
                return False
            finished = self._sandbox.run(program, seconds=left, stdin=given)
            output = finished.output.decode("utf-8", "replace")
            if finished.reason != "exited" or finished.exit_code != 0 or not _same_output(output, expected):
                return False
        return True
