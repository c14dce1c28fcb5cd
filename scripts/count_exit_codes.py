"""
Launch the shortest two-process training many times and count the exit codes: a run that did its work must end with 0.

    python scripts/count_exit_codes.py --launches 10 --forked 100 --output scripts/results/exit_codes.json

Each launch is `torchrun --nproc_per_node 2 -m paced_trl.commands.train` with one step on four of the demo's problems,
in a directory of its own. Nine tenths of its time are imports; so the other kind forks its two processes from one that
has imported everything and has no thread. They make their process group without torchrun, and end as a program does:
the interpreter is finalized, and destructors run beside whatever thread is left. The numbers are saved after every
launch; the same command goes on where it was stopped. The end of the output of a launch that failed is saved as well.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from paced_trl.names import library_versions
from paced_trl.run_directory import write_json


os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
os.environ |= {"TOKENIZERS_PARALLELISM": "false"}

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "config": "recipes/demo/recipe.yaml",
    "weighting": "uniform",
    "kl": "reverse",
    "max_problems": 4,
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "use_cpu": "true",
    "save_strategy": "no",
    "disable_tqdm": "true",
}


def launch(flags: list[str], log: Path) -> list[int]:
    """Train for one step in two processes of torchrun, and return its exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    with open(log, "wb") as output:
        ended = subprocess.run([*command, "-m", "paced_trl.commands.train", *flags], stdout=output, stderr=output)
    return [ended.returncode]


def fork(flags: list[str], log: Path) -> list[int]:
    """Train for one step in two processes that are forked from this one, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in ("0", "1"):
        child = os.fork()
        if child == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            from paced_trl.commands import run_command

            run_command("train", flags)
            sys.exit()
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main() -> None:
    """Launch, count, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=10, help="How many launches of torchrun there shall be.")
    parser.add_argument("--forked", type=int, default=100, help="How many of forked processes.")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the numbers.")
    args = parser.parse_args()
    results: dict[str, Any] = {"torchrun": {}, "forked": {}, "failures": []}
    if args.output.exists():
        results |= json.loads(args.output.read_text())
    os.chdir(ROOT)
    import paced_trl.commands.train
    import paced_trl.commands.training_steps
    import paced_trl.training.run  # noqa: F401

    gc.freeze()  # what is imported is not collected once more in each process
    for kind, wanted, start in (("forked", args.forked, fork), ("torchrun", args.launches, launch)):
        while (done := sum(results[kind].values())) < wanted:
            started = time.perf_counter()
            directory = Path(tempfile.mkdtemp())  # which a forked process must not delete as it ends
            settings, log = SETTINGS | {"output_dir": directory / "run"}, directory / "log"
            codes = start([part for name, value in settings.items() for part in (f"--{name}", str(value))], log)
            # Codes of 0 have not shown that the work was done.
            is_saved = (directory / "run" / "config.json").exists()
            code = str(next(filter(None, codes), 0)) if is_saved or any(codes) else "0 without a student"
            results[kind][code] = results[kind].get(code, 0) + 1
            if code != "0":
                results["failures"].append(log.read_text(errors="replace")[-4000:])
            shutil.rmtree(directory)
            write_json(args.output, results | {"settings": SETTINGS, "versions": library_versions()})
            print(f"{kind}: {done + 1} of {wanted}, {code}, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"Exit codes: {results['forked']} forked, {results['torchrun']} of torchrun")


if __name__ == "__main__":
    main()
