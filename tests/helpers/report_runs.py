"""Run directories as the commands leave them, made of thin air, and a parser of the page made of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paced_trl.evaluation.comparison import BASE, ArmRun, Comparison
from paced_trl.evaluation.evaluation import Evaluation
from paced_trl.store.store import PassRateStore


ARMS = {
    "uniform": {"weighting": "uniform"},
    "paced": {"weighting": "beta", "apply_weights": "loss"},
    "paced_sampling": {"weighting": "beta", "apply_weights": "sampling"},
}
HOSTILE = "<script>alert(1)</script>\x1b[31m red \u202e txet </pre><img src=x onerror=alert(2)>"
VERDICTS = ["passed", "failed", "unparseable", "truncated", "timeout", "unverifiable"]
RECORD = {"generator": {"model": "demo/student", "sampling": {"temperature": 1.0}}, "verifier": {"name": "exact"}}


def make_evaluation(
    name: str, pass_rate: float, *, model: str = "m", seed: int = 0, num_problems: int = 60, k: int = 4
) -> Evaluation:
    """An evaluation whose problems range from hard to easy, with `pass_rate` on average."""
    difficulty = np.linspace(-0.3, 0.3, num_problems)
    num_passed = np.random.default_rng(seed).binomial(k, np.clip(pass_rate + difficulty, 0, 1))
    total = num_problems * k
    return Evaluation(
        name=name,
        model=model,
        record={"generator": {"model": model, "temperature": 1.0}},
        seed=0,
        num_generations=k,
        problem_ids=[f"{name}-{row}" for row in range(num_problems)],
        num_passed=num_passed.tolist(),
        num_valid=[k] * num_problems,
        mean_completion_length=7.5,
        clipped_ratio=0.0,
        verdicts={"passed": int(num_passed.sum()), "failed": total - int(num_passed.sum())},
    )


def make_history(seed: int, steps: int = 60) -> list[dict[str, Any]]:
    """What training logs: forward KL in the first half, reverse KL and pass rates in the second."""
    rng = np.random.default_rng(seed)
    history: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        entry = {"step": step, "loss": 1.0, "entropy": 0.5}
        if step <= steps // 2:
            entry["paced/forward_kl"] = float(2.0 / step**0.3 + rng.normal(0, 0.05))
        else:
            entry |= {"paced/reverse_kl": float(0.8 / step**0.2), "paced/pass_rate": float(rng.uniform(0.4, 0.6))}
        history.append(entry)
    return [*history, {"step": steps, "train_runtime": 12.0}]


def make_store(path: Path, num_problems: int = 80, k: int = 8) -> np.ndarray:
    """A pass-rate store with problems of all pass rates; returns the number of passes of each."""
    num_passed = np.random.default_rng(0).binomial(k, np.clip(np.linspace(-0.3, 1.3, num_problems), 0, 1))
    rows = [
        {
            "problem_id": f"p{row}",
            "generation_index": index,
            "completion": "42" if index < passed else (HOSTILE if index == k - 1 else f"no, {index}"),
            "num_tokens": 3,
            "finish_reason": "stop",
            "verdict": "passed" if index < passed else "failed",
        }
        for row, passed in enumerate(num_passed)
        for index in range(k)
    ]
    PassRateStore(path, RECORD).append(rows)
    return num_passed


def make_pass_rates(path: Path, num_passed: np.ndarray, k: int = 8) -> None:
    """The table that `estimate` and `compare` leave."""
    columns = {
        "problem_id": [f"p{row}" for row in range(len(num_passed))],
        "prompt": [f"What is {row} & {row}?" for row in range(len(num_passed))],
        "solution": ["42"] * len(num_passed),
        "num_passed": num_passed,
        "num_valid": [k] * len(num_passed),
    }
    pq.write_table(pa.table(columns), path)


def make_settings(directory: Path, status: str = "finished", **settings: Any) -> None:
    """`run.json` of a training run."""
    directory.mkdir(parents=True, exist_ok=True)
    shared = {
        "student.model_name_or_path": "demo/student",
        "teacher_model_name_or_path": "demo/teacher",
        "kl": "forward_then_reverse",
        "learning_rate": 1e-4,
        "max_steps": 60,
        "num_train_epochs": 3.0,
        "weight_alpha": 1.0,
        "weight_beta": 1.0,
        "model_init_kwargs": {"token": "hf_secret"},
    }
    (directory / "run.json").write_text(json.dumps({"status": status, "settings": {**shared, **settings}}))


def make_comparison(directory: Path) -> Comparison:
    """A directory as `paced-trl compare` leaves it: three arms, two seeds, one of them clearly better."""
    directory.mkdir(exist_ok=True)
    comparison = Comparison("uniform", ["test"], ["reversal"])
    base = {"test": make_evaluation("test", 0.45), "reversal": make_evaluation("reversal", 0.95, num_problems=30)}
    comparison.runs.append(ArmRun(BASE, 0, {}, base))
    rates = {"uniform": (0.30, 0.60), "paced": (0.50, 0.93), "paced_sampling": (0.75, 0.95)}
    for seed in (0, 1):
        for number, (arm, settings) in enumerate(ARMS.items()):
            evaluations = {
                "test": make_evaluation("test", rates[arm][0], model=arm, seed=10 * number + seed + 1),
                "reversal": make_evaluation("reversal", rates[arm][1], model=arm, seed=seed, num_problems=30),
            }
            history = make_history(10 * number + seed)
            comparison.runs.append(ArmRun(arm, seed, settings, evaluations, train_seconds=12.0, log_history=history))
            make_settings(directory / "arms" / f"{arm}-seed{seed}", seed=seed, **settings)
    comparison.save(directory)
    num_passed = make_store(directory / "pass_rates")
    make_pass_rates(directory / "pass_rates.parquet", num_passed)
    return comparison


class Page(HTMLParser):
    """What a browser would make of a page: elements with attributes, text, scripts, and the cells of each table."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self._script: str | None = None
        self.scripts: dict[str, str] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "script":
            self._script = attributes.get("id", f"script {len(self.scripts)}")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            return
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data
