"""Advice by share: due beyond its threshold only, with the numbers and the remedy."""

from __future__ import annotations

import pytest

from paced_trl.estimation.advice import clipping_advice, frontier_advice, verdict_advice
from paced_trl.weighting.counts import FrontierShares


@pytest.mark.parametrize(
    ("shares", "remedy"),
    [
        (FrontierShares(mastered=0.6, frontier=0.09, out_of_reach=0.31, unmeasured=0.0), "take harder ones"),
        (FrontierShares(mastered=0.1, frontier=0.09, out_of_reach=0.81, unmeasured=0.0), "take easier ones"),
    ],
)
def test_an_empty_frontier_has_the_remedy_of_its_side(shares: FrontierShares, remedy: str) -> None:
    text = frontier_advice(shares)
    assert text is not None and text.startswith("Only 9.0% of the problems are at the frontier") and remedy in text


def test_no_problem_at_the_frontier_is_called_none() -> None:
    nothing = FrontierShares(mastered=0.0, frontier=0.0, out_of_reach=1.0, unmeasured=0.0)
    assert str(frontier_advice(nothing)).startswith("None of the problems is at the frontier, passed sometimes")


def test_a_tenth_at_the_frontier_is_enough() -> None:
    assert frontier_advice(FrontierShares(mastered=0.5, frontier=0.1, out_of_reach=0.4, unmeasured=0.0)) is None


def test_verdicts_call_for_advice_beyond_their_thresholds() -> None:
    at_threshold = {"passed": 85, "failed": 4, "truncated": 10, "timeout": 1, "unverifiable": 0}
    assert verdict_advice(at_threshold) == verdict_advice({}) == []
    verifier, cut_off = verdict_advice(
        {"passed": 80, "truncated": 15, "timeout": 3, "unverifiable": 2}, " (the teacher's references)"
    )
    assert "failed on 5.0% of the completions (the teacher's references), which count neither" in verifier
    assert "15.0% of the completions (the teacher's references) were cut off" in cut_off
    assert "`max_completion_length`" in cut_off


def test_clipping_in_training_is_advised_against_beyond_one_half() -> None:
    assert clipping_advice(0.5) is None
    assert "51% of the completions are cut off" in str(clipping_advice(0.51))
