"""Inspection: the numbers are a naive count's, what is wrong is named, and completions are found by what they got."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from helpers.fakes import FakeGenerator
from helpers.paths import ROOT
from paced_trl.commands import inspect, run_command
from paced_trl.estimation.inspection import (
    StoreContents,
    describe_completions,
    describe_store,
    find_store,
    store_contents,
)
from paced_trl.estimation.pass_rates import estimate_pass_rates
from paced_trl.store.store import SCHEMA, PassRateStore
from paced_trl.verification.verifier import load_verifier


RECORD = {
    "generator": {"model": "student", "sampling": {"temperature": 0.7, "stop": []}},
    "seed": 3,
    "system": "x" * 500,
}


def row(problem_id: str, index: int, verdict: str = "passed", **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "generation_index": index,
        "completion": f"text of {problem_id} {index}",
        "num_tokens": 10,
        "finish_reason": "stop",
        "verdict": verdict,
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> PassRateStore:
    store = PassRateStore(tmp_path / "store", RECORD)
    store.append([row("a", 0), row("a", 1, "failed"), row("b", 0, "timeout", completion="while True")])
    store.append([row("b", 1, "truncated", finish_reason="length", num_tokens=50), row("c", 0, "unverifiable")])
    return store


def test_numbers_of_a_store(store: PassRateStore) -> None:
    assert store_contents(store) == StoreContents(
        num_shards=2,
        corrupt_shards={},
        unreadable_texts={},
        problems_by_generations={1: 1, 2: 2},
        num_tokens=90,
        num_clipped=1,
        num_repeated=0,
    )
    assert (store_contents(store).num_problems, store_contents(store).num_completions) == (3, 5)


def test_the_description_names_settings_numbers_and_rates(store: PassRateStore) -> None:
    text = describe_store(store)
    for line in (
        "  generator.sampling.temperature: 0.7",
        "  generator.sampling.stop: []",
        "  seed: 3",
        "  nobody is writing",
        "5 completions of 3 problems in 2 shards",
        "90 tokens, 18.0 per completion; 1 completions cut off (20.0%)",
        "passed 1 (20.0%)   failed 1 (20.0%)   truncated 1 (20.0%)   timeout 1 (20.0%)   unverifiable 1 (20.0%)",
        "Warning: The verifier failed on 40.0% of the completions",
    ):
        assert line in text
    bars = {line.split()[0]: line.split()[-1] for line in text.split("Completions per problem")[1].splitlines()[1:3]}
    assert bars == {"1": "1", "2": "2"}
    assert f"  system: {97 * 'x'} ...\n" in text


def test_an_empty_store_and_one_of_many_lengths_are_described(tmp_path: Path) -> None:
    store = PassRateStore(tmp_path / "store", {})
    assert "0 completions of 0 problems in 0 shards" in describe_store(store)
    store.append([row(f"p{problem}", index) for problem in range(20) for index in range(problem + 1)])
    assert "from 1 to 20, median 10.5, mean 10.5" in describe_store(store)


def test_a_corrupt_shard_is_named_wherever_it_is_broken(store: PassRateStore) -> None:
    store.append([row("d", index, completion=os.urandom(50).hex()) for index in range(100)])
    shard = store.shards()[2]
    content = bytearray(shard.read_bytes())
    # In the compressed text (of a dictionary, because the column is small), where only the page's checksum can tell.
    column = pq.read_metadata(shard).row_group(0).column(SCHEMA.names.index("completion"))
    content[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(content)
    contents = store_contents(store)
    # Its verdicts are whole, and counted by all that count.
    assert list(contents.unreadable_texts) == [str(shard)] and not contents.corrupt_shards
    assert contents.num_completions == sum(store.num_generations().values()) == 105
    text = describe_store(store)
    assert f"Shards without their text, whose verdicts count: 1\n  {shard}: " in text
    with pytest.warns(UserWarning, match=shard.name):
        assert "0 of 100 completions" in describe_completions(store, "d")
    column = pq.read_metadata(shard).row_group(0).column(SCHEMA.names.index("verdict"))
    content[column.dictionary_page_offset + column.total_compressed_size - 4] ^= 1
    shard.write_bytes(content)
    assert list(store_contents(store).corrupt_shards) == [str(shard)]
    assert store_contents(store).num_completions == 5
    assert f"  {shard}: " in describe_store(store)
    store.shards()[0].write_bytes(b"")
    text = describe_store(store)
    assert "Corrupt shards, counted as not generated: 2" in text
    assert "2 completions of 2 problems in 1 shards" in text


def test_a_shard_that_lies_there_twice_counts_once(store: PassRateStore) -> None:
    shutil.copy(store.shards()[0], store.path / "shards" / "000009-deadbeef.parquet")
    text = describe_store(store)
    assert "5 completions of 3 problems in 3 shards" in text
    assert "3 completions lie here more than once, and count once." in text


def test_the_writer_is_named_while_it_writes(store: PassRateStore) -> None:
    with store.writing():
        assert f"being written by process {os.getpid()}" in describe_store(store)
        store.append([row("e", 0)])
    assert "nobody is writing" in describe_store(store)


def test_completions_are_found_by_problem_and_verdict(store: PassRateStore) -> None:
    timeouts = describe_completions(store, verdict="timeout")
    assert timeouts == "b #0: timeout, 10 tokens, finish reason stop\n  while True\n\n1 of 1 completions shown."
    of_problem = describe_completions(store, "b")
    assert "while True" in of_problem and "b #1: truncated, 50 tokens, finish reason length" in of_problem
    assert of_problem.endswith("2 of 2 completions shown.")
    assert describe_completions(store, "a", "failed").startswith("a #1: failed")
    assert describe_completions(store, "a", "timeout") == "0 of 0 completions shown."
    assert describe_completions(store, max_completions=4).endswith("4 of 5 completions shown.")
    with pytest.raises(ValueError, match="no completions for `problem_id` 'z'"):
        describe_completions(store, "z")
    with pytest.raises(ValueError, match="`max_completions` is 0"):
        describe_completions(store, max_completions=0)


def test_a_completion_cannot_command_the_terminal(store: PassRateStore) -> None:
    store.append([row("\x1b[2Jd", 0, "unparseable", completion="first\n\x1b[2J\x07second\té")])
    text = describe_completions(store, verdict="unparseable")
    assert "  first\n  \\x1b[2J\\x07second\\té\n" in text
    assert "\x1b" not in text


def test_the_command_prints_either(store: PassRateStore, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.run([str(store.path)])
    assert "5 completions of 3 problems" in capsys.readouterr().out
    inspect.run([str(store.path), "--verdict", "unverifiable"])
    assert "text of c 0" in capsys.readouterr().out
    inspect.run([str(store.path), "--max_completions", "1"])
    assert "1 of 5 completions shown." in capsys.readouterr().out
    for wrong in (["--verdict", "correct"], ["--problem", "z"]):
        with pytest.raises(SystemExit) as stop:
            run_command("inspect", [str(store.path), *wrong])
        assert stop.value.code == 2


def test_inspecting_does_not_load_torch(store: PassRateStore) -> None:
    code = (
        "import sys; from paced_trl.commands.inspect import run; run(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules and 3)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.path)], cwd=ROOT, capture_output=True).returncode == 0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with pass rates, judged by a verifier that reads answers."""
    rows: list[dict[str, Any]] = [
        {"problem_id": "a", "prompt": "1+1=\n?", "solution": "#### 2"},
        {
            "problem_id": "b",
            "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+2="}],
            "solution": "3",
        },
    ]
    options: dict[str, Any] = {"num_generations": 1, "progress": False}
    with load_verifier("numeric") as verifier:
        for problem in rows:
            estimate_pass_rates([problem], FakeGenerator(), verifier, store=tmp_path / "run" / "pass_rates", **options)
    return tmp_path / "run"


