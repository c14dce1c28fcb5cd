"""
Bring public data sets to one form, so that a recipe's problems, held-out sets and retention sets have equal columns.

  python recipes/prepare_data.py gsm8k math500      writes runs/data/gsm8k/{train,test}.jsonl, runs/data/math500/...

Each row has `prompt` (the question and how to answer) and `solution` (the gold), and where the data have a worked
solution `worked_solution`. Nothing was downloaded while this was written. Columns, configurations and splits are those
that lm-eval 0.4.13 and lighteval 0.13.0 read (GSM8K, MATH-500, AIME, MBPP, MMLU), that the script beside the data
makes (DAPO-Math), that the data's card names (DeepMath-103K), and that other users' code reads (MATH's training set,
MBPP's `test_setup_code`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import load_dataset
from reasoning_gym.factory import create_curriculum

from paced_trl.problems import load_reasoning_gym
from paced_trl.verification.answers import boxed_span


BOXED = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
LETTER = "\n\nEnd your answer with: The answer is X."
# 1,003 of MMLU's 14,042 questions, so that subjects keep their shares.
MMLU_STEP = 14
# BytedTsinghua-SIA/DAPO-Math-17k wraps every question in this. Whether the processed copy does is not known, so it is
# removed where it is.
_DAPO_WRAPPER = re.compile(
    r"(?s)^Solve the following math problem step by step\..*?\n\n(.*?)\n\nRemember to put your.*$"
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a file's rows come from: a data set on the Hub, its configuration and split, and what a row becomes."""

    dataset: str
    config: str | None
    split: str
    convert: Callable[[Row], Row | None]
    # Whether the question is followed by how to answer it: with a box.
    is_boxed: bool = True


def gsm8k(row: Row) -> Row:
    """`answer` is the worked solution with calculator notes, `<<3*4=12>>`, and the gold after `####`."""
    worked, _, gold = re.sub(r"<<[^>]*>>", "", row["answer"]).rpartition("####")
    return {"prompt": row["question"], "solution": gold.strip(), "worked_solution": worked.strip()}


def math(row: Row) -> Row | None:
    """`solution` is the worked solution, whose last box is the gold; few rows have none and are left out."""
    span = boxed_span(row["solution"])
    if span is None:
        return None
    gold = row["solution"][slice(*span)]
    return {"prompt": row["problem"], "solution": gold, "worked_solution": row["solution"]}


def problem_and_answer(row: Row) -> Row:
    """MATH-500 and AIME: `problem` and `answer`."""
    return {"prompt": row["problem"], "solution": str(row["answer"])}


def dapo_math(row: Row) -> Row:
    """`prompt` and `solution`, a whole number as text."""
    wrapped = _DAPO_WRAPPER.match(row["prompt"])
    return {"prompt": wrapped[1] if wrapped else row["prompt"], "solution": row["solution"]}


def deepmath(row: Row) -> Row:
    """`question`, `final_answer` and `difficulty`; the three solutions of R1 are left out."""
    return {"prompt": row["question"], "solution": row["final_answer"], "difficulty": row["difficulty"]}


def mmlu(row: Row) -> Row:
    """`question`, four `choices` and `answer`, the number of one."""
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCD", row["choices"], strict=True))
    return {"prompt": f"{row['question']}\n{choices}{LETTER}", "solution": "ABCD"[row["answer"]]}


def mbpp(row: Row) -> Row | None:
    """`text`, `code` and `test_list`, which names the function; few rows need `test_setup_code` and are left out."""
    if row["test_setup_code"]:
        return None
    tests = "\n".join(row["test_list"])
    prompt = (
        f"{row['text']}\nYour function must pass these tests:\n```python\n{tests}\n```\nAnswer with the code only."
    )
    code = row["code"].replace("\r\n", "\n")
    return {"prompt": prompt, "solution": row["test_list"], "worked_solution": f"```python\n{code}\n```"}


