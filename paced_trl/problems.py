"""
Problems: where they come from, the columns they have, and what makes a row unusable.

A problem is a row with a `prompt` (text or messages), a gold `solution` and a `problem_id`. Everything downstream
relies on the checks made here, which run before any model loads: an error names the column, shows the row and says
what to do. How a prompt becomes tokens is the tokenizer's business, not this module's.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any
from urllib.parse import parse_qsl

from datasets import Dataset, load_dataset, load_from_disk


REASONING_GYM_PREFIX = "reasoning_gym:"
_FILE_FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}

Messages = list[dict[str, str]]


def load_problems(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    prompt_column: str = "prompt",
    solution_column: str = "solution",
    problem_id_column: str | None = None,
    reference_column: str | None = None,
    privileged_context_column: str | None = None,
    system_prompt: str | None = None,
    few_shot: str | None = None,
    as_chat: bool = False,
    choices_column: str | None = None,
    max_problems: int | None = None,
) -> Dataset:
    """
    Load problems and bring them to the columns `prompt`, `solution` and `problem_id`; other columns are kept.

    Args:
        name (`str`):
            A local `.json`, `.jsonl`, `.csv` or `.parquet` file, a directory written by `Dataset.save_to_disk`, a
            Hub dataset id, or `reasoning_gym:<task>?size=500&seed=0&<knob>=<value>`. A Hub id may go on with a split
            and a configuration of its own: `org/data?split=train&config=main`.
        config (`str`, *optional*): Configuration name of a Hub dataset.
        split (`str`, *optional*, defaults to `"train"`): Split of a Hub dataset.
        prompt_column, solution_column (`str`, *optional*): Columns that hold the prompt and the gold solution.
        problem_id_column (`str`, *optional*):
            Column that identifies a problem. If `None`, `problem_id` where it exists, else a hash of prompt and
            solution.
        reference_column (`str`, *optional*): Column that holds a completion to train on; becomes `reference`.
        privileged_context_column (`str`, *optional*):
            Column that holds what only the teacher sees in self-distillation; becomes `privileged_context`.
        system_prompt (`str`, *optional*): System message put before every prompt; implies `as_chat`.
        few_shot (`str`, *optional*):
            JSON file with a list of messages (`role`, `content`) put before every prompt; implies `as_chat`.
        as_chat (`bool`, *optional*, defaults to `False`):
            Whether text prompts become a user message, rendered with the model's chat template.
        choices_column (`str`, *optional*):
            Column that holds the answers of a multiple choice, a list of at most 26 texts. They follow the prompt, a
            text, as lines "A. ...", "B. ...".
        max_problems (`int`, *optional*): Keep the first so many problems.

    Returns:
        `datasets.Dataset`: With `prompt`, `solution` and `problem_id`.

    Raises:
        ValueError: If a column is missing, the data are empty, a prompt is empty or a problem id occurs twice.
        FileNotFoundError: If a local file does not exist.
    """
    dataset = _load_rows(name, config, split)
    sources: dict[str, str | None] = {
        "prompt": prompt_column,
        "solution": solution_column,
        "problem_id": problem_id_column,
        "reference": reference_column,
        "privileged_context": privileged_context_column,
    }
    # Copied, not renamed: one column may serve twice, such as a worked solution that is also the reference.
    mapped = {
        target: _column(dataset, column, target, name) for target, column in sources.items() if column is not None
    }
    for target, values in mapped.items():
        if sources[target] != target:
            dataset = dataset.remove_columns([target] if target in dataset.column_names else [])
            dataset = dataset.add_column(target, values)
    dataset = dataset.remove_columns([column for column in {*sources.values()} - {None, *mapped} if column])
    if max_problems is not None:
        dataset = dataset.select(range(min(max_problems, len(dataset))))
    if len(dataset) == 0:
        raise ValueError(f"{name!r} holds no problems, so there is nothing to measure. Check the file or the split.")
    _check_prompts(dataset["prompt"], name)
    if choices_column is not None:
        choices = _column(dataset, choices_column, "choices", name)
        texts = [_with_choices(prompt, row, name) for prompt, row in zip(dataset["prompt"], choices, strict=True)]
        dataset = dataset.remove_columns("prompt").add_column("prompt", texts)
    context = chat_context(system_prompt, few_shot)
    if as_chat or context:
        prompts = [context + as_messages(prompt) for prompt in dataset["prompt"]]
        dataset = dataset.remove_columns("prompt").add_column("prompt", prompts)
    return _with_problem_ids(dataset, name)


def _load_rows(name: str, config: str | None, split: str) -> Dataset:
    if name.startswith(REASONING_GYM_PREFIX):
        return load_reasoning_gym(name)
    path = Path(name).expanduser()
    if path.suffix in _FILE_FORMATS:
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no file {name!r}. Check the path; relative paths start at {Path.cwd()}."
            )
        if path.stat().st_size == 0:
            raise ValueError(f"{name!r} is an empty file. Put one problem on each line.")
        return load_dataset(_FILE_FORMATS[path.suffix], data_files=str(path), split="train")
    if path.is_dir() and (path / "dataset_info.json").exists():
        return load_from_disk(str(path))
    repository, _, query = name.partition("?")
    own = dict(parse_qsl(query, strict_parsing=bool(query)))
    unknown = own.keys() - {"split", "config"}
    if unknown:
        raise ValueError(
            f"{name!r} has the option {min(unknown)!r}, and a Hub dataset has `split` and `config` only, e.g. "
            f"{repository}?split=test&config=main."
        )
    return load_dataset(repository, own.get("config", config), split=own.get("split", split))


def load_reasoning_gym(name: str) -> Dataset:
    """
    Generate problems with reasoning-gym, `reasoning_gym:<task>?size=500&seed=0&<knob>=<value>`.

    Args:
        name (`str`): Task and its configuration; knobs are those of the task's reasoning-gym configuration class.

    Returns:
        `datasets.Dataset`:
            `prompt`, `solution`, and what the `reasoning_gym` verifier needs to score a row: `reasoning_gym_task`,
            `reasoning_gym_entry` (the task's own entry, as JSON) and `reasoning_gym_config` (the knobs, as JSON).
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError(
            f"{name!r} needs the package `reasoning-gym`. Install it with `pip install paced_trl[reasoning-gym]`."
        ) from error
    task, _, query = name.removeprefix(REASONING_GYM_PREFIX).partition("?")
    knobs = {key: _literal(value) for key, value in parse_qsl(query, strict_parsing=bool(query))}
    try:
        entries = list(reasoning_gym.create_dataset(task, **knobs))
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"reasoning-gym cannot make {name!r}: {error}. Check the task and its knobs.") from error
    return Dataset.from_dict(
        {
            "prompt": [entry["question"] for entry in entries],
            "solution": [str(entry["answer"]) for entry in entries],
            "reasoning_gym_task": [task] * len(entries),
            "reasoning_gym_entry": [json.dumps(entry, default=str) for entry in entries],
            "reasoning_gym_config": [json.dumps(knobs)] * len(entries),
        }
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def chat_context(system_prompt: str | None, few_shot: str | None) -> Messages:
    """Return the messages that go before every prompt: the system prompt, then the turns in the file `few_shot`."""
    turns: Messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
    if few_shot is None:
        return turns
    messages = json.loads(Path(few_shot).read_text())
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages
    ):
        raise ValueError(
            f"`few_shot` names {few_shot!r}, which is not a JSON list of messages. Write it as "
            '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].'
        )
    return turns + messages


