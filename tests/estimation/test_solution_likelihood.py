"""The log-probability of solutions against one naive forward pass each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl import SamplingParameters, TransformersGenerator, load_problems, solution_log_probabilities
from paced_trl.commands.estimation_steps import with_prior_features
from paced_trl.commands.recipe import Recipe
from paced_trl.estimation import solution_likelihood as module
from paced_trl.settings import EstimationArguments, WeightArguments
from paced_trl.weighting.prior_features import problem_features


PROBLEMS = [
    {"prompt": "1+1=", "solution": "2"},
    {"prompt": "1+2*3+4=", "solution": "11"},
    {"prompt": "9=", "solution": "9" * 12},
    {"prompt": "0+0=", "solution": ""},
    {"prompt": "3*4=", "solution": 12},
]


@pytest.fixture(scope="module")
def generator() -> TransformersGenerator:
    return TransformersGenerator(
        build_tiny_model(seed=0), build_tiny_tokenizer(), SamplingParameters(max_completion_length=4)
    )


@pytest.mark.parametrize("max_logits", [1, 10**8])
def test_it_is_the_sum_over_the_solution_s_tokens(
    generator: TransformersGenerator, max_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LOGITS", max_logits)
    naive = []
    for problem in PROBLEMS:
        prompt = generator.renderer.tokenize([problem["prompt"]])[0]
        solution = generator.tokenizer(str(problem["solution"]), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            log_softmax = generator.model(torch.tensor([prompt + solution])).logits[0].log_softmax(dim=-1)
        naive.append(sum(log_softmax[len(prompt) + t - 1, token].item() for t, token in enumerate(solution)))
    result = solution_log_probabilities(PROBLEMS, generator, progress=False)
    assert result.tolist() == pytest.approx(naive, abs=1e-4)
    assert result[3] == 0.0 and (result[[0, 1, 2, 4]] < 0).all()


def test_an_engine_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the student's weights in this process"):
        solution_log_probabilities(PROBLEMS, SimpleNamespace(), progress=False)


def test_it_is_measured_once_and_kept_beside_the_store(
    generator: TransformersGenerator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "1+1=", "solution": "2"}\n{"prompt": "2+2=", "solution": "4"}\n')
    problems = load_problems(str(tmp_path / "data.jsonl"))
    weights = WeightArguments(prior_features=["solution_log_probability"])
    store = tmp_path / "pass_rates"
    recipe = Recipe(weights, EstimationArguments(pass_rates=str(store)))
    published = Recipe(weights, EstimationArguments(pass_rates="someone/rates"))
    with pytest.raises(ValueError, match="Add it with `solution_log_probabilities`"):
        problem_features(problems, weights.prior_features)
    with pytest.raises(ValueError, match="was not measured for these problems"):
        with_prior_features(recipe, problems)
    with pytest.raises(ValueError, match="Published pass rates do not have it: measure your own"):
        with_prior_features(published, problems)
    measured = with_prior_features(recipe, problems, generator)
    measured.to_parquet(str(store.with_suffix(".parquet")))
    again = with_prior_features(recipe, problems)
    assert again["solution_log_probability"][:] == measured["solution_log_probability"][:]
    plain = Recipe(WeightArguments(), recipe.estimation)
    assert with_prior_features(plain, problems).column_names == problems.column_names
