"""
Write the recipe's problems: one-line arithmetic that SmolLM2-135M-Instruct solves some of the time.

Five files of JSON lines; the first four have the columns `problem_id`, `prompt`, `solution`, `reference` (a worked
answer in the format of the few-shot examples) and `family`:

- `train.jsonl`, `dev.jsonl` and `test.jsonl`: additions and subtractions, plain, as stories and from reasoning-gym.
  They are split by fact and not by wording: where 6 + 7 is held out, so are 7 + 6 and every story about 6 and 7
  things. The facts of the few-shot examples are in none.
- `retention.jsonl`: the multiplication table, which the student knows and the training problems do not contain.
- `teacher/train.jsonl`: the worked answers of the training problems (`prompt`, `completion`, with the few-shot
  turns), from which `trl sft` makes the teacher.

The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import reasoning_gym


Fact = tuple[str, int, int]
FEW_SHOT_FACTS: set[Fact] = {("+", 3, 4), ("-", 9, 5), ("+", 2, 8)}
# Share of the facts in each split, and how many problems are drawn from them by default.
SPLITS = {"test": (0.25, 80), "dev": (0.15, 40), "train": (0.6, 256)}

NAMES = ("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Ivy", "Jack")
THINGS = ("apples", "books", "coins", "marbles", "stickers", "pencils", "shells", "cards", "balloons", "stamps")
STORIES = {
    "+": (
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have?",
        "There are {a} {things} in a box and {b} {things} in a bag. How many {things} are there in total?",
    ),
    "-": (
        "{name} has {a} {things} and gives away {b}. How many {things} are left?",
        "There are {a} {things} on the table. {name} takes {b} of them. How many {things} remain?",
    ),
}


@dataclass(frozen=True)
class Problem:
    """A question about `a` and `b`; `operator` is one of `+`, `-` and `*`."""

    prompt: str
    operator: str
    a: int
    b: int

    @property
    def solution(self) -> int:
        """The answer."""
        return {"+": self.a + self.b, "-": self.a - self.b, "*": self.a * self.b}[self.operator]

    @property
    def worked_answer(self) -> str:
        """The answer in the format of the few-shot examples."""
        return f"{self.a} {self.operator} {self.b} = {self.solution}"

    @property
    def fact(self) -> Fact:
        """What the problem rests on, whatever its wording; a sum in either order is one fact."""
        low, high = (self.a, self.b) if self.operator == "-" else sorted((self.a, self.b))
        return self.operator, low, high


def question(operator: str, first: range, second: range) -> Callable[[random.Random], Problem]:
    """Return a function that draws plain questions about two numbers."""

    def draw(rng: random.Random) -> Problem:
        a, b = rng.choice(first), rng.choice(second)
        return Problem(f"What is {a} {operator} {b}?", operator, a, b)

    return draw


def story(operator: str, first: range, second: range) -> Callable[[random.Random], Problem]:
    """Return a function that draws one-step word problems."""

    def draw(rng: random.Random) -> Problem:
        a, b = rng.choice(first), rng.choice(second)
        prompt = rng.choice(STORIES[operator]).format(name=rng.choice(NAMES), things=rng.choice(THINGS), a=a, b=b)
        return Problem(prompt, operator, a, b)

    return draw


def basic_arithmetic(rng: random.Random) -> Problem:
    """Draw a problem of reasoning-gym's `basic_arithmetic` with two terms of one digit."""
    dataset = reasoning_gym.create_dataset(
        "basic_arithmetic",
        size=1,
        seed=rng.randrange(2**31),
        min_terms=2,
        max_terms=2,
        min_digits=1,
        max_digits=1,
        operators=("+", "-"),
        allow_parentheses=False,
        allow_negation=False,
    )
    a, operator, b = dataset[0]["metadata"]["expression"].split()
    return Problem(dataset[0]["question"], operator, int(a), int(b))


