"""
Draw the three mixes of difficulty from the demo's chains: how often the demo's student passes decides what is in them.

A pool of 15,000 new chains is drawn with the demo's generator and lengths, none of the demo's own, and the demo's
student answers each eight times. Each mix takes 1,500 problems to train on and 400 to test on from the pool, at random
within each count of passes. Training problems keep their counts (`num_passed`, `num_valid`): they are the pass rates
that `compare` weighs by. The same seeds give the same files on the same machine. It takes a few minutes of one core.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from paced_trl import SamplingParameters, estimate_pass_rates, load_generator, load_verifier


HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
sys.path.insert(0, str(HERE.parents[1] / "scripts"))
from build_demo_models import LENGTH_WEIGHTS, MAX_LENGTH, chain, distinct_problems  # noqa: E402


POOL_SIZE = 15_000
NUM_GENERATIONS = 8
SIZES = {"train": 1_500, "test": 400}
HARD = [0.50, 0.18, 0.10, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02]
# Shares of 0/8 to 8/8; the balanced one is what the student does on the demo's training problems.
SHARES = {
    "hard": HARD,
    "balanced": [count / 3000 for count in (899, 201, 115, 93, 89, 108, 113, 237, 1145)],
    "easy": HARD[::-1],
}


def counts_of(shares: list[float], size: int) -> list[int]:
    """Round shares of `size` to whole numbers with that sum, the largest remainders up."""
    exact = [share * size / sum(shares) for share in shares]
    counts = [int(value) for value in exact]
    for k in sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])[: size - sum(counts)]:
        counts[k] += 1
    return counts


def main() -> None:
    """Draw the pool, measure it, write the mixes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=HERE / "data", help="where MIX/train.jsonl, test.jsonl go")
    parser.add_argument("--store", type=Path, default=Path("runs/difficulty/pool"), help="the pool's completions")
    args = parser.parse_args()

    taken = {json.loads(line)["prompt"] for path in DEMO.glob("data/*.jsonl") for line in path.open()}
    rng = random.Random(17)
    pool = distinct_problems(
        lambda: chain(rng, rng.choices(range(1, MAX_LENGTH + 1), LENGTH_WEIGHTS)[0]), POOL_SIZE, taken
    )
    sampling = SamplingParameters(max_completion_length=16)
    student = load_generator(
        "transformers", model_name_or_path=str(DEMO / "student"), sampling=sampling, batch_size=512
    )
    with load_verifier("exact") as verifier:
        table = estimate_pass_rates(
            [vars(problem) for problem in pool], student, verifier, store=args.store, num_generations=NUM_GENERATIONS
        )
    by_passes: list[list[dict[str, object]]] = [[] for _ in range(NUM_GENERATIONS + 1)]
    for problem, passed, valid in zip(pool, table["num_passed"], table["num_valid"], strict=True):
        if valid == NUM_GENERATIONS:
            by_passes[passed].append({**vars(problem), "num_passed": passed, "num_valid": valid})
    print("Pool, 0/8 to 8/8:", [len(problems) for problems in by_passes])
    for number, (mix, shares) in enumerate(SHARES.items()):
        rng = random.Random(number)
        left = [rng.sample(problems, len(problems)) for problems in by_passes]
        for split, size in SIZES.items():
            rows = [left[k].pop() for k, count in enumerate(counts_of(shares, size)) for _ in range(count)]
            rng.shuffle(rows)
            if split == "test":  # evaluated anew
                rows = [{name: row[name] for name in ("prompt", "solution", "length")} for row in rows]
            path = args.output_dir / mix / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
