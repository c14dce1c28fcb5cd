"""
Problems: the columns they have, what makes a row unusable, and by what they are known.

A problem is a row with a `prompt` (text or messages), a gold `solution` and a `problem_id`. Everything downstream
relies on the checks made here, which run before any model loads: an error names the column, shows the row and says
what to do. Files are read by `problem_files.py`; how a prompt becomes tokens is the tokenizer's business.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal
from urllib.parse import parse_qsl

from datasets import Dataset

from .names import check_ids, did_you_mean
from .problem_files import find_column, read_dataset
from .problem_files import read_columns as read_columns


REASONING_GYM_PREFIX = "reasoning_gym:"
# What a column becomes, by the setting that names it.
COLUMNS = {
    "prompt_column": "prompt",
    "solution_column": "solution",
    "problem_id_column": "problem_id",
    "reference_column": "reference",
    "privileged_context_column": "privileged_context",
    "choices_column": "choices",
    "problem_weight_column": "problem_weight",
    "pass_rate_column": "pass_rate",
    "num_passed_column": "num_passed",
    "num_valid_column": "num_valid",
}
_TEXTS = ("prompt", "reference", "privileged_context")

Messages = list[dict[str, str]]


def load_problems(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    system_prompt: str | None = None,
    few_shot: str | None = None,
    as_chat: bool | Literal["auto"] = "auto",
    max_problems: int | None = None,
    **columns: str | None,
) -> Dataset:
    """
    Load problems and bring them to the columns `prompt`, `solution` and `problem_id`; other columns are kept.

    Values arrive as they are written: the golds `007`, "2024-01-01" and one of 30 digits are text. Prompts whose
    messages end with the assistant's answer are split: the answer becomes the `reference`.

    Args:
        name (`str`):
            A local `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` (each also `.gz`) or `.parquet` file, a directory
            written by `save_to_disk`, a Hub dataset id, or `reasoning_gym:<task>?size=500&seed=0&<knob>=<value>`. A
            Hub id may go on with a split and a configuration of its own: `org/data?split=train&config=main`.
        config (`str`, *optional*): Configuration name of a Hub dataset.
        split (`str`, *optional*, defaults to `"train"`): Split of what has splits.
        system_prompt (`str`, *optional*): System message put before every prompt; makes prompts messages.
        few_shot (`str`, *optional*):
            JSON file with a list of messages (`role`, `content`) put before every prompt; makes prompts messages.
        as_chat (`bool` or `"auto"`, *optional*, defaults to `"auto"`):
            Whether text prompts become a user message, rendered with the model's chat template. `"auto"`, which needs
            a model, is for the commands to settle (see [`chat_prompts`]); here it leaves text as it is.
        max_problems (`int`, *optional*): Keep the first so many problems.
        columns (`str`, *optional*):
            Which column holds what, `<target>_column="name"` for the targets `prompt`, `solution` (`""`: none),
            `problem_id` (default: `problem_id` where it exists, else a hash of prompt and solution), `reference` (a
            completion to train on, text or messages; default: `reference`, else `completion`), `privileged_context`
            (what only the teacher sees in self-distillation), `choices` (a multiple choice's answers, a list, which
            follow the prompt as lines "A. ..."), `problem_weight`, `pass_rate`, `num_passed` and `num_valid`. A field
            of a column of objects is named with dots: `reward_model.ground_truth`.

    Returns:
        `datasets.Dataset`: With `prompt`, `solution` and `problem_id`.

    Raises:
        ValueError: If the data cannot be read or are empty, columns are missing, a prompt is empty, or a problem id is
            missing or occurs twice.
        FileNotFoundError: If a local file does not exist.
    """
    sources = _sources(columns)
    exact = {sources[target] for target in ("solution", "problem_id", *_TEXTS) if target in sources}
    if name.startswith(REASONING_GYM_PREFIX):
        dataset = load_reasoning_gym(name)
    else:
        dataset = read_dataset(name, config=config, split=split, exact=exact | {"problem_id", "completion"})
    dataset = _with_columns(dataset, sources, name)
    if max_problems is not None:
        dataset = dataset.select(range(min(max_problems, len(dataset))))
    if len(dataset) == 0:
        raise ValueError(f"{name!r} holds no problems, so there is nothing to measure. Check the file or the split.")
    _check_prompts(dataset["prompt"], name)
    dataset = _split_answers(dataset, name)
    dataset = with_reference_texts(dataset, repr(name))
    if "choices" in sources:
        rows = zip(dataset["prompt"], dataset["choices"], strict=True)
        dataset = with_column(dataset, "prompt", [_with_choices(prompt, choices, name) for prompt, choices in rows])
    context = chat_context(system_prompt, few_shot)
    if context or as_chat is True:
        dataset = chat_prompts(dataset, context)
    return with_problem_ids(dataset, repr(name))


def chat_prompts(problems: Dataset, context: Messages | None = None) -> Dataset:
    """Return problems whose text prompts are user messages, after the messages `context`; ids of hashes follow."""
    made_here = "problem_id" in problems.column_names and problems["problem_id"][:] == _hashed_ids(problems)
    prompts = [[*(context or []), *as_messages(prompt)] for prompt in problems["prompt"]]
    problems = with_column(problems, "prompt", prompts)
    return with_column(problems, "problem_id", _hashed_ids(problems)) if made_here else problems


def prompt_settings(system_prompt: str | None, few_shot: str | None) -> dict[str, Any]:
    """Return what shapes prompts beside the data, by setting, as a store keeps it."""
    messages = chat_context(None, few_shot)
    digest = hashlib.sha256(_canonical(messages).encode()).hexdigest()[:8]
    return {
        "system_prompt": system_prompt or None,
        "few_shot": f"{len(messages)} messages ({digest})" if messages else None,
    }


class ProblemSet:
    """
    Problems with the columns that generation and verification need, each id once, and a hash of each one's text.

    The hash ties what is stored to what was asked: a user's `problem_id` may come to mean another problem. Of the
    settings that shaped the prompts ([`prompt_settings`]) a store keeps a record, and refuses others later.
    """

    def __init__(
        self, rows: Dataset | Sequence[dict[str, Any]], prompt_settings: dict[str, Any] | None = None
    ) -> None:
        self.prompt_settings = prompt_settings
        dataset = rows.with_format(None) if isinstance(rows, Dataset) else Dataset.from_list(list(rows))
        if len(dataset) == 0:
            raise ValueError("`problems` is empty, so there is nothing to generate. Check the data and its filters.")
        missing = [f"`{column}`" for column in ("prompt", "solution") if column not in dataset.column_names]
        if missing:
            raise ValueError(
                f"`problems` has no column {' and none '.join(missing)}; it has {', '.join(dataset.column_names)}. "
                "Rename what holds it, or load the data with `load_problems`, which does."
            )
        self.dataset = with_problem_ids(dataset, "`problems`")
        self.ids: list[str] = self.dataset["problem_id"][:]
        prompts = [_canonical(_without_none(prompt)) for prompt in self.dataset["prompt"]]
        solutions = map(_canonical, self.dataset["solution"])
        self.prompt_lengths = [len(prompt) for prompt in prompts]
        self.hashes = [_digest(prompt, solution) for prompt, solution in zip(prompts, solutions, strict=True)]

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the columns of some problems, one list per column."""
        return {name: list(values) for name, values in self.dataset[list(indices)].items()}

    def prompts(self, indices: Sequence[int]) -> list[Any]:
        """Return the prompts of some problems, without reading what else they have."""
        return list(self.dataset.select_columns("prompt")[list(indices)]["prompt"])


