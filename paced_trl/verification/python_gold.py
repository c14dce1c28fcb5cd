"""What the gold of a program may be: asserts, pairs of input and output, or calls of one function."""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


MAX_SOURCE_LENGTH = 100_000  # characters
_RUN_TEST_CASE = """
import unittest as _unittest
_result = _unittest.TestResult()
_unittest.defaultTestLoader.loadTestsFromTestCase({name}).run(_result)
assert _result.testsRun and _result.wasSuccessful()
"""
_CALLS = """
import json as _json
_paced_trl_function = {function} if '{function}' in globals() else getattr(Solution(), '{function}')
for _inputs, _expected in _json.loads({cases!r}):
    assert _paced_trl_same(_paced_trl_function(*_inputs), _expected, {tolerance!r})
"""
_FUNCTION_NAMES = ("fn_name", "func_name", "function_name", "entry_point")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# They would replace names of the tests' process, where the program is not.
_UNUSABLE = ("unittest.mock", "mock", "monkeypatch")


@dataclass(frozen=True)
class Tests:
    """Tests that can be run: `source`, which uses the program's `names`; or `pairs` of input and expected output."""

    source: str | None
    names: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    function: str | None = None  # the one under test, where it is known

    @property
    def own_names(self) -> list[str]:
        """The names that are the program's in any case: Python does not have them, or the function under test."""
        return [name for name in self.names if name == self.function or not hasattr(builtins, name)]


def read_tests(
    solution: Any, columns: Mapping[str, Any] | None = None, *, float_tolerance: float = 0.0
) -> Tests | None:
    """
    Return the tests of a gold, in one of the forms that the README lists, or `None` if it holds none that can be run.

    What is no source may be JSON text. `entry_point` also names the function of tests that are `check(candidate)`.
    """
    columns = columns or {}
    solution = _from_json(solution)
    function = _function_name(solution, columns)
    if isinstance(solution, Mapping):
        inputs, outputs = (solution.get(name, solution.get(name + "s")) for name in ("input", "output"))
        if isinstance(inputs, str) and isinstance(outputs, str):
            inputs, outputs = [inputs], [outputs]
        if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
            return None
        is_call = any(solution.get(name) or columns.get(name) for name in ("fn_name", "func_name", "function_name"))
        is_call = is_call or bool(solution.get("entry_point"))
        return _calls(function, inputs, outputs, float_tolerance) if is_call else _pairs(inputs, outputs)
    if isinstance(solution, Sequence) and not isinstance(solution, str) and solution:
        if all(isinstance(item, str) for item in solution):
            solution = "\n".join(solution)
        elif all(isinstance(item, Mapping) and "input" in item and "output" in item for item in solution):
            inputs, outputs = [item["input"] for item in solution], [item["output"] for item in solution]
            if any(str(item.get("testtype", "stdin")).lower() == "functional" for item in solution):
                return _calls(
                    function, [_lines(text) for text in inputs], [_value(o) for o in outputs], float_tolerance
                )
            return _pairs(inputs, outputs)
    if not isinstance(solution, str):
        return None
    return _read_source(solution, columns.get("entry_point"))


def _from_json(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _function_name(solution: Any, columns: Mapping[str, Any]) -> str | None:
    metadata = _from_json(columns.get("metadata"))
    for source in (solution, metadata, columns):
        for key in _FUNCTION_NAMES:
            name = source.get(key) if isinstance(source, Mapping) else None
            if isinstance(name, str) and name.isidentifier():
                return name
    starter = re.findall(r"(?m)^\s*def\s+(\w+)\s*\(", str(columns.get("starter_code") or ""))
    return next((name for name in starter if not name.startswith("_")), None)


def _lines(text: Any) -> Any:
    """Return the arguments of a functional test of LiveCodeBench: one value of JSON per line."""
    return [_value(line) for line in text.splitlines() if line.strip()] if isinstance(text, str) else text


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return read(text)
    return text


def _text(value: Any) -> str | None:
    """Return standard input or output: text, or a list of its lines."""
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value if isinstance(value, str) else None


def _pairs(inputs: list[Any], outputs: list[Any]) -> Tests | None:
    texts = [(_text(given), _text(expected)) for given, expected in zip(inputs, outputs, strict=True)]
    pairs = tuple((given, expected) for given, expected in texts if given is not None and expected is not None)
    return Tests(None, pairs=pairs) if pairs and len(pairs) == len(texts) else None


def _calls(function: str | None, inputs: list[Any], outputs: list[Any], tolerance: float) -> Tests | None:
    """Return tests that call a function, or the method of a class `Solution`, and compare what it returns."""
    if function is None or not inputs or not all(isinstance(arguments, list) for arguments in inputs):
        return None
    try:
        cases = json.dumps(list(zip(inputs, outputs, strict=True)))
    except (TypeError, ValueError):
        return None
    source = _CALLS.format(function=function, cases=cases, tolerance=tolerance)
    return Tests(source, (function, "Solution"), function=function)


def parsed(source: str) -> list[ast.stmt] | None:
    """Return the statements of a source, `None` if it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of `assert f() is 1`
            return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read_source(source: str, entry_point: str | None) -> Tests | None:
    body = parsed(source)
    if body is None or len(source) > 50 * MAX_SOURCE_LENGTH or any(name in source for name in _UNUSABLE):
        return None
    calls: list[str] = []
    # Nothing in a definition runs by itself.
    run: list[ast.AST] = [statement for statement in body if not isinstance(statement, DEFINITIONS)]
    called_here = [node.func for top in run for node in ast.walk(top) if isinstance(node, ast.Call)]
    called = {function.id for function in called_here if isinstance(function, ast.Name)}
    definitions = {node.name: node for node in body if isinstance(node, DEFINITIONS)}
    for node in definitions.values():
        if isinstance(node, ast.FunctionDef) and node.name not in called:
            if node.name.startswith("test") and not node.args.args:
                calls.append(f"\n{node.name}()\n")
                run.append(node)
            elif node.name == "check" and entry_point is not None and entry_point.isidentifier():
                calls.append(f"\ncheck({entry_point})\n")
                run.append(node)
        elif isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases):
            calls.append(_RUN_TEST_CASE.format(name=node.name))
            run.append(node)
    if not _decides(run, definitions):
        return None
    names = {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    names |= {entry_point} if calls and entry_point is not None and entry_point.isidentifier() else set()
    names -= set(definitions)
    # Assertions that name nothing of the program say nothing about it.
    return Tests(source + "".join(calls), tuple(sorted(names)), function=entry_point) if names else None


def _decides(run: list[ast.AST], definitions: Mapping[str, ast.AST]) -> bool:
    """Return whether what runs holds an assertion, in itself or in what it calls by name."""
    waiting, seen = list(run), set()
    while waiting:
        for node in ast.walk(waiting.pop()):
            if isinstance(node, ast.Raise):
                return True
            always = isinstance(node, ast.Assert) and (
                (isinstance(node.test, ast.Constant) and node.test.value)
                or (isinstance(node.test, ast.Tuple) and node.test.elts)
            )
            if isinstance(node, ast.Assert) and not always:  # `assert True`, `assert (f(1) == 2, "message")`
                return True
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.lower().startswith(("assert", "fail")) or name in ("raises", "exit"):
                return True
            if name in definitions and name not in seen:
                seen.add(name)
                waiting.append(definitions[name])
    return False
