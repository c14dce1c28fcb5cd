"""
Whether a student with privileged context is a better teacher than the student without: measured on a few problems.

One completion per problem from each, kept on disk. A teacher that passes no more often, or answers in another form,
makes the student worse, and no number of steps changes that.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset

from ...estimation.pass_rates import estimate_pass_rates
from ...generation.completions import Generator
from ...generation.engines import closing_generator
from ...processes import Processes
from ...run_directory import write_json
from ...store.store import PassRateStore
from ...text import in_percent, one_line
from ...weighting.counts import pass_rates
from ..monitoring.advice import MAX_SHARE_OF_FIRST
from ..teacher_prompt import teacher_prompt


if TYPE_CHECKING:
    from ...estimation.protocols import VerifierLike

_SAMPLE = "sample.json"
_MAX_CHARACTERS = 400


@dataclass(frozen=True)
class SelfTeacherSample:
    """What student and self-teacher did on the same problems: mean@1 and mean completion length in tokens of both."""

    num_problems: int  # with a valid verdict on both sides
    student: float
    teacher: float
    student_length: float
    teacher_length: float
    example: dict[str, str]  # the teacher's prompt, and both completions
    template: str

    def __str__(self) -> str:
        """Return the numbers and the two completions, one below the other."""
        return (
            f"Self-teacher on {self.num_problems} problems: mean@1 {self.teacher:.3f} with its context, "
            f"{self.student:.3f} without; {self.teacher_length:.0f} and {self.student_length:.0f} tokens."
        ) + "".join(f"\n  {name}: {one_line(text, _MAX_CHARACTERS)}" for name, text in self.example.items())


def sample_self_teacher(
    problems: Dataset,
    load: Callable[[], Generator],
    verifier: VerifierLike,
    *,
    student: str,
    template: str,
    store: Path,
    num_problems: int = 64,
    seed: int = 0,
) -> SelfTeacherSample:
    """Let the student, which `load` makes, complete some problems with and without their privileged context."""
    chosen = sorted(np.random.default_rng(seed).permutation(len(problems))[:num_problems].tolist())
    problems = problems.select(chosen)
    prompts = [
        teacher_prompt(prompt, context, template)
        for prompt, context in zip(problems["prompt"], problems["privileged_context"], strict=True)
    ]
    taught = Dataset.from_list([{**row, "prompt": prompt} for row, prompt in zip(problems, prompts, strict=True)])
    digest = hashlib.sha256(repr((student, seed, problems[:], template)).encode()).hexdigest()[:12]
    store = store / digest  # each template and student have their own
    if (store / _SAMPLE).exists():
        return SelfTeacherSample(**json.loads((store / _SAMPLE).read_text(encoding="utf-8")))
    columns = ["problem_id", "completion", "num_tokens"]
    rates, lengths, first = {}, {}, {}
    with closing_generator(load()) as generator:
        for side, rows in (("student", problems), ("teacher", taught)):
            table = estimate_pass_rates(
                rows, generator, verifier, store=store / side, num_generations=1, seed=seed, progress=False
            )
            rates[side] = pass_rates(table["num_passed"], table["num_valid"])
            completions = PassRateStore(store / side).completions(table["problem_id"], columns=columns).to_pylist()
            lengths[side] = float(np.mean([row["num_tokens"] for row in completions]))
            first[side] = next(row["completion"] for row in completions if row["problem_id"] == table["problem_id"][0])
    if {"num_passed", "num_valid"} <= set(problems.column_names):  # measured with more generations
        rates["student"] = pass_rates(problems["num_passed"], problems["num_valid"])
    both = ~np.isnan(rates["student"] + rates["teacher"])
    if not both.any():
        raise ValueError(
            f"None of {len(problems)} problems has a valid verdict with and without `privileged_context`, so whether "
            "it helps is unknown. Try the verifier with `paced-trl verify`."
        )
    sample = SelfTeacherSample(
        num_problems=int(both.sum()),
        student=float(rates["student"][both].mean()),
        teacher=float(rates["teacher"][both].mean()),
        student_length=lengths["student"],
        teacher_length=lengths["teacher"],
        example={
            "teacher's prompt": prompts[0] if isinstance(prompts[0], str) else prompts[0][-1]["content"],
            "teacher": first["teacher"],
            "student": first["student"],
        },
        template=template,
    )
    if Processes.current().is_main:
        write_json(store / _SAMPLE, asdict(sample))
    return sample


def check_self_teacher(sample: SelfTeacherSample, *, force: bool = False) -> None:
    """Refuse a self-teacher that passes no more often than the student, unless forced; warn of a wordier one."""
    if sample.teacher <= sample.student and not force:
        raise ValueError(
            f"With its `privileged_context` the student passes {in_percent(sample.teacher)} of {sample.num_problems} "
            f"problems, and {in_percent(sample.student)} without, so it would learn nothing good from itself. Try "
            f"another `privileged_template` (now {sample.template!r}) or a context that helps more, or train all the "
            "same with `--force true`."
        )
    if sample.teacher_length > MAX_SHARE_OF_FIRST * sample.student_length:
        warnings.warn(
            f"With its `privileged_context` the student answers in {sample.teacher_length:.0f} tokens on average, in "
            f"{sample.student_length:.0f} without, and will learn the longer form. A `privileged_template` that asks "
            "for nothing, such as '{prompt} ({privileged_context})', changes it least.",
            stacklevel=2,
        )
