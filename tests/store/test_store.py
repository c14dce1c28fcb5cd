"""The pass-rate store: what is appended is there, whole, once, and under the settings that it was made with."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from helpers.paths import ROOT
from paced_trl.estimation.pass_rates import estimate_pass_rates
from paced_trl.store import shards
from paced_trl.store.counts import OncePerGeneration, verdict_totals
from paced_trl.store.manifest import differing_fields, dotted
from paced_trl.store.store import SCHEMA, VERDICTS, PassRateStore


RECORD = {"generator": {"model": "student", "sampling": {"temperature": 0.7}}, "seed": 0}


def row(problem_id: str, index: int, verdict: str = "passed", **changes: Any) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "generation_index": index,
        "completion": f"{problem_id} {index}",
        "num_tokens": 3,
        "finish_reason": "stop",
        "verdict": verdict,
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> PassRateStore:
    return PassRateStore(tmp_path / "store", RECORD)


def test_what_was_appended_is_read_by_another_process_object(store: PassRateStore) -> None:
    store.append([row("a", 0), row("b", 0, "failed")])
    store.append([row("a", 1, "timeout")])
    opened = PassRateStore(store.path)
    assert opened.record == RECORD
    assert opened.num_generations() == {"a": 2, "b": 1}
    assert opened.completions().select(["problem_id", "completion", "verdict"]).to_pylist() == [
        {"problem_id": "a", "completion": "a 0", "verdict": "passed"},
        {"problem_id": "b", "completion": "b 0", "verdict": "failed"},
        {"problem_id": "a", "completion": "a 1", "verdict": "timeout"},
    ]
    assert opened.completions().schema == SCHEMA


def test_completions_are_chosen_by_problem_and_verdict(store: PassRateStore) -> None:
    store.append([row("a", 0), row("a", 1, "failed"), row("b", 0), row("c", 0)])
    assert store.completions(["a", "b"])["completion"].to_pylist() == ["a 0", "a 1", "b 0"]
    assert store.completions(verdict="passed")["completion"].to_pylist() == ["a 0", "b 0", "c 0"]
    assert store.completions(["a"], "failed")["completion"].to_pylist() == ["a 1"]
    assert store.completions([])["completion"].to_pylist() == []
    lengths = store.completions(["a"], "failed", columns=["num_tokens", "finish_reason"])
    assert lengths.to_pylist() == [{"num_tokens": row("a", 1)["num_tokens"], "finish_reason": "stop"}]
    assert store.completions([], columns=["num_tokens"]).column_names == ["num_tokens"]


def test_counts_equal_a_naive_count(store: PassRateStore) -> None:
    rng = random.Random(0)
    naive: dict[str, Counter[str]] = {}
    num_tokens: Counter[str] = Counter()
    for shard in range(7):
        rows = []
        for number in range(50):
            problem_id, verdict = f"p{rng.randrange(20)}", rng.choice(VERDICTS)
            rows.append(row(problem_id, 100 * shard + number, verdict, num_tokens=number))
            naive.setdefault(problem_id, Counter())[verdict] += 1
            num_tokens[problem_id] += number
        store.append(rows)
    counts = {line.pop("problem_id"): line for line in store.counts().to_pylist()}
    assert counts == {
        problem_id: {f"num_{verdict}": count[verdict] for verdict in VERDICTS} | {"num_tokens": num_tokens[problem_id]}
        for problem_id, count in naive.items()
    }
    assert store.num_generations() == {problem_id: count.total() for problem_id, count in naive.items()}
    assert verdict_totals(store.counts()) == {
        verdict: sum(count[verdict] for count in naive.values()) for verdict in VERDICTS
    }
    assert verdict_totals(Dataset(store.counts())) == verdict_totals(store.counts())
    following = {line["problem_id"]: line["next_generation_index"] for line in store.generation_counts().to_pylist()}
    highest: dict[str, int] = {}
    for line in store.completions().to_pylist():
        highest[line["problem_id"]] = max(highest.get(line["problem_id"], -1), line["generation_index"])
    assert following == {problem_id: index + 1 for problem_id, index in highest.items()}


@pytest.mark.parametrize("seed", range(8))
def test_of_each_generation_the_first_row_is_kept(seed: int) -> None:
    rng = random.Random(seed)
    once, seen = OncePerGeneration(), set()
    for _ in range(12):
        # Small numbers, so that generations come again; with an odd seed, one far up among them.
        rows = [(f"p{rng.randrange(4)}", rng.choice([rng.randrange(9), 2**31 - 1][: 1 + seed % 2])) for _ in range(6)]
        table = pa.table(
            {"problem_id": [p for p, _ in rows], "generation_index": pa.array([i for _, i in rows], pa.int32())}
        )
        kept = [(row["problem_id"], row["generation_index"]) for row in once(table).to_pylist()]
        assert kept == [key for number, key in enumerate(rows) if key not in seen and key not in rows[:number]]
        seen.update(rows)
    assert len(seen) > 12


def test_an_empty_store_counts_nothing(store: PassRateStore) -> None:
    store.append([])
    assert store.shards() == []
    assert store.num_generations() == {}
    assert store.counts().column_names == ["problem_id", *(f"num_{verdict}" for verdict in VERDICTS), "num_tokens"]
    assert len(store.completions()) == len(store.counts()) == 0


def test_counting_does_not_read_completions(store: PassRateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([row("a", 0)])
    read: set[str] = set()

    class Spy(pq.ParquetFile):
        def read(self, columns: list[str], **options: Any) -> pa.Table:
            read.update(columns)
            return super().read(columns=columns, **options)

    monkeypatch.setattr(shards.pq, "ParquetFile", Spy)
    opened = PassRateStore(store.path, RECORD)
    opened.counts(), opened.num_generations()
    assert read == set(SCHEMA.names) - {"completion"}


def test_the_directory_is_a_dataset_as_it_lies(store: PassRateStore, tmp_path: Path) -> None:
    store.append([row("a", 0), row("b", 0)])
    with store.writing():
        store.append([row("a", 1)])
        dataset = load_dataset(str(store.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset["completion"][:] == ["a 0", "b 0", "a 1"]
    for shard in store.shards():
        metadata = pq.ParquetFile(shard).metadata.row_group(0)
        assert {metadata.column(i).compression for i in range(metadata.num_columns)} == {"ZSTD"}


def test_polars_and_duckdb_read_the_shards_as_they_lie(store: PassRateStore) -> None:
    store.append([row("a", 0), row("b", 0, "failed")])
    store.append([row("a", 1, "timeout", completion='x\n"é')])
    shards = str(store.path / "shards" / "*.parquet")
    frame = polars.read_parquet(shards)
    assert frame.columns == SCHEMA.names
    assert frame.rows(named=True) == store.completions().to_pylist()
    query = "SELECT problem_id, count(*) FILTER (verdict = 'passed') FROM read_parquet(?) GROUP BY 1 ORDER BY 1"
    with duckdb.connect() as connection:
        assert connection.execute(query, [shards]).fetchall() == [("a", 1), ("b", 0)]


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "other columns"])
def test_a_corrupt_shard_is_named_and_the_rest_is_used(store: PassRateStore, damage: str) -> None:
    for problem_id in "abc":
        store.append([row(problem_id, 0)])
    shard = store.shards()[1]
    if damage == "other columns":
        pq.write_table(pa.table({"something": [1]}), shard)
    else:
        content = shard.read_bytes()
        garbage = random.Random(0).randbytes(len(content))
        shard.write_bytes({"empty": b"", "garbage": garbage, "truncated": content[: len(content) // 2]}[damage])
    with pytest.warns(UserWarning, match=shard.name):
        assert store.num_generations() == {"a": 1, "c": 1}
    with pytest.warns(UserWarning, match=shard.name):
        assert sorted(store.counts()["problem_id"].to_pylist()) == ["a", "c"]
    with pytest.warns(UserWarning, match=shard.name):
        assert store.completions(["a", "b"])["completion"].to_pylist() == ["a 0"]
    store.append([row("d", 0)])
    assert len(store.shards()) == 4


def damage_page(shard: Path, column: str) -> None:
    """Write garbage into the data of a column, where only the page's checksum can tell."""
    chunk = pq.read_metadata(shard).row_group(0).column(SCHEMA.names.index(column))
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(shard.read_bytes())
    # Behind the header of the page, which damage would make unreadable in any case.
    content[start + chunk.total_compressed_size - 4] ^= 0xFF
    shard.write_bytes(content)


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_shard_with_one_garbage_page_counts_for_all_or_for_none(store: PassRateStore, column: str) -> None:
    for index in range(3):
        store.append([row(f"p{problem}", 8 * index + number) for problem in range(10) for number in range(8)])
    damage_page(store.shards()[1], column)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        counted, generated = verdict_totals(store.counts())["passed"], sum(store.num_generations().values())
    # Of text nobody asked for, nothing is known; and its verdicts are whole.
    assert counted == generated == (240 if column == "completion" else 160)
    assert len(caught) == (0 if column == "completion" else 2)
    with pytest.warns(UserWarning, match=store.shards()[1].name):
        assert len(store.completions()) == 160


