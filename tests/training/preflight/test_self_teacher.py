"""A student with privileged context against the student without, before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from datasets import Dataset

from helpers.fakes import exact_verifier
from paced_trl.generation.completions import Completion
from paced_trl.training.paced_settings import DEFAULT_TEMPLATE
from paced_trl.training.preflight.self_teacher import check_self_teacher, sample_self_teacher


class Student:
    """Knows even problems; told the answer in brackets it knows `taught` of ten, in `length` tokens."""

    record: ClassVar[dict[str, Any]] = {"model": "student"}

    def __init__(self, taught: int, length: int = 3) -> None:
        self.taught, self.length, self.calls = taught, length, 0

    def __call__(
        self, prompts: Sequence[Any], num_generations: int | Sequence[int], *, seed: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index, prompt in enumerate(prompts):
            self.calls += 1
            text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            problem, _, hint = text.partition(" (")
            number = int(problem.split()[-1])
            knows = number % 10 < self.taught if hint else number % 2 == 0
            answer = str(number) if knows else "no idea"
            yield index, [Completion(answer, self.length if hint else 3, "stop")]


def problems(count: int = 40, *, chat: bool = False, **columns: Any) -> Dataset:
    texts = [f"What is {number}" for number in range(count)]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": text}] for text in texts] if chat else texts,
            "solution": [str(number) for number in range(count)],
            "privileged_context": [str(number) for number in range(count)],
            **columns,
        }
    )


def sample(
    directory: Path, student: Student, dataset: Dataset | None = None, student_name: str = "student", **options: Any
) -> Any:
    settings = {"template": DEFAULT_TEMPLATE, "store": directory / "self_teacher", "student": student_name, **options}
    return sample_self_teacher(problems() if dataset is None else dataset, lambda: student, exact_verifier, **settings)


@pytest.mark.parametrize("chat", [False, True])
def test_both_are_measured_on_the_same_problems(tmp_path: Path, chat: bool) -> None:
    student = Student(taught=8, length=5)
    found = sample(tmp_path, student, problems(chat=chat))
    assert (found.num_problems, found.student, found.teacher) == (40, 0.5, 0.8)
    assert (found.student_length, found.teacher_length) == (3.0, 5.0)
    assert found.example == {"teacher's prompt": "What is 0 (0)", "teacher": "0", "student": "0"}
    check_self_teacher(found)
    assert "mean@1 0.800 with its context, 0.500 without; 5 and 3 tokens" in str(found)
    assert "  teacher's prompt: What is 0 (0)\n  teacher: 0\n  student: 0" in str(found)


def test_nothing_is_generated_twice_and_templates_are_kept_apart(tmp_path: Path) -> None:
    student = Student(taught=8)
    first = sample(tmp_path, student, num_problems=10)
    assert student.calls == 20 and sample(tmp_path, student, num_problems=10) == first and student.calls == 20
    other = sample(tmp_path, student, num_problems=10, template="{prompt} (it is {privileged_context})")
    assert student.calls == 40 and other.example["teacher's prompt"].endswith("(it is 1)")
    assert first.num_problems == 10
    assert sample(tmp_path, student, num_problems=10, student_name="another") is not None and student.calls == 60


def test_measured_pass_rates_stand_for_the_student(tmp_path: Path) -> None:
    counted = problems(num_passed=[6] * 39 + [0], num_valid=[8] * 39 + [0])
    found = sample(tmp_path, Student(taught=8), counted)
    assert (found.num_problems, found.student) == (39, 0.75)


@pytest.mark.parametrize("taught", [5, 3])
def test_a_teacher_that_is_no_better_is_refused_unless_forced(tmp_path: Path, taught: int) -> None:
    found = sample(tmp_path, Student(taught=taught))
    message = rf"passes {taught * 10}.0% of 40 problems, and 50.0% without.*`privileged_template`.*`--force true`"
    with pytest.raises(ValueError, match=message):
        check_self_teacher(found)
    check_self_teacher(found, force=True)


def test_a_wordier_teacher_is_warned_about(tmp_path: Path) -> None:
    check_self_teacher(sample(tmp_path / "same", Student(taught=9, length=6)))
    with pytest.warns(UserWarning, match="answers in 7 tokens on average, in 3 without"):
        check_self_teacher(sample(tmp_path / "longer", Student(taught=9, length=7)))


def test_verdicts_that_say_nothing_are_refused(tmp_path: Path) -> None:
    def never(completions: Sequence[str], solutions: Sequence[Any], **_: Any) -> list[str]:
        return ["timeout"] * len(completions)

    with pytest.raises(ValueError, match="None of 40 problems has a valid verdict with and without"):
        sample_self_teacher(
            problems(),
            lambda: Student(taught=9),
            never,
            student="student",
            template=DEFAULT_TEMPLATE,
            store=tmp_path / "self_teacher",
        )
