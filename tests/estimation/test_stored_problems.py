"""What a store knows of its problems: prompts and golds for people, and the settings that shaped the prompts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation.pass_rates import estimate_pass_rates
from paced_trl.estimation.stored_problems import read_problems, settle_as_chat, stored_prompt_settings
from paced_trl.problems import ProblemSet, chat_prompts, prompt_settings, with_problem_ids
from paced_trl.store.store import PassRateStore


TEXT = with_problem_ids(Dataset.from_list([{"prompt": f"p{i}", "solution": f"p{i}"} for i in range(4)]))


def fill(path: Path, problems: Any, num_generations: int = 1) -> PassRateStore:
    options: dict[str, Any] = {"num_generations": num_generations, "progress": False}
    estimate_pass_rates(problems, FakeGenerator(), exact_verifier, store=path, **options)
    return PassRateStore(path)


def without_problems(store: PassRateStore) -> Path:
    """Return a store as version 0.1.0 left it."""
    (store.path / ".problems.parquet").unlink()
    return store.path


def test_a_store_knows_the_problems_of_all_estimations(tmp_path: Path) -> None:
    chat = [{"problem_id": "c", "prompt": [{"role": "user", "content": "p"}], "solution": {"a": [1]}}]
    fill(tmp_path / "store", make_problems(3))
    store = fill(tmp_path / "store", make_problems(5))
    before = (store.path / ".problems.parquet").stat().st_mtime_ns
    fill(tmp_path / "store", make_problems(4), num_generations=2)
    assert (store.path / ".problems.parquet").stat().st_mtime_ns == before
    fill(tmp_path / "store", chat)
    assert read_problems(store, ["id-1", "id-4", "c", "none"]) == {
        row["problem_id"]: row for row in [*make_problems(5)[1::3], *chat]
    }
    # Nothing of it is a row of the data set that the store is.
    assert len(load_dataset(str(store.path), split="train")) == len(store.completions())


def test_problems_beside_a_store_of_version_0_1_0_are_read(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", make_problems(2))
    without_problems(store)
    assert read_problems(store, ["id-1"]) == {}
    Dataset.from_list([{**row, "num_passed": 1} for row in make_problems(2)]).to_parquet(tmp_path / "store.parquet")
    assert read_problems(store, ["id-1"]) == {"id-1": make_problems(2)[1]}
    shutil.move(store.path, tmp_path / "test_completions")
    shutil.move(tmp_path / "store.parquet", tmp_path / "test_problems.parquet")
    assert read_problems(PassRateStore(tmp_path / "test_completions"), ["id-1"]) == {"id-1": make_problems(2)[1]}


def test_changed_prompt_settings_are_named_with_both_values_and_their_flag(tmp_path: Path) -> None:
    (tmp_path / "turns.json").write_text('[{"role": "user", "content": "0"}, {"role": "assistant", "content": "0"}]')
    turns = str(tmp_path / "turns.json")
    fill(tmp_path / "store", ProblemSet(TEXT, prompt_settings("Add.", turns)))
    fill(tmp_path / "store", ProblemSet(TEXT, prompt_settings("Add.", turns)), num_generations=2)
    generator = FakeGenerator()
    with pytest.raises(ValueError, match="filled with other prompt settings") as refusal:
        changed = ProblemSet(chat_prompts(TEXT), prompt_settings("Multiply.", None))
        estimate_pass_rates(changed, generator, exact_verifier, store=tmp_path / "store", progress=False)
    for line in (
        "`as_chat` was False and is True now (`--as_chat`)",
        "`system_prompt` was 'Add.' and is 'Multiply.' now (`--system_prompt`)",
        "`few_shot` was '2 messages (",
        "and is None now (`--few_shot`)",
    ):
        assert line in str(refusal.value)
    assert generator.calls == []


def test_settings_are_not_ascribed_to_a_store_that_had_others(tmp_path: Path) -> None:
    path = without_problems(fill(tmp_path / "store", TEXT))
    fill(path, ProblemSet(with_problem_ids(Dataset.from_list(make_problems(1, "q"))), prompt_settings("Add.", None)))
    assert stored_prompt_settings(path) is None
    path = without_problems(fill(tmp_path / "other", TEXT))
    fill(path, ProblemSet(TEXT, prompt_settings("Add.", None)))
    assert stored_prompt_settings(path) == {"as_chat": False, "system_prompt": "Add.", "few_shot": None}


@pytest.mark.parametrize("has_chat_template", [True, False])
def test_a_store_is_continued_as_it_was_begun_and_a_new_one_follows_the_tokenizer(
    tmp_path: Path, has_chat_template: bool
) -> None:
    def settled(store: Path | None, problems: Dataset = TEXT) -> bool:
        return settle_as_chat(problems, has_chat_template=has_chat_template, store=store)

    assert settled(None) is settled(tmp_path / "new") is has_chat_template
    assert settled(None, chat_prompts(TEXT)) is False  # messages already
    for name, problems, was_chat in (("text", TEXT, False), ("chat", chat_prompts(TEXT), True)):
        path = fill(tmp_path / name, ProblemSet(problems, prompt_settings(None, None))).path
        assert settled(path) is was_chat
        # By what was asked alone, as in a store of version 0.1.0; also with ids of the user's.
        assert settled(without_problems(PassRateStore(path))) is was_chat
        named = problems.remove_columns("problem_id").add_column("problem_id", list("abcd"))
        path = without_problems(fill(tmp_path / f"{name}-named", named))
        assert settled(path, TEXT.remove_columns("problem_id").add_column("problem_id", list("abcd"))) is was_chat
    other = without_problems(fill(tmp_path / "others", make_problems(2, "other")))
    assert settled(other) is has_chat_template


def test_a_disk_that_takes_no_problems_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("paced_trl.estimation.stored_problems.pq.write_table", refuse)
    path = tmp_path / "store"
    with pytest.raises(OSError, match="could not be written"):  # that of the shards, which say what to do
        fill(path, make_problems(1))
    monkeypatch.undo()
    assert len(fill(path, make_problems(1)).completions()) == 1


def test_a_store_whose_first_attempt_failed_takes_other_settings(tmp_path: Path) -> None:
    def fail(answered: int) -> None:
        raise RuntimeError("no memory")

    first, second = ProblemSet(TEXT, prompt_settings("Be brief.", None)), ProblemSet(TEXT, prompt_settings(None, None))
    failing = FakeGenerator(record={"model": "another"}, before_prompt=fail)
    with pytest.raises(RuntimeError, match="no memory"):
        estimate_pass_rates(first, failing, exact_verifier, store=tmp_path / "store", progress=False)
    assert PassRateStore(tmp_path / "store").record["generator"] == failing.record
    store = fill(tmp_path / "store", second)
    assert store.record["generator"] == FakeGenerator().record and len(store.completions()) == 4
    assert stored_prompt_settings(store.path) == {"as_chat": False, "system_prompt": None, "few_shot": None}
    with pytest.raises(ValueError, match="written with other settings"):
        estimate_pass_rates(second, failing, exact_verifier, store=store.path, progress=False)
