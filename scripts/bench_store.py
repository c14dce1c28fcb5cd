"""
Measure what a store of many completions costs: time and memory of opening, counting, prior, weights and histogram.

    python scripts/bench_store.py --problems 1000000 --generations 8

Writes a synthetic store into a temporary directory, measures each step in a process of its own, prints a Markdown
table and, with --output FILE.json, saves the numbers. Seconds leave out the start of Python and imports, memory is the
peak of the whole process, and "read" is what it read from files: --text_length shows that this does not grow with the
completions, because opening and counting leave the text alone. (Of each shard, 64 kB are Parquet's footer.)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from paced_trl.estimation.pass_rates import read_pass_rates
from paced_trl.estimation.summary import summarize_pass_rates
from paced_trl.store.store import VERDICTS, PassRateStore
from paced_trl.weighting.prior_fit import fit_prior
from paced_trl.weighting.weights import problem_weights


_ROWS_PER_SHARD = 8192
_VERDICT_SHARES = {"failed": 0.9, "unparseable": 0.05, "truncated": 0.03, "timeout": 0.015, "unverifiable": 0.005}


def write_store(path: Path, num_problems: int, num_generations: int, text_length: int) -> None:
    """Write a store as a run does: shards of whole problems, pass rates with masses at 0 and 1, text that differs."""
    rng = np.random.default_rng(0)
    store = PassRateStore(path, {"generator": {"model": "synthetic"}, "seed": 0})
    per_shard = max(_ROWS_PER_SHARD // num_generations, 1)
    # Drawn once and cut at different places: making text shall not take longer than measuring.
    noise = rng.integers(32, 127, 1 << 20, dtype=np.uint8).tobytes().decode("ascii")
    with store.writing():
        for start in range(0, num_problems, per_shard):
            numbers = np.arange(start, min(start + per_shard, num_problems))
            rates = rng.choice([0.0, 1.0, np.nan], len(numbers), p=[0.4, 0.2, 0.4])
            rates = np.repeat(np.where(np.isnan(rates), rng.beta(2, 2, len(numbers)), rates), num_generations)
            other = rng.choice(list(_VERDICT_SHARES), len(rates), p=list(_VERDICT_SHARES.values()))
            cuts = rng.integers(0, len(noise) - text_length, len(rates)).tolist()
            columns = {
                "problem_id": np.repeat([f"problem-{number:012d}" for number in numbers], num_generations),
                "generation_index": np.tile(np.arange(num_generations, dtype=np.int32), len(numbers)),
                "completion": [noise[cut : cut + text_length] for cut in cuts],
                "num_tokens": rng.integers(1, 512, len(rates), dtype=np.int32),
                "finish_reason": np.repeat("stop", len(rates)),
                "verdict": np.where(rng.random(len(rates)) < rates, "passed", other),
                "problem_hash": np.repeat([f"{number:016x}" for number in numbers], num_generations),
            }
            store.append(pa.table({name: pa.array(values) for name, values in columns.items()}))


def measured_steps(path: Path) -> dict[str, Callable[[], Any]]:
    """Return the steps by name; those that need counts read them from the file that `counts` leaves."""
    counts = path.parent / "counts.npy"

    def save_counts() -> None:
        table = PassRateStore(path).counts()
        by_verdict = {verdict: table[f"num_{verdict}"].to_numpy() for verdict in VERDICTS}
        valid = sum(by_verdict[verdict] for verdict in ("passed", "failed", "unparseable", "truncated"))
        np.save(counts, np.stack([by_verdict["passed"], valid]))

    def table() -> Dataset:
        ids = PassRateStore(path).generation_counts()["problem_id"].to_pylist()
        return read_pass_rates(Dataset.from_dict({"problem_id": ids}), path)

    def everything() -> None:
        pass_rates = table()
        passed, valid = np.asarray(pass_rates["num_passed"][:]), np.asarray(pass_rates["num_valid"][:])
        problem_weights(passed, valid, estimator="posterior")
        summarize_pass_rates(pass_rates)

    return {
        "open for resume": lambda: PassRateStore(path).generation_counts(),
        "counts": save_counts,
        "prior": lambda: fit_prior(*np.load(counts)),
        "weights": lambda: problem_weights(*np.load(counts), estimator="posterior"),
        "open, table, histogram": lambda: summarize_pass_rates(table()),
        "all of these once": everything,
    }


def measure(step: Callable[[], Any]) -> dict[str, float]:
    """Return seconds, of the clock and of CPU time, peak memory and bytes read of one step in this process."""
    before = _process_value("io", "rchar:")
    started, started_cpu = time.perf_counter(), time.process_time()
    step()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    read = _process_value("io", "rchar:") - before
    peak = _process_value("status", "VmHWM:") * 1024
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak / 1e9, "read_mb": read / 1e6}


def _process_value(file: str, name: str) -> int:
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def column_megabytes(path: Path) -> tuple[float, float]:
    """Return how much the completion column and all columns take on disk."""
    text, total = 0, 0
    for shard in PassRateStore(path).shards():
        metadata = pq.read_metadata(shard)
        for group in range(metadata.num_row_groups):
            for position in range(metadata.num_columns):
                column = metadata.row_group(group).column(position)
                total += column.total_compressed_size
                text += column.total_compressed_size * (column.path_in_schema == "completion")
    return text / 1e6, total / 1e6


def measure_store(path: Path) -> dict[str, Any]:
    """Measure every step, each in a process of its own."""
    text, total = column_megabytes(path)
    results: dict[str, Any] = {"text_mb": text, "store_mb": total}
    for name in measured_steps(path):
        command = [sys.executable, __file__, "--store", str(path), "--step", name]
        results[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return results


def as_markdown(results: dict[int, dict[str, Any]]) -> str:
    """Return one row per number of problems."""
    steps = [name for name in next(iter(results.values())) if name not in ("text_mb", "store_mb")]
    rows = [["problems", "store (its text)", *steps], ["---"] * (len(steps) + 2)]
    for num_problems, result in results.items():
        cells = [
            "{seconds:.2f} s (CPU {cpu_seconds:.2f}), {peak_gb:.2f} GB, read {read_mb:.0f} MB".format(**result[step])
            for step in steps
        ]
        rows.append([f"{num_problems:,}", f"{result['store_mb']:.0f} MB ({result['text_mb']:.0f} MB)", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Write, measure, print; or measure one step for the process that does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="Numbers of P.")
    parser.add_argument("--generations", type=int, default=8, help="Completions per problem.")
    parser.add_argument("--text_length", type=int, default=60, help="Characters per completion.")
    parser.add_argument("--output", help="JSON file for the numbers.")
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(measure(measured_steps(Path(args.store))[args.step])))
        return
    results = {}
    for num_problems in args.problems:
        with tempfile.TemporaryDirectory() as directory:
            write_store(Path(directory) / "store", num_problems, args.generations, args.text_length)
            results[num_problems] = measure_store(Path(directory) / "store")
    print(as_markdown(results))
    if args.output:
        Path(args.output).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
