"""What a recipe's settings name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.fakes import make_problems
from helpers.paths import ROOT
from paced_trl import Evaluation
from paced_trl.commands import compare, estimate, evaluate, train
from paced_trl.commands.recipe import Recipe, named_sets
from paced_trl.settings import EstimationArguments, OutputArguments


@pytest.mark.parametrize("output_dir", ["results", "new/results", "./results"])
def test_a_new_output_directory_is_no_hub_id(output_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(EstimationArguments(), OutputArguments(output_dir))
    assert recipe.published_pass_rates is None
    assert recipe.pass_rates == Path(output_dir) / "pass_rates"


@pytest.mark.parametrize(
    ("given", "published"),
    [("someone/rates", "someone/rates"), ("./someone/rates", None), ("/data/rates", None), ("rates", None)],
)
def test_only_pass_rates_as_written_may_be_a_hub_id(
    given: str, published: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Recipe(EstimationArguments(pass_rates=given), OutputArguments("x")).published_pass_rates == published


@pytest.mark.parametrize("command", [estimate, train, compare])
def test_commands_take_a_new_output_directory_for_a_path(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": row["prompt"], "solution": row["solution"]} for row in make_problems(3)]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--dataset_name", "data.jsonl", "--output_dir", "results", "--verifier", "exact"]
    # It fails for want of pass rates or a model, not because the Hub has no `results/pass_rates`.
    with pytest.raises(ValueError, match=r"no pass rates in 'results/pass_rates'|`model_name_or_path` is not given"):
        command.run(arguments)


def test_sets_have_names_of_their_own() -> None:
    assert named_sets(["a=x.jsonl", "b=y=z.jsonl"], "eval_sets") == {"a": "x.jsonl", "b": "y=z.jsonl"}
    outside = [(f"{name}=x", "part of a path") for name in ("../../../evil", "/etc/evil", "a/b", "..", ".a", "a\x1bb")]
    refused = [("a", "no NAME=DATA pair"), *outside]
    for pairs, message in [*(([pair], message) for pair, message in refused), (["a=x", "a=y"], "the name 'a' twice")]:
        with pytest.raises(ValueError, match=message):
            named_sets(pairs, "eval_sets")


def test_a_section_that_a_command_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError):
        _ = Recipe(OutputArguments("x")).training
    with pytest.raises(ValueError, match="`output_dir` is not given"):
        _ = Recipe(OutputArguments()).output_dir


def test_a_set_can_have_a_verifier_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, gold in (("chains", "81"), ("letters", "B")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "3+5*2=", "solution": gold}) + "\n")
    sets = ["--eval_sets", f"chains={tmp_path}/chains.jsonl", "--retention_sets", f"letters={tmp_path}/letters.jsonl"]
    arguments = ["--config", "recipes/demo/recipe.yaml", *sets, "--num_eval_generations", "2"]
    arguments += ["--output_dir", str(tmp_path / "run")]
    own = ["--verifier_by_set", '{"letters": {"verifier": "choice", "choices": "AB"}}']
    evaluate.run([*arguments, *own])
    found = {name: Evaluation.load(next((tmp_path / "run").rglob(f"{name}.json"))) for name in ("chains", "letters")}
    assert found["chains"].record["verifier"]["name"] == "exact"
    assert found["letters"].record["verifier"]["name"] == "choice"
    # Digits are no letter, which `exact` would have called another answer.
    assert found["letters"].verdicts["unparseable"] == 2
    for given, message in (
        ('{"letter": "choice"}', "names 'letter', which is no set.*chains, letters"),
        ('{"letters": {"choices": "AB"}}', "for the set 'letters', which names no verifier"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate.run([*arguments, "--verifier_by_set", given])
