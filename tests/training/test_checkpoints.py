"""Checkpoints are whole or not there: damage, kills, full disks and two processes cost no more than the last steps."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback
from trl import ModelConfig

from helpers.paths import ROOT
from helpers.processes import ENVIRONMENT
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from helpers.training import CPU, passes_by_text, problems
from paced_trl import PacedConfig
from paced_trl.run_directory import MANIFEST
from paced_trl.training import checkpoints
from paced_trl.training.checkpoints import FILES, SAVING, defect, newest_whole, remove_old
from paced_trl.training.monitoring.costs import total_tokens
from paced_trl.training.run import Distilled, distill


# Dropout-free tiny models still draw: the second stage generates, so the state of random numbers matters.
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "max_steps": 4,
    "kl_switch": 1.0 / 4,
    "per_device_train_batch_size": 4,
    "max_completion_length": 6,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "refresh": "online",
    "lr_scheduler_type": "linear",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("student", "teacher")):
        build_tiny_model(seed=seed).save_pretrained(directory / name)
        build_tiny_tokenizer().save_pretrained(directory / name)
    return directory


@pytest.fixture
def train(models: Path) -> Callable[..., Distilled]:
    def train(run: Path, *callbacks: TrainerCallback, **settings: Any) -> Distilled:
        names = {"teacher_model_name_or_path": str(models / "teacher")}
        may_extend = settings.pop("may_extend", False)
        args = PacedConfig(output_dir=str(run), **CPU, **(SETTINGS | names | settings))
        student = ModelConfig(model_name_or_path=str(models / "student"), dtype="float32")
        return distill(
            args,
            student,
            problems(),
            verifier=passes_by_text,
            callbacks=lambda trainer: list(callbacks),
            may_extend=may_extend,
        )

    return train


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which tests copy and do not change."""
    run = tmp_path_factory.mktemp("finished") / "run"
    names = {"teacher_model_name_or_path": str(models / "teacher")}
    args = PacedConfig(output_dir=str(run), **CPU, **(SETTINGS | names))
    student = ModelConfig(model_name_or_path=str(models / "student"), dtype="float32")
    distill(args, student, problems(), verifier=passes_by_text)
    return run


def interrupted_copy(finished: Path, run: Path, *, last: int = 3) -> Path:
    """A run as it was after step `last`, before its end."""
    shutil.copytree(finished, run)
    record = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps(record | {"status": "started"}))
    for name in ("model.safetensors", "trainer_state.json", "costs.json"):
        (run / name).unlink()
    for checkpoint in checkpoints.checkpoints_of(run)[last:]:
        shutil.rmtree(checkpoint)
    return run


def same_student(run: Path, other: Path) -> bool:
    mine, theirs = (load_file(path / "model.safetensors") for path in (run, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def files_of(checkpoint: Path) -> list[str]:
    return sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file())


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "garbage":
        path.write_bytes(os.urandom(len(content)))
    elif kind == "one bit":
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    else:
        path.write_bytes(b"")


def test_a_checkpoint_holds_what_the_documentation_of_run_says(finished: Path) -> None:
    held = files_of(finished / "checkpoint-4")
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "pass_rates.npz", FILES} <= {*held}
    listed = json.loads((finished / "checkpoint-4" / FILES).read_text())
    assert sorted(listed) == sorted({*held} - {FILES})
    from paced_trl.training import run

    assert run.__doc__ is not None
    assert all(name in run.__doc__ for name in ("optimizer.pt", "rng_state.pth", "pass_rates.npz", FILES))
    assert not (finished / SAVING).exists()


