"""The schedule as a pure function of the step."""

from __future__ import annotations

import pytest

from paced_trl.training.schedule import JSD_COEFFICIENT, completion_source_for, kl_at_step, stages


@pytest.mark.parametrize(
    ("kl_switch", "num_forward"), [(0.0, 0), (0.25, 2), (0.5, 5), (1.0, 10), (2.0, 2), (7, 7), (30, 10)]
)
def test_forward_steps_come_first_and_are_as_many_as_the_switch_says(kl_switch: float, num_forward: int) -> None:
    run = [kl_at_step(step, kl="forward_then_reverse", max_steps=10, kl_switch=kl_switch) for step in range(10)]
    assert run == ["forward"] * num_forward + ["reverse"] * (10 - num_forward)


@pytest.mark.parametrize("kl", ["forward", "reverse", "jsd", "akl", "cross_entropy"])
def test_one_divergence_stays(kl: str) -> None:
    assert {kl_at_step(step, kl=kl, max_steps=5) for step in range(5)} == {kl}


def test_stages_without_steps_are_left_out() -> None:
    assert stages("forward_then_reverse", 0.0) == ("reverse",)
    assert stages("forward_then_reverse", 1.0) == ("forward",)
    assert stages("forward_then_reverse", 0.3) == stages("forward_then_reverse", 3) == ("forward", "reverse")


def test_auto_source_follows_the_divergence() -> None:
    assert completion_source_for("forward") == completion_source_for("akl") == "dataset"
    assert completion_source_for("cross_entropy") == "dataset"
    assert completion_source_for("reverse") == completion_source_for("jsd") == "student"
    assert completion_source_for("forward", "student") == "student"


def test_names_stand_for_trl_s_coefficients() -> None:
    assert JSD_COEFFICIENT == {"forward": 0.0, "reverse": 1.0, "jsd": 0.5}


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'backward', which names no divergence. Choose one of forward"):
        kl_at_step(0, kl="backward", max_steps=1)
    with pytest.raises(ValueError, match="'teacher', which names no source"):
        completion_source_for("forward", "teacher")
