"""Pass rates as a dataset: written from a store, read back in place of one, by id from a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from helpers.fake_hub import TOKEN, FakeHub
from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation import published_pass_rates as pass_rate_dataset
from paced_trl.estimation.pass_rates import estimate_pass_rates, read_pass_rates
from paced_trl.estimation.published_pass_rates import (
    COMPLETIONS,
    RECORD,
    TABLE,
    load_pass_rates,
    names_hub_dataset,
    write_pass_rate_dataset,
)
from paced_trl.store.store import PassRateStore


PROBLEMS = make_problems(6)


@pytest.fixture
def store(tmp_path: Path) -> PassRateStore:
    generator = FakeGenerator(record={"model": "fake", "sampling": {"temperature": 0.7}})
    estimate_pass_rates(PROBLEMS, generator, exact_verifier, store=tmp_path / "store", progress=False)
    return PassRateStore(tmp_path / "store")


@pytest.fixture
def published(store: PassRateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published table in a directory; what fetches it from the Hub reads it there."""
    directory = tmp_path / "published"
    write_pass_rate_dataset(store, directory)
    read_table = lambda name, split: Dataset.from_parquet(str(directory / TABLE), cache_dir=str(tmp_path / "cache"))  # noqa: E731
    monkeypatch.setattr(pass_rate_dataset, "load_dataset", read_table)
    monkeypatch.setattr(pass_rate_dataset, "hf_hub_download", lambda name, file, repo_type: str(directory / file))
    return directory


def test_a_table_comes_back_as_the_store_gives_it(store: PassRateStore, published: Path) -> None:
    problems = Dataset.from_list([PROBLEMS[4], PROBLEMS[1], *make_problems(1, "unknown"), PROBLEMS[2]][:2])
    table, record = load_pass_rates("me/rates", problems)
    expected = read_pass_rates(problems, store)
    assert table.column_names == expected.column_names
    counts = [name for name in table.column_names if not name.startswith("pass_rate_")]
    assert [[row[name] for name in counts] for row in table] == [[row[name] for name in counts] for row in expected]
    assert record["generator"]["sampling"] == {"temperature": 0.7}


def test_problems_that_are_not_in_it_are_unmeasured(published: Path) -> None:
    problems = Dataset.from_list([{"problem_id": "new", "prompt": "a", "solution": "b"}, PROBLEMS[0]])
    table, _ = load_pass_rates("me/rates", problems)
    assert table["num_valid"][:] == [0, 8]


def test_other_problems_with_the_same_ids_are_refused(published: Path) -> None:
    problems = Dataset.from_list([PROBLEMS[0] | {"prompt": "another question"}])
    with pytest.raises(ValueError, match=r"'id-0' has another prompt or solution"):
        load_pass_rates("me/rates", problems)


def test_counts_alone_will_do(published: Path) -> None:
    table = {"problem_id": ["id-0", "id-1"], "num_passed": [1, 4], "num_valid": [4, 4]}
    pq.write_table(pa.table(table), published / TABLE)
    loaded, _ = load_pass_rates("me/rates", Dataset.from_list(PROBLEMS[:2]))
    assert loaded["num_failed"][:] == [3, 0] and loaded["pass_rate"][:] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a"]}, "has no column `problem_id`, so it holds no pass rates; it has text"),
        ({"problem_id": ["a"], "num_passed": [5], "num_valid": [4]}, "5"),
    ],
)
def test_what_is_no_table_of_pass_rates_is_refused(published: Path, table: dict[str, list], message: str) -> None:
    pq.write_table(pa.table(table), published / TABLE)
    with pytest.raises(ValueError, match=message):
        load_pass_rates("me/rates", Dataset.from_list(PROBLEMS))


def test_there_is_no_text_in_a_table_unless_completions_are_asked_for(store: PassRateStore, tmp_path: Path) -> None:
    write_pass_rate_dataset(store, tmp_path / "table")
    assert not (tmp_path / "table" / COMPLETIONS).exists()
    schema = pq.read_schema(tmp_path / "table" / TABLE)
    assert {field.name for field in schema if pa.types.is_string(field.type)} == {"problem_id", "problem_hash"}
    write_pass_rate_dataset(store, tmp_path / "both", completions=True)
    rows = pq.read_table(tmp_path / "both" / COMPLETIONS)
    assert rows.num_rows == 48 and rows["problem_id"][:8].to_pylist() == ["id-0"] * 8
    assert json.loads((tmp_path / "both" / RECORD).read_text()) == store.record


def test_an_existing_directory_wins_over_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_hub_dataset("me/rates")
    assert names_hub_dataset(Path("me/rates"))
    (tmp_path / "me").mkdir()
    # Where the parent exists, a store is to be made there.
    assert not names_hub_dataset("me/rates")
    (tmp_path / "me/rates").mkdir()
    assert not names_hub_dataset("me/rates")
    for path in (None, "rates", "./me/rates", "/me/rates", "~/rates", "a/b/c"):
        assert not names_hub_dataset(path)


_LOAD = """
import sys
from datasets import Dataset
from paced_trl.estimation.published_pass_rates import load_pass_rates
problems = Dataset.from_list([{"problem_id": f"id-{n}", "prompt": f"p{n}", "solution": f"p{n}"} for n in range(6)])
for name in sys.argv[1:]:
    try:
        table, record = load_pass_rates(name, problems)
        print("loaded", table["num_passed"][:], record["generator"]["sampling"])
    except ValueError as error:
        print("refused", error)
"""


def load_in_a_process(endpoint: str, home: Path, *names: str) -> list[str]:
    """Load by id with the clients of `datasets` and `huggingface_hub`, which read the endpoint when imported."""
    online = {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *names],
        env={**os.environ, **online},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("loaded", "refused"))]


@pytest.mark.slow
def test_a_dataset_is_read_by_its_id(store: PassRateStore, tmp_path: Path) -> None:
    with FakeHub().serving() as hub:
        directory = tmp_path / "published"
        write_pass_rate_dataset(store, directory)
        files = hub.add("me/rates", repo_type="dataset").files
        files |= {name: (directory / name).read_bytes() for name in (TABLE, RECORD)}
        files["README.md"] = f"---\nconfigs:\n- config_name: default\n  data_files: {TABLE}\n---\n".encode()
        passed = read_pass_rates(Dataset.from_list(PROBLEMS), store)["num_passed"][:]
        loaded, missing = load_in_a_process(hub.endpoint, tmp_path / "home", "me/rates", "me/none")
        assert loaded == f"loaded {passed} {{'temperature': 0.7}}"
        assert "neither a directory here nor a dataset on the Hub" in missing


def test_an_unreachable_hub_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, split: str) -> Dataset:
        raise ConnectionError("Couldn't reach 'me/rates' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(pass_rate_dataset, "load_dataset", unreachable)
    with pytest.raises(ConnectionError, match=r"the Hub cannot be reached for it.*write './me/rates'"):
        load_pass_rates("me/rates", Dataset.from_list(PROBLEMS))