@pytest.mark.parametrize("kind", ["missing", "truncated", "garbage", "one bit", "empty"])
def test_every_damage_to_the_newest_checkpoint_leads_to_the_one_before(
    finished: Path, tmp_path: Path, kind: str
) -> None:
    run = interrupted_copy(finished, tmp_path / "run")
    newest, kept = run / "checkpoint-3", tmp_path / "kept"
    shutil.copytree(newest, kept)
    names = files_of(newest)
    assert len(names) >= 10
    for name in names:
        shutil.rmtree(newest)
        shutil.copytree(kept, newest)
        assert newest_whole(run, ["pass_rates.npz"]) == newest
        damage(newest / name, kind)
        if (kind, name) == ("missing", FILES):
            # Without its list, a checkpoint is one of version 0.1: whole as far as its formats tell.
            assert newest_whole(run, ["pass_rates.npz"]) == newest
            continue
        with pytest.warns(UserWarning, match=r"checkpoint-3 \(.*\) in .* goes on from checkpoint-2"):
            assert newest_whole(run, ["pass_rates.npz"]) == run / "checkpoint-2"


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty"])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "pass_rates.npz", "trainer_state.json"],
)
def test_checkpoints_of_version_0_1_have_no_list_and_are_read(
    finished: Path, tmp_path: Path, name: str, kind: str
) -> None:
    checkpoint = tmp_path / "checkpoint-3"
    shutil.copytree(finished / "checkpoint-3", checkpoint)
    (checkpoint / FILES).unlink()
    assert defect(checkpoint, ["pass_rates.npz"]) is None
    damage(checkpoint / name, kind)
    assert defect(checkpoint, ["pass_rates.npz"]) is not None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("optimizer.pt", "missing"),
        ("rng_state.pth", "missing"),
        ("scheduler.pt", "garbage"),
        ("trainer_state.json", "truncated"),
        (FILES, "garbage"),
    ],
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_ends_as_ever(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled], name: str, kind: str, capsys: Any
) -> None:
    run = interrupted_copy(finished, tmp_path / "elsewhere" / "run")
    damage(run / "checkpoint-3" / name, kind)
    with pytest.warns(UserWarning, match=r"checkpoint-3 \(.*goes on from checkpoint-2"):
        train(run)
    assert "Going on from step 2 (" in capsys.readouterr().out
    assert same_student(run, finished)
    assert defect(run / "checkpoint-3", ["pass_rates.npz"]) is None
    assert any("checkpoint-3" in note["text"] for note in json.loads((run / "advice.json").read_text()))


def test_a_kill_after_the_last_checkpoint_takes_no_further_step(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled]
) -> None:
    run = interrupted_copy(finished, tmp_path / "run", last=4)
    distilled = train(run)
    assert json.loads((run / "trainer_state.json").read_text())["global_step"] == 4
    assert [entry["step"] for entry in distilled.log_history if "loss" in entry] == [1, 2, 3, 4]
    assert same_student(run, finished) and not list(run.glob("checkpoint-5"))


class EndAtStep(TrainerCallback):
    """Ends a run before its last step, as a token budget or forgetting does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == 2


class TerminateAtStep(TrainerCallback):
    """Sends the scheduler's signal after a step, and the launcher's that passes it on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("ended_by", ["callback", "token budget"])
@pytest.mark.parametrize("killed_by", ["SIGKILL", "SIGTERM"])
def test_a_run_that_ended_early_takes_no_further_step_after_a_kill(
    tmp_path: Path, train: Callable[..., Distilled], ended_by: str, killed_by: str
) -> None:
    run, ends = tmp_path / "run", [EndAtStep()] if ended_by == "callback" else []
    # One token more than the first step takes.
    budget = {} if ends else {"token_budget": int(total_tokens(train(tmp_path / "one", max_steps=1).costs)) + 1}
    train(tmp_path / "whole", *ends, **budget)
    if killed_by == "SIGKILL":
        interrupted_copy(tmp_path / "whole", run, last=2)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(run, *ends, TerminateAtStep(2), **budget)
    distilled = train(run, *ends, **budget)
    assert [entry["step"] for entry in distilled.log_history if "loss" in entry] == [1, 2]
    assert same_student(run, tmp_path / "whole")


