"""The math verifier on real data: GSM8K's test split, where it lies beside the project."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from paced_trl import Verdict, load_verifier
from paced_trl.data import load_problems


DATA = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
STYLES = [
    "The answer is {}.",
    "#### {}",
    "A: {}",
    "So we get \\boxed{{{}}}.",
    "${}$",
    "First 3 + 4 = 7. Then the total is = {}",
    "**Answer:** {}",
]

pytestmark = [
    pytest.mark.skipif(not DATA.exists(), reason="GSM8K is not beside the project"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def golds() -> list[str]:
    pytest.importorskip("math_verify")
    return load_problems(str(DATA), prompt_column="question", solution_column="answer")["solution"][:]


def test_every_gold_verifies_against_itself(golds: list[str]) -> None:
    assert len(golds) == len(DATA.read_text().splitlines())
    with load_verifier("math") as verifier:
        assert verifier.check_solutions(golds) == [Verdict.PASSED] * len(golds)


def test_plain_answers_pass_and_wrong_numbers_fail(golds: list[str]) -> None:
    rng = random.Random(0)
    sample = rng.sample(golds, 200)
    right = [gold.rsplit("#### ", 1)[1] for gold in sample]
    wrong = [str(int(answer.replace(",", "")) + rng.choice([-1, 1, 10])) for answer in right]
    styles = [rng.choice(STYLES) for _ in sample]
    with load_verifier("math") as verifier:
        for answers, verdict in ((right, Verdict.PASSED), (wrong, Verdict.FAILED)):
            completions = [style.format(answer) for style, answer in zip(styles, answers, strict=True)]
            judged = verifier(completions, sample)
            failures = [json.dumps(c) for c, v in zip(completions, judged, strict=True) if v is not verdict]
            assert not failures
