"""
How the public harnesses are asked for the sets that everybody measures.

Responsible for which sets are recognised, by dataset id, and for the command lines of lighteval and lm-eval that
measure a model on them. They render prompts and read answers in their own ways, so numbers differ from those of
`paced-trl evaluate`. Ours; the paper (PACED, arXiv 2603.11178) reports MATH-500, AIME 2024, AIME 2025 and MMLU.

Checked by running the commands of lighteval 0.13.0 and lm-eval 0.4.13 with a tiny model on a few rows of the same form
(MMLU: by resolving its tasks). lighteval 0.13 needs an environment of its own: its metrics call what huggingface_hub 2
and xxhash 4 removed (it ran with 1.33 and 3.8). It loads no adapters: it insists on peft 0.3.0, and reads a setting
that it does not have. At temperatures above 0 it samples only where the model's `generation_config.json` sets
`do_sample`.
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
    # Not hendrycks_math500, which takes what stands between the first and the last $ of a solution for its answer.
    StandardSet("HuggingFaceH4/MATH-500", "math_500|0", "minerva_math500"),
    StandardSet("HuggingFaceH4/aime_2024", "aime24|0", "aime24"),
    StandardSet("yentinglin/aime_2025", "aime25|0", "aime25"),
    StandardSet("math-ai/aime25", "aime25|0", "aime25"),
    StandardSet("openai/gsm8k", "gsm8k|0", "gsm8k"),
    StandardSet("cais/mmlu", "mmlu|0", "mmlu"),
)


# What a user of the commands installs; lm-eval's MATH-500 needs the extra.
CHECKED_AGAINST = {
    "lighteval": "lighteval 0.13.0, in an environment of its own with 'huggingface_hub<2' 'xxhash<4'",
    "lm-eval": "lm-eval[hf,math] 0.4.13",
}


def equivalent_commands(
    sets: Iterable[str],
    model: str,
    *,
    as_chat: bool,
    max_completion_length: int = 512,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> dict[str, str]:
    """
    Return the commands of lighteval and lm-eval that measure a model on the recognised ones of some sets.

    Args:
        sets (`Iterable[str]`): DATA of `eval_sets` and `retention_sets`.
        model (`str`): Hub id or directory of a model or of an adapter.
        as_chat (`bool`): Whether prompts are chats.
        max_completion_length (`int`, *optional*, defaults to `512`):
            Most tokens in a completion. Both harnesses would stop after 256 on some of the tasks.
        temperature (`float`, *optional*, defaults to `1.0`): Sampling temperature; 0 is greedy, as theirs is.
        top_p (`float`, *optional*, defaults to `1.0`): Probability mass of nucleus sampling.

    Returns:
        `dict[str, str]`:
            Command by harness: `"lighteval"`, left out for an adapter, which it cannot load, and `"lm-eval"`. Empty if
            no set is recognised.

    Example:

    ```python
    >>> commands = equivalent_commands(["openai/gsm8k?config=main"], "org/student", as_chat=True, temperature=0)
    >>> commands["lm-eval"].split(" --tasks ")[1]
    'gsm8k --gen_kwargs max_gen_toks=512,do_sample=false,temperature=0.0 --apply_chat_template'
    ```
    """
    names = [data.partition("?")[0] for data in sets]
    known = [found for name in names for found in STANDARD_SETS if found.dataset == name]
    if not known:
        return {}
    tasks = [",".join(dict.fromkeys(task)) for task in zip(*((s.lighteval, s.lm_eval) for s in known), strict=True)]
    sampling = {"temperature": temperature, "top_p": top_p} if temperature > 0 else {"temperature": 0.0}
    base = adapter_base(model)
    commands = {}
    if base is None:
        parameters = ",".join(f"{k}:{v}" for k, v in {"max_new_tokens": max_completion_length, **sampling}.items())
        chat = f"override_chat_template={str(as_chat).lower()}"
        arguments = f"model_name={model},{chat},generation_parameters={{{parameters}}}"
        commands["lighteval"] = shlex.join(["lighteval", "accelerate", arguments, tasks[0]])
    arguments = f"pretrained={model}" if base is None else f"pretrained={base},peft={model}"
    options = {"max_gen_toks": max_completion_length, "do_sample": str(temperature > 0).lower(), **sampling}
    command = ["lm_eval", "--model", "hf", "--model_args", arguments, "--tasks", tasks[1]]
    command += ["--gen_kwargs", ",".join(f"{name}={value}" for name, value in options.items())]
    commands["lm-eval"] = shlex.join([*command, "--apply_chat_template"] if as_chat else command)
    return commands


def adapter_base(model: str) -> str | None:
    """Return the model that the adapter in a directory belongs to; `None` if it holds no adapter."""
    config = Path(model).expanduser() / "adapter_config.json"
    return str(json.loads(config.read_text())["base_model_name_or_path"]) if config.exists() else None
