"""Whatever ends a run, a hundred times SIGKILL or a full disk: what was stored stays, and the rerun completes it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import kill_runs
from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from helpers.paths import ROOT
from paced_trl.commands.exits import clean_exit
from paced_trl.estimation.pass_rates import estimate_pass_rates
from paced_trl.store.store import PassRateStore


NUM_KILLS = 100


def contents(path: Path) -> dict[tuple[str, int], tuple[str, str]]:
    rows = PassRateStore(path).completions().to_pylist()
    stored = {(row["problem_id"], row["generation_index"]): (row["completion"], row["verdict"]) for row in rows}
    assert len(stored) == len(rows), "a generation is stored twice"
    return stored


@pytest.mark.slow
def test_a_hundred_kills_lose_only_what_was_in_flight(tmp_path: Path) -> None:
    command = [sys.executable, kill_runs.__file__, str(tmp_path), str(NUM_KILLS), "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["statuses"].count(-9) == NUM_KILLS
    assert set(report["statuses"]) == {0, -9}
    assert report["lost"] == []
    # The kills are spread over the run: before the first shard, and between most of the others.
    slices = kill_runs.NUM_PROBLEMS * kill_runs.NUM_GENERATIONS // kill_runs.SLICE_SIZE
    assert 0 in report["killed_with_shards"] and len(set(report["killed_with_shards"])) > slices // 2

    uninterrupted = contents(tmp_path / "uninterrupted")
    keys = {(f"id-{i}", k) for i in range(kill_runs.NUM_PROBLEMS) for k in range(kill_runs.NUM_GENERATIONS)}
    assert set(uninterrupted) == keys
    num_asked_for = 0
    for number in range(report["num_stores"]):
        store = tmp_path / f"store-{number}"
        assert contents(store) == uninterrupted
        assert not [*store.rglob("*.tmp")]
        num_asked_for += (tmp_path / f"log-{number}").stat().st_size
    assert num_asked_for <= report["num_stores"] * len(keys) + NUM_KILLS * kill_runs.SLICE_SIZE


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to write files beyond a size, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_the_run_in_one_sentence_and_the_rerun_completes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems, store = make_problems(12), tmp_path / "store"

    def estimate(generator: FakeGenerator, path: Path) -> None:
        options = {"num_generations": 2, "slice_size": 8, "progress": False}
        estimate_pass_rates(problems, generator, exact_verifier, store=path, **options)

    def refuse_files(answered: int) -> None:
        if answered == 9:
            soft_limit.__enter__()

    soft_limit = largest_file(1000)
    with pytest.raises(SystemExit) as stop, clean_exit("estimate"):
        try:
            estimate(FakeGenerator(before_prompt=refuse_files), store)
        finally:
            soft_limit.__exit__(None, None, None)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"8 completions could not be written to '{store / 'shards'}'" in error
    assert "MiB are free" in error and "run the same command again" in error
    assert len([*(store / "shards").iterdir()]) == 2
    assert len(contents(store)) == 16

    continued = FakeGenerator()
    estimate(continued, store)
    assert continued.answered == 4
    estimate(FakeGenerator(), tmp_path / "uninterrupted")
    assert contents(store) == contents(tmp_path / "uninterrupted")
