"""Every recipe: its files parse, and its steps run with tiny models and a few rows of the same columns."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from trl import ModelConfig

from helpers.paths import ROOT
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl import Evaluation, PacedConfig
from paced_trl.commands import compare, estimate, evaluate, train
from paced_trl.commands.config_files import read_settings
from paced_trl.commands.parsing import parse
from paced_trl.commands.recipe import Recipe
from paced_trl.evaluation.arms import ComparisonArguments
from paced_trl.evaluation.comparison import Comparison
from paced_trl.settings import EstimationArguments, EvaluateArguments, ProblemArguments, TrainArguments
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import load_verifier


# Untrained models answer at random, to the last token they may.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* are cut, so the student does not see them end"),
    pytest.mark.filterwarnings("ignore:.* problems .* verified"),
]
COMMANDS = ("estimate", "train", "evaluate", "compare", "plan", "diagnose", "teacher-gap")
# Its models and data were at hand, and it ran.
RUN_HERE = "smollm2-135m-arithmetic"
FILES = [path for path in sorted(ROOT.glob("recipes/*-*-*/*.yaml")) if path.parent.name != RUN_HERE]
RECIPES = sorted({path.parent.name for path in FILES})
SHARED = {"verifier", "verifier_kwargs", "system_prompt", "few_shot", "as_chat", "chat_template_kwargs", "temperature"}
SHARED |= {"max_completion_length", "top_p", "top_k", "min_p", "dataset_name", "model_name_or_path"}

AUTHORS = "Let's think step by step and output the final answer within \\boxed{}."
# Rows as the public data sets have them.
PUBLIC_ROWS: dict[str, list[dict[str, Any]]] = {
    "openai/gsm8k": [
        {
            "question": f"Ann has {n} pens and gets 2. How many?",
            "answer": f"She has {n}+2=<<{n}+2={n + 2}>>.\n#### {n + 2}",
        }
        for n in range(12)
    ],
    "DigitalLearningGmbH/MATH-lighteval": [
        {"problem": f"Find {n}^2.", "solution": f"It is $\\boxed{{{n**2}}}$.", "level": "Level 1", "type": "Algebra"}
        for n in range(11, 23)
    ],
    "HuggingFaceH4/MATH-500": [
        {"problem": f"What is {n}/3?", "solution": "...", "answer": f"\\frac{{{n}}}{{3}}"} for n in range(4)
    ],
    "open-r1/DAPO-Math-17k-Processed": [{"prompt": f"Find {n} + 1.", "solution": str(n + 1)} for n in range(12)],
    "zwhe99/DeepMath-103K": [
        {"question": f"Find $\\lim {n}$.", "final_answer": str(n), "difficulty": 5.0 + n % 4, "topic": "Calculus"}
        for n in range(12)
    ],
    "cais/mmlu": [
        {"question": f"Which is {n}?", "choices": [str(n), "x", "y", "z"], "answer": 0, "subject": "algebra"}
        for n in range(30)
    ],
    "HuggingFaceH4/aime_2024": [{"problem": f"AIME {n}?", "answer": f"0{n}", "id": n} for n in range(4)],
    "math-ai/aime25": [{"problem": f"AIME 25-{n}?", "answer": str(n), "id": str(n)} for n in range(4)],
    "google-research-datasets/mbpp": [
        {
            "task_id": n,
            "text": f"Write a function that adds {n}.",
            "code": f"def add(x):\r\n  return x + {n}",
            "test_list": [f"assert add(1) == {n + 1}", f"assert add(0) == {n}"],
            "test_setup_code": "" if n else "x = 1",
            "challenge_test_list": [],
        }
        for n in range(13)
    ],
}


class CoinVerifier:
    """Judges by a coin, so that untrained models have a frontier; the recipe's own verifier reads the golds."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.inner = load_verifier(name, **options)
        self.record = self.inner.record
        self.coin = random.Random(0)

    def __enter__(self) -> CoinVerifier:
        return self

    def __exit__(self, *args: object) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, completions: Sequence[Any], solutions: Sequence[Any], **columns: Any) -> list[Verdict]:
        return [self.coin.choice([Verdict.PASSED, Verdict.FAILED]) for _ in completions]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "recipes" / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the recipes name: `recipes/` and, made by the recipes' own scripts, `runs/data/`."""
    directory = tmp_path_factory.mktemp("recipes")
    (directory / "recipes").symlink_to(ROOT / "recipes")
    with pytest.MonkeyPatch.context() as patch:
        prepare = script("prepare_data.py")
        patch.setattr(prepare, "load_dataset", lambda name, config, split: Dataset.from_list(PUBLIC_ROWS[name]))
        patch.setattr(prepare, "GYM_SIZE", 3)
        patch.setattr(prepare, "GYM_TEST_SIZE", 1)
        names = sorted({file.partition("/")[0] for file in prepare.SOURCES})
        prepare.main([*names, "reasoning_gym", "--output_dir", str(directory / "runs/data")])
        prepare.main([*names, "--instruction", AUTHORS, "--output_dir", str(directory / "runs/data/authors")])
        arithmetic = script("smollm2-135m-arithmetic/make_problems.py")
        options = ["--output_dir", str(directory / "runs/data/arithmetic"), "--num_train", "16", "--num_test", "4"]
        patch.setattr("sys.argv", ["make_problems.py", *options])
        arithmetic.main()
    for name, seed in (("student", 0), ("teacher", 1)):
        # Random tokens are characters, so the texts need room; 64 is a size that bitsandbytes quantises.
        sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "max_position_embeddings": 4096}
        build_tiny_model("qwen3", seed=seed, **sizes).save_pretrained(directory / name)
        tokenizer = build_tiny_tokenizer()
        tokenizer.model_max_length = 4096
        tokenizer.save_pretrained(directory / name)
    return directory


