"""`push_to_hub: true`: refused before models load, or published at the end; pass rates by id in place of a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard, constants

from helpers.fake_hub import Failure, FakeHub, go_online
from helpers.paths import ROOT
from paced_trl.commands import compare, estimate, estimation_steps, recipe, train
from paced_trl.estimation.pass_rates import pass_rate_table
from paced_trl.problems import load_problems
from paced_trl.publishing.publish import stage_run
from paced_trl.report import theme as figure_theme
from paced_trl.settings import PublishArguments
from paced_trl.training.preflight import before_loading, side


CONFIG = ["--config", "recipes/demo/recipe.yaml", "--max_problems", "8", "--disable_tqdm", "true"]
SMALL = [*CONFIG, "--weighting", "uniform", "--max_steps", "1", "--kl", "forward", "--reference_column", "solution"]
PUSH = ["--push_to_hub", "true", "--hub_model_id", "me/demo"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(figure_theme, "as_png", lambda draw: b"drawing")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub().serving() as hub:
        go_online(monkeypatch, hub.endpoint)
        yield hub


@pytest.mark.parametrize("fault", ["offline", "read-only", "403", "local base", "license"])
def test_what_could_not_be_published_is_not_trained(
    fault: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: object, **options: object) -> None:
        raise AssertionError("it was too late: a model or data were loaded")

    for module in (before_loading, side):
        monkeypatch.setattr(module, "load_tokenizer", load)
    monkeypatch.setattr(recipe, "load_problems", load)
    more, message = [], ""
    if fault == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        message = "offline mode is on"
    elif fault == "read-only":
        hub.role, message = "read", "may only read"
    elif fault == "403":
        hub.failures.append(Failure("auth-check", 403))
        message = "may not write to 'me/demo'"
    elif fault == "license":
        more, message = ["--license", "Apache 2.0"], "Did you mean 'apache-2.0'"
    else:
        more, message = ["--use_peft", "true"], "--base_model"
    with pytest.raises((OSError, ValueError), match=message):
        train.run([*SMALL, *PUSH, *more, "--output_dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_comparison_is_not_pushed_and_says_how_an_arm_is(hub: FakeHub, tmp_path: Path) -> None:
    message = f"which one is to be published.*--run {tmp_path}/run/arms/ARM --repo"
    with pytest.raises(ValueError, match=message):
        compare.run([*SMALL, *PUSH, "--output_dir", str(tmp_path / "run")])
    assert hub.requests == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("is_adapter", [False, True])
def test_the_finished_student_is_published_and_nothing_else(
    is_adapter: bool, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = ["--use_peft", "true", "--lora_r", "2", "--base_model", "org/demo-student"] if is_adapter else []
    saving = ["--save_strategy", "steps", "--save_steps", "1"]
    arguments = [*SMALL, *PUSH, *adapter, *saving, "--output_dir", str(tmp_path / "run")]
    train.run(arguments)
    stored = hub.repositories["models/me/demo"]
    weights = "adapter_model.safetensors" if is_adapter else "model.safetensors"
    assert stored.private and {"README.md", "recipe.yaml", weights, "tokenizer.json"} <= set(stored.files)
    assert (tmp_path / "run/training_args.bin").exists() and "training_args.bin" not in stored.files
    assert not any("checkpoint" in name for name in stored.files)
    # TRL's and PEFT's cards would name no base, and a local path as base and tag.
    assert not (tmp_path / "run/README.md").exists() and b"None" not in stored.files["README.md"]
    # The empty repository, and one commit: the Trainer pushes nothing.
    assert len(stored.commits) == 2
    published = yaml.safe_load(stored.files["recipe.yaml"])
    assert published["dataset_name"] == "train.jsonl" and published["max_problems"] == 8
    capsys.readouterr()
    train.run(arguments)
    printed = capsys.readouterr().out
    assert "reused, it was finished" in printed and "Unchanged: " in printed
    assert len(stored.commits) == 2


def test_a_failed_push_is_made_up_for_by_the_same_command(hub: FakeHub, tmp_path: Path) -> None:
    failure = Failure("POST /api/models/me/demo/commit", 500)
    hub.failures.append(failure)
    arguments = [*SMALL, *PUSH, "--output_dir", str(tmp_path / "run")]
    with pytest.raises(ConnectionError, match=r"Nothing is lost.*the same command continues"):
        train.run(arguments)
    assert (tmp_path / "run/model.safetensors").exists()
    failure.times = 0
    train.run(arguments)
    assert "model.safetensors" in hub.repositories["models/me/demo"].files


@pytest.fixture
def published_rates(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Published pass rates of the first eight problems of the demo; returns the names that were asked for."""
    ids = load_problems("recipes/demo/data/train.jsonl", max_problems=8)["problem_id"][:]
    counts = {"num_passed": list(range(8)), "num_failed": [8 - n for n in range(8)], "num_tokens": [0] * 8}
    verdicts = ("unparseable", "truncated", "timeout", "unverifiable")
    table = Dataset.from_dict({"problem_id": ids} | counts | {f"num_{verdict}": [0] * 8 for verdict in verdicts})
    asked: list[str] = []

    def load(name: str, problems: Dataset) -> tuple[Dataset, dict]:
        asked.append(name)
        loaded = pass_rate_table(problems["problem_id"][:], table.data.table, ["passed", "failed"])
        return loaded, {"generator": {"sampling": {"temperature": 0.5}}}

    monkeypatch.setattr(estimation_steps, "load_pass_rates", load)
    return asked


@pytest.mark.filterwarnings("ignore:Pass rates were measured with other sampling parameters:UserWarning")
def test_pass_rates_by_id_take_the_place_of_a_store(
    published_rates: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = ["--pass_rates", "someone/rates", "--output_dir", str(tmp_path / "run")]
    settings = [argument for argument in CONFIG if argument not in ("--disable_tqdm", "true")]
    estimate.run([*settings, *rates])
    assert "7/8" in capsys.readouterr().out and not (tmp_path / "run").exists()
    given = ["--max_steps", "1", "--kl", "forward", "--reference_column", "solution"]
    train.run([*CONFIG, *given, *rates])
    assert published_rates == ["someone/rates", "someone/rates"]
    assert (tmp_path / "run/model.safetensors").exists() and not (tmp_path / "run/pass_rates").exists()
    (staged,) = stage_run(tmp_path / "run", "me/demo", PublishArguments())
    card = ModelCard.load(staged / "README.md")
    assert "before training are those of\n[someone/rates]" in card.text and card.data.datasets == ["someone/rates"]
    assert yaml.safe_load((staged / "recipe.yaml").read_text())["pass_rates"] == "someone/rates"


def test_pass_rates_of_other_sampling_are_announced(published_rates: list[str], tmp_path: Path) -> None:
    rates = ["--pass_rates", "someone/rates", "--output_dir", str(tmp_path / "run")]
    settings = [argument for argument in CONFIG if argument not in ("--disable_tqdm", "true")]
    with pytest.warns(UserWarning, match=r"`temperature` 0.5 and 1.0"):
        estimate.run([*settings, *rates])