def test_without_a_whole_checkpoint_the_run_begins_anew(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled]
) -> None:
    run = interrupted_copy(finished, tmp_path / "run", last=1)
    (run / "checkpoint-1" / "optimizer.pt").unlink()
    with pytest.warns(UserWarning, match=r"optimizer.pt is missing\) in .* goes on from the beginning"):
        train(run)
    assert same_student(run, finished)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that catches errors catches it."""


def aimed_at(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, when: int = 1, *, before: bool = True) -> None:
    """End the simulated process at the `when`-th call of a function; nothing of its cleaning up happens."""
    function, calls = getattr(target, name), []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) != when:
            return function(*args, **kwargs)
        if not before:
            function(*args, **kwargs)
        monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)
        raise Killed

    monkeypatch.setattr(target, name, killed)


MOMENTS = [
    (Trainer, "_save_optimizer_and_scheduler", 2, True),
    (Trainer, "_save_rng_state", 2, True),
    (Trainer, "_save_rng_state", 3, False),
    (checkpoints, "write_json", 2, True),
    (checkpoints, "write_json", 2, False),
    (checkpoints, "sync_directory", 2, True),
    (checkpoints, "sync_directory", 4, True),
]


@pytest.mark.parametrize(
    ("target", "name", "when", "before", "limit"),
    [
        *((*moment, limit) for moment in MOMENTS for limit in (None, 1)),
        (checkpoints, "_delete", 1, True, 1),
    ],
)
def test_a_kill_while_a_checkpoint_is_written_or_deleted_costs_its_steps_only(
    finished: Path,
    tmp_path: Path,
    train: Callable[..., Distilled],
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    when: int,
    before: bool,
    limit: int | None,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        aimed_at(patch, target, name, when, before=before)
        with pytest.raises(Killed):
            train(run, save_total_limit=limit)
    left = checkpoints.checkpoints_of(run)
    # With one checkpoint to keep, the old one is there until the new one is.
    assert left and all(defect(checkpoint) is None for checkpoint in left)
    train(run, save_total_limit=limit)
    assert same_student(run, finished)
    assert len(checkpoints.checkpoints_of(run)) == (limit or 4) and not (run / SAVING).exists()


def test_a_kill_between_a_checkpoint_and_its_replacement_loses_none(finished: Path, tmp_path: Path) -> None:
    run = interrupted_copy(finished, tmp_path / "run")
    (run / SAVING).mkdir()
    (run / "checkpoint-3").rename(run / SAVING / "checkpoint-3")
    shutil.copytree(run / "checkpoint-2", run / SAVING / "checkpoint-2")
    (run / SAVING / "checkpoint-2" / "optimizer.pt").unlink()
    checkpoints.clear_unfinished(run)
    assert defect(run / "checkpoint-3") is None and not (run / SAVING).exists()


def test_old_checkpoints_go_first_and_the_best_stays(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
    remove_old(tmp_path, 2, [tmp_path / "checkpoint-20", tmp_path / "checkpoint-5"])
    # 40 is of before the run went back to 15.
    assert [path.name for path in checkpoints.checkpoints_of(tmp_path)] == ["checkpoint-5", "checkpoint-20"]
    remove_old(tmp_path, None, [tmp_path / "checkpoint-20"])
    assert len(checkpoints.checkpoints_of(tmp_path)) == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence_and_with_room_the_run_goes_on(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run, save, calls = tmp_path / "run", Trainer._save_rng_state, []

    def full(self: Trainer, directory: str) -> None:
        calls.append(directory)
        if len(calls) == 3:
            Path(directory, "rng_state.pth").write_bytes(b"half")
            raise error
        save(self, directory)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_rng_state", full)
        with pytest.raises(OSError, match=r"is full, so checkpoint-3 could not .* it goes on from step 2\."):
            train(run)
    assert [path.name for path in checkpoints.checkpoints_of(run)] == ["checkpoint-1", "checkpoint-2"]
    assert not list((run / SAVING).glob("*"))
    train(run)
    assert same_student(run, finished)


def test_another_error_is_not_called_a_full_disk(
    tmp_path: Path, train: Callable[..., Distilled], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Trainer, "_save_rng_state", fail)
    with pytest.raises(RuntimeError, match="something else"):
        train(tmp_path / "run")


def test_a_second_training_in_one_directory_is_refused(tmp_path: Path, train: Callable[..., Distilled]) -> None:
    run = tmp_path / "run"
    program = (
        "import sys, time; from pathlib import Path; from paced_trl.training.checkpoints import training_alone\n"
        "with training_alone(Path(sys.argv[1])): print('holds', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"holds\n"
        with pytest.raises(BlockingIOError, match="Another process is training in"):
            train(run)
        assert not list(run.glob("checkpoint-*"))
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    # The kernel has released it.
    train(run, max_steps=1)


def test_a_finished_run_on_a_read_only_disk_is_reused(
    finished: Path, train: Callable[..., Distilled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FileLock", None)  # a lock cannot be made there
    assert train(finished).reused


class BestAtStep(TrainerCallback):
    """Has the trainer's state name a best checkpoint, as an evaluation would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            state.best_global_step = 2


