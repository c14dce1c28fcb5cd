"""What a run logs of its problems, as scalars and as numbers for trackers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from helpers.training import COUNTS, ESTIMATE, logged, problems
from paced_trl import effective_sample_size
from paced_trl.training.monitoring.metrics import ProblemFigures, known_counts, problem_metrics
from paced_trl.training.monitoring.trackers import Histograms
from paced_trl.weighting.counts import frontier_shares


def test_shares_are_those_of_the_table() -> None:
    passed, valid = np.array([4, 1, 2, 0, 0, 3]), np.array([4, 4, 4, 4, 0, 3])
    shares = frontier_shares(passed, valid)
    metrics = problem_metrics(passed.astype(float), valid.astype(float), staleness=3)
    assert {name: metrics[name] for name in ("mastered", "frontier", "out_of_reach")} == {
        name: getattr(shares, name) for name in ("mastered", "frontier", "out_of_reach")
    }
    assert metrics["pass_rate"] == pytest.approx(np.mean([1, 0.25, 0.5, 0, 1]))
    assert metrics["staleness"] == 3
    assert "pass_rate" not in problem_metrics(np.zeros(2), np.zeros(2), staleness=0)


def test_a_pass_rate_without_counts_serves_as_well() -> None:
    assert known_counts(Dataset.from_dict({"prompt": ["a"]})) is None
    counts = known_counts(Dataset.from_dict({"pass_rate": [0.0, 0.3, 1.0, None]}))
    assert counts is not None
    assert problem_metrics(*counts, staleness=0) == {
        "mastered": 0.25,
        "frontier": 0.25,
        "out_of_reach": 0.25,
        "staleness": 0.0,
        "pass_rate": pytest.approx(1.3 / 3),
    }
    assert ProblemFigures(Dataset.from_dict({"pass_rate": [0.3, None]})).pass_rates_of([1, 0]) == [None, 0.3]
    assert ProblemFigures(Dataset.from_dict({"prompt": ["a"]})).pass_rates_of([0]) == [None]


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_a_static_run_logs_its_training_set_every_time(make_trainer: Callable, kl: str) -> None:
    trainer = make_trainer(kl=kl, max_steps=3)
    trainer.train()
    shares = {"mastered": 1 / 16, "frontier": 14 / 16, "out_of_reach": 1 / 16, "pass_rate": np.mean(COUNTS) / 8}
    for name, value in shares.items():
        assert logged(trainer, f"paced/problems/{name}") == pytest.approx([value] * 3)
    assert logged(trainer, "paced/problems/staleness") == [1, 2, 3]
    weights = trainer.problem_weights
    assert logged(trainer, "paced/problem_weight_max") == [max(weights)] * 3
    assert logged(trainer, "paced/effective_sample_size") == [effective_sample_size(weights)] * 3
    tokens = [8 * length for length in logged(trainer, "completions/mean_length")]
    assert logged(trainer, "paced/tokens_generated") == ([0] * 3 if kl == "forward" else np.cumsum(tokens).tolist())


def test_without_pass_rates_the_rest_is_logged(make_trainer: Callable) -> None:
    dataset = problems().remove_columns(["num_passed", "num_valid"])
    trainer = make_trainer(dataset, kl="forward", weighting="uniform", max_steps=1)
    trainer.train()
    assert logged(trainer, "paced/effective_sample_size") == [16]
    assert not any(key.startswith("paced/problems") for entry in trainer.state.log_history for key in entry)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_generated_tokens_survive_a_resume(
    make_trainer: Callable,
    tmp_path: Path,
    accumulation: int,
) -> None:
    shared = {
        "kl": "reverse",
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
    }
    whole = make_trainer(**shared)
    whole.train()
    saving = {"save_strategy": "steps", "save_steps": 3, "output_dir": str(tmp_path / "stopped"), "logging_steps": 2}
    make_trainer(**shared, **saving).train()
    resumed = make_trainer(**shared, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped/checkpoint-3"))
    total = logged(whole, "paced/tokens_generated")
    assert logged(resumed, "paced/tokens_generated") == total[1::2]
    assert total[0] > 0 and sorted(total) == total
    resumed.train()
    first = logged(resumed, "paced/tokens_generated")[0]
    assert first <= 2 * accumulation * 4 * 6 < total[-1], "a run from the start counts from 0"


def test_re_estimations_count_as_generated(make_trainer: Callable) -> None:
    trainer = make_trainer(**ESTIMATE | {"kl": "forward"})
    trainer.train()
    # No completion of the student's own is trained on: all tokens are of re-estimations.
    tokens = logged(trainer, "paced/refresh/estimation_tokens")
    assert logged(trainer, "paced/tokens_generated") == tokens and tokens[-1] > 0


def test_the_trainer_gives_its_own_numbers(make_trainer: Callable) -> None:
    trainer = make_trainer(kl="forward")
    callback = next(cb for cb in trainer.callback_handler.callbacks if isinstance(cb, Histograms))
    numbers = callback.values()
    np.testing.assert_array_equal(numbers["paced/problem_weights"], trainer.problem_weights)
    np.testing.assert_allclose(numbers["paced/pass_rates"], np.array(COUNTS) / 8)
