"""What version 0.1.0 wrote opens: a store, a finished run, a comparison (`tests/data/version_0_1_0`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from helpers.fakes import FakeGenerator, exact_verifier
from paced_trl.estimation.pass_rates import estimate_pass_rates, read_pass_rates
from paced_trl.problems import load_problems
from paced_trl.report import read_run, terminal_summary
from paced_trl.run_directory import RunDirectory
from paced_trl.store.counts import verdict_totals
from paced_trl.store.store import PassRateStore


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "data" / "version_0_1_0", tmp_path / "written"))


def test_a_store_opens_with_its_counts(written: Path) -> None:
    store = PassRateStore(written / "run" / "pass_rates")
    assert verdict_totals(store.counts()) == {
        "passed": 25,
        "failed": 23,
        "unparseable": 0,
        "truncated": 0,
        "timeout": 0,
        "unverifiable": 0,
    }
    assert set(store.num_generations().values()) == {4} and len(store.num_generations()) == 12
    table = pq.read_table(written / "run" / "pass_rates.parquet").to_pylist()
    problems = [{name: row[name] for name in ("problem_id", "prompt", "solution")} for row in table]
    read = read_pass_rates(problems, store).to_list()
    assert [(row["num_passed"], row["num_valid"]) for row in read] == [
        (row["num_passed"], row["num_valid"]) for row in table
    ]


class OldVerifier:
    """A verifier with the record of the one that version 0.1.0 used."""

    def __init__(self, record: dict) -> None:
        self.record = record

    __call__ = staticmethod(exact_verifier)


def test_a_store_goes_on_under_its_own_settings(written: Path) -> None:
    store = PassRateStore(written / "run" / "pass_rates")
    generator, verifier = FakeGenerator(record=store.record["generator"]), OldVerifier(store.record["verifier"])
    options = {"store": store, "seed": store.record["seed"], "progress": False}
    # Ids and hashes of problems are those of then, or all would be refused or generated again.
    problems = load_problems(str(written / "train.jsonl"))
    estimate_pass_rates(problems, generator, verifier, num_generations=4, **options)
    assert generator.answered == 0
    estimate_pass_rates(problems, generator, verifier, num_generations=5, **options)
    assert set(PassRateStore(store.path).num_generations().values()) == {5}
    counts = store.generation_counts()
    assert set(counts["next_generation_index"].to_pylist()) == {5}


@pytest.mark.parametrize("place", ["arms/paced-seed0", "arms/uniform-seed0", "base"])
def test_a_finished_run_is_recognised(written: Path, place: str) -> None:
    path = written / "run" / place
    settings = json.loads((path / "run.json").read_text())["settings"]
    # The settings that were dropped since.
    now = {name: value for name, value in settings.items() if not name.startswith(("kl_switch_", "teacher_offload"))}
    assert (len(now) < len(settings)) is ("arms" in place)
    assert RunDirectory(path, now).status == "finished"
    with pytest.raises(ValueError, match=r"holds a run with `seed`=\d+, but now it is 43\. Choose"):
        RunDirectory(path, {**now, "seed": 43})


def test_a_comparison_is_read_for_its_report(written: Path) -> None:
    contents = read_run(written / "run")
    assert contents.comparison is not None and set(contents.evaluations) == {"test", "reversal"}
    assert list(contents.evaluations["test"]) == ["base", "uniform", "paced"]
    assert set(contents.histories) == {"uniform", "paced"}
    assert contents.pass_rates is not None and contents.pass_rates.num_rows == 12
    assert len(contents.store.counts()) == len(contents.references.counts()) == 12
    console = Console(record=True, width=100)
    console.print(terminal_summary(contents))
    assert "paced" in console.export_text()