def test_a_completion_is_shown_with_its_problem_gold_and_what_was_read(run: Path) -> None:
    store = find_store(run)
    store.append([row("a", 9, "failed", completion="It is 5.\nThe answer is 5.\x1b[2J")])
    text = describe_completions(store, "a", "failed", max_completions=9)
    assert (
        "a #9: failed, 10 tokens, finish reason stop\n  problem: 1+1=\\n?\n  gold: #### 2, read as 2\n"
        "  the verifier read: 5\n  completion:\n  It is 5.\n  The answer is 5.\\x1b[2J\n"
    ) in text
    other = describe_completions(store, "b")
    assert "  problem (after 1 earlier messages): 1+2=\n  gold: 3\n  the verifier read: " in other
    store.append([row("b", 9, "unparseable", completion="I do not know")])
    assert "the verifier read: no answer\n" in describe_completions(store, "b", "unparseable")


def test_a_run_directory_stands_for_its_pass_rates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.run([str(run)])
    assert f"Store {run / 'pass_rates'}" in capsys.readouterr().out
    assert find_store(run / "pass_rates").path == run / "pass_rates"
    (run / "pass_rates").rename(run / "test_completions")
    assert find_store(run).path == run / "test_completions"
    PassRateStore(run / "arm" / "test_completions", {})
    with pytest.raises(ValueError, match=r"has no pass rates, and 2 stores below it. Name one of them:\n  .*\n  .*"):
        find_store(run)
    (run / "empty").mkdir()
    with pytest.raises(ValueError, match="is no store and has none below it"):
        find_store(run / "empty")
    with pytest.raises(FileNotFoundError, match=r"There is no directory '.*none'"):
        find_store(run / "none")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from paced_trl.commands import main\ntry: main(['inspect', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(3 if {'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
