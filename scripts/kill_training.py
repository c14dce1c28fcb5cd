"""
Kill `train` and `compare` with SIGKILL again and again, and compare what they end with to uninterrupted runs, bitwise.

    PYTHONPATH=. python scripts/kill_training.py NEW_DIRECTORY --train 200 --compare 40 \\
        --output scripts/results/kill_training.json

Half of the kills come at a random moment, half at the n-th change of a file in the run's directory (opening to write,
renaming, deleting, making a directory), so that every moment of writing and deleting a checkpoint is hit. After one
to three kills the same command is left to end; then the student's weights, its logs, and of a comparison all results,
must be those of a run that nobody killed. Runs on the demo's models, on a CPU. One process with one thread: it forks,
so that an attempt starts in milliseconds. The figures of a comparison's report are not drawn, but written empty. The
output is written after each run, and goes on from what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

ROOT = Path(__file__).parents[1]
# What differs between two runs of the same thing.
TIMES = ("second", "runtime", "step_time", "path", "flos")
NUM_HELD_OUT = 8

PROBLEMS = ("--config", "recipes/demo/recipe.yaml", "--max_problems", "32", "--num_generations", "2")
COMMON = (
    *PROBLEMS,
    *("--max_steps", "8", "--per_device_train_batch_size", "8", "--logging_steps", "1", "--learning_rate", "1e-3"),
    *("--kl_switch", "4", "--disable_tqdm", "true", "--save_strategy", "steps", "--save_steps", "2"),
)
VARIANTS = {
    "one checkpoint, online": ("--save_total_limit", "1", "--refresh", "online"),
    "two checkpoints, drawn, estimated again": (
        *("--save_total_limit", "2", "--apply_weights", "sampling", "--refresh", "estimate", "--refresh_steps", "3"),
        *("--refresh_num_generations", "2"),
    ),
    "one checkpoint, ended by a token budget": (
        "--save_total_limit",
        "1",
        "--save_steps",
        "1",
        "--token_budget",
        "1500",
    ),
    "all checkpoints, LoRA": ("--use_peft", "true", "--refresh", "never", "--save_steps", "1"),
}


@dataclass
class Tally:
    """What became of the kills of one command."""

    kills: int = 0
    aimed: int = 0
    while_saving: int = 0
    runs: int = 0
    differing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lost_checkpoints: list[str] = field(default_factory=list)


def main() -> None:
    """Run the uninterrupted runs, kill, and write the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--train", type=int, default=200, help="kills of `train`")
    parser.add_argument("--compare", type=int, default=40, help="kills of `compare`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    directory, started = given.directory.resolve(), time.monotonic()
    directory.mkdir(parents=True)
    os.chdir(ROOT)
    load_everything()
    shared = prepare(directory)
    output = given.output or directory / "result.json"
    earlier: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"commands": {}, "minutes": 0.0}
    tallies = {name: Tally(**earlier["commands"].get(name, {})) for name in ("train", "compare")}
    rng = random.Random(f"{given.seed} {[tally.kills for tally in tallies.values()]}")

    def write() -> None:
        commands = {name: vars(tally) for name, tally in tallies.items()}
        minutes = round(earlier["minutes"] + (time.monotonic() - started) / 60, 1)
        text = json.dumps({"commands": commands, "minutes": minutes, "seed": given.seed}, indent=2) + "\n"
        output.write_text(text)

    kill = functools.partial(kill_command, directory=directory, shared=shared, rng=rng, write=write)
    kill("train", given.train, tallies["train"], variants=VARIANTS, outcome=train_outcome)
    kill("compare", given.compare, tallies["compare"], variants={"two arms": ()}, outcome=compare_outcome)
    write()
    print(output.read_text())
    sys.exit(any(tally.differing or tally.failed or tally.lost_checkpoints for tally in tallies.values()))


def load_everything() -> None:
    """Import what the commands import, so that forked processes do not."""
    import torch
    from markupsafe import Markup

    import paced_trl.commands.compare
    import paced_trl.commands.recipe
    import paced_trl.commands.train
    import paced_trl.commands.training_steps
    import paced_trl.evaluation.run_comparison
    import paced_trl.publishing.publish  # noqa: F401
    from paced_trl.report import theme

    torch.set_num_threads(1)
    theme._png, theme._svg = (lambda figure: b""), (lambda *_: Markup())
    gc.freeze()  # what is imported is not collected, so that forked processes collect fast


def prepare(directory: Path) -> list[str]:
    """Measure pass rates and write references once, and return the settings that all runs share."""
    for name in ("test", "retention"):
        lines = (ROOT / f"recipes/demo/data/{name}.jsonl").read_text().splitlines(keepends=True)
        (directory / f"{name}.jsonl").write_text("".join(lines[:NUM_HELD_OUT]))
    shared = [*COMMON, "--pass_rates", f"{directory}/pass_rates", "--references", f"{directory}/references"]
    estimate = [*PROBLEMS, "--pass_rates", f"{directory}/pass_rates"]
    for command, arguments in (("estimate", estimate), ("train", [*shared, "--max_steps", "1"])):
        output = ["--output_dir", f"{directory}/prepared"]
        status, _ = attempt(command, [*arguments, *output], directory / "prepare.log")
        assert status == 0, (directory / "prepare.log").read_text()
    return shared


