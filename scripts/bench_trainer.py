"""
What PacedTrainer costs beside TRL's DistillationTrainer where all weights are 1: step time and peak memory.

    OMP_NUM_THREADS=1 python scripts/bench_trainer.py --output bench.json

Both distill the same teacher into the same student (random Llamas built in memory) on the same prompts and seeds, on
the student's own completions, which are generated in the step that is timed. Each run has a process of its own, and
the two sides take turns. Losses are compared too: they are equal to the last bit.
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
from paced_trl.schedule import JSD_COEFFICIENT, KL


SIDES = ("trl", "paced_trl")
_CHARACTERS = "0123456789+-*/=() abcdefghijklmnopqrstuvwxyz"
_WARM_UP = 2


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


def build_model(seed: int, layers: int) -> LlamaForCausalLM:
    """Return a random Llama; the vocabulary is larger than the tokenizer's, as real heads are what costs."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=32_000,
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


def run_side(side: str, kl: KL, steps: int) -> dict[str, Any]:
    """Train a few steps; return what a step took, the losses and the peak memory of this process."""
    prompts = [f"{a}*{b}+{a}-({b})=" for a in range(10, 20) for b in range(10, 20)]
    times = StepTimes()
    with tempfile.TemporaryDirectory() as directory:
        shared: dict[str, Any] = {
            "output_dir": directory,
            "max_steps": steps,
            "per_device_train_batch_size": 8,
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
        options: dict[str, Any] = {
            "model": build_model(0, layers=4),
            "teacher_model": build_model(1, layers=8),
            "train_dataset": Dataset.from_dict({"prompt": prompts}),
            "processing_class": build_tokenizer(),
            "callbacks": [times],
        }
        if side == "trl":
            trainer: DistillationTrainer = DistillationTrainer(
                args=DistillationConfig(**shared, beta=JSD_COEFFICIENT[kl]), **options
            )
        else:
            args = PacedConfig(**shared, kl=kl, completion_source="student", weighting="uniform")
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
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.kl, args.steps)))
        return
    pairs = []
    for _ in range(args.pairs):
        pair = {}
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--kl", args.kl, "--steps", str(args.steps)]
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            pair[side] = json.loads(finished.stdout.splitlines()[-1])
        pairs.append(pair)
        print({side: (round(run["seconds"], 3), round(run["peak_mb"])) for side, run in pair.items()}, flush=True)
    ratios = {name: [pair["paced_trl"][name] / pair["trl"][name] for pair in pairs] for name in ("seconds", "peak_mb")}
    summary: dict[str, Any] = {
        name: {"median": statistics.median(r), "low": min(r), "high": max(r)} for name, r in ratios.items()
    }
    summary["equal_losses"] = all(pair["trl"]["losses"] == pair["paced_trl"]["losses"] for pair in pairs)
    print(json.dumps(summary, indent=2))
    if args.output:
        settings = {"kl": args.kl, "steps": args.steps, "threads": torch.get_num_threads()}
        args.output.write_text(json.dumps({"settings": settings, "summary": summary, "pairs": pairs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