def test_the_best_checkpoint_is_named_where_it_lies_also_after_a_move(
    tmp_path: Path, train: Callable[..., Distilled]
) -> None:
    run, moved = tmp_path / "run", tmp_path / "elsewhere" / "run"
    train(run, BestAtStep(), save_total_limit=2)
    assert [path.name for path in checkpoints.checkpoints_of(run)] == ["checkpoint-2", "checkpoint-4"]
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(run / "checkpoint-2")
    moved.parent.mkdir()
    run.rename(moved)
    record = json.loads((moved / MANIFEST).read_text())
    (moved / MANIFEST).write_text(json.dumps(record | {"status": "started"}))
    train(moved, save_total_limit=2)
    state = json.loads((moved / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(moved / "checkpoint-2")


def test_sigterm_ends_training_with_a_checkpoint_from_which_it_goes_on_exactly(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", TerminateAtStep(2), save_steps=3)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in checkpoints.checkpoints_of(tmp_path / "run")] == ["checkpoint-2"]
    train(tmp_path / "run", save_steps=3)
    assert same_student(tmp_path / "run", finished)


def test_models_and_optimizer_are_gone_when_a_run_has_ended(tmp_path: Path, train: Callable[..., Distilled]) -> None:
    seen: dict[str, weakref.ref[Any]] = {}

    class Remember(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            seen.update(model=weakref.ref(others["model"]), optimizer=weakref.ref(others["optimizer"].optimizer))

    gc.disable()
    try:
        train(tmp_path / "run", Remember(), max_steps=1, save_strategy="no")
        assert seen.keys() == {"model", "optimizer"} and all(reference() is None for reference in seen.values())
    finally:
        gc.enable()


def test_settings_of_saving_do_not_decide_the_result(
    finished: Path, tmp_path: Path, train: Callable[..., Distilled]
) -> None:
    run = interrupted_copy(finished, tmp_path / "run", last=2)
    train(run, save_steps=4, save_total_limit=1)
    assert same_student(run, finished)
    assert [path.name for path in checkpoints.checkpoints_of(run)] == ["checkpoint-4"]


def test_a_checkpoint_to_go_on_from_is_not_chosen_by_hand(finished: Path, train: Callable[..., Distilled]) -> None:
    with pytest.raises(ValueError, match="a run goes on by itself from the newest whole checkpoint"):
        train(finished, resume_from_checkpoint=str(finished / "checkpoint-2"))


@pytest.mark.parametrize("max_steps", [True, False], ids=["steps", "epochs"])
def test_a_finished_run_is_extended_and_does_not_go_back_to_its_first_stage(
    tmp_path: Path, train: Callable[..., Distilled], capsys: pytest.CaptureFixture[str], max_steps: bool
) -> None:
    def length(steps: int) -> dict[str, Any]:
        # Sixteen problems in batches of four; one of them has weight 0.
        return {"max_steps": steps} if max_steps else {"max_steps": -1, "num_train_epochs": steps / 3}

    run, shared = tmp_path / "run", {"kl_switch": 2 / 3, "save_steps": 2}
    train(run, **shared, **length(3))
    with pytest.raises(ValueError, match="holds a run with"):
        train(run, **shared, **length(9))
    extended = train(run, may_extend=True, **shared, **length(9))
    kinds = [[key for key in entry if key.endswith("_kl")] for entry in extended.log_history if "loss" in entry]
    assert kinds == [["paced/forward_kl"]] * 2 + [["paced/reverse_kl"]] * 7
    assert "Going on from step 3 (" in (said := capsys.readouterr().out) and "Extending the run in" in said
    assert train(run, may_extend=True, **shared, **length(9)).reused
    with pytest.raises(ValueError, match="holds a run with"):
        train(run, may_extend=True, **shared, **length(6))
    # What was interrupted on the way goes on.
    again = interrupted_copy(run, tmp_path / "again", last=3)
    train(again, may_extend=True, **shared, **length(9))
    assert same_student(again, run)


def test_a_run_without_a_checkpoint_cannot_be_extended(tmp_path: Path, train: Callable[..., Distilled]) -> None:
    train(tmp_path / "run", save_strategy="no", max_steps=1)
    with pytest.raises(ValueError, match="left no checkpoint to extend it from"):
        train(tmp_path / "run", may_extend=True, max_steps=2, save_strategy="no")