def as_messages(prompt: str | Messages) -> Messages:
    """Return a prompt as messages: text becomes one user message."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _with_choices(prompt: Any, choices: Any, name: str) -> str:
    if not isinstance(prompt, str) or not isinstance(choices, list) or len(choices) > len(ascii_uppercase):
        raise ValueError(
            f"{name!r} has a problem whose prompt is a {type(prompt).__name__} and whose choices are a "
            f"{type(choices).__name__}: choices follow a prompt that is text, and are a list of at most "
            f"{len(ascii_uppercase)}. Name another `--choices_column`, or leave it out."
        )
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False)]
    return "\n".join([prompt, *lines])


def _column(dataset: Dataset, column: str, target: str, name: str) -> list[Any]:
    if column not in dataset.column_names:
        raise ValueError(
            f"{name!r} has no column {column!r} for the {target}; it has {', '.join(dataset.column_names)}. Say which "
            f"one holds it with `--{target}_column`."
        )
    return dataset[column][:]


def _check_prompts(prompts: Sequence[Any], name: str) -> None:
    for row, prompt in enumerate(prompts):
        is_text = isinstance(prompt, str) and bool(prompt.strip())
        is_messages = (
            isinstance(prompt, list) and bool(prompt) and all(isinstance(m, dict) and m.get("content") for m in prompt)
        )
        if not (is_text or is_messages):
            raise ValueError(
                f"Row {row} of {name!r} has the prompt {prompt!r}, which is empty or neither text nor messages. "
                "Remove the row or mend it."
            )


def _with_problem_ids(dataset: Dataset, name: str) -> Dataset:
    if "problem_id" in dataset.column_names:
        ids = [str(value) for value in dataset["problem_id"]]
        dataset = dataset.remove_columns("problem_id")
    else:
        ids = [
            hashlib.sha256(json.dumps([prompt, solution], default=str).encode()).hexdigest()[:16]
            for prompt, solution in zip(dataset["prompt"], dataset["solution"], strict=True)
        ]
    first_row: dict[str, int] = {}
    for row, problem_id in enumerate(ids):
        if first_row.setdefault(problem_id, row) != row:
            raise ValueError(
                f"Rows {first_row[problem_id]} and {row} of {name!r} have the same problem id {problem_id!r}, so "
                "their verdicts could not be told apart. Remove the duplicate, or name a column of unique ids with "
                "`--problem_id_column`."
            )
    return dataset.add_column("problem_id", ids)
