"""
A training run in words, from its settings alone: what a card and a report say of it, and the paper to cite.

No torch, no models, no files but the card that a trainer in Python writes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .schedule import completion_source_for, stages


PAPER = {
    "title": "PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student Competence",
    "id": "2603.11178",
    # docstyle-ignore
    "citation": textwrap.dedent("""\
        @article{xu2026paced,
            title        = {{PACED: Distillation and On-Policy Self-Distillation at the Frontier of Student
                            Competence}},
            author       = {Xu and Sang and Zhou and He and Wang},
            year         = 2026,
            eprint       = {arXiv:2603.11178},
        }"""),
}

SAMPLING_SETTINGS = (
    *("max_completion_length", "temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    "chat_template_kwargs",
)
OPTIMIZATION_SETTINGS = (
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "optim"),
    *("bf16", "fp16", "seed"),
)
STUDENT_SETTINGS = (
    *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "load_in_4bit"),
    *("load_in_8bit", "dtype"),
)

# What a divergence is called in a sentence, and in full.
DIVERGENCE_NAMES = {
    "forward": "forward KL",
    "reverse": "reverse KL",
    "jsd": "JSD",
    "akl": "adaptive KL",
    "cross_entropy": "cross-entropy",
}
SCHEDULE_NAMES = DIVERGENCE_NAMES | {"forward_then_reverse": "forward KL first and reverse KL after"}
_KL = {
    "forward": "forward KL(teacher \\|\\| student)",
    "reverse": "reverse KL(student \\|\\| teacher)",
    "jsd": "Jensen-Shannon divergence",
    "akl": "adaptive KL (arXiv 2404.02657)",
    "cross_entropy": "none: cross-entropy of the completions (supervised fine-tuning)",
    "forward_then_reverse": "forward KL(teacher \\|\\| student), then reverse KL(student \\|\\| teacher)",
}


def training_in_words(
    settings: Mapping[str, Any], *, problems: str | None = None, has_references: bool = False
) -> dict[str, str]:
    """
    Return how a student was trained, as rows of a table, from the settings of the run with `num_problems`.

    `problems` is what the training problems are called; `has_references` says whether the data brought their own.
    """
    done = {
        "problems": f"{settings.get('num_problems', '?')} of {problems or 'data that the run does not name'}",
        "weights": _weights_in_words(settings),
        "divergence": _KL.get(str(settings.get("kl")), str(settings.get("kl"))),
        "trained on": _completions_in_words(settings, has_references),
        "verifier in training": f"`{settings['verifier']}`" if settings.get("verifier") else "none",
        "learning rate": str(settings.get("learning_rate")),
    }
    if settings.get("kl") == "forward_then_reverse":
        switch = settings.get("kl_switch", 0.5)
        done["divergence"] += f" from {f'{switch:.0%} of the steps' if switch <= 1 else f'step {switch:.0f}'} on"
    if settings.get("max_forgetting") is not None:
        done["ends"] = f"when accuracy on a retention set has fallen by more than {settings['max_forgetting']}"
    if settings.get("refresh") not in (None, "never"):
        done["pass rates in training"] = f"refreshed: `{settings['refresh']}`"
    return done


def add_to_card(card: Path, done: Mapping[str, str]) -> None:
    """Add rows of [`training_in_words`] to the card that TRL wrote of a trainer in Python."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in done.items())
    section = f"### What was done\n\n| | |\n|---|---|\n{rows}\n\n"
    before, versions, after = card.read_text(encoding="utf-8").partition("### Framework versions")
    card.write_text(f"{before}{section}{versions}{after}", encoding="utf-8")


def _completions_in_words(settings: Mapping[str, Any], has_references: bool) -> str:
    kls = stages(settings.get("kl", "forward_then_reverse"), settings.get("kl_switch", 0.5))
    references = "the completions in the data" if has_references else "the teacher's verified completions"
    words = {"dataset": references, "student": "the student's own completions"}
    sources = [completion_source_for(kl, settings.get("completion_source") or "auto") for kl in kls]
    return ", then ".join(words[source] for source in dict.fromkeys(sources))


def _weights_in_words(settings: Mapping[str, Any]) -> str:
    kind = settings.get("weighting", "beta")
    if kind == "uniform":
        return "all 1 (control)"
    applied = {"loss": "in the loss", "sampling": "as the rate at which problems are drawn"}
    where = applied.get(str(settings.get("apply_weights")), "in the loss")
    if settings.get("replay_share"):
        where += f"; mastered problems have {settings['replay_share']:.0%} of the weight"
    if kind == "teacher_gate":
        return f"the teacher's pass rate, mean 1; {where}"
    if kind == "hard_filter":
        low, high = settings.get("weight_band", (0.2, 0.8))
        return f"1 for pass rates from {low} to {high}, else 0; {where}"
    alpha, beta = settings.get("weight_alpha", 1.0), settings.get("weight_beta", 1.0)
    estimator = settings.get("weight_estimator", "plugin")
    return f"`p^a (1-p)^b` with a = {alpha:g}, b = {beta:g}, estimator `{estimator}`, mean 1; {where}"
