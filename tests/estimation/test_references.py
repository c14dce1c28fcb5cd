"""References: the first verified completion of each problem, and an explicit fate for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation.references import generate_references, judge_references
from paced_trl.generation.completions import Completion
from paced_trl.store.store import PassRateStore


class ScriptedTeacher:
    """Answer each prompt with its own list of completions, one attempt after the other."""

    record = {"model": "teacher"}

    def __init__(self, script: dict[str, list[str | Completion]]):
        self.script = {prompt: list(answers) for prompt, answers in script.items()}
        self.attempts: Counter[str] = Counter()

    def __call__(
        self, prompts: Sequence[str], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index, prompt in enumerate(prompts):
            count = num_generations if isinstance(num_generations, int) else num_generations[index]
            answers = [self.script[prompt][self.attempts[prompt] + number] for number in range(count)]
            self.attempts[prompt] += count
            yield index, [a if isinstance(a, Completion) else Completion(a, len(a) + 1, "stop") for a in answers]


def contains_verifier(completions: Sequence[str], solutions: Sequence[str], **columns: Any) -> list[str]:
    """Pass a completion that contains the solution."""
    return ["passed" if gold in text else "failed" for text, gold in zip(completions, solutions, strict=True)]


SCRIPT: dict[str, list[str | Completion]] = {
    "p0": ["= p0", "never"],
    "p1": ["wrong", "so p1", "never"],
    "p2": ["bad a", "bad b", "bad c", "never"],
    "p3": ["", " \n", "p3!", "never"],
}


def references(
    path: Path, teacher: Any, verifier: Any = contains_verifier, problems: Any = None, **options: Any
) -> Dataset:
    return generate_references(
        make_problems(4) if problems is None else problems,
        teacher,
        verifier,
        store=path,
        **{"num_attempts": 3, "progress": False, **options},
    )


@pytest.mark.parametrize(
    ("unsolved", "expected"),
    [
        ("drop", {"p0": "= p0", "p1": "so p1", "p3": "p3!"}),
        ("solution", {"p0": "= p0", "p1": "so p1", "p2": "p2", "p3": "p3!"}),
        ("keep", {"p0": "= p0", "p1": "so p1", "p2": "bad a", "p3": "p3!"}),
    ],
)
def test_the_first_verified_completion_wins(tmp_path: Path, unsolved: str, expected: dict[str, str]) -> None:
    problems = [{**problem, "level": index} for index, problem in enumerate(make_problems(4))]
    teacher = ScriptedTeacher(SCRIPT)
    dataset = references(tmp_path, teacher, problems=problems, unsolved=unsolved)
    assert dict(zip(dataset["prompt"], dataset["reference"], strict=True)) == expected
    assert dataset.column_names == ["problem_id", "prompt", "solution", "level", "reference"]
    assert dataset["level"][:] == [int(prompt[1:]) for prompt in expected]
    # Another attempt only for what is unsolved.
    assert teacher.attempts == {"p0": 1, "p1": 2, "p2": 3, "p3": 3}


def test_a_rerun_generates_nothing_and_more_attempts_only_for_the_unsolved(tmp_path: Path) -> None:
    first = references(tmp_path, ScriptedTeacher(SCRIPT))
    rerun = ScriptedTeacher(SCRIPT)
    assert references(tmp_path, rerun).to_list() == first.to_list()
    assert rerun.attempts == {}
    more = ScriptedTeacher({"p2": ["p2 at last"]})
    dataset = references(tmp_path, more, num_attempts=4)
    assert dataset["reference"][:] == ["= p0", "so p1", "p2 at last", "p3!"]
    assert more.attempts == {"p2": 1}


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    def interrupt(answered: int) -> None:
        if answered == 45:
            raise KeyboardInterrupt

    problems, rates = make_problems(40), {f"p{index}": 0.7 for index in range(40)}
    options: dict[str, Any] = {"problems": problems, "num_attempts": 4, "slice_size": 8}
    whole = references(tmp_path / "whole", FakeGenerator(rates), exact_verifier, **options)
    with pytest.raises(KeyboardInterrupt):
        references(tmp_path / "parts", FakeGenerator(rates, before_prompt=interrupt), exact_verifier, **options)
    assert 40 <= sum(PassRateStore(tmp_path / "parts").num_generations().values()) <= 45
    assert references(tmp_path / "parts", FakeGenerator(rates), exact_verifier, **options).to_list() == whole.to_list()
    counts = [PassRateStore(tmp_path / name).num_generations() for name in ("whole", "parts")]
    assert counts[0] == counts[1]


def test_a_completion_that_was_cut_off_comes_last(tmp_path: Path) -> None:
    cut = Completion("p0 and on and", 4, "length")
    teacher = ScriptedTeacher({"p0": [cut], "p1": ["no", Completion("p1 and", 3, "length")]})
    problems = make_problems(2)
    # Verified although it was cut off, it counts as solved: there is no second attempt.
    assert references(tmp_path, teacher, problems=problems)["reference"][:] == ["p0 and on and", "p1 and"]
    assert teacher.attempts == {"p0": 1, "p1": 2}
    with PassRateStore(tmp_path).writing() as store:
        [row] = store.completions(["id-0"]).to_pylist()
        store.append([{**row, "generation_index": 1, "completion": "p0.", "finish_reason": "stop"}])
    assert references(tmp_path, teacher, problems=problems)["reference"][:] == ["p0.", "p1 and"]


def test_an_empty_completion_is_no_reference_even_if_it_passes(tmp_path: Path) -> None:
    script: dict[str, list[str | Completion]] = {"p0": ["", "\n", "p0"], "p1": [" ", "", ""]}

    def lenient(completions: Sequence[str], solutions: Sequence[str], **columns: Any) -> list[str]:
        return ["passed"] * len(completions)

    dataset = references(tmp_path / "a", ScriptedTeacher(script), lenient, problems=make_problems(2))
    assert dict(zip(dataset["prompt"], dataset["reference"], strict=True)) == {"p0": "p0"}
    script = {"p0": ["", "bad"], "p1": ["p1"]}
    options: dict[str, Any] = {"problems": make_problems(2), "num_attempts": 2, "unsolved": "keep"}
    dataset = references(tmp_path / "b", ScriptedTeacher(script), **options)
    assert dataset["reference"][:] == ["bad", "p1"]


def test_an_old_reference_column_is_replaced(tmp_path: Path) -> None:
    problems = [{**problem, "reference": "old"} for problem in make_problems(1)]
    assert references(tmp_path, ScriptedTeacher(SCRIPT), problems=problems)["reference"][:] == ["= p0"]


@pytest.mark.parametrize("unsolved", ["drop", "solution", "keep"])
def test_problems_with_an_unusable_gold_are_dropped_under_every_policy(tmp_path: Path, unsolved: str) -> None:
    class Verifier:
        def check_solutions(self, solutions: list[str], **columns: Any) -> list[str]:
            return ["unverifiable" if solution == "p1" else "passed" for solution in solutions]

        def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
            return contains_verifier(completions, solutions)

    teacher = ScriptedTeacher(SCRIPT)
    with pytest.warns(UserWarning, match="1 of 2 problems are left out"):
        dataset = references(tmp_path, teacher, Verifier(), problems=make_problems(2), unsolved=unsolved)
    assert dataset["prompt"][:] == ["p0"]
    assert teacher.attempts == {"p0": 1}


def test_a_teacher_that_solves_little_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script: dict[str, list[str | Completion]] = {f"p{index}": ["wrong"] * 3 for index in range(4)} | {"p3": ["p3"]}
    message = r"solved 1 of 4 problems \(25.0%\) in at most 3 attempts; 75.0% stayed unsolved and were dropped"
    with pytest.warns(UserWarning, match=message):
        dataset = references(tmp_path / "a", ScriptedTeacher(script), progress=True)
    assert dataset["reference"][:] == ["p3"]
    assert "1 problems have a reference" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"solved 0 of 3 problems.*0 problems have a reference.*stronger teacher"):
        references(tmp_path / "b", ScriptedTeacher(script), problems=make_problems(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unsolved": "discard"}, "`unsolved` is 'discard'; it can be: drop, solution, keep"),
        ({"num_attempts": 0}, "`num_attempts` is 0"),
        (
            {"unsolved": "solution", "problems": [{"problem_id": "a", "prompt": "p0", "solution": 42}]},
            "solution in row 0 is 42, which is no text",
        ),
        ({"problems": [*make_problems(1), *make_problems(1)]}, "same `problem_id`"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    teacher = ScriptedTeacher(SCRIPT)
    with pytest.raises(ValueError, match=message):
        references(tmp_path / "store", teacher, **options)
    assert not teacher.attempts and not (tmp_path / "store").exists()


def brought(*texts: str | None) -> Dataset:
    rows = [{**row, "reference": text} for row, text in zip(make_problems(len(texts)), texts, strict=True)]
    return Dataset.from_list(rows)


@pytest.mark.parametrize(
    ("unsolved", "kept", "fate"),
    [
        ("drop", {"p0": "= p0", "p3": "p3!"}, "were dropped"),
        ("solution", {"p0": "= p0", "p1": "p1", "p2": "p2", "p3": "p3!"}, "got their solution as reference"),
        ("keep", {"p0": "= p0", "p1": "wrong", "p2": None, "p3": "p3!"}, "kept a completion that failed"),
    ],
)
def test_references_of_the_user_are_judged(unsolved: str, kept: dict[str, Any], fate: str) -> None:
    with pytest.warns(
        UserWarning, match=rf"2 of the 4 references .* pass the verifier; 2 do not \(2 failed\) and {fate}"
    ):
        judged = judge_references(brought("= p0", "wrong", None, "p3!"), contains_verifier, unsolved=unsolved)
    assert dict(zip(judged["prompt"], judged["reference"], strict=True)) == kept
    assert judged["problem_id"][:] == [f"id-{prompt[1:]}" for prompt in kept]


def test_references_that_all_pass_are_left_alone(recwarn: pytest.WarningsRecorder) -> None:
    assert judge_references(brought("p0", "p1"), contains_verifier).to_list() == brought("p0", "p1").to_list()
    assert not recwarn.list


def test_references_that_nobody_can_judge_are_said_to_be_unverified() -> None:
    with pytest.warns(
        UserWarning, match="2 references of the data are trained on unverified, because there is no verif"
    ):
        assert len(judge_references(brought("a", "b"), None)) == 2
    with pytest.warns(UserWarning, match="unverified, because there is no solution"):
        judge_references(brought("a").remove_columns("solution"), contains_verifier)
    with pytest.raises(ValueError, match=r"0 of the 1 references .*No reference is left"):
        judge_references(brought("a"), contains_verifier)
    with pytest.raises(ValueError, match="`unsolved` is 'discard'"):
        judge_references(brought("a"), contains_verifier, unsolved="discard")
