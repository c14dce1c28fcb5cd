"""What an arm needs beside problems and references: fitted exponents, the teacher's pass rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers.paths import ROOT
from paced_trl.commands import compare, train
from paced_trl.commands.recipe import Recipe
from paced_trl.evaluation.comparison import Comparison


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a comparison on 100 problems that bring their counts, with references and a few steps."""
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)
    lines = Path("recipes/difficulty/data/balanced/train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:100]))
    (tmp_path / "test.jsonl").write_text("".join(lines[:8]))
    return [
        *("--config", "recipes/difficulty/recipe.yaml", "--dataset_name", str(tmp_path / "train.jsonl")),
        *("--eval_sets", f"test={tmp_path}/test.jsonl", "--retention_sets", f"again={tmp_path}/test.jsonl"),
        *("--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--num_eval_generations", "1"),
        *("--reference_column", "solution", "--disable_tqdm", "true", "--seeds", "0"),
    ]


def test_arms_measure_what_they_weigh_by(
    few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], Recipe.teacher
    monkeypatch.setattr(Recipe, "teacher", lambda recipe, **options: (loaded.append(1), load(recipe, **options))[1])
    arms = {
        "fitted": {"weight_alpha": "fitted", "weight_beta": "fitted"},
        "hard": {"weight_alpha": 2.0, "weight_beta": "fitted"},
        "uniform": {"weight_beta": "fitted"},
        "teacher_gate": {},
        "sft": {},
    }
    settings = [*few, "--control", "sft", "--num_reference_attempts", "2", "--arms", json.dumps(arms)]
    compare.run(settings)
    assert len(loaded) == 1  # once for all runs of the arm
    run = tmp_path / "run"
    assert not (run / "pass_rates").exists()  # the data have them
    runs = {arm: json.loads((run / f"arms/{arm}-seed0/run.json").read_text())["settings"] for arm in arms}
    fit = json.loads((run / "arms/fitted-seed0/gradient_snr.json").read_text())
    assert (runs["fitted"]["weight_alpha"], runs["fitted"]["weight_beta"]) == tuple(fit["exponents"])
    assert runs["hard"]["weight_alpha"] == 2.0 and isinstance(runs["hard"]["weight_beta"], float)
    assert runs["uniform"]["weight_beta"] == 1.0
    assert "weight_alpha 2, weight_beta" in capsys.readouterr().out
    assert len(list((run / "diagnosis").glob("gradients-*.npy"))) == 1  # one set of gradients for both
    shared = Comparison.load(run).shared_tokens
    assert shared.keys() == {"teacher_pass_rates"} and shared["teacher_pass_rates"] > 200
    costs = json.loads((run / "arms/sft-seed0/costs.json").read_text())
    assert costs["teacher_tokens"] == 0 < costs["student_tokens"]
    compare.run(settings)
    assert capsys.readouterr().out.count("reused") == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--weighting", "teacher_gate", "--num_reference_attempts", "1"], "2 are needed, and 4 or more tell rates"),
        (["--weight_beta", "fitted", "--problem_weight_column", "length"], "bring weights of their own"),
        (
            ["--weight_beta", "fitted", "--max_problems", "3"],
            "cannot be fitted. Only 0 pass rates have 4",
        ),
        (["--weight_beta", "fited"], "`weight_beta` is 'fited', .* Did you mean 'fitted'?"),
    ],
)
def test_what_cannot_be_measured_is_refused(few: list[str], more: list[str], message: str) -> None:
    settings = [*few[:4], *few[8:12], *few[14:18], *more]  # without those of `compare`
    with pytest.raises(ValueError, match=message):
        train.run(settings)