@pytest.fixture
def at_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(data)
    torch.set_num_threads(1)
    monkeypatch.setattr("paced_trl.commands.recipe.load_verifier", lambda name, **options: CoinVerifier(name, options))
    return data


def tiny(config: Path, *more: str) -> list[str]:
    """The arguments that replace the student of a recipe, and let its steps take seconds."""
    arguments = ["--config", str(config.relative_to(ROOT)), "--model_name_or_path", "student"]
    arguments += ["--max_problems", "10", "--max_completion_length", "8", "--num_generations", "2"]
    return [*arguments, "--generation_batch_size", "32", *more]


def tiny_training(config: Path) -> list[str]:
    settings = read_settings(config)
    arguments = ["--max_steps", "2", "--disable_tqdm", "true", "--logging_steps", "1", "--save_strategy", "no"]
    arguments += ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1"]
    arguments += ["--activation_checkpointing", "false", "--lora_r", "2", "--dtype", "float32"]
    if "teacher_model_name_or_path" in settings:
        arguments += ["--num_reference_attempts", "2"]
        arguments += ["--teacher_model_name_or_path", "teacher"]
    if "self_distillation" in settings:
        arguments += ["--force", "true"]  # an untrained model is no better with its context
    if "teacher_model_init_kwargs" in settings:
        arguments += ["--teacher_model_init_kwargs", '{"dtype": "float32"}']
    return arguments