# Name: share of the rows, and how a problem is drawn. What the untouched student makes of each stands in README.md.
FAMILIES: dict[str, tuple[int, Callable[[random.Random], Problem]]] = {
    "add_1": (4, question("+", range(2, 10), range(2, 10))),
    "add_tens": (5, question("+", range(10, 100, 10), range(10, 100, 10))),
    "add_2_1": (4, question("+", range(11, 100), range(2, 10))),
    "add_2_2": (3, question("+", range(11, 50), range(11, 50))),
    "subtract_1": (2, question("-", range(5, 13), range(1, 6))),
    "subtract_teen": (2, question("-", range(11, 20), range(2, 10))),
    "story_add": (6, story("+", range(2, 10), range(2, 10))),
    "story_subtract": (3, story("-", range(5, 13), range(1, 6))),
    "basic_arithmetic": (4, basic_arithmetic),
}


def split_of(fact: Fact, seed: int) -> str:
    """Say in which split a fact lies: the same for every family, and without a list of all facts."""
    place = random.Random(f"{seed} {fact}").random()
    for split, (share, _) in SPLITS.items():
        place -= share
        if place < 0:
            return split
    return "train"


def draw_problems(size: int, *, split: str, seed: int) -> list[tuple[str, Problem]]:
    """
    Draw problems of all families, in their shares, no prompt twice.

    Args:
        size (`int`): Number of problems.
        split (`str`): Whose facts to draw from: `train`, `dev` or `test`.
        seed (`int`): Decides the split and the draws.

    Returns:
        `list[tuple[str, Problem]]`: Family and problem, shuffled.

    Raises:
        ValueError: If a family has too few problems for its share of `size`.
    """
    rng = random.Random(f"{seed} {split}")
    total = sum(share for share, _ in FAMILIES.values())
    problems: dict[str, tuple[str, Problem]] = {}
    shares = 0
    for family, (share, draw) in FAMILIES.items():
        shares += share
        tries = 0
        while len(problems) < size * shares // total:
            problem = draw(rng)
            if problem.fact not in FEW_SHOT_FACTS and split_of(problem.fact, seed) == split:
                problems.setdefault(problem.prompt, (family, problem))
            tries += 1
            if tries > 100 * size:
                raise ValueError(
                    f"{size} problems need more of the family {family!r} than it has. Ask for fewer problems."
                )
    rows = list(problems.values())
    rng.shuffle(rows)
    return rows


def retention_problems() -> list[tuple[str, Problem]]:
    """Return the multiplication table from 2 * 2 to 9 * 9."""
    table = [(a, b) for a in range(2, 10) for b in range(2, 10)]
    return [("multiply_1", Problem(f"What is {a} * {b}?", "*", a, b)) for a, b in table]


def write_problems(path: Path, problems: Iterable[tuple[str, Problem]]) -> None:
    """Write one problem on each line."""
    rows = [
        {
            "problem_id": f"{path.stem}-{index:04d}",
            "prompt": problem.prompt,
            "solution": str(problem.solution),
            "reference": problem.worked_answer,
            "family": family,
        }
        for index, (family, problem) in enumerate(problems)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} problems")


def write_teacher_data(path: Path, problems: Iterable[tuple[str, Problem]]) -> None:
    """Write worked answers in TRL's prompt-completion format, with the few-shot turns before each question."""
    few_shot = json.loads(Path(__file__).with_name("few_shot.json").read_text(encoding="utf-8"))
    path.parent.mkdir(exist_ok=True)
    rows = [
        {
            "prompt": [*few_shot, {"role": "user", "content": problem.prompt}],
            "completion": [{"role": "assistant", "content": problem.worked_answer}],
        }
        for _, problem in problems
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} worked answers")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the recipe's problems as JSON lines.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Where the files go.")
    for split, (_, size) in SPLITS.items():
        parser.add_argument(f"--num_{split}", type=int, default=size)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        problems = draw_problems(getattr(options, f"num_{split}"), split=split, seed=options.seed)
        write_problems(options.output_dir / f"{split}.jsonl", problems)
        if split == "train":
            write_teacher_data(options.output_dir / "teacher" / "train.jsonl", problems)
    write_problems(options.output_dir / "retention.jsonl", retention_problems())


if __name__ == "__main__":
    main()
