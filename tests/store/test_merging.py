"""Merging: each generation once, first store first, whatever interrupts it; stores that do not fit are refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.commands import merge, run_command
from paced_trl.estimation.pass_rates import estimate_pass_rates, read_pass_rates
from paced_trl.store.merging import MergeCounts, merge_stores
from paced_trl.store.store import PassRateStore


RECORD = {"generator": {"model": "student", "sampling": {"temperature": 0.7}}, "seed": 0}


def row(problem_id: str, index: int, completion: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "generation_index": index,
        "completion": completion or f"{problem_id} {index}",
        "num_tokens": 3,
        "finish_reason": "stop",
        "verdict": "passed",
        "problem_hash": f"hash of {problem_id}",
        **changes,
    }


def make_store(path: Path, *shards: list[dict[str, Any]], record: dict[str, Any] = RECORD) -> Path:
    store = PassRateStore(path, record)
    for rows in shards:
        store.append(rows)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return PassRateStore(path).completions().to_pylist()


def test_problems_of_two_stores_are_in_one(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a", [row("a", 0), row("b", 0)], [row("a", 1)])
    second = make_store(tmp_path / "b", [row("c", 0, verdict="timeout", finish_reason="length")])
    assert merge_stores([first, second], tmp_path / "all") == MergeCounts(added=4)
    assert PassRateStore(tmp_path / "all").record == RECORD
    assert rows_of(tmp_path / "all") == rows_of(first) + rows_of(second)
    assert len(PassRateStore(tmp_path / "all").shards()) == 3


def test_parts_measured_apart_equal_one_measurement(tmp_path: Path) -> None:
    problems = make_problems(12)
    options: dict[str, Any] = {"num_generations": 4, "progress": False}
    for name, part in (("left", problems[:5]), ("right", problems[5:]), ("whole", problems)):
        estimate_pass_rates(part, FakeGenerator(), exact_verifier, store=tmp_path / name, **options)
    merge_stores([tmp_path / "left", tmp_path / "right"], tmp_path / "merged")
    whole, merged = (read_pass_rates(problems, tmp_path / name).to_list() for name in ("whole", "merged"))
    assert merged == whole
    rerun = FakeGenerator()
    estimate_pass_rates(problems, rerun, exact_verifier, store=tmp_path / "merged", **options)
    assert rerun.answered == 0


def test_the_same_generation_is_kept_once_and_the_first_store_wins(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a", [row("a", 0), row("a", 1)])
    second = make_store(tmp_path / "b", [row("a", 1), row("a", 0, "other text"), row("a", 2)])
    third = make_store(tmp_path / "c", [row("a", 2, verdict="timeout"), row("a", 2)], [row("a", 3)])
    # The third has one of its generations twice, and counts it once.
    assert merge_stores([first, second, third], tmp_path / "all") == MergeCounts(added=4, known=3)
    assert rows_of(tmp_path / "all") == [row("a", index) for index in range(4)]
    assert merge_stores([second, first, third], tmp_path / "other") == MergeCounts(added=4, known=3)
    assert rows_of(tmp_path / "other")[1] == row("a", 0, "other text")


def test_a_destination_keeps_what_it_has(tmp_path: Path) -> None:
    make_store(tmp_path / "all", [row("a", 0, "its own")])
    source = make_store(tmp_path / "a", [row("a", 0), row("a", 1)])
    assert merge_stores([source], PassRateStore(tmp_path / "all")) == MergeCounts(added=1, known=1)
    assert rows_of(tmp_path / "all") == [row("a", 0, "its own"), row("a", 1)]


def random_stores(directory: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """Return three stores with overlapping, partly contradicting generations, and what a naive merge makes of them."""
    rng = random.Random(0)
    paths, naive = [], {}
    for name in "abc":
        rows = {
            (problem, index): row(f"p{problem}", index, rng.choice(["", "", "", f"of {name}"]))
            for problem, index in ((rng.randrange(20), rng.randrange(2**31)) for _ in range(60))
        }
        rows.update({(0, index): row("p0", index, rng.choice(["", f"of {name}"])) for index in range(40)})
        listed = list(rows.values())
        paths.append(make_store(directory / name, *(listed[start : start + 16] for start in range(0, 100, 16))))
        for key, value in rows.items():
            naive.setdefault(key, value)
    return paths, list(naive.values())


def test_a_merge_equals_a_naive_merge(tmp_path: Path) -> None:
    paths, naive = random_stores(tmp_path)
    counts = merge_stores(paths, tmp_path / "all")
    assert rows_of(tmp_path / "all") == naive
    assert counts.added == len(naive)
    assert counts.added + counts.known == sum(len(rows_of(path)) for path in paths)
    assert counts.known > 0


def test_an_interrupted_merge_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, naive = random_stores(tmp_path)
    in_all = merge_stores(paths, tmp_path / "uninterrupted")
    append = PassRateStore.append
    for num_shards in range(12):

        def append_or_stop(store: PassRateStore, rows: Any, num_shards: int = num_shards) -> None:
            if len(store.shards()) == num_shards:
                raise KeyboardInterrupt
            append(store, rows)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PassRateStore, "append", append_or_stop)
            merge_stores(paths, tmp_path / "all")
    counts = merge_stores(paths, tmp_path / "all")
    assert rows_of(tmp_path / "all") == naive
    assert counts.added < len(naive) and counts.added + counts.known == in_all.added + in_all.known
    assert merge_stores(paths, tmp_path / "all").added == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed: 0 in '.*/a', 1 in '.*/b'"),
        ({"generator": {"model": "student", "sampling": {"temperature": 1.0}}}, r"sampling\.temperature: 0\.7.*1\.0"),
        ({"verifier": {"name": "math"}}, r"verifier\.name: absent in '.*/a', 'math' in '.*/b'"),
    ],
)
def test_other_records_are_refused_by_field_and_value(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    first = make_store(tmp_path / "a", [row("a", 0)])
    second = make_store(tmp_path / "b", [row("b", 0)], record={**RECORD, **change})
    with pytest.raises(ValueError, match=message):
        merge_stores([first, second], tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(ValueError, match="not mixed"):
        merge_stores([first], second)


def test_an_id_that_stands_for_two_problems_is_refused(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a", [row("a", 0), row("b", 0)])
    second = make_store(tmp_path / "b", [row("c", 0)], [row("b", 1, problem_hash="another")])
    with pytest.raises(ValueError, match=r"`problem_id` 'b' stands for different problems in '.*/a', '.*/b'"):
        merge_stores([first, second], tmp_path / "all")
    assert PassRateStore(tmp_path / "all").shards() == []
    unknown = make_store(tmp_path / "c", [row("b", 1, problem_hash=None)])
    assert merge_stores([first, unknown], tmp_path / "all").added == 3


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", [row("a", 0)])
    with pytest.raises(ValueError, match="No store"):
        merge_stores([], tmp_path / "all")
    with pytest.raises(ValueError, match="is the destination and a source"):
        merge_stores([store], tmp_path / "b" / ".." / "a")
    with pytest.raises(FileNotFoundError, match="no pass-rate store"):
        merge_stores([store, tmp_path / "missing"], tmp_path / "all")
    with PassRateStore(tmp_path / "all", RECORD).writing(), pytest.raises(RuntimeError, match="is being written"):
        merge_stores([store], tmp_path / "all")


def test_a_corrupt_shard_of_a_source_is_named_and_left_out(tmp_path: Path) -> None:
    source = make_store(tmp_path / "a", [row("a", 0)], [row("b", 0)])
    shard = PassRateStore(source).shards()[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=shard.name):
        assert merge_stores([source], tmp_path / "all").added == 1


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_store(tmp_path / "a", [row("a", 0), row("a", 1)])
    second = make_store(tmp_path / "b", [row("a", 0), row("a", 1, "other")])
    merge.run([str(first), str(second), "--output_dir", str(tmp_path / "all")])
    output = capsys.readouterr().out
    assert "2 completions added, 2 were there already." in output
    with pytest.raises(SystemExit) as stop:
        run_command("merge", [str(first), str(tmp_path / "none"), "--output_dir", str(tmp_path / "all")])
    assert stop.value.code == 2