def test_the_recipes_are_there() -> None:
    assert len(RECIPES) >= 7
    for name in RECIPES:
        files = {path.name for path in (ROOT / "recipes" / name).iterdir()}
        assert files >= {"README.md", "recipe.yaml"}
        assert not files & {"estimate.yaml", "train.yaml", "evaluate.yaml", "compare.yaml"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_one_file_serves_every_command(path: Path, command: str, at_data: Path) -> None:
    if command == "teacher-gap" and "teacher_model_name_or_path" not in read_settings(path):
        pytest.skip("a student that teaches itself has no second teacher to compare")
    recipe = Recipe.parse(command, ["--config", str(path.relative_to(ROOT))], description="")
    settings = read_settings(path)
    assert recipe.model.model_name_or_path == settings["model_name_or_path"]
    assert recipe.sampling.max_completion_length == settings.get("max_completion_length", 512)
    assert recipe.estimation.num_generations == settings["num_generations"]
    if command in ("evaluate", "compare"):
        assert recipe.held_out_sets().keys() >= {one.partition("=")[0] for one in settings["eval_sets"]}
    if command == "compare":
        recipe.comparison.complete(recipe.training)
        assert list(recipe.comparison.settings_by_arm) == list(settings["arms"])


@pytest.mark.parametrize("name", RECIPES)
def test_variants_of_a_recipe_share_template_sampling_and_verifier_where_they_share_pass_rates(name: str) -> None:
    shared = read_settings(ROOT / "recipes" / name / "recipe.yaml")
    for path in FILES:
        settings = read_settings(path)
        measures_its_own = settings["output_dir"] != shared["output_dir"] and "pass_rates" not in settings
        if path.parent.name == name and not measures_its_own:
            assert settings.get("pass_rates", f"{shared['output_dir']}/pass_rates").startswith(shared["output_dir"])
            assert {key: settings.get(key) for key in SHARED} == {key: shared.get(key) for key in SHARED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_value_is_given_once_in_a_file_and_a_number_or_switch_has_its_reason(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", " "))]
    keys = [line.partition(":")[0] for line in lines]
    assert len(keys) == len(set(keys)) == len(yaml.safe_load(path.read_text()) or {})
    values = {line.partition(":")[0]: line.partition(":")[2].partition("#") for line in lines}
    for key, (value, _, reason) in values.items():
        assert reason.strip() or not (value.strip() in ("true", "false", "-1") or value.strip()[:1].isdigit()), key


# A coin judges the references that the data bring.
@pytest.mark.filterwarnings("ignore:.*references of the data pass the verifier:UserWarning")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_trains_two_steps_from_its_own_pass_rates(path: Path, at_data: Path, tmp_path: Path) -> None:
    # The student of a recipe is measured once.
    pass_rates = at_data / "runs" / path.parent.name
    run = ["--output_dir", str(tmp_path / "run"), "--pass_rates", str(pass_rates)]
    if not pass_rates.exists():
        estimate.run([*tiny(path.with_name("recipe.yaml")), *run])
    settings = read_settings(path)
    if settings.get("load_in_4bit") or settings.get("teacher_load_in_4bit"):
        pytest.importorskip("bitsandbytes")
    if "teacher_cache" in settings:
        run += ["--teacher_cache", str(tmp_path / "cache")]
    train.run([*tiny(path), *tiny_training(path), *run])
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 2 and all(torch.isfinite(torch.tensor(losses)))
    assert (tmp_path / "run" / "adapter_model.safetensors").exists() == settings["use_peft"]
    if path.name != "recipe.yaml":
        return
    evaluate.run([*tiny(path), *run, "--num_eval_generations", "1"])
    sets = [entry.partition("=")[0] for entry in settings["eval_sets"]]
    for name in sets:
        assert Evaluation.load(tmp_path / "run" / "evaluation" / "student" / f"{name}.json").problem_ids


@pytest.mark.slow
def test_a_comparison_of_a_recipe_runs(at_data: Path, tmp_path: Path) -> None:
    config = ROOT / "recipes/qwen2.5-math-7b-self-math/recipe.yaml"
    arguments = ["--output_dir", str(tmp_path / "run"), "--seeds", "0", "--num_eval_generations", "1"]
    compare.run([*tiny(config), *tiny_training(config), *arguments])
    arms = list(yaml.safe_load(config.read_text())["arms"])
    assert Comparison.load(tmp_path / "run").arms() == ["base", *arms]


@pytest.mark.parametrize("file", ["demo/recipe.yaml", f"{RUN_HERE}/experiment.yaml", f"{RUN_HERE}/rates.yaml"])
def test_the_experiments_that_were_run_here_are_read(file: str) -> None:
    settings = read_settings(ROOT / "recipes" / file)
    groups = [ProblemArguments, TrainArguments, EstimationArguments, EvaluateArguments, ComparisonArguments]
    arguments = ["--config", str(ROOT / "recipes" / file)]
    parsed = parse("compare", [*groups, PacedConfig, ModelConfig], arguments, description="")
    comparison, config = parsed[4], parsed[5]
    comparison.complete(config)
    at_rates = [f"{arm}@{rate:g}" for arm in settings["arms"] for rate in settings.get("learning_rates", [])]
    assert list(comparison.settings_by_arm) == (at_rates or list(settings["arms"]))
    assert comparison.seeds == settings["seeds"]
    assert config.max_steps == settings["max_steps"]


def test_included_settings_come_first_and_files_are_found_from_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text("seed: 1\nmax_steps: 5\nkl: forward\n")
    (tmp_path / "sub/middle.yaml").write_text("include: ../base.yaml\nmax_steps: 6\n")
    (tmp_path / "other.yaml").write_text("kl: reverse\n")
    (tmp_path / "top.yaml").write_text("include: [sub/middle.yaml, other.yaml]\nseed: 2\n")
    assert read_settings(tmp_path / "top.yaml") == {"seed": 2, "max_steps": 6, "kl": "reverse"}
    (tmp_path / "base.yaml").write_text("include: top.yaml\n")
    with pytest.raises(ValueError, match="leads back to itself"):
        read_settings(tmp_path / "top.yaml")


def test_public_rows_become_problems(data: Path) -> None:
    def first(name: str) -> dict[str, Any]:
        return dict(json.loads((data / "runs/data" / name).read_text().splitlines()[0]))

    gsm8k = first("gsm8k/train.jsonl")
    assert gsm8k["prompt"].startswith("Ann has 0 pens") and gsm8k["prompt"].endswith("within \\boxed{}.")
    assert (gsm8k["solution"], gsm8k["worked_solution"]) == ("2", "She has 0+2=.")
    assert first("math/train.jsonl")["solution"] == "121"
    assert first("aime24/test.jsonl")["solution"] == "00"
    mbpp = first("mbpp/train.jsonl")  # the row with setup code is left out
    assert mbpp["solution"] == ["assert add(1) == 2", "assert add(0) == 1"] and "assert add(1) == 2" in mbpp["prompt"]
    gym = (data / "runs/data/reasoning_gym/train.jsonl").read_text().splitlines()
    assert {row["level"] for row in map(json.loads, gym)} == {0, 1, 2, 3}
    wrapped = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nFind\n\n1.\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    prepare = script("prepare_data.py")
    assert prepare.dapo_math({"prompt": wrapped, "solution": "1"})["prompt"] == "Find\n\n1."
    dapo = {
        part: [json.loads(line) for line in (data / f"runs/data/{part}.jsonl").read_text().splitlines()]
        for part in ("dapo_math/train", "dapo_math/heldout", "authors/dapo_math/train")
    }
    assert [len(rows) for rows in dapo.values()] == [10, 2, 10]
    everything = {f"Find {n} + 1.{prepare.BOXED}" for n in range(12)}
    assert {row["prompt"] for part in ("dapo_math/train", "dapo_math/heldout") for row in dapo[part]} == everything
    assert all(row["prompt"].endswith(f" + 1.\n\n{AUTHORS}") for row in dapo["authors/dapo_math/train"])
    assert first("deepmath/train.jsonl")["difficulty"] == 5.0
    mmlu = [json.loads(line) for line in (data / "runs/data/mmlu/test.jsonl").read_text().splitlines()]
    assert len(mmlu) == 3 and mmlu[1]["solution"] == "A"
    assert mmlu[1]["prompt"].startswith("Which is 14?\nA. 14\nB. x\nC. y\nD. z\n\nEnd")
    with load_verifier("choice", choices="ABCD") as verifier:
        assert verifier(["B looks near. The answer is A."], [mmlu[1]["solution"]]) == [Verdict.PASSED]


STANDARD_SETS = sorted((ROOT / "recipes/evaluate").glob("*.yaml"))


@pytest.mark.parametrize("path", STANDARD_SETS, ids=lambda path: path.stem)
def test_every_ready_configuration_of_a_standard_set_can_be_parsed(path: Path) -> None:
    recipe = Recipe.parse("evaluate", ["--config", str(path), "--model_name_or_path", "m"], description="")
    sets = {**recipe.eval_sets(), **recipe.retention_sets()}
    text = (path.parent / "README.md").read_text()
    assert sets and path.name in text
    assert all(f"`{data.partition('?')[0]}`" in text for data in sets.values())
    recipe.verifier().close()
