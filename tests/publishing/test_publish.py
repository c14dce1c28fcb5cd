"""Publishing a run: what is staged, what its card says, and that nothing private is in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from peft import LoraConfig, get_peft_model
from PIL import Image

from helpers.fake_hub import TOKEN, Failure, FakeHub, go_online
from helpers.published_runs import BASE, PRIVATE, make_settings
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.commands import publish as publish_command
from paced_trl.evaluation.evaluation import Evaluation
from paced_trl.generation.identity import weights_fingerprint
from paced_trl.generation.models import load_model
from paced_trl.generation.prompts import PromptRenderer
from paced_trl.names import hub_id, public_value
from paced_trl.problems import chat_context
from paced_trl.publishing.card import evaluation_results, what_was_done
from paced_trl.publishing.hub import check_repository
from paced_trl.publishing.provenance import prompt_form, write_provenance
from paced_trl.publishing.publish import check_repositories, publish_run, stage_run
from paced_trl.publishing.run import PublishedRun, read_published_run, store_fingerprint
from paced_trl.report import theme as figure_theme
from paced_trl.report.theme import as_png
from paced_trl.settings import PublishArguments
from paced_trl.store.store import PassRateStore


pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def make_evaluation(name: str, weights: str, num_passed: int) -> Evaluation:
    return Evaluation(
        name=name,
        model="any",
        record={"generator": {"model": "any", "weights": weights}},
        seed=0,
        num_generations=4,
        problem_ids=[f"{name}-{row}" for row in range(20)],
        num_passed=[min(4, num_passed + row % 2) for row in range(20)],
        num_valid=[4] * 20,
        mean_completion_length=5.0,
        clipped_ratio=0.0,
        verdicts={"passed": 20 * num_passed, "failed": 80 - 20 * num_passed},
    )


def make_store(path: Path) -> PassRateStore:
    record = {
        "generator": {"model": "tiny-student", "weights": "before", "sampling": {"temperature": 1.0}},
        "verifier": {"name": "exact"},
    }
    store = PassRateStore(path, record)
    rows = [
        {
            "problem_id": f"p{problem}",
            "generation_index": index,
            "completion": "4" if index < problem else "5",
            "num_tokens": 2,
            "finish_reason": "stop",
            "verdict": "passed" if index < problem else "failed",
        }
        for problem in range(6)
        for index in range(5)
    ]
    store.append(rows)
    prompts = [f"{problem}+{problem}=" for problem in range(6)]
    pq.write_table(pa.table({"problem_id": [f"p{p}" for p in range(6)], "prompt": prompts}), f"{path}.parquet")
    return store


def leave_what_training_leaves(path: Path) -> None:
    """What must stay at home: optimizer, arguments, logs, checkpoints."""
    (path / "checkpoint-10").mkdir(parents=True)
    (path / "checkpoint-10" / "optimizer.pt").write_bytes(b"state")
    (path / "training_args.bin").write_bytes(PRIVATE.encode())
    (path / "trainer_state.json").write_text(json.dumps({"log_history": [], "best_model_checkpoint": PRIVATE}))
    (path / "adapter_model.bin").write_bytes(b"pickle")


@pytest.fixture
def adapter_run(tmp_path: Path) -> Path:
    """A finished LoRA run with pass rates and evaluations before and after, on a base in a local directory."""
    base, run = tmp_path / "base", tmp_path / "run"
    build_tiny_model().to(torch.bfloat16).save_pretrained(base)
    model = get_peft_model(load_model(base, dtype=torch.bfloat16), LoraConfig(target_modules="all-linear", r=4))
    model.save_pretrained(run)
    build_tiny_tokenizer().save_pretrained(run)
    leave_what_training_leaves(run)
    make_settings(run)
    make_store(run / "pass_rates")
    weights = weights_fingerprint(run)
    for name in ("test", "retention"):
        make_evaluation(name, "before", 1).save(run / f"evaluation/tiny-student/{name}.json")
        make_evaluation(name, weights, 3 if name == "test" else 1).save(run / f"evaluation/run/{name}.json")
    for model_name in ("tiny-student", "run"):
        manifest = {
            "sets": {"test": "org/held-out", "retention": f"{PRIVATE}/r.jsonl"},
            "retention_sets": ["retention"],
        }
        (run / f"evaluation/{model_name}/run.json").write_text(
            json.dumps({"settings": manifest, "status": "finished"})
        )
    return run


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    """A finished full fine-tune of a local student, without evaluations and without pass rates."""
    run = tmp_path / "full"
    build_tiny_model().save_pretrained(run)
    build_tiny_tokenizer().save_pretrained(run)
    leave_what_training_leaves(run)
    make_settings(run, **{"student.use_peft": False, "student.model_name_or_path": "./student"})
    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub().serving() as hub:
        go_online(monkeypatch, hub.endpoint)
        yield hub


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a figure, and one test looks at them."""
    monkeypatch.setattr(figure_theme, "as_png", lambda draw: b"drawing")


