"""
What PacedTrainer costs beside TRL's DistillationTrainer where all weights are 1: step time and peak memory.

    OMP_NUM_THREADS=1 python scripts/bench_trainer.py --output bench.json
    OMP_NUM_THREADS=1 python scripts/bench_trainer.py --teacher_cache --output bench_teacher_cache.json

Both distill the same teacher into the same student (random Llamas built in memory) on the same prompts and seeds, on
the student's own completions, which are generated in the step that is timed. Each run has a process of its own, and
the two sides take turns. Losses are compared too: they are equal to the last bit.

With `--teacher_cache` both sides are PacedTrainers on references, one of which finds the hidden states of its teacher
on disk: stage one from the second pass on. The teacher has six times the student's layers, and the vocabulary is
smaller, so that heads and layers cost in about the proportion of Qwen3-4B and Qwen3-0.6B.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback, set_seed
from trl import DistillationConfig, DistillationTrainer

from paced_trl import PacedConfig, PacedTrainer
from paced_trl.training.schedule import JSD_COEFFICIENT, KL


SIDES = ("trl", "paced_trl")
CACHE_SIDES = ("teacher", "cached")
_CHARACTERS = "0123456789+-*/=() abcdefghijklmnopqrstuvwxyz"
_WARM_UP = 2
_NUM_PROBLEMS, _BATCH_SIZE = 100, 8


class StepTimes(TrainerCallback):
    """Seconds of each optimizer step, generation included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of one token per character."""
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *_CHARACTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def build_model(seed: int, layers: int, vocab_size: int) -> LlamaForCausalLM:
    """Return a random Llama; the vocabulary is larger than the tokenizer's, as real heads are what costs."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    return LlamaForCausalLM(config)


def run_side(side: str, kl: KL, steps: int, cache: str | None = None) -> dict[str, Any]:
    """Train a few steps; return what a step took, the losses and the peak memory of this process."""
    prompts = [f"{a}*{b}+{a}-({b})=" for a in range(10, 20) for b in range(10, 20)]
    times = StepTimes()
    with tempfile.TemporaryDirectory() as directory:
        shared: dict[str, Any] = {
            "output_dir": directory,
            "max_steps": steps,
            "per_device_train_batch_size": _BATCH_SIZE,
            "max_completion_length": 48,
            "learning_rate": 1e-4,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
        }
        references = [f"{eval(prompt[:-1])} is what this comes to" for prompt in prompts]
        teacher_layers, vocab_size = (24, 4_000) if side in CACHE_SIDES else (8, 32_000)
        options: dict[str, Any] = {
            "model": build_model(0, 4, vocab_size),
            "teacher_model": build_model(1, teacher_layers, vocab_size),
            "train_dataset": Dataset.from_dict({"prompt": prompts, "reference": references}),
            "processing_class": build_tokenizer(),
            "callbacks": [times],
        }
        if side == "trl":
            trainer: DistillationTrainer = DistillationTrainer(
                args=DistillationConfig(**shared, beta=JSD_COEFFICIENT[kl]), **options
            )
        else:
            shared["completion_source"] = "dataset" if side in CACHE_SIDES else "student"
            args = PacedConfig(**shared, kl=kl, weighting="uniform", teacher_cache=cache)
            trainer = PacedTrainer(args=args, **options)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return {"seconds": statistics.median(times.seconds[_WARM_UP:]), "peak_mb": peak / 1024, "losses": losses}


def main() -> None:
    """Let the two sides take turns; print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kl", choices=list(JSD_COEFFICIENT), default="reverse", help="Divergence of both sides.")
    parser.add_argument("--steps", type=int, default=12, help="Optimizer steps of a run.")
    parser.add_argument("--pairs", type=int, default=5, help="Runs of each side.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    parser.add_argument("--teacher_cache", action="store_true", help="Compare stage one with and without the cache.")
    parser.add_argument("--side", choices=SIDES + CACHE_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.kl, args.steps, args.cache)))
        return
    before, after = CACHE_SIDES if args.teacher_cache else SIDES
    with tempfile.TemporaryDirectory() as cache:

        def run(side: str, steps: int) -> dict[str, Any]:
            command = [sys.executable, __file__, "--side", side, "--kl", args.kl, "--steps", str(steps)]
            command += ["--cache", cache] if side == "cached" else []
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
            return measured

        if args.teacher_cache:
            run(after, _NUM_PROBLEMS // _BATCH_SIZE + 1)  # the first pass fills it
        pairs = []
        for _ in range(args.pairs):
            pairs.append({side: run(side, args.steps) for side in (before, after)})
            print({side: (round(r["seconds"], 3), round(r["peak_mb"])) for side, r in pairs[-1].items()}, flush=True)
    ratios = {name: [pair[after][name] / pair[before][name] for pair in pairs] for name in ("seconds", "peak_mb")}
    summary: dict[str, Any] = {
        name: {"median": statistics.median(r), "low": min(r), "high": max(r)} for name, r in ratios.items()
    }
    summary["equal_losses"] = all(pair[before]["losses"] == pair[after]["losses"] for pair in pairs)
    print(json.dumps(summary, indent=2))
    if args.output:
        settings = {"kl": args.kl, "steps": args.steps, "threads": torch.get_num_threads(), "ratio": [after, before]}
        args.output.write_text(json.dumps({"settings": settings, "summary": summary, "pairs": pairs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
