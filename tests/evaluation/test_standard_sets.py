"""Commands of the public harnesses, and the configurations of ours for the same sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers.paths import ROOT
from paced_trl.commands.parsing import parse
from paced_trl.commands.recipe import named_sets
from paced_trl.evaluation.standard_sets import STANDARD_SETS, equivalent_commands
from paced_trl.settings import EvaluateArguments, ProblemArguments, SamplingArguments, VerifierArguments
from paced_trl.verification.verifier import load_verifier


RECIPES = sorted((ROOT / "recipes/evaluate").glob("*.yaml"))


def test_recognised_sets_are_measured_by_one_command_each() -> None:
    sets = ["HuggingFaceH4/MATH-500?split=test", "mine.jsonl", "yentinglin/aime_2025", "math-ai/aime25"]
    sampling = {"max_completion_length": 8192, "temperature": 0.6, "top_p": 0.95}
    assert equivalent_commands(sets, "./a b", as_chat=False, **sampling) == {
        "lighteval": "lighteval accelerate 'model_name=./a b,override_chat_template=false,"
        "generation_parameters={max_new_tokens:8192,temperature:0.6,top_p:0.95}' 'math_500|0,aime25|0'",
        "lm-eval": "lm_eval --model hf --model_args 'pretrained=./a b' --tasks minerva_math500,aime25 "
        "--gen_kwargs max_gen_toks=8192,do_sample=true,temperature=0.6,top_p=0.95",
    }
    assert equivalent_commands(["mine.jsonl", "openai/gsm8k-like"], "m", as_chat=True) == {}


def test_greedy_decoding_of_chats_is_asked_for_as_such() -> None:
    commands = equivalent_commands(["cais/mmlu"], "m", as_chat=True, temperature=0, top_p=0.9)
    assert (
        "override_chat_template=true,generation_parameters={max_new_tokens:512,temperature:0.0}'"
        in (commands["lighteval"])
    )
    assert "do_sample=false,temperature=0.0 --apply_chat_template" in commands["lm-eval"]


def test_an_adapter_is_named_with_its_base_where_it_can_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    commands = equivalent_commands(["openai/gsm8k"], str(tmp_path), as_chat=True)
    assert commands.keys() == {"lm-eval"}
    assert f"pretrained=org/base,peft={tmp_path}" in commands["lm-eval"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_ready_configuration_can_be_parsed(path: Path) -> None:
    classes = [ProblemArguments, SamplingArguments, EvaluateArguments, VerifierArguments]
    # The parser knows the keys of all commands.
    keys = {"generation_batch_size"}
    problems, sampling, evaluate, verifier = parse("evaluate", classes, ["--config", str(path)], description="")
    sets = [*evaluate.eval_sets, *evaluate.retention_sets]
    assert {data.partition("?")[0] for data in named_sets(sets, "sets").values()} <= {s.dataset for s in STANDARD_SETS}
    assert equivalent_commands(named_sets(sets, "sets").values(), "m", as_chat=True)
    load_verifier(verifier.verifier, **verifier.verifier_kwargs or {}).close()
    own = {name for instance in (problems, sampling, evaluate, verifier) for name in vars(instance)}
    assert yaml.safe_load(path.read_text()).keys() <= own | keys


def test_all_sets_have_a_ready_configuration() -> None:
    texts = " ".join(path.read_text() for path in RECIPES)
    assert all(found.dataset in texts for found in STANDARD_SETS)