def files_of(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def stage(run: Path, repo: str = "me/student", **options: Any) -> Path:
    return stage_run(run, repo, PublishArguments(**options))[0]


def test_figures_are_drawn_and_the_card_shows_them(adapter_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_theme, "as_png", as_png)
    staged = stage(adapter_run)
    shown = re.findall(r"!\[[^\]]+\]\((.*?)\)", (staged / "README.md").read_text())
    assert shown == ["figures/pass_rates.png", "figures/before_after.png"]
    for path in shown:
        with Image.open(staged / path) as image:
            assert min(image.size) > 200 and not image.text


def test_a_directory_of_the_past_is_no_id(adapter_run: Path) -> None:
    """`runs/sft` looks like an id where there is no such directory any more: what training knew counts."""
    make_settings(adapter_run, **{"student.model_name_or_path": "runs/sft", "teacher_model_name_or_path": "runs/big"})
    known = {
        "student": None,
        "teacher": None,
        "problems": {"dataset_name": "data/train"},
        "versions": {"trl": "1.16.0"},
    }
    (adapter_run / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match="--base_model"):
        stage(adapter_run)
    staged = stage(adapter_run, base_model=BASE)
    text = (staged / "README.md").read_text() + (staged / "recipe.yaml").read_text()
    assert "runs/" not in text and "data/train" not in text and "6 of train" in text


def test_only_what_makes_an_adapter_is_staged(adapter_run: Path) -> None:
    assert files_of(stage(adapter_run)) == {
        "README.md",
        "recipe.yaml",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "figures/pass_rates.png",
        "figures/before_after.png",
    }


def test_nothing_private_is_in_card_or_files(adapter_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    staged = stage(adapter_run)
    everything = b"".join(path.read_bytes() for path in staged.rglob("*") if path.is_file())
    for private in (TOKEN, "/home/", "secret", str(adapter_run), str(adapter_run.parent), str(Path.home()) + "/"):
        assert private.encode() not in everything
    assert json.loads((staged / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE
    assert str(adapter_run.parent) in (adapter_run / "adapter_config.json").read_text()


def test_a_local_base_needs_the_name_that_others_can_load(adapter_run: Path) -> None:
    make_settings(adapter_run, **{"student.model_name_or_path": str(adapter_run.parent / "base")})
    with pytest.raises(ValueError, match=r"an adapter is of use only with its base.*--base_model"):
        stage(adapter_run)
    with pytest.raises(ValueError, match="no model on the Hub"):
        stage(adapter_run, base_model="./base")
    staged = stage(adapter_run, base_model="org/other")
    assert json.loads((staged / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/other"
    assert ModelCard.load(staged / "README.md").data.base_model == "org/other"


def test_the_card_says_what_was_done_and_measured(adapter_run: Path) -> None:
    staged = stage(adapter_run)
    card = ModelCard.load(staged / "README.md")
    for text in (
        "distilled from a teacher that is not on the Hub",
        "`p^a (1-p)^b` with a = 1, b = 2, estimator `plugin`",
        "forward KL(teacher \\|\\| student), then reverse KL(student \\|\\| teacher) from 50% of the steps on",
        "K = 5.00 completions per problem, 6 problems",
        "passed 15 (50.0%), failed 15 (50.0%)",
        "| test | 20 | 0.375 [",
        "better |",
        "### Retention",
        "(figures/before_after.png)",
        store_fingerprint(PassRateStore(adapter_run / "pass_rates")),
        "AutoPeftModelForCausalLM",
        "paced-trl train    --config recipe.yaml",
        "@article{xu2026paced",
        "vonwerra2020trl",
        "## Limits",
    ):
        assert text in card.text
    assert (card.data.library_name, card.data.base_model) == ("peft", BASE)
    recipe = yaml.safe_load((staged / "recipe.yaml").read_text())
    assert recipe["teacher_model_name_or_path"] == "teacher" and recipe["weight_beta"] == 2.0
    assert "model_init_kwargs" not in recipe and recipe["model_name_or_path"] == BASE
    assert recipe["num_generations"] == 5


def test_a_student_that_taught_itself_is_said_to_have(adapter_run: Path) -> None:
    make_settings(adapter_run, self_distillation="base", privileged_template="{prompt}{privileged_context}")
    staged = stage(adapter_run)
    text = " ".join(ModelCard.load(staged / "README.md").text.split())
    assert "distilled from itself without its adapter, which saw privileged context" in text
    recipe = yaml.safe_load((staged / "recipe.yaml").read_text())
    assert recipe["self_distillation"] == "base" and "teacher_model_name_or_path" not in recipe


def test_the_recipe_has_what_has_an_effect(adapter_run: Path) -> None:
    always = {"weight_band": [0.2, 0.8], "refresh_steps": 3, "student.load_in_4bit": False, "bf16": False}
    make_settings(adapter_run, weight_gate=False, **always)
    recipe = read_published_run(adapter_run).recipe()
    assert not recipe.keys() & {"weight_gate", "weight_band", "refresh_steps", "load_in_4bit"} and not recipe["bf16"]
    make_settings(adapter_run, weight_gate=False, weight_estimator="posterior", refresh="estimate", **always)
    recipe = read_published_run(adapter_run).recipe()
    assert recipe["weight_gate"] is False and recipe["refresh_steps"] == 3


def test_evaluations_are_metadata_with_intervals(adapter_run: Path) -> None:
    card = ModelCard.load(stage(adapter_run) / "README.md")
    run = read_published_run(adapter_run)
    assert card.data.eval_results == evaluation_results(run)
    by_name = {result.dataset_name: result for result in card.data.eval_results}
    low, high = run.after["test"].mean_at_k_interval
    assert by_name["test"].metric_value == run.after["test"].mean_at_k
    assert by_name["test"].metric_name == f"test mean@4 (95 % interval {low:.4f} to {high:.4f}, 20 problems)"
    assert by_name["test"].dataset_type == "org/held-out"
    # A local file has no id, and its path is private.
    assert by_name["retention"].dataset_type == "retention"


def test_problems_that_were_trained_on_are_drawn_and_are_no_result(
    adapter_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[figure_theme.Drawing] = []
    monkeypatch.setattr(figure_theme, "as_png", lambda draw: drawn.append(draw()) or b"drawing")
    make_evaluation("training", "before", 1).save(adapter_run / "evaluation/tiny-student/training.json")
    make_evaluation("training", weights_fingerprint(adapter_run), 3).save(adapter_run / "evaluation/run/training.json")
    card = ModelCard.load(stage(adapter_run) / "README.md")
    assert {result.dataset_name for result in card.data.eval_results} == {"test", "retention"}
    assert "| training |" not in card.text
    titles = [axes.get_title() for drawing in drawn for axes in drawing.figure.axes]
    assert [title.split("\n")[-1] for title in titles[-2:]] == ["test", "training"]


def test_replay_and_an_early_end_are_said(adapter_run: Path) -> None:
    make_settings(adapter_run, replay_share=0.25, max_forgetting=0.02)
    done = what_was_done(read_published_run(adapter_run))
    assert done["weights"].endswith("; mastered problems have 25% of the weight")
    assert done["ends"] == "when accuracy on a retention set has fallen by more than 0.02"
    assert "ends" not in what_was_done(PublishedRun(adapter_run, {}, {}))


def test_evaluations_of_other_weights_are_left_out(adapter_run: Path) -> None:
    make_evaluation("test", "of another training", 4).save(adapter_run / "evaluation/run/test.json")
    with pytest.warns(UserWarning, match="is of other weights than the run's"):
        run = read_published_run(adapter_run)
    assert set(run.after) == {"retention"} and set(run.before) == {"test", "retention"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert "pass rates after training were not measured" in (stage(adapter_run) / "README.md").read_text()


def test_without_evaluation_the_card_has_no_metadata_of_one_and_says_so(full_run: Path) -> None:
    staged = stage(full_run)
    card = ModelCard.load(staged / "README.md")
    assert card.data.eval_results is None and "model-index" not in card.content
    assert "nothing is known of how good this model is" in card.text
    assert "pass rates of the training problems were not measured" in card.text
    assert "None" not in card.content and card.data.base_model is None
    assert "a student that is not on the Hub" in card.text and "AutoModelForCausalLM" in card.text
    assert {"model.safetensors", "config.json", "recipe.yaml"} <= files_of(staged)
    assert "figures" not in {path.name for path in staged.iterdir()}


def test_the_merged_model_is_published_without_its_adapter(adapter_run: Path, hub: FakeHub) -> None:
    publish = PublishArguments(merge=True)
    repositories = check_repositories("me/student", publish)
    publish_run(adapter_run, repositories, PublishArguments())
    stored = hub.repositories["models/me/student"]
    assert "adapter_model.safetensors" in stored.files and "model.safetensors" not in stored.files
    publish_run(adapter_run, repositories, publish)
    assert "adapter_model.safetensors" not in stored.files and "adapter_config.json" not in stored.files
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(stored.files)
    assert "parity.json" not in stored.files
    card = stored.files["README.md"].decode()
    assert "tolerance 10%" in card and "library_name: transformers" in card


@pytest.mark.slow
@pytest.mark.parametrize("is_merged", [False, True])
def test_the_example_in_the_card_runs(is_merged: bool, adapter_run: Path, hub: FakeHub, tmp_path: Path) -> None:
    base = adapter_run.parent / "base"
    hub.add(BASE).files.update({path.name: path.read_bytes() for path in base.iterdir()})
    publish = PublishArguments(merge=is_merged)
    publish_run(adapter_run, check_repositories("me/student", publish), publish)
    card = hub.repositories["models/me/student"].files["README.md"].decode()
    blocks = re.findall(r"(?s)```python\n(.*?)```", card)
    code = "\n".join(blocks).replace('"merged"', repr(str(tmp_path / "merged_by_hand")))
    online = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    environment = {**os.environ, **online}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(blocks) == (2 if is_merged else 3)
    assert (tmp_path / "merged_by_hand/model.safetensors").exists() != is_merged


CARD = "---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n# Base\n"


def test_the_license_is_the_base_models_by_the_hub(adapter_run: Path, hub: FakeHub) -> None:
    hub.add(BASE).files["README.md"] = CARD.encode()
    publish_run(adapter_run, check_repositories("me/student", PublishArguments()), PublishArguments())
    data = ModelCard(hub.repositories["models/me/student"].files["README.md"].decode()).data
    assert (data.license, data.license_name) == ("other", "own")
    assert data.license_link == f"https://huggingface.co/{BASE}/blob/main/LICENSE"


def test_the_card_beside_the_student_goes_before_the_hub_and_the_user_before_both(
    adapter_run: Path, hub: FakeHub
) -> None:
    base = adapter_run.parent / "base"
    (base / "README.md").write_text(CARD.replace("other", "mit").split("license_name")[0] + "---\n")
    make_settings(adapter_run, **{"student.model_name_or_path": str(base)})
    hub.add(BASE).files["README.md"] = CARD.encode()
    for given, expected in ((None, "mit"), ("cc0-1.0", "cc0-1.0")):
        publish = PublishArguments(base_model=BASE, license=given)
        publish_run(adapter_run, check_repositories("me/student", publish), publish)
        data = ModelCard(hub.repositories["models/me/student"].files["README.md"].decode()).data
        assert (data.license, data.license_name, data.license_link) == (expected, None, None)
    assert f"GET /api/models/{BASE}" not in hub.requests


@pytest.mark.parametrize("fault", ["no license", "no model", 500])
def test_a_license_that_is_not_known_is_left_out_and_that_is_said(
    fault: str | int, adapter_run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault == "no license":
        hub.add(BASE).files["README.md"] = b"---\ntags: [a]\n---\n# Base\n"
    elif isinstance(fault, int):
        hub.failures.append(Failure(f"GET /api/models/{BASE}", fault))
    publish_run(adapter_run, check_repositories("me/student", PublishArguments()), PublishArguments())
    card = ModelCard(hub.repositories["models/me/student"].files["README.md"].decode())
    assert card.data.license is None and "license:" not in card.content.split("---")[1]
    assert f"names no license: that of {BASE} is not known here. State it" in capsys.readouterr().out


def test_a_readme_that_is_no_card_has_no_license(adapter_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = adapter_run.parent / "base"
    make_settings(adapter_run, **{"student.model_name_or_path": str(base)})
    for text in ("# Notes\n", "---\n: [\n---\n", "---\n- a\n---\n"):
        (base / "README.md").write_text(text)
        assert ModelCard.load(stage(adapter_run, base_model=BASE) / "README.md").data.license is None
        assert "the Hub is asked only when it is published" in capsys.readouterr().out


def test_only_adapters_are_merged(full_run: Path) -> None:
    with pytest.raises(ValueError, match="holds no adapter to merge"):
        stage(full_run, merge=True)


def test_weights_that_run_code_when_they_load_are_not_published(full_run: Path) -> None:
    (full_run / "model.safetensors").rename(full_run / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no weights as safetensors"):
        stage(full_run)


def test_a_run_that_has_not_finished_is_not_published(adapter_run: Path) -> None:
    (adapter_run / "run.json").write_text(json.dumps({"status": "started", "settings": {}}))
    with pytest.raises(ValueError, match="holds a run that has not finished"):
        stage(adapter_run)


def test_a_private_text_in_the_settings_stops_the_publication_before_any_upload(
    adapter_run: Path, hub: FakeHub
) -> None:
    make_settings(adapter_run, verifier_kwargs={"contact": "jane@example.org"})
    repositories = check_repositories("me/student", PublishArguments())
    with pytest.raises(ValueError, match="e-mail address"):
        publish_run(adapter_run, repositories, PublishArguments())
    assert hub.repositories["models/me/student"].files == {}
    assert publish_run(adapter_run, repositories, PublishArguments(not_private=["jane@example.org"]))[0][1]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("org/model", "org/model"),
        ("/home/jane/model", "model"),
        ("./data/x.jsonl", "x.jsonl"),
        ("~/x", "x"),
        ({"a": ["/home/jane/x", 3]}, {"a": ["x", 3]}),
        ("What is 1/2?", "What is 1/2?"),
    ],
)
def test_of_local_paths_the_last_part_is_shown(value: Any, shown: Any) -> None:
    assert public_value(value) == shown


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("org/model", True),
        ("model", False),
        (None, False),
        ("./model", False),
        ("~/model", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("data/train.jsonl", False),
        ("models/x.gguf", False),
        ("reasoning_gym:chain_sum?size=5", False),
        ("here/model", False),
    ],
)
def test_an_id_is_what_can_be_one_and_does_not_exist_here(
    name: str | None, is_id: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_id(name) == (name if is_id else None)


def test_publishing_twice_makes_one_commit_and_loses_nothing_when_interrupted(
    adapter_run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--run",
        str(adapter_run),
        "--repo",
        "me/student",
        "--pass_rates_repo",
        "me/rates",
        "--license",
        "mit",
    ]
    hub.failures.append(Failure("POST /api/datasets/me/rates/commit", 403, times=1))
    before = {path: path.read_bytes() for path in adapter_run.rglob("*") if path.is_file()}
    with pytest.raises(PermissionError, match="may not write to 'me/rates'"):
        publish_command.run(arguments)
    publish_command.run(arguments)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["Unchanged", "Published"]
    publish_command.run(arguments)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["Unchanged", "Unchanged"]
    assert {path: path.read_bytes() for path in before} == before
    for repository in ("models/me/student", "datasets/me/rates"):
        assert hub.repositories[repository].private and len(hub.repositories[repository].commits) == 2


def test_a_dry_run_asks_the_network_for_nothing(
    adapter_run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", str(adapter_run), "--repo", "me/student", "--pass_rates_repo", "me/rates"]
    publish_command.run([*arguments, "--dry_run", "true"])
    assert hub.requests == [] and "Would be published" in capsys.readouterr().out
    assert (adapter_run / "publish/pass_rates/data/train.parquet").exists()


def test_a_card_that_the_hub_does_not_accept_is_not_uploaded(adapter_run: Path, hub: FakeHub) -> None:
    hub.failures.append(Failure("validate-yaml", 400))
    repositories = check_repositories("me/student", PublishArguments())
    with pytest.raises(ValueError, match="injected"):
        publish_run(adapter_run, repositories, PublishArguments())
    assert hub.repositories["models/me/student"].files == {}


def test_arms_of_a_comparison_share_pass_rates_and_the_untouched_student(adapter_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "comparison"
    arm = root / "arms" / "paced-seed0"
    shutil.copytree(adapter_run, arm, ignore=shutil.ignore_patterns("evaluation", "pass_rates*"))
    make_store(root / "pass_rates")
    make_evaluation("test", "before", 1).save(root / "base/test.json")
    make_evaluation("test", weights_fingerprint(arm), 3).save(arm / "evaluation/test.json")
    run = read_published_run(arm)
    assert run.store is not None and set(run.before) == set(run.after) == {"test"}


def test_pass_rates_need_a_store(full_run: Path) -> None:
    with pytest.raises(ValueError, match="has no store of pass rates"):
        stage_run(full_run, "me/student", PublishArguments(), pass_rates_repo="me/rates")


def test_repositories_are_checked_before_training(hub: FakeHub) -> None:
    from trl import ModelConfig

    from paced_trl.publishing.publish import check_before_training
    from paced_trl.training.config import PacedConfig

    args = PacedConfig(output_dir="runs/mine", push_to_hub=True, use_cpu=True, bf16=False)
    adapter = ModelConfig(model_name_or_path="./student", use_peft=True)
    with pytest.raises(ValueError, match="--base_model"):
        check_before_training(args, adapter, PublishArguments())
    with pytest.raises(ValueError, match="no adapter to merge"):
        check_before_training(args, ModelConfig(model_name_or_path=BASE), PublishArguments(merge=True))
    assert hub.requests == []
    checked = check_before_training(args, adapter, PublishArguments(base_model=BASE, pass_rates_repo="me/rates"))
    assert checked.model == check_repository("me/mine") and checked.pass_rates is not None
    assert hub.repositories["models/me/mine"].private and hub.repositories["datasets/me/rates"].private


INSTRUCTION = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
TURNS = [
    {"role": "system", "content": 'Answer with a "number".'},
    {"role": "user", "content": "1+1=" + INSTRUCTION},
    {"role": "assistant", "content": "2"},
]


@pytest.mark.parametrize(
    "prompts",
    [
        [f"{n}+{n}=" for n in range(4)],
        [f"{n}+{n}={INSTRUCTION}" for n in range(4)],
        [f"Sum:\n{n}+{n}={INSTRUCTION}" for n in range(4)],
        [[{"role": "user", "content": f"{n}+{n}="}] for n in range(4)],
        [[*TURNS, {"role": "user", "content": f"{n}+{n}={INSTRUCTION}"}] for n in range(4)],
    ],
    ids=["text", "instruction", "frame", "chat", "few-shot"],
)
@pytest.mark.parametrize("temperature", [0.7, 0])
def test_the_example_of_the_card_asks_what_the_engine_asked(
    prompts: list[Any], temperature: float, adapter_run: Path
) -> None:
    sampling = {"temperature": temperature, "top_p": 0.9, "top_k": 0, "min_p": None, "max_completion_length": 24}
    make_settings(adapter_run, chat_template_kwargs={"enable_thinking": False}, temperature=1.0)
    write_provenance(
        adapter_run,
        student=BASE,
        teacher=None,
        problems={},
        pass_rates={},
        references={},
        prompts=prompts,
    )
    for path in adapter_run.glob("evaluation/run/test.json"):
        saved = json.loads(path.read_text())
        saved["record"]["generator"]["sampling"] = sampling | {"repetition_penalty": 1.0}
        path.write_text(json.dumps(saved))
    card = (stage(adapter_run) / "README.md").read_text()
    code = next(block for block in re.findall(r"(?s)```python\n(.*?)```", card) if "question =" in block)
    asked: dict[str, Any] = {}

    class Model:
        device = "cpu"

        def generate(self, **options: Any) -> torch.Tensor:
            asked.update(options)
            return options["input_ids"]

    tokenizer = build_tiny_tokenizer()
    exec(code.replace('question = "..."', 'question = "3+3="'), {"tokenizer": tokenizer, "model": Model()})
    rendered = PromptRenderer(tokenizer, {"enable_thinking": False}).tokenize(prompts)[3]
    assert asked.pop("input_ids")[0].tolist() == rendered
    del asked["attention_mask"]
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 0} if temperature else {}
    # All of them, because what is missing comes from the model's own generation config.
    assert asked == {"do_sample": temperature > 0, "max_new_tokens": 24, "repetition_penalty": 1.0, **drawn}


def test_what_prompts_share_is_whole_lines_and_leading_turns() -> None:
    assert prompt_form([]) is None
    assert prompt_form(["What is 1?", "What is 2?"]) == {"context": None, "before": "", "after": ""}
    other = [{"role": "system", "content": "Other."}, {"role": "user", "content": "1"}]
    assert prompt_form([other, [*TURNS, {"role": "user", "content": "2"}]])["context"] == []


@pytest.mark.parametrize("is_gone", [False, True])
def test_few_shot_turns_are_published_with_the_recipe_that_names_them(
    is_gone: bool, adapter_run: Path, tmp_path: Path
) -> None:
    few_shot = tmp_path / "few.json"
    few_shot.write_text(json.dumps(TURNS[1:]))
    problems = {"few_shot": str(few_shot), "system_prompt": TURNS[0]["content"], "as_chat": "auto"}
    prompts = [[*TURNS, {"role": "user", "content": f"{n}+{n}="}] for n in range(4)]
    write_provenance(
        adapter_run, student=BASE, teacher=None, problems=problems, pass_rates={}, references={}, prompts=prompts
    )
    if is_gone:
        few_shot.unlink()
    staged = stage(adapter_run)
    recipe = yaml.safe_load((staged / "recipe.yaml").read_text())
    assert json.loads((staged / recipe["few_shot"]).read_text()) == TURNS[1:]
    assert chat_context(recipe["system_prompt"], str(staged / recipe["few_shot"])) == TURNS


def test_a_run_without_its_prompts_says_that_their_form_is_unknown(full_run: Path) -> None:
    assert "does not hold its prompts, so their form is not known" in (stage(full_run) / "README.md").read_text()


NASTY = "a|b<script>x</script>](http://evil)*`"


def test_names_of_files_sets_and_verifiers_are_text_in_the_card(adapter_run: Path) -> None:
    make_settings(adapter_run, verifier=f"my.module:{NASTY}", verifier_kwargs={NASTY: "x\n\n# Heading"})
    problems = {"dataset_name": "/data/" + NASTY.replace("/", "-"), "prompt_column": "```\n# Heading"}
    write_provenance(adapter_run, student=BASE, teacher=None, problems=problems, pass_rates={}, references={})
    for path in adapter_run.glob("evaluation/*/test.json"):
        make_evaluation("x", json.loads(path.read_text())["record"]["generator"]["weights"], 2).save(
            path.with_name(NASTY.replace("/", "-") + ".json")
        )
    card = ModelCard.load(stage(adapter_run) / "README.md")
    text = MarkdownIt("commonmark").enable("table").render(card.text)
    assert "<script" not in text and 'href="http://evil' not in text and "<h1>Heading" not in text
    rows = [row for row in card.text.splitlines() if row.startswith("|") and "script" in row]
    assert len(rows) == 3  # the data, the verifier, the set
    for row, columns in zip(rows, (2, 2, 5), strict=True):
        cells = re.findall(r"<td[^>]*>", MarkdownIt("commonmark").enable("table").render(table_of(row, columns)))
        assert len(cells) == columns


def table_of(row: str, columns: int) -> str:
    return "|" + " |" * columns + "\n|" + "---|" * columns + "\n" + row + "\n"
