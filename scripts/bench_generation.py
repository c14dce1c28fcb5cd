"""
Tokens per second of the `transformers` engine against what TRL's trainer does, on the same work, pair by pair.

The baseline is `model.generate` on padded batches in the order of arrival, each prompt repeated K times. Both sides
make the same number of tokens: every completion has a length given beforehand (log-normal: many short, a few long),
and a logits processor ends it there, and only there. `--variants` measures other ways against the engine.

    OMP_NUM_THREADS=1 python scripts/bench_generation.py --json bench.json
    OMP_NUM_THREADS=1 python scripts/bench_generation.py --variants --num-prompts 20 --batch-size 32 --pairs 1
    OMP_NUM_THREADS=1 python scripts/bench_generation.py --model runs/smollm2/model --num-prompts 16 --pairs 2
    OMP_NUM_THREADS=1 python scripts/bench_generation.py --measuring --json scripts/results/bench_measuring.json

One run of the first on two cores that were shared with other work (`scripts/results/bench_generation.json`): 315
tokens/s against 83, a median ratio of 3.78 (3.18 to 4.55 in 5 pairs). Other ways against the engine, one run of the
second, 3 pairs each: padded batches in order of prompt length 0.22 (0.18 to 0.25), no shared prefill 0.78 (0.74 to
0.79), transformers' continuous batching 0.58 (0.49 to 0.6), refilling when an eighth of the rows has finished 1.0
(0.87 to 1.27), when half has 0.91 (0.84 to 1.23). So rows leave and enter at a quarter, each prompt runs once, and
`generate` runs in segments.

`--measuring` is about what surrounds a forward pass, each result a ratio within one run. (1) Seconds of a whole
estimation against one call of the engine, on a clock that counts a step of decoding as 20 ms whatever the batch, as
where memory bounds the speed: 500 prompts, 8 completions each, lengths log-normal (median 400, cut at 2,048), the
engine's own scheduler; and the same in slices, as version 0.1.0 asked for them. (2) CPU seconds of prefill where
prompts have 100 tokens in common and about 20 of their own. (3) CPU seconds of decoding with a cache that is copied
for each token against one with room.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
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
from transformers.cache_utils import DynamicLayer

from paced_trl import SamplingParameters, TransformersGenerator, estimate_pass_rates
from paced_trl.generation import attention_cache
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


class Clock:
    """Seconds that nobody waits for."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def measuring_on_a_clock(model: Any, tokenizer: Any, batch_size: int) -> dict[str, Any]:
    """Estimate pass rates with the engine's scheduler and no model, in one call, as the store is filled, in slices."""
    num_prompts, num_generations, most, seconds_per_step = 500, 8, 2048, 0.02
    drawn = np.random.default_rng(0).lognormal(np.log(400), 1.0, (num_prompts, num_generations))
    lengths = drawn.astype(int).clip(2, most)
    prompts = [f"w{2 + index // 80} w{2 + index % 80}" for index in range(num_prompts)]
    number = {tuple(ids): index for index, ids in enumerate(tokenizer(prompts)["input_ids"])}
    clock = Clock()

    class Timed(ContinuousBatch):
        def __init__(self, *args: Any):
            super().__init__(*args)
            self.ends: dict[tuple[int, int], float] = {}

        def end(self, row: PromptRow) -> float:
            return self.ends[row.prompt_index, row.first_generation]

        def admit(self, rows: list[PromptRow]) -> None:
            for row in (single for whole in rows for single in whole.singles()):
                length = lengths[number[tuple(row.prompt_ids)], row.first_generation]
                self.ends[row.prompt_index, row.first_generation] = clock.now + seconds_per_step * length
                self.rows.append(row)

        def advance(self, stop_at: int) -> list[tuple[PromptRow, list[int]]]:
            clock.now = sorted(map(self.end, self.rows))[min(stop_at, len(self.rows)) - 1]
            done = [row for row in self.rows if self.end(row) <= clock.now]
            self.rows = [row for row in self.rows if self.end(row) > clock.now]
            return [(row, [tokenizer.eos_token_id]) for row in done]

    sampling = SamplingParameters(max_completion_length=most)
    engine = TransformersGenerator(model, tokenizer, sampling, record={}, batch_size=batch_size, batch_tokens=10**9)
    engine.context_length = None  # the model does not run
    problems = [{"prompt": prompt, "solution": prompt} for prompt in prompts]

    def passed(completions: Any, solutions: Any, **columns: Any) -> list[str]:
        return ["passed"] * len(completions)

    def estimated(generator: Any) -> float:
        clock.now = 0.0
        with tempfile.TemporaryDirectory() as store:
            estimate_pass_rates(
                problems, generator, passed, store=store, num_generations=num_generations, progress=False
            )
        return clock.now

    with (
        mock.patch.multiple(generation, ContinuousBatch=Timed),
        mock.patch("paced_trl.estimation.filling.time", clock),
    ):
        dict(engine(prompts, num_generations, seed=0))
        one_call = clock.now
        at_once = estimated(engine)
        in_slices = estimated(lambda *args, **options: list(engine(*args, **options)))
    return {
        "batch_size": batch_size,
        "one_call_seconds": round(one_call, 1),
        "estimate_seconds": round(at_once, 1),
        "slices_seconds": round(in_slices, 1),
        "never_idle_seconds": round(float(lengths.sum()) * seconds_per_step / batch_size, 1),
        "estimate_over_one_call": round(at_once / one_call, 3),
        "slices_over_one_call": round(in_slices / one_call, 3),
    }


