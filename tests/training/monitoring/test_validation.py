"""Mean@k of held-out problems during training, against a count by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import validate_in_processes
from helpers.processes import run_forked, threads_left
from helpers.training import PROMPTS, problems
from paced_trl import Verdict
from paced_trl.training.monitoring.validation import Validation, check_validation


HELD_OUT = problems().select(range(5)).select_columns(["prompt", "solution"])


def test_copies_and_invalid_verdicts_do_not_count() -> None:
    validation = Validation(num_generations=3)
    validation.observe([4, 4, 4, 7, 7], ["passed", "failed", "timeout", "failed", "truncated"])
    validation.observe([9, 9, 7, 9, 4, 4], ["timeout", "unverifiable", "failed", "timeout", "passed", "passed"])
    # Problem 4: 1 of 2, problem 7: 0 of 3, problem 9: nothing valid.
    assert validation.metrics() == {"mean@3": 0.25, "pass@3": 0.5, "num_problems": 2}
    validation.clear()
    assert validation.metrics() == {}


def test_one_generation_needs_no_pass_at_k() -> None:
    validation = Validation(num_generations=1)
    validation.observe([0, 1], ["passed", "failed"])
    assert validation.metrics() == {"mean@1": 0.5, "num_problems": 2}


class CountingVerifier:
    """The n-th completion of problem i passes if n < i; problem 4's second one hangs."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.sizes: list[int] = []

    def __call__(self, completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
        self.sizes.append(len(completions))
        verdicts = []
        for text in prompt:
            number = self.seen[text] = self.seen.get(text, -1) + 1
            row = PROMPTS.index(text)
            hangs = row == 4 and number == 1
            verdicts.append(Verdict.TIMEOUT if hangs else Verdict.PASSED if number < row else Verdict.FAILED)
        return verdicts


def test_the_trainer_measures_mean_at_k(make_trainer: Callable) -> None:
    verifier = CountingVerifier()
    trainer = make_trainer(
        kl="forward",
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        num_validation_generations=3,
        per_device_eval_batch_size=4,
        trainer_kwargs={"eval_dataset": HELD_OUT, "verifier": verifier},
    )
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(evaluations) == 2
    # 0 of 3, 1 of 3, 2 of 3, 3 of 3, 2 of 2.
    assert evaluations[0]["eval_paced/mean@3"] == pytest.approx((0 + 1 / 3 + 2 / 3 + 1 + 1) / 5)
    assert evaluations[0]["eval_paced/pass@3"] == pytest.approx(4 / 5)
    assert evaluations[0]["eval_paced/num_problems"] == 5
    # Of the completions after the third, one passes: the fourth of problem 4.
    assert evaluations[1]["eval_paced/mean@3"] == pytest.approx(1 / 3 / 5)
    assert verifier.sizes == [4, 4, 4, 3] * 2
    assert set(verifier.seen.values()) == {5}


def test_several_sets_and_sets_given_later_are_told_apart(make_trainer: Callable) -> None:
    def passes_even(completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
        return [Verdict.FAILED if PROMPTS.index(text) % 2 else Verdict.PASSED for text in prompt]

    sets = {"three": HELD_OUT.select(range(3)), "two": HELD_OUT.select(range(2))}
    trainer = make_trainer(
        kl="forward",
        num_validation_generations=2,
        trainer_kwargs={"eval_dataset": sets, "verifier": passes_even},
    )
    metrics = trainer.evaluate(HELD_OUT.select([1]))
    assert (metrics["eval_paced/mean@2"], metrics["eval_paced/num_problems"]) == (0.0, 1)
    trainer.evaluate()
    three, two = trainer.state.log_history[1:]
    assert three["eval_paced/three/mean@2"] == pytest.approx(2 / 3) and two["eval_paced/two/mean@2"] == 0.5
    assert (three["eval_paced/three/num_problems"], two["eval_paced/two/num_problems"]) == (3, 2)


def test_without_a_verifier_there_is_the_loss_only(make_trainer: Callable) -> None:
    trainer = make_trainer(
        kl="forward", num_validation_generations=4, trainer_kwargs={"eval_dataset": HELD_OUT.select_columns("prompt")}
    )
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] > 0
    assert not any("@" in key for key in metrics)
    assert len(list(trainer._get_eval_sampler(HELD_OUT))) == 5


@pytest.mark.multiprocess
def test_two_processes_count_each_completion_once(tmp_path: Path) -> None:
    finished = run_forked(validate_in_processes.__file__, str(tmp_path / "result.json"), num_processes=2)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert threads_left(tmp_path / "result.json", 2) == [[], []]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["num_processes"] == 2
    # 15 completions in batches of 2 x 4: the loader fills up with one, which is verified and does not count.
    assert result["num_verified"] == 16
    assert result["counted"] == {str(row): 3 for row in range(5)}
    assert result["metrics"]["eval_paced/mean@3"] == pytest.approx(3 / 5)
    assert result["metrics"]["eval_paced/num_problems"] == 5


def with_ids(first: int, last: int) -> Any:
    dataset = problems().select(range(first, last))
    return dataset.add_column("problem_id", [str(row) for row in range(first, last)])


def test_validation_set_and_eval_strategy_belong_together() -> None:
    train, held_out = with_ids(0, 8), with_ids(8, 16)
    check_validation("no", train, {})
    check_validation("steps", train, {"validation": held_out})
    with pytest.raises(ValueError, match="`eval_strategy` is 'steps', and there are no held-out problems"):
        check_validation("steps", train, {})
    for name in ("validation", "retention"):
        with pytest.raises(ValueError, match=f"`{name}_set` is given, and `eval_strategy` is 'no'"):
            check_validation("no", train, {name: held_out})


def test_shared_problems_are_counted() -> None:
    with pytest.warns(UserWarning, match=r"2 of 4 problems of the validation set are training problems .*first '6'"):
        check_validation("epoch", with_ids(0, 8), {"validation": with_ids(6, 10)})


class ForgettingVerifier:
    """All pass until a number of verdicts have been given; from then on the odd problems fail."""

    def __init__(self, forgets_after: int) -> None:
        self.forgets_after = forgets_after
        self.given = 0

    def __call__(self, completions: list[str], solutions: list[str], *, prompt: list[str], **_: Any) -> list[Verdict]:
        forgets = self.given >= self.forgets_after
        self.given += len(completions)
        return [Verdict.FAILED if forgets and PROMPTS.index(text) % 2 else Verdict.PASSED for text in prompt]


@pytest.mark.parametrize(("max_forgetting", "last_step"), [(0.45, 3), (0.55, 4)])
def test_a_run_ends_when_too_much_is_forgotten(
    make_trainer: Callable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    max_forgetting: float,
    last_step: int,
) -> None:
    settings = {"kl": "forward", "max_steps": 4, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no"}
    sets = {"retention": HELD_OUT.select(range(4)), "validation": HELD_OUT.select(range(2))}
    # 6 verdicts at each evaluation, of which the first is of the untouched student: it forgets from the fourth on.
    trainer = make_trainer(
        output_dir=str(tmp_path / "run"),
        max_forgetting=max_forgetting,
        trainer_kwargs={"eval_dataset": sets, "verifier": ForgettingVerifier(18)},
        **settings,
    )
    trainer.train()
    key = "eval_paced/retention/mean@1"
    kept = [(entry["step"], entry[key]) for entry in trainer.state.log_history if key in entry]
    assert kept == [(step, 1.0 if step < 3 else 0.5) for step in range(last_step + 1)]
    ended = [
        message for message in caplog.messages if "ended at step 3 of 4: accuracy on the retention set" in message
    ]
    assert len(ended) == (last_step == 3)
    notes = tmp_path / "run/advice.json"
    assert (notes.exists() and "forgetting" in notes.read_text()) == (last_step == 3)


def test_forgetting_needs_something_to_measure_it_with(make_trainer: Callable) -> None:
    verifier = ForgettingVerifier(0)
    for given in (
        {"eval_dataset": HELD_OUT, "verifier": verifier},
        {"eval_dataset": {"retention": HELD_OUT}},
        {"eval_dataset": {"validation": HELD_OUT}, "verifier": verifier},
    ):
        with pytest.raises(
            ValueError, match=r"`max_forgetting` is 0\.1, and there is no retention set or no verifier"
        ):
            make_trainer(kl="forward", max_forgetting=0.1, trainer_kwargs=given)
    with pytest.raises(ValueError, match=r"`max_forgetting` is 1\.5, but it must be less than 1"):
        make_trainer(kl="forward", max_forgetting=1.5)
