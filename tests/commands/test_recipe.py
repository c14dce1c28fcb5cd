"""What a recipe's settings name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.fakes import make_problems
from helpers.paths import ROOT
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl import Evaluation
from paced_trl.commands import compare, estimate, evaluate, teacher_gap, train
from paced_trl.commands.recipe import Recipe, named_sets
from paced_trl.commands.training_steps import training_problems
from paced_trl.estimation.stored_problems import stored_prompt_settings
from paced_trl.settings import EstimationArguments, OutputArguments, ProblemArguments


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


ROWS = [{"prompt": "1+1=", "solution": "2"}, {"prompt": "1+2=", "solution": "3"}]


@pytest.fixture
def chat_model(tmp_path: Path) -> str:
    """A tiny model whose tokenizer has a chat template, which asks two problems in a file beside it."""
    build_tiny_model().save_pretrained(tmp_path / "model")
    build_tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return str(tmp_path / "model")


def measure(directory: Path, model: str, *flags: str) -> None:
    estimate.run(
        [
            *("--dataset_name", str(directory / "data.jsonl"), "--output_dir", str(directory / "run")),
            *("--model_name_or_path", model, "--verifier", "exact", "--max_completion_length", "2"),
            *("--num_generations", "1", *flags),
        ]
    )


def test_text_prompts_of_a_model_with_a_chat_template_become_chats_and_that_is_said(
    chat_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(tmp_path, chat_model)
    said = capsys.readouterr().err
    assert "user messages of the chat template (`as_chat: auto`; `--as_chat false` leaves them" in said
    assert "The first one: <user>1+1=<assistant>" in said
    store = tmp_path / "run" / "pass_rates"
    assert stored_prompt_settings(store) == {"as_chat": True, "system_prompt": None, "few_shot": None}
    for flags, message in (
        (["--as_chat", "false"], r"`as_chat` was True and is False now \(`--as_chat`\)"),
        (["--system_prompt", "Add."], r"`system_prompt` was None and is 'Add\.' now \(`--system_prompt`\)"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(tmp_path, chat_model, *flags)


@pytest.mark.parametrize("knows_settings", [True, False])
def test_a_store_of_text_prompts_is_continued_with_text_prompts(
    chat_model: str, tmp_path: Path, knows_settings: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(tmp_path, chat_model, "--as_chat", "false")
    store = tmp_path / "run" / "pass_rates"
    if not knows_settings:  # as version 0.1.0 left it
        (store / ".problems.parquet").unlink()
    shards = sorted((store / "shards").iterdir())
    capsys.readouterr()
    measure(tmp_path, chat_model)
    assert sorted((store / "shards").iterdir()) == shards
    assert "user messages of the chat template" not in capsys.readouterr().err


def test_an_evaluation_of_text_prompts_goes_on_with_text_prompts(chat_model: str, tmp_path: Path) -> None:
    arguments = ["--model_name_or_path", chat_model, "--eval_sets", f"test={tmp_path / 'data.jsonl'}"]
    arguments += ["--output_dir", str(tmp_path / "run"), "--verifier", "exact", "--max_completion_length", "2"]
    evaluate.run([*arguments, "--as_chat", "false"])
    (manifest,) = (tmp_path / "run").rglob("run.json")
    assert json.loads(manifest.read_text())["settings"]["problems"]["as_chat"] is False
    store = manifest.parent / "test_completions"
    assert stored_prompt_settings(store) == {"as_chat": False, "system_prompt": None, "few_shot": None}
    before = manifest.read_text()
    evaluate.run(arguments)  # another setting would be refused
    assert manifest.read_text() == before


def test_as_chat_may_be_a_bare_flag_and_is_true_false_or_auto() -> None:
    assert Recipe.parse("estimate", ["--as_chat"], description="").as_chat is True
    assert Recipe.parse("estimate", ["--as_chat", "False"], description="").as_chat is False
    assert Recipe.parse("estimate", [], description="").data.as_chat == "auto"
    assert Recipe.parse("estimate", ["--system_prompt", "Add."], description="").as_chat is True
    with pytest.raises(ValueError, match="`as_chat` is 'maybe', but it must be true, false or 'auto'"):
        Recipe.parse("estimate", ["--as_chat", "maybe"], description="")


def test_the_record_of_a_run_is_that_of_version_0_1_0_unless_later_settings_are_given() -> None:
    record = ProblemArguments(dataset_name="a").record(as_chat=False)
    assert "pass_rate_column" not in record and record["as_chat"] is False and record["choices_column"] is None
    given = ProblemArguments(num_passed_column="c", num_valid_column="k").record(as_chat=True)
    assert (given["num_passed_column"], given["num_valid_column"], given["as_chat"]) == ("c", "k", True)
    with pytest.raises(ValueError, match="`num_valid_column` is given without `num_passed_column`"):
        ProblemArguments(num_valid_column="k")


@pytest.mark.parametrize(
    ("columns", "flags", "found"),
    [
        ({"w": [0.5, 1.5]}, ["--problem_weight_column", "w"], "problem_weight"),
        ({"rate": [0.5, 0.25]}, ["--pass_rate_column", "rate"], "pass_rate"),
        ({"c": [1, 2], "k": [4, 4]}, ["--num_passed_column", "c", "--num_valid_column", "k"], "num_passed"),
        ({"pass_rate": [0.5, 0.25]}, [], "pass_rate"),
    ],
)
def test_own_weights_and_pass_rates_need_no_estimate(
    tmp_path: Path, columns: dict[str, list[float]], flags: list[str], found: str
) -> None:
    rows = [{**row, **{name: values[i] for name, values in columns.items()}} for i, row in enumerate(ROWS)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--dataset_name", str(tmp_path / "data.jsonl"), "--output_dir", str(tmp_path), "--kl", "reverse"]
    recipe = Recipe.parse("train", [*arguments, *flags, "--use_cpu", "true", "--bf16", "false"], description="")
    problems = training_problems(recipe, recipe.problems(), None)
    assert problems[found][:] == next(iter(columns.values()))


def test_references_in_the_data_are_judged_before_they_are_trained_on(tmp_path: Path) -> None:
    answers = [[{"role": "assistant", "content": text}] for text in ("2", "5")]
    rows = [{**row, "completion": answer} for row, answer in zip(ROWS, answers, strict=True)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--dataset_name", str(tmp_path / "data.jsonl"), "--output_dir", str(tmp_path), "--kl", "forward"]
    more = ["--weighting", "uniform", "--use_cpu", "true", "--bf16", "false", "--verifier", "exact"]
    recipe = Recipe.parse("train", [*arguments, *more], description="")
    with recipe.verifier() as verifier, pytest.warns(UserWarning, match="1 of the 2 references of the data pass"):
        problems = training_problems(recipe, recipe.problems(), verifier)
    assert problems["reference"][:] == ["2"]
    with pytest.warns(UserWarning, match="2 references of the data are trained on unverified"):
        assert len(training_problems(recipe, recipe.problems(), None)) == 2


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


@pytest.mark.parametrize("command", [estimate, evaluate, teacher_gap])
def test_prompts_that_no_template_renders_are_refused_before_weights_load(
    command, chat_model: str, tmp_path: Path
) -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(chat_model)
    (Path(chat_model) / "chat_template.jinja").unlink(missing_ok=True)
    (Path(chat_model) / "model.safetensors").write_bytes(b"no weights")
    data = str(tmp_path / "data.jsonl")
    arguments = ["--output_dir", str(tmp_path / "run"), "--verifier", "exact", "--as_chat", "true"]
    arguments += ["--eval_sets", f"test={data}"] if command is evaluate else ["--dataset_name", data]
    arguments += ["--teacher_model_name_or_path" if command is teacher_gap else "--model_name_or_path", chat_model]
    with pytest.raises(ValueError, match="Prompt 0 is a list of messages, and the tokenizer has no chat template"):
        command.run(arguments)