def cpu_seconds(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of this process, which other work on the machine hardly changes."""
    started = time.process_time()
    run()
    return time.process_time() - started


def pairs_of(new: Callable[[], Any], old: Callable[[], Any], num_pairs: int) -> dict[str, Any]:
    """Alternate two ways of the same work and compare their CPU seconds."""
    new(), old()
    pairs = [(cpu_seconds(new), cpu_seconds(old)) for _ in range(num_pairs)]
    ratios = [before / after for after, before in pairs]
    return {
        "seconds": [round(after, 3) for after, _ in pairs],
        "other_seconds": [round(before, 3) for _, before in pairs],
        "median_ratio": round(statistics.median(ratios), 2),
        "interval": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def shared_beginning(model: Any, tokenizer: Any, num_pairs: int) -> dict[str, Any]:
    """Prefill of 16 prompts that have 100 tokens in common, and 10 to 30 of their own, one token each."""
    rng = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(f"w{index}" for index in rng.integers(2, 8000, count))

    beginning = words(100)
    prompts = [f"{beginning} {words(int(count))}" for count in rng.integers(10, 31, 16)]
    generator = TransformersGenerator(
        model, tokenizer, SamplingParameters(max_completion_length=1), batch_size=64, record={}
    )
    results = []

    def shared() -> None:
        results.append(dict(generator(prompts, 1, seed=0)))

    def whole() -> None:
        with mock.patch.object(ContinuousBatch, "share_beginning", lambda self, rows: None):
            shared()

    measured = pairs_of(shared, whole, num_pairs)
    assert all(result == results[0] for result in results)
    return measured


def decoding(model: Any, tokenizer: Any, num_rows: int, num_tokens: int, num_pairs: int) -> dict[str, Any]:
    """Decoding of rows of one length, the cache with room against one that is copied."""
    generator = TransformersGenerator(
        model, tokenizer, SamplingParameters(max_completion_length=num_tokens), batch_size=num_rows, record={}
    )
    generator.eos_token_ids = [-1]
    results = []

    def roomy() -> None:
        results.append(dict(generator(["w5 w6 w7 w8"], num_rows, seed=0)))

    def copied() -> None:
        with mock.patch.object(attention_cache, "RoomyLayer", DynamicLayer):
            roomy()

    measured = pairs_of(roomy, copied, num_pairs)
    assert all(result == results[0] for result in results)
    return {"num_rows": num_rows, "num_tokens": num_tokens, **measured}


def measuring(model: Any, tokenizer: Any, num_pairs: int) -> dict[str, Any]:
    """Measure all of `--measuring` and print it."""
    results: dict[str, Any] = {}
    for name, run in {
        "estimate, 64 rows": lambda: measuring_on_a_clock(model, tokenizer, 64),
        "estimate, 256 rows": lambda: measuring_on_a_clock(model, tokenizer, 256),
        "100 shared tokens": lambda: shared_beginning(model, tokenizer, num_pairs),
        "cache with room": lambda: decoding(model, tokenizer, 16, 256, num_pairs),
    }.items():
        results[name] = run()
        print(f"{name}: {results[name]}", flush=True)
    return results


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
    parser.add_argument("--measuring", action="store_true", help="Measure what surrounds a forward pass instead.")
    parser.add_argument("--json", type=Path, help="File for the results.")
    args = parser.parse_args()
    if args.model:
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    else:
        model, tokenizer = build_model()
    if args.measuring:
        results = measuring(model, tokenizer, args.pairs)
        if args.json:
            args.json.write_text(json.dumps({"pairs": args.pairs, "results": results}, indent=2) + "\n")
        return
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