def kill_command(
    command: str,
    num_kills: int,
    tally: Tally,
    *,
    directory: Path,
    variants: Mapping[str, Sequence[str]],
    shared: list[str],
    outcome: Callable[[Path], Any],
    rng: random.Random,
    write: Callable[[], None],
) -> None:
    """Kill a command so many times, and count what became of it."""
    held_out = [f"--eval_sets=test={directory}/test.jsonl", f"--retention_sets=reversal={directory}/retention.jsonl"]
    compared = ["--arms", "uniform", "paced_sampling", "--curve_points", "1", "--num_eval_generations", "2", *held_out]
    uninterrupted = {}
    for index, (name, settings) in enumerate(variants.items() if tally.kills < num_kills else ()):
        run = directory / f"{command}-{index}"
        arguments = [*shared, *settings, *(compared if command == "compare" else ()), "--output_dir"]
        started = time.monotonic()
        status, num_changes = attempt(command, [*arguments, str(run)], directory / "log", run, count=True)
        assert status == 0, (directory / "log").read_text()
        uninterrupted[name] = (arguments, outcome(run), time.monotonic() - started, num_changes)
    while tally.kills < num_kills:
        name = rng.choice(list(uninterrupted))
        arguments, expected, duration, num_changes = uninterrupted[name]
        run = directory / f"{command}-killed-{tally.runs}"
        log = directory / f"{command}-killed-{tally.runs}.log"
        moments = []
        for _ in range(min(rng.randint(1, 3), num_kills - tally.kills)):
            whole = whole_checkpoints(run)
            aim = rng.randint(1, num_changes) if rng.random() < 0.5 else None
            after = None if aim else rng.uniform(0.0, duration)
            status, _ = attempt(command, [*arguments, str(run)], log, run, kill_at_change=aim, kill_after=after)
            if status != -signal.SIGKILL:
                break  # it ended before
            moments.append(f"change {aim}" if aim else f"{after:.2f} s")
            tally.kills += 1
            tally.aimed += aim is not None
            tally.while_saving += any(run.glob("**/.saving/*"))
            left = whole_checkpoints(run)
            if any(found and not left.get(place, found) for place, found in whole.items()):
                tally.lost_checkpoints.append(f"{name}: {moments}")
        status, _ = attempt(command, [*arguments, str(run)], log, run)
        tally.runs += 1
        if status != 0:
            tally.failed.append(f"{name}, killed at {moments}: {log.read_text()[-1000:]}")
        elif outcome(run) != expected:
            tally.differing.append(f"{name}, killed at {moments}")
        else:
            shutil.rmtree(run)
            log.unlink()
        print(f"{command}: {tally.kills} kills, {tally.runs} runs, {moments}", file=sys.stderr, flush=True)
        write()


def whole_checkpoints(run: Path) -> dict[str, list[str]]:
    """Return the names of whole checkpoints, by the directory of their run; a run that has finished needs none."""
    from paced_trl.training.checkpoints import checkpoints_of, defect

    found = {}
    for record in run.glob("**/run.json"):
        place = record.parent
        if json.loads(record.read_text())["status"] == "started":
            found[str(place)] = [path.name for path in checkpoints_of(place) if defect(path) is None]
    return found


def train_outcome(run: Path) -> Any:
    """Return the student's weights and what was logged."""
    (weights,) = [*run.glob("model.safetensors"), *run.glob("adapter_model.safetensors")]
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    return weights.read_bytes(), without_times([entry for entry in history if "train_runtime" not in entry])


def compare_outcome(run: Path) -> Any:
    """Return the weights of each arm and the comparison."""
    weights = {path.parent.name: path.read_bytes() for path in run.glob("arms/*/model.safetensors")}
    comparison = json.loads((run / "comparison.json").read_text())
    for each in comparison["runs"]:
        each["log_history"] = [entry for entry in each.get("log_history", []) if "train_runtime" not in entry]
    return weights, without_times(comparison)


def without_times(value: Any) -> Any:
    """Leave out what no two runs have in common."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not any(word in key for word in TIMES)}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def attempt(
    command: str,
    arguments: list[str],
    log: Path,
    run: Path | None = None,
    *,
    count: bool = False,
    kill_at_change: int | None = None,
    kill_after: float | None = None,
) -> tuple[int, int]:
    """Run a command in a process of its own; return its exit status and how often it changed files of its run."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reader)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        changes = watch_changes(run, kill_at_change) if count or kill_at_change else [0]
        status: Any = 1
        try:
            from paced_trl.commands import run_command

            run_command(command, arguments)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(writer, str(changes[0]).encode())
            os._exit(status)
    os.close(writer)
    deadline = None if kill_after is None else time.monotonic() + kill_after
    ended = 0
    while not ended:
        ended, wait_status = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if not ended and deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        elif not ended:
            time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # verifiers' workers, whose parent is gone
    with os.fdopen(reader) as opened:
        num_changes = int(opened.read() or 0)
    return os.waitstatus_to_exitcode(wait_status), num_changes


def watch_changes(run: Path | None, kill_at: int | None) -> list[int]:
    """Count the changes that this process makes to files of a run, and kill it at one of them."""
    changes, place = [0], str(run)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            path = arguments[0]
            if arguments[-1] >= 0:  # the path is below an open directory, as where a tree is deleted
                path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[-1]}"), os.fsdecode(path))
        else:
            return
        if not isinstance(path, int) and os.fsdecode(path).startswith(place):
            changes[0] += 1
            if changes[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return changes


if __name__ == "__main__":
    main()
