"""Verdicts, and how a verifier is loaded: its name, its options, its record, and what it does not import."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import textwrap
from dataclasses import fields
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.verification import FAILED, PASSED, TIMEOUT, UNPARSEABLE, UNVERIFIABLE
from paced_trl.settings import VERIFIERS, VerifierArguments
from paced_trl.verification.check import Check, Row, completion_text
from paced_trl.verification.verdict import VALID_VERDICTS, Verdict, mark_truncated
from paced_trl.verification.verifier import load_verifier


BOXED = "helpers.rewards:reward_boxed"


def test_valid_verdicts_are_those_that_count() -> None:
    assert VALID_VERDICTS == (Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.TRUNCATED)
    assert [verdict.is_valid for verdict in Verdict] == [True, True, True, True, False, False]
    assert json.dumps(list(Verdict)[:2]) == '["passed", "failed"]'
    assert f"{Verdict.PASSED}" == "passed" and Verdict("timeout") is Verdict.TIMEOUT


def test_only_wrong_or_missing_answers_become_truncated() -> None:
    verdicts = [PASSED, FAILED, UNPARSEABLE, TIMEOUT, UNVERIFIABLE]
    assert mark_truncated(verdicts, [False] * 5) == verdicts
    cut_off = mark_truncated(verdicts, [True] * 5)
    assert cut_off == [PASSED, Verdict.TRUNCATED, Verdict.TRUNCATED, TIMEOUT, UNVERIFIABLE]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (
            "maths",
            ValueError,
            "Did you mean 'math'.*'math', 'numeric', 'exact', 'choice'.*'reasoning_gym'.*pkg.module:function",
        ),
        ("reasoning-gym", ValueError, "Did you mean 'reasoning_gym'"),
        ("qqqqqq", ValueError, r"Unknown verifier 'qqqqqq'\. Use one of"),
        ("module:", ValueError, "Unknown verifier"),
        ("json", ValueError, "no longer part of the package.*TRL reward function.*'pkg.module:function'"),
        ("no_such_package.rewards:reward", ImportError, "no module `no_such_package.rewards`.*PYTHONPATH"),
    ],
)
def test_unknown_verifier(path: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_verifier(path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exact", {"ignore_cases": True}, "no option `ignore_cases`. Did you mean `ignore_case`.*`normalize`"),
        ("math", {"ignore_case": True}, r"has no option `ignore_case`\. Its options: none"),
        ("exact", {"normalize": "lower"}, "`normalize` must be .* not 'lower'"),
        ("choice", {"choices": "AAB"}, "`choices` must be different letters"),
        ("choice", {"index_base": 2}, "`index_base` must be 0, 1 or None, not 2"),
        ("math", {"timeout": 0}, "`timeout` must be a positive number of seconds, not 0"),
        ("math", {"num_workers": 0}, "`num_workers` must be at least 1, not 0"),
        ("math", {"num_workers": 1.5}, "`num_workers` is 1.5, but it must be a whole number"),
        ("math", {"timeout": "soon"}, "`timeout` is 'soon', but it must be a number"),
        ("numeric", {"relative_tolerance": "1%"}, "`relative_tolerance` is '1%', but it must be a number"),
        ("numeric", {"relative_tolerance": True}, "`relative_tolerance` is True, but it must be a number"),
        ("exact", {"ignore_case": "no"}, "`ignore_case` is 'no', but it must be true or false"),
        ("choice", {"choices": 5}, "`choices` is 5, but it must be text or a list"),
        ("python_tests", {"allow_code_execution": True, "memory_limit": "1G"}, "`memory_limit` is '1G', but it must"),
        ("python_tests", {"allow_code_execution": True, "memory_limit": float("inf")}, "`memory_limit` is inf, but"),
        ("python_tests", {"allow_code_execution": True, "time_limit": [1]}, r"`time_limit` is \[1\], but it must"),
        (BOXED, {"threshold": "half"}, "`threshold` is 'half', but it must be a number"),
        (BOXED, {"threshold": 0}, r"`threshold` must be in \(0, 1\], not 0"),
        (BOXED, {"completion_format": "chat"}, "`completion_format` must be"),
        (
            "helpers.rewards:reward_boxed",
            {"solution_template": "x"},
            "`solution_template` must contain {solution}; 'x'",
        ),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_verifier(name, **options)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("math", "math_verify", "math"), ("reasoning_gym", "reasoning_gym", "reasoning-gym")],
)
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == package else object())
    with pytest.raises(ImportError, match=rf"pip install paced_trl\[{extra}\]"):
        load_verifier(name)


def test_bad_arguments() -> None:
    verifier = load_verifier("exact")
    with pytest.raises(ValueError, match=r"2 completions and 1 solutions"):
        verifier(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="Column `prompt` has 1 values for 2 solutions"):
        verifier(["a", "b"], ["a", "b"], prompt=["?"])
    with pytest.raises(TypeError, match=r"must be text or a list of messages .* not int: 7"):
        verifier([7], ["a"])  # type: ignore[list-item]
    assert verifier([], []) == [] and verifier.check_solutions([]) == []
    assert completion_text([{"role": "assistant", "content": None}]) == ""


def test_record_holds_what_a_verdict_depends_on() -> None:
    assert load_verifier("exact", ignore_case=True).record == {
        "name": "exact",
        "options": {"normalize": "strip", "ignore_case": True},
    }
    path = BOXED
    one, other = load_verifier(path, num_workers=1, timeout=3.0), load_verifier(path, num_workers=2)
    assert one.record == other.record == json.loads(json.dumps(one.record))
    assert one.record["options"]["threshold"] == 1.0


@pytest.mark.parametrize("name", VERIFIERS)
def test_help_and_readme_follow_the_one_table(name: str) -> None:
    [help_text] = [f.metadata["help"] for f in fields(VerifierArguments) if f.name == "verifier"]
    assert f"'{name}': {VERIFIERS[name]}" in help_text
    page = (ROOT / "paced_trl" / "verification" / "README.md").read_text()
    assert f"| `{name}` | {VERIFIERS[name]} |" in page
    class_name = "".join(part.capitalize() for part in name.split("_")) + "Check"
    check = getattr(importlib.import_module(f"paced_trl.verification.{name}_check"), class_name)
    for option in inspect.signature(check).parameters:
        assert f"`{option}`" in page or f"`{option}:" in page, option


def test_nothing_heavy_is_imported() -> None:
    pytest.importorskip("math_verify")
    script = """
        import sys
        from paced_trl.verification.verifier import load_verifier, start_check
        verifier = load_verifier("math")
        assert not {"torch", "transformers", "datasets", "numpy", "sympy"} & set(sys.modules)
        start_check("math", {}, 1.0)  # what a worker does
        assert "sympy" in sys.modules and not {"torch", "transformers", "datasets"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_check_that_says_nothing_of_golds_is_an_error_and_no_verdict() -> None:
    row = Row("7", "7", {})
    for call in (Check().verdict, Check().is_usable):
        with pytest.raises(NotImplementedError):
            call(row)
