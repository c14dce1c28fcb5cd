"""
Estimate pass rates again and again, and kill each attempt with SIGKILL at a random moment.

    PYTHONPATH=.:tests python tests/helpers/kill_runs.py DIRECTORY NUM_KILLS SEED

A program of its own: it has one thread, so that it may fork, and each attempt starts in milliseconds. Attempts go on
with one store until one of them ends by itself; then comes the next store, so that creation is killed as often as
generation. Prints one JSON object; `lost` lists shards that were on disk before a kill and are gone or changed later.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation.pass_rates import estimate_pass_rates


NUM_PROBLEMS, NUM_GENERATIONS, SLICE_SIZE = 24, 3, 9


def attempt(store: Path, log: Path) -> None:
    """Estimate in this process; every completion that is asked for leaves a byte in the log."""
    counter = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    generator = FakeGenerator(before_prompt=lambda answered: os.write(counter, b"." * NUM_GENERATIONS) and None)
    estimate_pass_rates(
        make_problems(NUM_PROBLEMS),
        generator,
        exact_verifier,
        store=store,
        num_generations=NUM_GENERATIONS,
        slice_size=SLICE_SIZE,
        progress=False,
    )


def forked(store: Path, log: Path) -> int:
    """Start an attempt in a process of its own and return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        # Corrupt shards are warned of, and there must be none.
        warnings.simplefilter("error")
        attempt(store, log)
        status = 0
    finally:
        os._exit(status)


def shard_contents(store: Path) -> dict[str, bytes]:
    """Return the shards that are complete on disk, which is what the name says."""
    return {path.name: path.read_bytes() for path in store.glob("shards/[!.]*")}


def main() -> None:
    """Kill, go on, and report."""
    directory, num_kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    started = time.monotonic()
    os.waitpid(forked(directory / "uninterrupted", directory / "log"), 0)
    duration = time.monotonic() - started
    killed_with_shards: list[int] = []
    lost: list[str] = []
    statuses: list[int] = []
    num_stores = 0
    while len(killed_with_shards) < num_kills or statuses[-1] != 0:
        store = directory / f"store-{num_stores}"
        child = forked(store, directory / f"log-{num_stores}")
        # After the last kill the last store's attempt is left to end.
        if len(killed_with_shards) < num_kills:
            time.sleep(rng.uniform(0.0, duration))
        before = shard_contents(store)
        if len(killed_with_shards) < num_kills:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after = shard_contents(store)
        lost += [f"{store.name}/{name}" for name, content in before.items() if after.get(name) != content]
        statuses.append(status)
        if status == -signal.SIGKILL:
            killed_with_shards.append(len(after))
        else:
            num_stores += 1
    print(
        json.dumps(
            {
                "duration": duration,
                "lost": lost,
                "statuses": statuses,
                "killed_with_shards": killed_with_shards,
                "num_stores": num_stores,
            }
        )
    )


if __name__ == "__main__":
    main()
