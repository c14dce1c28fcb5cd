"""The schedule as a pure function of the step."""

from __future__ import annotations

import random

import pytest

from paced_trl.training.schedule import JSD_COEFFICIENT, Flattening, completion_source_for, kl_at_step, stages


@pytest.mark.parametrize(
    ("kl_switch", "num_forward"), [(0.0, 0), (0.25, 2), (0.5, 5), (1.0, 10), (2.0, 2), (7, 7), (30, 10)]
)
def test_forward_steps_come_first_and_are_as_many_as_the_switch_says(kl_switch: float, num_forward: int) -> None:
    run = [kl_at_step(step, kl="forward_then_reverse", max_steps=10, kl_switch=kl_switch) for step in range(10)]
    assert run == ["forward"] * num_forward + ["reverse"] * (10 - num_forward)


@pytest.mark.parametrize("kl", ["forward", "reverse", "jsd", "akl"])
def test_one_divergence_stays(kl: str) -> None:
    assert {kl_at_step(step, kl=kl, max_steps=5) for step in range(5)} == {kl}


def test_stages_without_steps_are_left_out() -> None:
    assert stages("forward_then_reverse", 0.0) == ("reverse",)
    assert stages("forward_then_reverse", 1.0) == ("forward",)
    assert stages("forward_then_reverse", 0.3) == stages("forward_then_reverse", 3) == ("forward", "reverse")


def test_auto_source_follows_the_divergence() -> None:
    assert completion_source_for("forward") == completion_source_for("akl") == "dataset"
    assert completion_source_for("reverse") == completion_source_for("jsd") == "student"
    assert completion_source_for("forward", "student") == "student"


def test_names_stand_for_trl_s_coefficients() -> None:
    assert JSD_COEFFICIENT == {"forward": 0.0, "reverse": 1.0, "jsd": 0.5}


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'backward', which names no divergence. Choose one of forward"):
        kl_at_step(0, kl="backward", max_steps=1)
    with pytest.raises(ValueError, match="'teacher', which names no source"):
        completion_source_for("forward", "teacher")


def naive_flat_at(values: list[float], patience: int, threshold: float) -> int | None:
    """The first log that ends `patience` logs none of which is below the best before them."""
    best = [values[0]]
    flat = 0
    for index, value in enumerate(values[1:], start=1):
        is_better = value < best[-1] * (1 - threshold)
        best += [value] if is_better else []
        flat = 0 if is_better else flat + 1
        if flat == patience:
            return 10 * (index + 1)
    return None


def history(values: list[float]) -> list[dict[str, float]]:
    """Logs every ten steps, with what else a trainer logs between them."""
    logs = [{"step": 10 * (index + 1), "paced/forward_kl": value, "loss": 0.0} for index, value in enumerate(values)]
    return [part for entry in logs for part in (entry, {"step": entry["step"], "eval_loss": 1.0})]


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([3.0, 2.0, 1.0, 0.5], 1, None),
        ([3.0, 2.0, 2.0, 1.0], 1, 30),
        ([3.0, 2.0, 2.0, 1.0], 2, None),
        ([2.0, 1.995, 1.99, 1.985, 1.97, 1.965], 3, 40),  # less than one per cent each
        ([2.0, 1.99, 1.97, 1.96, 1.93], 3, None),  # but not together
        ([2.0, 2.5, 1.9, 2.5, 2.5], 2, 50),
        ([], 1, None),
    ],
)
def test_flattening_is_patience_logs_without_improvement(
    values: list[float], patience: int, expected: int | None
) -> None:
    assert Flattening(patience, 0.01).flat_at(history(values)) == expected
    if values:
        assert naive_flat_at(values, patience, 0.01) == expected


def test_flattening_read_log_by_log_is_that_of_the_whole_history() -> None:
    rng = random.Random(0)
    found = set()
    for _ in range(200):
        values = [2.0 * 0.97**index * rng.uniform(0.95, 1.05) for index in range(40)]
        log: list[dict[str, float]] = []
        followed = Flattening(3, 0.02)
        for entry in history(values):
            log.append(entry)
            at_once = Flattening(3, 0.02).flat_at(list(log))
            assert followed.flat_at(log) == followed.flat_at(log) == at_once
        expected = naive_flat_at(values, 3, 0.02)
        assert followed.flat_at(log) == expected
        # A resumed run brings another history, here a shorter one.
        assert followed.flat_at(log[:20]) == Flattening(3, 0.02).flat_at(log[:20])
        found.add(expected)
    assert len(found) > 5


def test_a_flat_divergence_switches_earlier_but_never_later() -> None:
    def run(flat_at: int | None) -> list[str]:
        return [kl_at_step(s, kl="forward_then_reverse", max_steps=10, flat_at=flat_at) for s in range(10)]

    assert run(3) == ["forward"] * 3 + ["reverse"] * 7
    assert run(8) == run(None) == ["forward"] * 5 + ["reverse"] * 5