def with_problem_ids(problems: Dataset, name: str = "`problems`") -> Dataset:
    """Return problems with `problem_id` as text, made of prompt and solution where it is missing, each id once."""
    given = problems["problem_id"][:] if "problem_id" in problems.column_names else None
    if given is None:
        ids = _hashed_ids(problems)
    else:
        empty = next((row for row, value in enumerate(given) if value is None or value != value or value == ""), None)
        if empty is not None:
            raise ValueError(
                f"Row {empty} of {name} has no problem id ({given[empty]!r}). Give every problem one, or leave the "
                "column out: an id is then made of prompt and solution."
            )
        ids = [str(value) for value in given]
    check_ids(ids, name)
    return problems if ids == given else with_column(problems, "problem_id", ids)


def _hashed_ids(problems: Dataset) -> list[str]:
    # Unlike a problem's hash an id depends on the order of a message's fields: ids of old stores do.
    solutions = problems["solution"] if "solution" in problems.column_names else [None] * len(problems)
    return [
        _digest(json.dumps(prompt, default=str), json.dumps(solution, default=str))
        for prompt, solution in zip(problems["prompt"], solutions, strict=True)
    ]


def _digest(prompt: str, solution: str) -> str:
    return hashlib.sha256(f"[{prompt}, {solution}]".encode()).hexdigest()[:16]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _without_none(prompt: Any) -> Any:
    """Drop the empty fields that `datasets` adds to messages: with them a problem's hash depends on its neighbours."""
    if isinstance(prompt, list):
        return [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in prompt]
    return prompt


def with_column(dataset: Dataset, column: str, values: list[Any]) -> Dataset:
    """Return a dataset with a column, in place of one of the same name if there is one."""
    if column in dataset.column_names:
        dataset = dataset.remove_columns(column)
    return dataset.add_column(column, values)


def _sources(columns: dict[str, str | None]) -> dict[str, str]:
    """Return which column becomes which."""
    for setting in columns:
        if setting not in COLUMNS:
            hint = did_you_mean(setting, COLUMNS, quote="`", otherwise=f" It can be: {', '.join(COLUMNS)}.")
            raise ValueError(f"`{setting}` names no column of problems.{hint}")
    named = {"prompt_column": "prompt", "solution_column": "solution"} | columns
    return {COLUMNS[setting]: column for setting, column in named.items() if column}


