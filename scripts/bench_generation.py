"""
Tokens per second of the `transformers` engine against what TRL's trainer does, on the same work, pair by pair.

The baseline is `model.generate` on padded batches in the order of arrival, each prompt repeated K times. Both sides
make the same number of tokens: every completion has a length given beforehand (log-normal: many short, a few long),
and a logits processor ends it there, and only there. `--variants` measures other ways against the engine.

    OMP_NUM_THREADS=1 python scripts/bench_generation.py --json bench.json
    OMP_NUM_THREADS=1 python scripts/bench_generation.py --variants --num-prompts 20 --batch-size 32 --pairs 1
    OMP_NUM_THREADS=1 python scripts/bench_generation.py --model runs/smollm2/model --num-prompts 16 --pairs 2

One run of the first on two cores that were shared with other work (`scripts/results/bench_generation.json`): 315
tokens/s against 83, a median ratio of 3.78 (3.18 to 4.55 in 5 pairs). Other ways against the engine, one run of the
second, 3 pairs each: padded batches in order of prompt length 0.22 (0.18 to 0.25), no shared prefill 0.78 (0.74 to
0.79), transformers' continuous batching 0.58 (0.49 to 0.6), refilling when an eighth of the rows has finished 1.0
(0.87 to 1.27), when half has 0.91 (0.84 to 1.23). So rows leave and enter at a quarter, each prompt runs once, and
`generate` runs in segments.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
)

from paced_trl import SamplingParameters, TransformersGenerator
from paced_trl.generation import transformers_engine as generation
from paced_trl.generation.batching import PromptRow
from paced_trl.generation.continuous_batch import ContinuousBatch
from paced_trl.generation.padded_batch import PaddedBatch, attention_mask, left_padded


class EndAt(LogitsProcessor):
    """Allow the end-of-sequence token at one position per row, and there nothing else."""

    def __init__(self, ends: torch.Tensor, eos_token_id: int):
        self.ends = ends
        self.eos_token_id = eos_token_id

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        is_last = self.ends == input_ids.shape[1] + 1
        scores[:, self.eos_token_id] = torch.where(is_last, 1e4, -torch.inf)
        return scores


class Workload:
    """Prompts, and the length of each of their K completions."""

    def __init__(self, args: argparse.Namespace, model: Any, tokenizer: Any):
        rng = np.random.default_rng(args.seed)
        lengths = np.exp(rng.uniform(np.log(16), np.log(args.longest_prompt), args.num_prompts)).astype(int)
        words = [tokenizer.decode([token]) for token in rng.integers(100, len(tokenizer), 500)]
        self.prompts = [" ".join(rng.choice(words, length)) for length in lengths]
        self.prompt_ids: list[list[int]] = tokenizer(self.prompts)["input_ids"]
        shape = (args.num_prompts, args.num_generations)
        drawn = rng.lognormal(np.log(args.median_length), args.spread, shape).astype(int)
        self.lengths = drawn.clip(2, args.max_completion_length)
        self.args, self.model, self.tokenizer = args, model, tokenizer

    def end_at(self, rows: list[tuple[int, int]], starts: torch.Tensor) -> EndAt:
        """Return the processor for rows of (prompt, generation) whose completions begin at `starts`."""
        return EndAt(starts + torch.tensor([int(self.lengths[row]) for row in rows]), self.tokenizer.eos_token_id)


def baseline(work: Workload) -> int:
    """`generate` on padded batches in the order of arrival."""
    rows = [(prompt, g) for prompt in range(len(work.prompts)) for g in range(work.args.num_generations)]
    num_tokens = 0
    for start in range(0, len(rows), work.args.batch_size):
        batch = rows[start : start + work.args.batch_size]
        ids, padding = left_padded([work.prompt_ids[prompt] for prompt, _ in batch], work.tokenizer.pad_token_id)
        width = ids.shape[1]
        output = work.model.generate(
            input_ids=ids,
            attention_mask=attention_mask(padding, width),
            generation_config=GenerationConfig(
                max_new_tokens=work.args.max_completion_length,
                do_sample=True,
                top_k=0,
                pad_token_id=work.tokenizer.pad_token_id,
                eos_token_id=work.tokenizer.eos_token_id,
            ),
            logits_processor=LogitsProcessorList([work.end_at(batch, torch.full_like(padding, width))]),
        )
        num_tokens += int(((output[:, width:] == work.tokenizer.eos_token_id).cumsum(1).cumsum(1) <= 1).sum())
    return num_tokens


def ours(
    work: Workload,
    *,
    kind: type[PaddedBatch] = ContinuousBatch,
    is_shared: bool = True,
    finished_part: float = generation._FINISHED_PART,
) -> int:
    """The engine, or a variant of it: another kind of batch, no shared prefill, other points of refilling."""

    class Scheduled(kind):  # type: ignore[misc, valid-type]
        def admit(self, rows: list[PromptRow]) -> None:
            super().admit(rows if is_shared else [single for row in rows for single in row.singles()])

        def processors(self, uniforms: Any, padding: torch.Tensor, starts: torch.Tensor) -> LogitsProcessorList:
            rows = [(row.prompt_index, row.first_generation) for row in self.rows]
            processors = super().processors(uniforms, padding, starts)
            # Before the draw, which is the last.
            processors.insert(len(processors) - 1, work.end_at(rows, starts))
            return processors

    generator = TransformersGenerator(
        work.model,
        work.tokenizer,
        SamplingParameters(max_completion_length=work.args.max_completion_length),
        batch_size=work.args.batch_size,
        record={},
    )
    with mock.patch.multiple(generation, ContinuousBatch=Scheduled, _FINISHED_PART=finished_part):
        made = dict(generator(work.prompts, work.args.num_generations, seed=work.args.seed))
    lengths = [[completion.num_tokens for completion in made[index]] for index in range(len(work.prompts))]
    assert np.array_equal(lengths, work.lengths)
    return int(work.lengths.sum())


def continuous_batching(work: Workload) -> int:
    """Transformers' own continuous batching, its cache capped: it takes all memory otherwise."""
    from transformers import ContinuousBatchingConfig

    config = GenerationConfig(
        do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=work.tokenizer.pad_token_id, max_new_tokens=1
    )
    caps = ContinuousBatchingConfig(num_blocks=80, max_batch_tokens=512, page_size=128)
    num_tokens = 0
    with (
        torch.no_grad(),
        work.model.continuous_batching_context_manager(config, continuous_batching_config=caps) as manager,
    ):
        for prompt, ids in enumerate(work.prompt_ids):
            for length in work.lengths[prompt].tolist():
                manager.add_request(ids, max_new_tokens=length)
        for _ in range(work.lengths.size):
            num_tokens += len(manager.get_result().generated_tokens)
    return num_tokens


