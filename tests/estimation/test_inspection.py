"""Inspection: the numbers are a naive count's, what is wrong is named, and completions are found by what they got."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from helpers.paths import ROOT
from paced_trl.commands import inspect, run_command
from paced_trl.estimation.inspection import StoreContents, describe_completions, describe_store, store_contents
from paced_trl.store.store import SCHEMA, PassRateStore


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
        num_shards=2, corrupt_shards={}, problems_by_generations={1: 1, 2: 2}, num_tokens=90, num_clipped=1
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
    assert list(contents.corrupt_shards) == [str(shard)]
    assert contents.num_completions == 5
    assert f"  {shard}: " in describe_store(store)
    with pytest.warns(UserWarning, match=shard.name):
        assert "0 of 100 completions" in describe_completions(store, "d")
    store.shards()[0].write_bytes(b"")
    text = describe_store(store)
    assert "Corrupt shards, counted as not generated: 2" in text
    assert "2 completions of 2 problems in 1 shards" in text


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