SOURCES = {
    "gsm8k/train": Source("openai/gsm8k", "main", "train", gsm8k),
    "gsm8k/test": Source("openai/gsm8k", "main", "test", gsm8k),
    "math/train": Source("DigitalLearningGmbH/MATH-lighteval", None, "train", math),
    "math500/test": Source("HuggingFaceH4/MATH-500", None, "test", problem_and_answer),
    "dapo_math/train": Source("open-r1/DAPO-Math-17k-Processed", "en", "train", dapo_math),
    "dapo_math/heldout": Source("open-r1/DAPO-Math-17k-Processed", "en", "train", dapo_math),
    "deepmath/train": Source("zwhe99/DeepMath-103K", None, "train", deepmath),
    "aime24/test": Source("HuggingFaceH4/aime_2024", None, "train", problem_and_answer),
    "aime25/test": Source("math-ai/aime25", None, "test", problem_and_answer),
    "mbpp/train": Source("google-research-datasets/mbpp", "full", "train", mbpp, is_boxed=False),
    "mbpp/test": Source("google-research-datasets/mbpp", "full", "test", mbpp, is_boxed=False),
    "mmlu/test": Source("cais/mmlu", "all", "test", mmlu, is_boxed=False),
}
# Tasks whose difficulty a curriculum of reasoning-gym raises; from the first level most are easy, at the last few are.
GYM_TASKS = ("chain_sum", "gcd", "spell_backward")
GYM_LEVELS, GYM_SIZE, GYM_TEST_SIZE = 4, 200, 25


def gym_rows(split: str) -> Iterable[Row]:
    """Problems of all tasks at all levels of their curricula; held-out ones share no prompt with the others."""
    # Problem i of seed s is problem 0 of seed s + i.
    size, seed = (GYM_SIZE, 0) if split == "train" else (GYM_TEST_SIZE, GYM_SIZE)
    known = {row["prompt"] for row in gym_rows("train")} if split == "test" else set()
    for task in GYM_TASKS:
        curriculum = create_curriculum(task)
        for level in range(GYM_LEVELS):
            for attribute in curriculum.attributes if level else ():
                curriculum.increment_attr_level(attribute)
            knobs = vars(curriculum.generate_configuration()) | {"size": size, "seed": seed}
            query = "&".join(f"{name}={value}" for name, value in knobs.items() if not isinstance(value, list | tuple))
            for row in load_reasoning_gym(f"reasoning_gym:{task}?{query}"):
                if row["prompt"] not in known:
                    known.add(row["prompt"])
                    yield {**row, "level": level}


def rows_of(name: str, instruction: str = BOXED) -> list[Row]:
    """Return the rows of one file, e.g. `gsm8k/train`."""
    if name.startswith("reasoning_gym/"):
        return list(gym_rows(name.partition("/")[2]))
    source = SOURCES[name]
    converted = (source.convert(row) for row in load_dataset(source.dataset, source.config, split=source.split))
    # A question that comes twice would be one problem with two ids.
    rows = list({row["prompt"]: row for row in converted if row is not None}.values())
    if name.startswith("dapo_math/"):
        random.Random(0).shuffle(rows)
        rows = rows[: len(rows) // 5] if name.endswith("heldout") else rows[len(rows) // 5 :]
    if name.startswith("mmlu/"):
        rows = rows[::MMLU_STEP]
    return [row | {"prompt": row["prompt"] + instruction} for row in rows] if source.is_boxed else rows


def main(arguments: list[str] | None = None) -> None:
    files = [*SOURCES, "reasoning_gym/train", "reasoning_gym/test"]
    parser = argparse.ArgumentParser(description="Write problems as JSON lines.")
    parser.add_argument("names", nargs="+", choices=sorted({file.partition("/")[0] for file in files}))
    parser.add_argument("--output_dir", type=Path, default=Path("runs/data"))
    parser.add_argument("--instruction", default=BOXED.strip(), help="What follows a question with a boxed answer.")
    options = parser.parse_args(arguments)
    for file in files:
        if file.partition("/")[0] in options.names:
            path = options.output_dir / f"{file}.jsonl"
            rows = rows_of(file, f"\n\n{options.instruction}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            print(f"{path}: {len(rows)} problems")


if __name__ == "__main__":
    main()
