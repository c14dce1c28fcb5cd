"""Text that must be equal."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.verification import FAILED, PASSED, UNPARSEABLE, UNVERIFIABLE
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


@pytest.mark.parametrize(
    ("options", "gold", "completion", "expected"),
    [
        ({}, "861", "861", PASSED),
        ({}, "861", " 861\n", PASSED),
        ({}, 861, "861", PASSED),
        ({}, "861", "8 61", FAILED),
        ({}, "861", "86", FAILED),
        ({}, "861", "8614", FAILED),
        ({}, "861", "", UNPARSEABLE),
        ({}, "", "861", UNVERIFIABLE),
        ({}, None, "None", UNVERIFIABLE),
        ({}, "Paris", "paris", FAILED),
        ({"ignore_case": True}, "Stra\u00dfe", "STRASSE", PASSED),
        ({}, "caf\u00e9", "cafe\u0301", PASSED),
        ({"normalize": "none"}, "caf\u00e9", "cafe\u0301", FAILED),
        ({"normalize": "none"}, "861", "861 ", FAILED),
        ({"normalize": "whitespace"}, "a b\nc", " a  b c", PASSED),
        ({"normalize": "whitespace"}, "a b", "ab", FAILED),
        ({}, "\ud800", "\ud800", PASSED),
    ],
)
def test_exact(options: dict[str, Any], gold: Any, completion: str, expected: Verdict) -> None:
    verifier = load_verifier("exact", **options)
    assert verifier([completion], [gold]) == [expected]
    assert verifier.check_solutions([gold]) == [UNVERIFIABLE if expected is UNVERIFIABLE else PASSED]
