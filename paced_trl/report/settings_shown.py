"""The settings and versions of a run's trainings as the page shows them: shared ones, differing ones, no secrets."""

from __future__ import annotations

import json
from typing import Any

from ..store.manifest import dotted
from ..training.in_words import OPTIMIZATION_SETTINGS, SAMPLING_SETTINGS, STUDENT_SETTINGS
from .contents import RunContents


# What readers ask for first, in this order; all other settings follow below.
_MAIN_SETTINGS = (
    "student.model_name_or_path",
    "teacher_model_name_or_path",
    "self_distillation",
    "privileged_template",
    "dataset_name",
    "dataset_config",
    "as_chat",
    "system_prompt",
    "few_shot",
    "max_problems",
    "pass_rates",
    "references",
    "num_problems",
    *OPTIMIZATION_SETTINGS,
    "kl",
    "kl_switch",
    "weighting",
    "weight_alpha",
    "weight_beta",
    "weight_estimator",
    "apply_weights",
    "loss_aggregation",
    "verifier",
    *SAMPLING_SETTINGS,
    *(f"student.{name}" for name in STUDENT_SETTINGS),
)
# A page is made to be passed on: the values of settings whose names end like this are not on it.
_SECRETS = ("token", "api_key", "password", "secret")


def settings_of(contents: RunContents) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the settings that all runs share, and the others by run."""
    runs = {name: _shown(settings) for name, settings in contents.settings.items()}
    names = list(dict.fromkeys(name for settings in runs.values() for name in settings))
    common = {}
    for name in names:
        values = [settings.get(name) for settings in runs.values()]
        if all(value == values[0] for value in values):
            common[name] = values[0]
    differing = {run: {name: values.get(name) for name in names if name not in common} for run, values in runs.items()}
    return common, differing if len(runs) > 1 else {}


def main_settings(common: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that decide, of those that all runs share: without those that have no effect."""
    names = [name for name in _MAIN_SETTINGS if name in common]
    without_effect = {"num_train_epochs"} if common.get("max_steps", -1) > 0 else set()
    if common.get("self_distillation", "none") == "none":
        without_effect |= {"self_distillation", "privileged_template"}
    else:
        without_effect.add("teacher_model_name_or_path")
    return {name: common[name] for name in names if name not in without_effect}


def store_record(contents: RunContents) -> dict[str, Any]:
    """Return what the pass rates were measured with, by dotted name."""
    return _shown(contents.store.record) if contents.store is not None else {}


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings by dotted name, without secrets and without what is not set."""
    found = {name: value for name, value in dotted(values).items() if value is not None and value != {}}
    return {name: "(not shown)" if name.endswith(_SECRETS) else value for name, value in found.items()}


def versions(contents: RunContents) -> dict[str, str]:
    """Return the versions of the libraries that the pass rates were measured with."""
    if contents.store is None:
        return {}
    manifest = json.loads((contents.store.path / "manifest.json").read_text(encoding="utf-8"))
    return manifest.get("information", {})