@pytest.mark.parametrize("column", SCHEMA.names)
def test_what_a_garbage_page_cost_is_generated_once(tmp_path: Path, column: str) -> None:
    problems, options = make_problems(30), {"num_generations": 8, "progress": False, "store": tmp_path / "store"}
    estimate_pass_rates(problems, FakeGenerator(), exact_verifier, **options, slice_size=48)
    store = PassRateStore(tmp_path / "store")
    assert sum(store.num_generations().values()) == 240 and len(store.shards()) > 3
    damage_page(store.shards()[2], column)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        table = estimate_pass_rates(problems, FakeGenerator(), exact_verifier, **options)
        assert sum(verdict_totals(store.counts()).values()) == 240
    assert table["num_valid"] == [8] * 30


def test_a_shard_that_lies_there_twice_counts_once(store: PassRateStore) -> None:
    store.append([row(f"p{problem}", index) for problem in range(30) for index in range(4)])
    store.append([row(f"p{problem}", index) for problem in range(30) for index in range(4, 8)])
    before = store.counts().sort_by("problem_id"), store.completions()
    for copy in ("000000-00000000.parquet", "000007-deadbeef.parquet"):
        shutil.copy(store.shards()[0], store.path / "shards" / copy)
    assert sum(store.num_generations().values()) == 240
    assert store.counts().sort_by("problem_id").equals(before[0])
    assert sorted(store.completions().to_pylist(), key=str) == sorted(before[1].to_pylist(), key=str)