VARIANTS: dict[str, Callable[[Workload], int]] = {
    "sorted padded batches": lambda work: ours(work, kind=PaddedBatch),
    "no shared prefill": lambda work: ours(work, is_shared=False),
    "transformers' continuous batching": continuous_batching,
    "refilled at 1/8": lambda work: ours(work, finished_part=1 / 8),
    "refilled at 1/2": lambda work: ours(work, finished_part=1 / 2),
}


def build_model() -> tuple[Any, Any]:
    """Build a Llama of 6 layers and 25M parameters, and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "<eos>": 1} | {f"w{index}": index for index in range(2, 8192)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval(), tokenizer


def timed(run: Callable[[Workload], int], work: Workload) -> float:
    """Return tokens per second."""
    started = time.perf_counter()
    num_tokens = run(work)
    return num_tokens / (time.perf_counter() - started)


def compare(
    run: Callable[[Workload], int], other: Callable[[Workload], int], work: Workload, num_pairs: int
) -> dict[str, Any]:
    """Alternate two ways; the range of n ratios is an interval of their median at level 1 - 2 / 2^n."""
    pairs = [(timed(other, work), timed(run, work)) for _ in range(num_pairs)]
    ratios = [new / old for old, new in pairs]
    return {
        "other_tokens_per_second": [round(old, 1) for old, _ in pairs],
        "tokens_per_second": [round(new, 1) for _, new in pairs],
        "median_ratio": round(statistics.median(ratios), 2),
        "interval": [round(min(ratios), 2), round(max(ratios), 2)],
        "level": round(1 - 2 / 2**num_pairs, 4),
    }


def main() -> None:
    """Measure and print; write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Directory or Hub id; default: a Llama of 25M parameters built in memory.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--num-prompts", type=int, default=32)
    parser.add_argument("--num-generations", type=int, default=4)
    parser.add_argument("--longest-prompt", type=int, default=160, help="In words; lengths are log-uniform from 16.")
    parser.add_argument("--median-length", type=int, default=24, help="Median tokens of a completion.")
    parser.add_argument("--spread", type=float, default=1.0, help="Standard deviation of the log of the length.")
    parser.add_argument("--max-completion-length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", action="store_true", help="Measure other ways against the engine too.")
    parser.add_argument("--json", type=Path, help="File for the results.")
    args = parser.parse_args()
    if args.model:
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    else:
        model, tokenizer = build_model()
    work = Workload(args, model, tokenizer)
    quantiles = np.quantile(work.lengths, [0.1, 0.5, 0.9, 1]).astype(int).tolist()
    print(
        f"{len(work.prompts)} prompts of {min(map(len, work.prompt_ids))}-{max(map(len, work.prompt_ids))} tokens x "
        f"{args.num_generations}; completions: {work.lengths.sum()} tokens, 10/50/90/100 % {quantiles}; "
        f"{torch.get_num_threads()} thread(s)"
    )
    runs: list[tuple[str, Callable[[Workload], int], str, Callable[[Workload], int], int]]
    runs = [("engine", ours, "baseline", baseline, args.pairs)]
    if args.variants:
        runs += [(name, run, "engine", ours, 3) for name, run in VARIANTS.items()]
    results = {}
    for name, run, other_name, other, num_pairs in runs:
        results[name] = result = compare(run, other, work, num_pairs)
        print(
            f"{name}: {statistics.median(result['tokens_per_second']):.0f} tokens/s, {other_name} "
            f"{statistics.median(result['other_tokens_per_second']):.0f}; ratio {result['median_ratio']} "
            f"({result['interval'][0]} to {result['interval'][1]}, {num_pairs} pairs)",
            flush=True,
        )
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
