"""
How the public harnesses are asked for the sets that everybody measures.

Responsible for which sets are recognised, by dataset id, and for the command lines of lighteval and lm-eval that
measure a model on them. They render prompts and read answers in their own ways, so numbers differ from those of
`paced-trl evaluate`. Ours; the paper (PACED, arXiv 2603.11178) reports MATH-500, AIME 2024, AIME 2025 and MMLU. The
names are those of lighteval 0.13 and lm-eval 0.4; neither was run here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StandardSet:
    """
    A set under its names in both harnesses.

    Args:
        dataset (`str`): Dataset id on the Hub.
        lighteval (`str`): lighteval's task, few-shot examples after the bar.
        lm_eval (`str`): lm-eval's task.
    """

    dataset: str
    lighteval: str
    lm_eval: str


STANDARD_SETS = (
    StandardSet("HuggingFaceH4/MATH-500", "math_500|0", "hendrycks_math500"),
    StandardSet("HuggingFaceH4/aime_2024", "aime24|0", "aime24"),
    StandardSet("yentinglin/aime_2025", "aime25|0", "aime25"),
    StandardSet("math-ai/aime25", "aime25|0", "aime25"),
    StandardSet("openai/gsm8k", "gsm8k|0", "gsm8k"),
    StandardSet("cais/mmlu", "mmlu|0", "mmlu"),
)


def equivalent_commands(sets: Iterable[str], model: str, *, as_chat: bool) -> list[str]:
    """
    Return the commands of lighteval and lm-eval that measure a model on the recognised ones of some sets.

    Args:
        sets (`Iterable[str]`): DATA of `eval_sets` and `retention_sets`.
        model (`str`): Hub id or directory of a model or of an adapter.
        as_chat (`bool`): Whether prompts are chats.

    Returns:
        `list[str]`: One command per harness; empty if no set is recognised.

    Example:

    ```python
    >>> for command in equivalent_commands(["openai/gsm8k?config=main"], "org/student", as_chat=True):
    ...     print(command)
    lighteval accelerate model_name=org/student 'gsm8k|0'
    lm_eval --model hf --model_args pretrained=org/student --tasks gsm8k --apply_chat_template
    ```
    """
    names = [data.partition("?")[0] for data in sets]
    known = [found for name in names for found in STANDARD_SETS if found.dataset == name]
    if not known:
        return []
    tasks = [",".join(dict.fromkeys(task)) for task in zip(*((s.lighteval, s.lm_eval) for s in known), strict=True)]
    base = adapter_base(model)
    if base is None:
        lighteval, lm_eval = f"model_name={model}", f"pretrained={model}"
    else:
        lighteval = f"model_name={model},adapter_weights=true,base_model={base}"
        lm_eval = f"pretrained={base},peft={model}"
    chat = ["--apply_chat_template"] if as_chat else []
    return [
        shlex.join(["lighteval", "accelerate", lighteval, tasks[0]]),
        shlex.join(["lm_eval", "--model", "hf", "--model_args", lm_eval, "--tasks", tasks[1], *chat]),
    ]


def adapter_base(model: str) -> str | None:
    """Return the model that the adapter in a directory belongs to; `None` if it holds no adapter."""
    config = Path(model).expanduser() / "adapter_config.json"
    return str(json.loads(config.read_text())["base_model_name_or_path"]) if config.exists() else None
