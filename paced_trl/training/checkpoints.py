"""
Checkpoints that are whole or not there: written aside, listed, renamed, and checked before a run goes on from one.

    OUTPUT_DIR/.saving/checkpoint-40   while it is written; what a kill leaves there is deleted at the next start
    OUTPUT_DIR/checkpoint-40           whole: its `files.json` lists every other file with size and SHA-256

A checkpoint without a list is of version 0.1; its files are then checked by what their formats say of them. Knows
files only, no trainer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..run_directory import sync_directory, write_json


FILES = "files.json"
SAVING = ".saving"
LOCK = ".training.lock"
_NAME = re.compile(r"checkpoint-(\d+)")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch, safetensors and Arrow say in their own words that a write failed.
_FULL_IN_WORDS = re.compile(
    r"no space left|disk quota|file too large|os error (27|28|122)\b|write failed|failed writing|unexpected pos", re.I
)


@contextmanager
def training_alone(run: Path) -> Iterator[None]:
    """Hold a run's directory, so that no other process trains in it; the kernel releases it however this one ends."""
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"Another process is training in {str(run)!r}, and two would overwrite each other's checkpoints. Wait for "
            "it, or choose another `--output_dir`."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def full_disk_in_words(path: Path, what: str) -> Iterator[None]:
    """Turn a failed write for want of space, whichever library saw it, into a sentence about the run at `path`."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) not in _FULL and not _FULL_IN_WORDS.search(str(error)):
            raise
        step = max(map(step_of, checkpoints_of(path)), default=0)
        raise OSError(
            f"The disk that holds {str(path)!r} is full, so {what} could not be written. Free some space and run the "
            f"same command again: it goes on from step {step}."
        ) from error


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name, -1 if it is no checkpoint's."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def checkpoints_of(run: Path) -> list[Path]:
    """Return a run's checkpoints, whole or not, by step."""
    return sorted((path for path in run.glob("checkpoint-*") if path.is_dir() and step_of(path) >= 0), key=step_of)


def publish_checkpoint(run: Path, name: str) -> Path:
    """List the files of `run/.saving/name`, and give it its place in the run; one of the same name is replaced."""
    written, final = run / SAVING / name, run / name
    listed = {}
    for file in sorted(path for path in written.rglob("*") if path.is_file()):
        with open(file, "rb+") as opened:
            os.fsync(opened.fileno())
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        listed[str(file.relative_to(written))] = {"size": file.stat().st_size, "sha256": digest}
    write_json(written / FILES, listed)
    if final.exists():
        _delete(run, final)
    os.replace(written, final)
    sync_directory(run)
    return final


def remove_old(run: Path, limit: int | None, keep: Iterable[Path]) -> None:
    """Delete checkpoints until `limit` are left; first those later than all of `keep`, which stay, then the oldest."""
    kept = set(keep)
    latest = max(map(step_of, kept))
    others = [path for path in checkpoints_of(run) if path not in kept]
    others.sort(key=lambda path: (step_of(path) < latest, step_of(path)))
    for path in others[: len(others) + len(kept) - limit] if limit else ():
        _delete(run, path)


def clear_unfinished(run: Path) -> None:
    """Finish what a kill left of a replacement, and delete what it left of writing or deleting a checkpoint."""
    for written in (run / SAVING).glob("checkpoint-*"):
        if (written / FILES).exists() and not (run / written.name).exists() and defect(written) is None:
            os.replace(written, run / written.name)
    shutil.rmtree(run / SAVING, ignore_errors=True)


def newest_whole(run: Path, required: Iterable[str] = ()) -> Path | None:
    """Return the newest checkpoint, with `required` files, from which a run goes on exactly; warn of those skipped."""
    skipped = []
    for checkpoint in reversed(checkpoints_of(run)):
        reason = defect(checkpoint, required)
        if reason is None:
            break
        skipped.append(f"{checkpoint.name} ({reason})")
    else:
        checkpoint = None
    if skipped:
        then = "from the beginning" if checkpoint is None else f"from {checkpoint.name}"
        warnings.warn(
            f"{', '.join(skipped)} in {str(run)!r} cannot be resumed, so the run goes on {then}.", stacklevel=2
        )
    return checkpoint


def defect(checkpoint: Path, required: Iterable[str] = ()) -> str | None:
    """Return why a run cannot go on exactly from a checkpoint, None if it can."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
        if state["global_step"] < 0:
            return "its step is negative"
        listed = json.loads((checkpoint / FILES).read_bytes()) if (checkpoint / FILES).exists() else None
        names = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
        names &= names if listed is None else listed.keys()
        missing = _missing(names, {"trainer_state.json", *required})
        if missing:
            return f"{missing} is missing"
        if listed is None:
            damaged = (name for name in sorted(names) if not _is_readable(checkpoint / name))
        else:
            damaged = (name for name, file in sorted(listed.items()) if not _is_as_listed(checkpoint / name, file))
        first = next(damaged, None)
        return None if first is None else f"{first} is damaged"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except Exception as error:  # whatever a parser raises on damaged bytes
        return f"it cannot be read: {error}"


def _missing(names: set[str], required: set[str]) -> str | None:
    """Return what a checkpoint lacks without which another run would go on from it."""
    is_sharded = any("/" in name for name in names)  # DeepSpeed and FSDP write directories of their own
    needed = set(required)
    if not is_sharded:
        needed |= {"optimizer.pt", "scheduler.pt"}
        if not any(name.endswith(".safetensors") and "average" not in name for name in names):
            needed.add("model.safetensors")
    if not any(re.fullmatch(r"rng_state(_\d+)?\.pth", name) for name in names):
        needed.add("rng_state.pth")
    return min(needed - names, default=None)


def _is_as_listed(path: Path, file: dict[str, object]) -> bool:
    if path.stat().st_size != file["size"]:
        return False
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file["sha256"]


def _is_readable(path: Path) -> bool:
    """Whether a file is what its name says, as far as its format tells."""
    if path.suffix in (".pt", ".pth", ".npz"):
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    if path.suffix == ".safetensors":
        with open(path, "rb") as opened:
            header_size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(header_size))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + header_size + max(ends, default=0)
    return True


def _delete(run: Path, checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill leaves all of it or nothing under its name."""
    removed = run / SAVING / f"removed-{checkpoint.name}"
    removed.parent.mkdir(exist_ok=True)
    shutil.rmtree(removed, ignore_errors=True)
    os.replace(checkpoint, removed)
    shutil.rmtree(removed)
