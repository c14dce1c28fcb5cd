"""
Launch the shortest two-process training many times and count the exit codes: a run that did its work must end with 0.

    python scripts/count_exit_codes.py --launches 100 --output scripts/results/exit_codes.json

Each launch is `torchrun --nproc_per_node 2 -m paced_trl.commands.train` with one step on four of the demo's problems,
in a directory of its own. The numbers are saved after every launch; the same command goes on where it was stopped. The
end of the error output of a launch that failed is saved with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from paced_trl.names import library_versions
from paced_trl.run_directory import write_json


ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "config": "recipes/demo/recipe.yaml",
    "weighting": "uniform",
    "kl": "reverse",
    "max_problems": 4,
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "use_cpu": "true",
}


def launch(output_dir: str) -> subprocess.CompletedProcess[str]:
    """Train for one step in two processes."""
    settings = SETTINGS | {"output_dir": output_dir}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "paced_trl.commands.train", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def main() -> None:
    """Launch, count, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=100, help="How many launches there shall be.")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the numbers.")
    args = parser.parse_args()
    results = json.loads(args.output.read_text()) if args.output.exists() else {"exit_codes": {}, "failures": []}
    while (done := sum(results["exit_codes"].values())) < args.launches:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as directory:
            finished = launch(f"{directory}/run")
            # A launcher that says 0 has not shown that the work was done.
            is_saved = (Path(directory) / "run" / "config.json").exists()
        code = str(finished.returncode) if is_saved or finished.returncode else "0 without a student"
        results["exit_codes"][code] = results["exit_codes"].get(code, 0) + 1
        if code != "0":
            results["failures"].append(finished.stderr[-4000:])
        write_json(args.output, results | {"settings": SETTINGS, "versions": library_versions()})
        print(f"{done + 1} of {args.launches}: exit code {code}, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"Exit codes: {results['exit_codes']}")


if __name__ == "__main__":
    main()
