"""Verdicts of the verifier for JSON values."""

from __future__ import annotations

from helpers.verification import F, P, Table, U, V, wrong_rows
from paced_trl.verification.verifier import load_verifier


OBJECT = '{"name": "Ada", "age": 36, "tags": ["x", "y"]}'
JSON: Table = [
    (OBJECT, OBJECT, P),
    (OBJECT, 'Sure:\n```json\n{"age": 36.0, "tags": ["x", "y"], "name": "\\u0041da"}\n```\nDone {}.', P),
    ({"name": "Ada", "age": 36, "tags": ["x", "y"]}, f"As {{x}} shows, it is {OBJECT}.", P),
    (OBJECT, f'First {{"name": 1}}, then {OBJECT}', P),
    (OBJECT, f'<think>{OBJECT}</think> {{"name": "Ada"}}', F),
    (OBJECT, '{"name": "Ada", "age": "36", "tags": ["x", "y"]}', F),
    (OBJECT, '{"name": "Ada", "age": 36, "tags": ["y", "x"]}', F),
    (OBJECT, '{"name": "Ada", "age": 36, "tags": ["x", "y"], "more": null}', F),
    (OBJECT, '```json\n{"name": "Ada"', U),
    (OBJECT, "No object here.", U),
    ('{"a": "} ]"}', 'An unclosed [ and then {"a": "} ]"}', P),
    ([1, 2], "[1, 2.0]", P),
    ("1", "The answer is 1.0", P),
    ('"x"', 'I think\n"x"', P),
    (True, "true", P),
    ("true", "1", F),
    ("1", "true", F),
    ("null", "null", P),
    ("0.1", "0.10", P),
    ("12345678901234567890", "12345678901234567891", F),
    *(
        ("1", text, U)
        for text in ("NaN", "[Infinity]", "[1e999]", '{"a": 1, "a": 1}', "9" * 5000, "[" * 9000 + "]" * 9000)
    ),
    *(
        (gold, "1", V)
        for gold in (None, "", "Ada", "NaN", [float("inf")], '{"a": 1, "a": 2}', "[" * 9000 + "]" * 9000, {1j})
    ),
]


def test_json() -> None:
    assert wrong_rows("json", JSON) == []


def test_json_options() -> None:
    shuffled = '{"tags": ["y", "x"], "age": 36.0, "name": "Ada"}'
    assert load_verifier("json", ignore_order=True)([shuffled, '{"tags": ["y", "y"]}'], [OBJECT] * 2) == [P, F]
    nested = "[[1, [2, 3]], {}, 2.0]"
    assert load_verifier("json", ignore_order=True)(
        ["[2, {}, [[3, 2], 1]]", "[2, {}, [[3, 2, 1]]]"], [nested] * 2
    ) == [P, F]
    keys = load_verifier("json", keys=["age"])
    assert keys(['{"age": 36}', '{"age": 37, "name": "Ada"}', '{"name": "Ada"}', "[1]"], [OBJECT] * 4) == [P, F, F, F]
    assert keys(['{"age": 36}'], ['{"name": 1}']) == [V] and keys.check_solutions(["[1]"]) == [V]
    near = load_verifier("json", float_tolerance=0.01)
    assert near(["[1.005, 2]", "[1.02, 2]", f"[{10**400}, 2]"], ["[1, 2]"] * 3) == [P, F, F]
