"""Pass rates that follow the student, against a list of all observations."""

from __future__ import annotations

import numpy as np
import pytest

from paced_trl.training.online_pass_rates import OnlinePassRates
from paced_trl.verification.verdict import VALID_VERDICTS, Verdict
from paced_trl.weighting.kernel import kernel_estimates
from paced_trl.weighting.weights import problem_weights


IDS = [f"p{i}" for i in range(30)]
PASSED = np.arange(30) % 9
VALID = np.full(30, 8)


def random_observations(rates: OnlinePassRates, seed: int) -> list[tuple[int, int, Verdict]]:
    """Feed random batches; return all observations as (row, step, verdict)."""
    rng = np.random.default_rng(seed)
    log = []
    step = 0
    for _ in range(40):
        step += int(rng.integers(0, 4))
        rows = rng.integers(0, 25, 12)
        verdicts = [list(Verdict)[code] for code in rng.integers(0, 6, 12)]
        rates.observe([IDS[row] for row in rows], verdicts, step)
        log += [(int(row), step, verdict) for row, verdict in zip(rows, verdicts, strict=True)]
    return log


@pytest.mark.parametrize("half_life", [5.0, 50.0, float("inf")])
def test_counts_are_the_discounted_sums_of_all_observations(half_life: float) -> None:
    rates = OnlinePassRates(IDS, PASSED, VALID, half_life=half_life)
    log = random_observations(rates, seed=0)
    passed, valid = (np.array(values, dtype=float) * 0.5 ** (rates.step / half_life) for values in (PASSED, VALID))
    for row, step, verdict in log:
        share = 0.5 ** ((rates.step - step) / half_life)
        passed[row] += share * (verdict is Verdict.PASSED)
        valid[row] += share * (verdict in VALID_VERDICTS)
    np.testing.assert_allclose(rates.counts(), (passed, valid), rtol=1e-9)
    np.testing.assert_allclose(rates.pass_rates(), passed / valid)
    kernel = (passed / valid) * (1 - passed / valid)
    np.testing.assert_allclose(rates.weights(), kernel / kernel.mean())


def test_without_observations_the_weights_are_those_of_the_table() -> None:
    for weighting in ({}, {"estimator": "posterior"}, {"kind": "hard_filter"}, {"weight_alpha": 2.0}):
        rates = OnlinePassRates(IDS, PASSED, VALID, weighting=weighting)
        np.testing.assert_allclose(rates.weights(), problem_weights(PASSED, VALID, **weighting))
    rates.observe([], [], step=1000)
    np.testing.assert_allclose(rates.weights(), problem_weights(PASSED, VALID, weight_alpha=2.0))


def test_faded_evidence_returns_to_the_prior() -> None:
    rates = OnlinePassRates(IDS, PASSED, VALID, half_life=1.0, weighting={"estimator": "posterior", "gate": False})
    prior = rates._fitted_prior(*rates.counts())
    rates.observe([], [], step=60)
    spread = np.ptp(rates.weights())
    assert spread < 0.02 < 0.5 < np.ptp(problem_weights(PASSED, VALID, estimator="posterior", gate=False))
    expected = kernel_estimates(*rates.counts(), estimator="posterior", gate=False, prior=prior)
    np.testing.assert_allclose(rates.weights(), expected / expected.mean())


@pytest.mark.parametrize("weighting", [{}, {"estimator": "posterior"}])
def test_a_loaded_state_goes_on_as_the_saved_one(weighting: dict) -> None:
    rates = OnlinePassRates(IDS, PASSED, VALID, half_life=7.0, weighting=weighting)
    random_observations(rates, seed=1)
    rates.weights()
    state = {name: np.asarray(value) for name, value in rates.state_dict().items()}
    other = OnlinePassRates(IDS, np.zeros(30), np.ones(30), half_life=7.0, weighting=weighting)
    other.load_state_dict(state)
    for which in (rates, other):
        which.observe(["p3", "p4"], ["passed", "failed"], step=500)
    np.testing.assert_array_equal(other.weights(), rates.weights())
    assert other.metrics() == rates.metrics()
    rates.observe(["p3"], ["passed"], step=501)
    assert state["num_valid"][3] != rates.num_valid[3], "a state is a copy"


def test_metrics_are_their_definitions() -> None:
    rates = OnlinePassRates(["a", "b", "c", "d"], [0, 2, 4, 0], [4, 4, 4, 0], half_life=10.0)
    rates.observe(["b", "b"], ["passed", "timeout"], step=10)
    metrics = rates.metrics()
    assert metrics["pass_rate"] == pytest.approx((0 + (1 + 1) / (2 + 1) + 1) / 3)
    assert (metrics["frontier"], metrics["mastered"], metrics["out_of_reach"]) == (0.25, 0.25, 0.25)
    assert metrics["staleness"] == 7.5
    assert metrics["evidence"] == pytest.approx((2 + 3 + 2 + 0) / 4)


def test_verdicts_that_are_not_valid_are_no_observation() -> None:
    rates = OnlinePassRates(["a"], [1], [2], half_life=1.0)
    rates.observe(["a", "a"], [Verdict.TIMEOUT, Verdict.UNVERIFIABLE], step=3)
    assert rates.metrics()["staleness"] == 3.0 and rates.num_observed == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], [1, 2], [2, 2]), "Got 1 problem ids and 2 counts"),
        ((["a", "a"], [1, 2], [2, 2]), "An id occurs twice"),
        ((["a"], [0.5], [2]), "`num_passed` is 0.5"),
    ],
)
def test_tables_that_cannot_be_followed_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlinePassRates(*arguments)


def test_settings_and_observations_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="`half_life` is 0"):
        OnlinePassRates(["a"], [1], [2], half_life=0)
    with pytest.raises(ValueError, match="'unbiased', which needs whole counts"):
        OnlinePassRates(["a"], [1], [2], weighting={"estimator": "unbiased"})
    rates = OnlinePassRates(["a"], [1], [2])
    rates.observe(["a"], ["passed"], step=5)
    for ids, verdicts, step, message in (
        (["a"], [], 5, "Got 1 problem ids and 0 verdicts"),
        (["a"], ["passed"], 4, "`step` is 4, after 5"),
        (["b"], ["passed"], 6, "There is no problem 'b' among the 1"),
        (["a"], ["correct"], 6, "'correct' is not a valid Verdict"),
    ):
        with pytest.raises(ValueError, match=message):
            rates.observe(ids, verdicts, step)
    with pytest.raises(ValueError, match="counts of 2 problems, and 1 problems are followed"):
        rates.load_state_dict(OnlinePassRates(["a", "b"], [1, 1], [2, 2]).state_dict())
    with pytest.raises(ValueError, match="The state has no counts"):
        rates.load_state_dict({})