def _with_columns(dataset: Dataset, sources: dict[str, str], name: str) -> Dataset:
    """Bring columns to their names, as copies: a worked solution may serve as the reference too."""
    found = {target: find_column(dataset, column) for target, column in sources.items()}
    missing = [f"{sources[target]!r} for the {target}" for target, values in found.items() if values is None]
    if missing:
        flags = [f"`--{setting}`" for setting, target in COLUMNS.items() if found.get(target, ()) is None]
        raise ValueError(
            f"{name!r} has no column {' and none '.join(missing)}; it has {', '.join(dataset.column_names)}. Say "
            f"which one holds it with {' and '.join(flags)}."
            + (" Data without golds have `--solution_column ''`." if "solution" in sources else "")
        )
    for target, values in found.items():
        assert values is not None
        if target in _TEXTS:
            values = [str(value) if isinstance(value, (int, float)) else value for value in values]
        if target == "solution":
            values = _checked_golds(values, name)
        if sources[target] != target or values != dataset[target][:]:
            dataset = with_column(dataset, target, values)
    used = {column for target, column in sources.items() if column != target and column not in found}
    used |= {"solution"} - found.keys()  # `solution_column` is '': nothing is compared with it
    return dataset.remove_columns([column for column in used if column in dataset.column_names])


def _checked_golds(values: list[Any], name: str) -> list[Any]:
    """Refuse golds that a library changed on the way; NaN is none."""
    for row, value in enumerate(values):
        is_changed = hasattr(value, "isoformat") or (isinstance(value, float) and abs(value) >= 2**53)
        if is_changed and value not in (float("inf"), float("-inf")):
            raise ValueError(
                f"Row {row} of {name!r} has the solution {str(value)!r} as a {type(value).__name__}, which need not "
                "be what was written: dates and long numbers change when types are guessed. Store the column as text."
            )
    return [None if isinstance(value, float) and value != value else value for value in values]


def _split_answers(dataset: Dataset, name: str) -> Dataset:
    """Take the assistant's answer, where prompts end with it, for the reference: the student must not see it."""
    prompts = dataset["prompt"][:]
    ends = [isinstance(prompt, list) and prompt[-1]["role"] == "assistant" for prompt in prompts]
    if not any(ends):
        return dataset
    alone = [end and len(prompt) == 1 for prompt, end in zip(prompts, ends, strict=True)]
    if not all(ends) or any(alone):
        row = alone.index(True) if any(alone) else ends.index(True)
        raise ValueError(
            f"Row {row} of {name!r} has a prompt that ends with the assistant's answer"
            f"{' and has nothing before it' if any(alone) else ', and other rows end with a question'}. A "
            "student that sees the answer learns nothing: remove the last message, or let all rows have an answer, "
            "which then is their reference."
        )
    if "reference" not in dataset.column_names:
        dataset = dataset.add_column("reference", [prompt[-1]["content"] for prompt in prompts])
    return with_column(dataset, "prompt", [prompt[:-1] for prompt in prompts])


def with_reference_texts(dataset: Dataset, name: str) -> Dataset:
    """Return a dataset whose `reference`, or where there is none TRL's `completion`, is `reference`, as text."""
    column = "reference" if "reference" in dataset.column_names else "completion"
    if column not in dataset.column_names:
        return dataset
    values = dataset[column][:]
    texts = [_reference_text(value, row, name) for row, value in enumerate(values)]
    if column == "reference" and texts == values:
        return dataset
    return with_column(dataset.remove_columns(column), "reference", texts)


def _reference_text(value: Any, row: int, name: str) -> str | None:
    """Return a reference as text: of messages, the assistant's only one."""
    if value is None or isinstance(value, (str, int, float)):
        return value if value is None else str(value)
    messages = [value] if isinstance(value, dict) else value
    is_answer = isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], dict)
    content = messages[0].get("content") if is_answer else None
    if not isinstance(content, str) or messages[0].get("role", "assistant") != "assistant":
        raise ValueError(
            f"Row {row} of {name} has the reference {str(value)[:80]!r}, which is neither text nor one message of "
            "the assistant. Write the completion as text."
        )
    return content


def load_reasoning_gym(name: str) -> Dataset:
    """Generate problems, with what the verifier needs to score them: `reasoning_gym:<task>?size=500&<knob>=4`."""
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
    try:
        messages = json.loads(Path(few_shot).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"`few_shot` names {few_shot!r}, and there is no such file. Relative paths start at {Path.cwd()}."
        ) from error
    except ValueError:
        messages = None
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


def _check_prompts(prompts: Sequence[Any], name: str) -> None:
    for row, prompt in enumerate(prompts):
        is_messages = isinstance(prompt, list) and bool(prompt) and all(isinstance(m, dict) for m in prompt)
        if is_messages and not all(m.get("role") for m in prompt):
            raise ValueError(
                f"Row {row} of {name!r} has a prompt with a message without a `role`: {str(prompt)[:120]}. Write "
                '[{"role": "user", "content": "..."}].'
            )
        is_text = isinstance(prompt, str) and bool(prompt.strip())
        if not (is_text or (is_messages and all(m.get("content") for m in prompt))):
            raise ValueError(
                f"Row {row} of {name!r} has the prompt {prompt!r}, which is empty or neither text nor messages. "
                "Remove the row or mend it."
            )