def test_a_shard_restored_beside_what_replaced_it_counts_once(store: PassRateStore, tmp_path: Path) -> None:
    store.append([row(f"p{problem}", index) for problem in range(30) for index in range(8)])
    lost = store.shards()[0].rename(tmp_path / "lost")
    store.append([row(f"p{problem}", index, "failed") for problem in range(30) for index in range(8)])
    lost.rename(store.path / "shards" / "000009-00000000.parquet")
    assert sum(store.num_generations().values()) == 240
    assert verdict_totals(store.counts())["failed"] == len(store.completions(verdict="failed")) == 240
    assert len(store.completions(verdict="passed")) == 0


def test_a_store_on_a_read_only_file_system_is_read_and_not_extended(tmp_path: Path) -> None:
    script = """
import sys
from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation.pass_rates import estimate_pass_rates

problems, store = make_problems(4), sys.argv[1]
generator = FakeGenerator()
table = estimate_pass_rates(problems, generator, exact_verifier, store=store, num_generations=2, progress=False)
assert list(table["num_valid"]) == [2] * 4 and generator.answered == 0
try:
    estimate_pass_rates(problems, generator, exact_verifier, store=store, num_generations=3, progress=False)
except PermissionError as error:
    print(error)
"""
    store = tmp_path / "store"
    estimate_pass_rates(
        make_problems(4), FakeGenerator(), exact_verifier, store=store, num_generations=2, progress=False
    )
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(store)]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces to mount in")
    result = subprocess.run(
        [*command, sys.executable, "-c", script, str(store)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    assert result.returncode == 0, result.stderr
    assert f"The store '{store}' is read-only, and 4 completions are to be added. Copy it" in result.stdout


def test_a_failed_write_leaves_no_trace(store: PassRateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_disk(table: pa.Table, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"PAR1 and then")
        raise OSError(errno.ENOSPC, "No space left on device")

    store.append([row("a", 0)])
    with monkeypatch.context() as patch:
        patch.setattr(shards.pq, "write_table", run_out_of_disk)
        with pytest.raises(
            OSError, match=r"1 completions .* to '.*shards', where .* MiB are free: .*No space left"
        ) as e:
            store.append([row("a", 1)])
        assert e.value.errno == errno.ENOSPC
    assert len(list((store.path / "shards").iterdir())) == 1
    store.append([row("a", 1)])
    assert store.num_generations() == {"a": 2}


def test_what_a_killed_writer_left_is_not_read_and_goes_away(store: PassRateStore) -> None:
    leftover = store.path / "shards" / ".000000-00000000.parquet.tmp"
    leftover.write_bytes(b"half a shard")
    assert store.num_generations() == {}
    store.append([row("a", 0)])
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("bad_row", "message"),
    [
        ({"problem_id": "a"}, "column `generation_index` is missing"),
        (row("a", 0, completion=None), "column `completion` is missing"),
        (row("a", "one"), "wrong type"),  # type: ignore[arg-type]
        (row("a", 2**40), "wrong type"),
        (row("a", 0, "correct"), "verdict 'correct'.*passed, failed"),
    ],
)
def test_rows_that_are_none_are_refused(store: PassRateStore, bad_row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.append([row("b", 0), bad_row])
    assert store.shards() == []


def test_a_table_is_appended_like_rows(store: PassRateStore) -> None:
    rows = [row("a", 0, problem_hash="h"), row("b", 0, "failed", problem_hash=None)]
    table = pa.Table.from_pylist(rows)
    store.append(table)
    assert store.completions().to_pylist() == rows
    assert store.completions().schema == SCHEMA
    for wrong in (table.drop_columns("verdict"), table.set_column(1, "generation_index", [["x", "y"]])):
        with pytest.raises(ValueError, match="Cannot store 2 rows"):
            store.append(wrong)


def test_counts_do_not_depend_on_how_rows_lie_in_shards(store: PassRateStore, tmp_path: Path) -> None:
    rows = [
        row(f"p{index % 3}", 7 - index // 3, VERDICTS[index % 6], problem_hash=f"h{index % 3}") for index in range(24)
    ]
    store.append([{**rows[0], "problem_hash": None}, *rows[1:]])
    other = PassRateStore(tmp_path / "other", RECORD)
    for start in range(24):
        other.append(rows[start : start + 1])
    # Several row groups in one file, as other programs write them.
    groups = PassRateStore(tmp_path / "groups", RECORD)
    pq.write_table(store.completions(), groups.path / "shards" / "000000-00000000.parquet", row_group_size=5)
    for opened in (other, groups):
        for table in ("counts", "generation_counts"):
            assert getattr(opened, table)().sort_by("problem_id").equals(getattr(store, table)().sort_by("problem_id"))
    assert store.generation_counts().sort_by("problem_id")["problem_hash"].to_pylist() == ["h0", "h1", "h2"]


def test_reading_stops_at_the_wanted_number(store: PassRateStore) -> None:
    for index in range(4):
        store.append([row("a", 2 * index), row("a", 2 * index + 1, "failed")])
    store.shards()[3].unlink()
    assert len(store.completions(max_completions=3)) == 3
    assert store.completions(verdict="failed", max_completions=2)["generation_index"].to_pylist() == [1, 3]
    assert len(store.completions(max_completions=100)) == 6


def test_lone_surrogates_and_control_characters_do_not_end_a_run(store: PassRateStore) -> None:
    store.append([row("a", 0, completion="x\ud800y"), row("a", 1, completion="\0\x1b[2J\u2028é")])
    assert store.completions()["completion"].to_pylist() == ["x?y", "\0\x1b[2J\u2028é"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed: 0 in the store, 1 now \(`--seed`\)"),
        (
            {"generator": {"model": "other", "sampling": {"temperature": 0.7}}},
            r"generator\.model: 'student'.*'other' now \(`--model_n",
        ),
        (
            {"generator": {"model": "student", "sampling": {"temperature": 1.0}}},
            r"generator\.sampling\.temperature: 0\.7 in the store, 1\.0 now \(`--temperature`\)",
        ),
        ({"verifier": {"name": "math"}}, r"verifier\.name: absent in the store, 'math' now \(`--verifier`\)"),
    ],
)
def test_other_settings_are_refused_by_field_and_value(
    store: PassRateStore, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PassRateStore(store.path, {**RECORD, **change})
    with pytest.raises(ValueError, match=message):
        store.check_record({**RECORD, **change})


def test_a_record_is_compared_in_the_form_that_json_gives_it(tmp_path: Path) -> None:
    record = {"eos": (1, 2), "names": {3: "c"}}
    PassRateStore(tmp_path / "store", record)
    assert PassRateStore(tmp_path / "store", record).record == {"eos": [1, 2], "names": {"3": "c"}}
    for value in (object(), float("nan")):
        with pytest.raises(TypeError, match="JSON"):
            PassRateStore(tmp_path / "other", {"value": value})
    assert not (tmp_path / "other").exists()


def test_differing_fields_are_found_at_any_depth() -> None:
    old = {"a": {"b": {"c": 1, "d": [1, 2]}}, "e": None, "f": 1}
    new = {"a": {"b": {"c": 1, "d": [1, 3]}}, "e": 0, "g": 1}
    assert differing_fields(old, new) == [
        ("a.b.d", "[1, 2]", "[1, 3]"),
        ("e", "None", "0"),
        ("f", "1", "absent"),
        ("g", "absent", "1"),
    ]
    assert differing_fields(old, old) == []
    assert differing_fields({"a": {}}, {"a": {"b": None}}) == [("a", "{}", "absent"), ("a.b", "absent", "None")]
    assert differing_fields({"a": {"temperature": 1.0}}, {"a": {"temperature": 1}}) == []


def test_nested_settings_have_dotted_names() -> None:
    record = {"a": {"b": {"c": 1, "d": [1, {"e": 2}]}, "f": {}}, "g": None}
    assert dotted(record) == {"a.b.c": 1, "a.b.d": [1, {"e": 2}], "a.f": {}, "g": None}


def test_a_path_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no pass-rate store"):
        PassRateStore(tmp_path / "missing")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("foreign", "file"):
        with pytest.raises(ValueError, match="is not a pass-rate store"):
            PassRateStore(tmp_path / name, RECORD)
    (tmp_path / "empty").mkdir()
    assert PassRateStore(tmp_path / "empty", RECORD).record == RECORD


def test_a_store_whose_creation_was_killed_is_created(tmp_path: Path) -> None:
    path = tmp_path / "store"
    (path / "shards").mkdir(parents=True)
    (path / ".lock").write_text("123\n")
    (path / ".manifest.json-0.tmp").write_text("{")
    assert PassRateStore(path, RECORD).record == RECORD
    assert sorted(child.name for child in path.iterdir()) == [".lock", "manifest.json", "shards"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not the manifest"),
        ("[]", "is not the manifest"),
        ('{"version": 1}', "is not the manifest"),
        (json.dumps({"format": "paced_trl pass-rate store", "version": 99, "record": {}}), "newer release"),
    ],
)
def test_a_broken_or_newer_manifest_is_refused(store: PassRateStore, content: str, message: str) -> None:
    (store.path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        PassRateStore(store.path)


def test_a_second_writer_is_refused_with_the_pid_of_the_first(store: PassRateStore) -> None:
    other = PassRateStore(store.path)
    with store.writing():
        store.append([row("a", 0)])
        for attempt in (lambda: other.append([row("a", 1)]), lambda: store.writing().__enter__()):
            with pytest.raises(RuntimeError, match=f"process {os.getpid()}"):
                attempt()
        assert other.lock_holder() == str(os.getpid())
        # The refusals have not taken the lock from its holder.
        store.append([row("a", 1)])
        assert other.num_generations() == {"a": 2}
    assert other.lock_holder() is None
    other.append([row("a", 2)])
    assert store.num_generations() == {"a": 3}


def test_the_lock_of_another_process_holds_until_it_is_killed(store: PassRateStore) -> None:
    script = (
        "import sys, time\nfrom paced_trl.store.store import PassRateStore\n"
        "with PassRateStore(sys.argv[1]).writing():\n    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(store.path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with pytest.raises(RuntimeError, match=f"process {holder.pid}"):
            store.append([row("a", 0)])
        assert store.lock_holder() == str(holder.pid)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    # The process id that it left in the file does not make it a writer.
    assert (store.path / ".writer").read_text() == f"{holder.pid}\n"
    assert store.lock_holder() is None
    store.append([row("a", 0)])
    assert store.num_generations() == {"a": 1}
