"""Estimation: every problem gets its generations once, whatever is killed meanwhile; only valid verdicts count."""

from __future__ import annotations

import heapq
import io
import math
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from rich.console import Console

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.estimation.pass_rates import allocation_of, estimate_pass_rates, read_pass_rates
from paced_trl.estimation.summary import Precision, summarize_pass_rates
from paced_trl.generation.completions import Completion, SamplingParameters
from paced_trl.problems import ProblemSet
from paced_trl.progress import GenerationProgress
from paced_trl.store.store import VERDICTS, PassRateStore


PROBLEMS = make_problems(20)
RATES = {problem["prompt"]: index / 19 for index, problem in enumerate(PROBLEMS)}


def estimate(
    store: Path | PassRateStore, generator: Any = None, verifier: Any = exact_verifier, **options: Any
) -> Any:
    return estimate_pass_rates(
        options.pop("problems", PROBLEMS),
        generator or FakeGenerator(RATES),
        verifier,
        store=store,
        **{"num_generations": 4, "progress": False, **options},
    )


def contents(path: Path) -> dict[tuple[str, int], str]:
    rows = PassRateStore(path).completions().to_pylist()
    stored = {(row["problem_id"], row["generation_index"]): row["completion"] for row in rows}
    assert len(stored) == len(rows), "a generation is stored twice"
    return stored


def test_the_table_counts_what_was_generated(tmp_path: Path) -> None:
    table = estimate(tmp_path / "store", num_generations=8)
    assert table.column_names == [
        *("problem_id", "num_passed", "num_valid", "pass_rate", "pass_rate_low", "pass_rate_high"),
        *(f"num_{verdict}" for verdict in VERDICTS[1:]),
        "num_tokens",
    ]
    assert table["problem_id"][:] == [problem["problem_id"] for problem in PROBLEMS]
    stored = contents(tmp_path / "store")
    for problem, row in zip(PROBLEMS, table, strict=True):
        texts = [stored[problem["problem_id"], index] for index in range(8)]
        assert row["num_passed"] == texts.count(problem["solution"])
        assert row["num_failed"] == 8 - row["num_passed"]
        assert row["num_valid"] == 8
        assert row["pass_rate"] == row["num_passed"] / 8
        assert row["pass_rate_low"] <= row["pass_rate"] <= row["pass_rate_high"]
    assert (table[0]["pass_rate"], table[19]["pass_rate"]) == (0, 1)
    assert np.corrcoef(table["pass_rate"], list(RATES.values()))[0, 1] > 0.7


def test_only_valid_verdicts_count(tmp_path: Path) -> None:
    outcomes = [
        *[("passed", "stop"), ("passed", "length"), ("failed", "stop"), ("failed", "length")],
        *[("unparseable", "stop"), ("unparseable", "length"), ("timeout", "length"), ("unverifiable", "length")],
    ]

    def generator(prompts: Sequence[str], num_generations: int, *, seed: int) -> Iterator[Any]:
        yield 0, [Completion(str(i), 1, reason) for i, (_, reason) in enumerate(outcomes)]  # type: ignore[arg-type]

    def verifier(completions: Sequence[str], solutions: Sequence[str], **columns: Any) -> list[str]:
        return [outcomes[int(completion)][0] for completion in completions]

    row = estimate(tmp_path / "a", generator, verifier, problems=PROBLEMS[:1], num_generations=8)[0]
    # Cut off and not passed is truncated; what the verifier could not judge stays that.
    assert {name: row[f"num_{name}"] for name in VERDICTS} == {
        "passed": 2,
        "failed": 1,
        "unparseable": 1,
        "truncated": 2,
        "timeout": 1,
        "unverifiable": 1,
    }
    assert (row["num_valid"], row["pass_rate"]) == (6, 2 / 6)
    for options, valid in (
        ({"count_truncated": False}, 4),
        ({"count_unparseable": False}, 5),
        ({"count_truncated": False, "count_unparseable": False}, 3),
    ):
        row = read_pass_rates(PROBLEMS[:1], tmp_path / "a", **options)[0]
        assert (row["num_valid"], row["pass_rate"]) == (valid, 2 / valid)


def test_a_problem_without_a_valid_verdict_has_no_pass_rate(tmp_path: Path) -> None:
    table = estimate(tmp_path / "store", verifier=lambda texts, solutions, **_: ["timeout"] * len(texts))
    assert table["num_valid"][:] == [0] * 20
    assert all(math.isnan(rate) for rate in table["pass_rate"])
    others = read_pass_rates(Dataset.from_list(make_problems(22)), str(tmp_path / "store"))
    assert others["num_timeout"][:] == [4] * 20 + [0] * 2


def test_a_rerun_generates_nothing_and_more_generations_only_the_difference(tmp_path: Path) -> None:
    first = estimate(tmp_path / "store")
    rerun = FakeGenerator(RATES)
    assert estimate(tmp_path / "store", rerun).to_list() == first.to_list()
    assert rerun.calls == []
    before = contents(tmp_path / "store")
    more = FakeGenerator(RATES)
    table = estimate(tmp_path / "store", more, num_generations=7)
    assert {num for _, num, _ in more.calls} == {3}
    after = contents(tmp_path / "store")
    assert after.items() >= before.items() and len(after) == 20 * 7
    assert table["num_valid"][:] == [7] * 20
    # New draws, not the first three again.
    wrong = [text for (problem_id, _), text in after.items() if not text.startswith("p")]
    assert len(set(wrong)) == len(wrong)
    assert estimate(tmp_path / "store", num_generations=2)["num_valid"][:] == [7] * 20


def test_problems_that_have_different_numbers_get_what_they_lack(tmp_path: Path) -> None:
    estimate(tmp_path / "store", problems=PROBLEMS[:10], num_generations=3)
    estimate(tmp_path / "store", problems=PROBLEMS[5:15], num_generations=5)
    generator = FakeGenerator(RATES)
    estimate(tmp_path / "store", generator, num_generations=8)
    assert {(num, len(prompts)) for prompts, num, _ in generator.calls} == {(8, 5), (5, 5), (3, 10)}
    # One seed per call: problems that begin elsewhere in their stream are not in the same call.
    assert len({seed for _, _, seed in generator.calls}) == len(generator.calls) == 3
    stored = contents(tmp_path / "store")
    assert len(stored) == 160
    estimate(tmp_path / "whole", num_generations=8)
    assert all(
        contents(tmp_path / "whole")[f"id-{i}", n] == stored[f"id-{i}", n] for i in range(15, 20) for n in range(8)
    )


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = estimate(tmp_path / "whole", slice_size=12)

    def interrupt(answered: int) -> None:
        if answered == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate(tmp_path / "parts", FakeGenerator(RATES, before_prompt=interrupt), slice_size=12)
    # Slices of three problems with four generations: two were complete.
    assert "24 completions are kept" in caplog.text and str(tmp_path / "parts") in caplog.text
    kept = contents(tmp_path / "parts")
    assert len(kept) == 24
    rest = FakeGenerator(RATES)
    assert estimate(tmp_path / "parts", rest, slice_size=40).to_list() == expected.to_list()
    assert rest.answered == 14
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_interrupted_generation_with_a_model_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    from paced_trl.generation.transformers_engine import TransformersGenerator

    def make() -> TransformersGenerator:
        sampling = SamplingParameters(max_completion_length=6)
        return TransformersGenerator(build_tiny_model(), build_tiny_tokenizer(), sampling)

    problems = [{**problem, "prompt": problem["prompt"] * (1 + index % 3)} for index, problem in enumerate(PROBLEMS)]
    estimate(tmp_path / "whole", make(), problems=problems, num_generations=3)
    with PassRateStore(tmp_path / "parts", PassRateStore(tmp_path / "whole").record).writing() as store:
        rows = PassRateStore(tmp_path / "whole").completions([f"id-{i}" for i in (3, 8, 15)]).to_pylist()
        store.append(rows)
    estimate(tmp_path / "parts", make(), problems=problems, num_generations=3, slice_size=5)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


KILLED_SCRIPT = """
import sys
from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from paced_trl.estimation import estimate_pass_rates
generator = FakeGenerator(delay=0.003)
estimate_pass_rates(make_problems(150), generator, exact_verifier, store=sys.argv[1], num_generations=4, slice_size=20,
                    progress=False)
print(generator.answered, "torch" in sys.modules)
"""


def test_a_killed_run_loses_at_most_a_slice_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    command = [sys.executable, "-c", KILLED_SCRIPT, str(path)]
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        before = len(list(path.glob("shards/*.parquet")))
        # Wait until it writes: start-up must not be all that is ever killed.
        while process.poll() is None and len(list(path.glob("shards/*.parquet"))) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert set(PassRateStore(path).num_generations().values()) == {4}
    kept = contents(path)
    assert 3 * 20 <= len(kept) < 600
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert output == [str(150 - len(kept) // 4), "False"]
    assert contents(path).items() >= kept.items()
    assert Counter(problem_id for problem_id, _ in contents(path)) == {f"id-{i}": 4 for i in range(150)}
    estimate_pass_rates(
        make_problems(150),
        FakeGenerator(),
        exact_verifier,
        store=tmp_path / "whole",
        num_generations=4,
        progress=False,
    )
    assert contents(path) == contents(tmp_path / "whole")


def test_what_a_corrupt_shard_held_is_generated_again(tmp_path: Path) -> None:
    estimate(tmp_path / "store", slice_size=16)
    whole = contents(tmp_path / "store")
    shard = PassRateStore(tmp_path / "store").shards()[2]
    shard.write_bytes(b"PAR1")
    again = FakeGenerator(RATES)
    with pytest.warns(UserWarning, match=shard.name):
        table = estimate(tmp_path / "store", again)
    assert again.answered == 4
    assert table["num_valid"][:] == [4] * 20
    shard.unlink()
    assert contents(tmp_path / "store") == whole


def test_a_lost_first_shard_does_not_repeat_later_draws(tmp_path: Path) -> None:
    estimate(tmp_path / "store")
    estimate(tmp_path / "store", num_generations=8)
    PassRateStore(tmp_path / "store").shards()[0].unlink()
    estimate(tmp_path / "store", num_generations=8)
    wrong = [text for text in contents(tmp_path / "store").values() if not text.startswith("p")]
    assert len(set(wrong)) == len(wrong)
    assert set(PassRateStore(tmp_path / "store").num_generations().values()) == {8}


def test_shards_bound_what_is_at_stake(tmp_path: Path) -> None:
    estimate(tmp_path / "store", slice_size=12)
    sizes = [len(part) for part in map(_rows, PassRateStore(tmp_path / "store").shards())]
    assert sizes == [12] * 6 + [8]
    generator = FakeGenerator(RATES)
    estimate(tmp_path / "single", generator, slice_size=1)
    assert [len(prompts) for prompts, _, _ in generator.calls] == [20]
    assert [len(part) for part in map(_rows, PassRateStore(tmp_path / "single").shards())] == [4] * 20
    # What gives all at the end is asked for larger and larger parts, at most fourfold, or as many as is said.
    for slice_size, expected in ((None, [16, 64, 256, 64]), (40, [10] * 40)):
        generator = FakeGenerator()
        in_parts = _gives_all_at_the_end(generator)
        estimate(tmp_path / f"{slice_size}", in_parts, problems=make_problems(400), slice_size=slice_size)
        assert [len(prompts) for prompts, _, _ in generator.calls] == expected


def _gives_all_at_the_end(generator: FakeGenerator) -> Callable[..., list[Any]]:
    return lambda prompts, num_generations, *, seed: list(generator(prompts, num_generations, seed=seed))


def test_what_came_before_a_failure_is_stored(tmp_path: Path) -> None:
    """A server refuses some prompts, and says so when all others are answered."""

    def generator(prompts: Sequence[str], num_generations: int, *, seed: int) -> Iterator[Any]:
        for index, completions in FakeGenerator(RATES)(prompts, num_generations, seed=seed):
            if prompts[index] not in ("p3", "p7"):
                yield index, completions
        raise ValueError("2 requests were refused and all others were answered.")

    with pytest.raises(ValueError, match="2 requests were refused"):
        estimate(tmp_path / "store", generator)
    expected = {f"id-{i}": 4 for i in range(20) if i not in (3, 7)}
    assert Counter(problem_id for problem_id, _ in contents(tmp_path / "store")) == expected
    rerun = FakeGenerator(RATES, record={})
    estimate(tmp_path / "store", lambda *args, **options: list(rerun(*args, **options)))
    assert sorted(rerun.calls[0][0]) == ["p3", "p7"]


def test_verification_goes_on_beside_generation(tmp_path: Path) -> None:
    is_answering = threading.Event()

    class Verifier:
        record = {"name": "beside"}
        is_thread_safe = True

        def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
            # The generator goes on only if nobody waits for these verdicts.
            assert is_answering.wait(60)
            return exact_verifier(completions, solutions)

    def answer(answered: int) -> None:
        if answered == 1:
            is_answering.set()

    estimate(tmp_path / "store", FakeGenerator(RATES, before_prompt=answer), Verifier(), slice_size=4)
    assert set(PassRateStore(tmp_path / "store").num_generations().values()) == {4}
    estimate(tmp_path / "inline", FakeGenerator(RATES))
    assert contents(tmp_path / "store") == contents(tmp_path / "inline")


def test_what_is_being_verified_when_ctrl_c_comes_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Verifier:
        record = {"name": "slow"}
        is_thread_safe = True

        def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
            time.sleep(0.2)
            return exact_verifier(completions, solutions)

    def interrupt(answered: int) -> None:
        if answered == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate(tmp_path / "store", FakeGenerator(before_prompt=interrupt), Verifier(), slice_size=8)
    assert "8 completions are kept" in caplog.text and len(contents(tmp_path / "store")) == 8


def test_what_fails_beside_generation_ends_it(tmp_path: Path) -> None:
    class Verifier:
        record = {"name": "broken"}
        is_thread_safe = True

        def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
            raise RuntimeError("no worker starts")

    generator = FakeGenerator()
    with pytest.raises(RuntimeError, match="no worker starts"):
        estimate(tmp_path / "store", generator, Verifier(), slice_size=4)
    assert generator.answered < 20 and contents(tmp_path / "store") == {}


class TimedGenerator:
    """
    Rows of log-normal lengths, some at a time, a token each per tick of a clock of its own; what ends makes room.

    Says how often it was asked and how long it took.
    """

    record = {"model": "timed"}

    def __init__(self, num_rows: int, seconds_per_token: float):
        self.num_rows, self.seconds_per_token = num_rows, seconds_per_token
        self.now = 0.0
        self.num_calls = 0

    def __call__(self, prompts: Sequence[str], num_generations: int, *, seed: int) -> Iterator[Any]:
        self.num_calls += 1
        lengths = [
            [min(2048, int(random.Random(f"{prompt}-{n}").lognormvariate(math.log(400), 1))) for n in range(8)]
            for prompt in prompts
        ]
        waiting = [(index, length) for index, own in enumerate(lengths) for length in reversed(own)][::-1]
        running: list[tuple[float, int]] = []
        left = [num_generations] * len(prompts)
        while waiting or running:
            while waiting and len(running) < self.num_rows:
                index, length = waiting.pop()
                heapq.heappush(running, (self.now + length * self.seconds_per_token, index))
            self.now, index = heapq.heappop(running)
            left[index] -= 1
            if not left[index]:
                yield index, [Completion("", length, "stop") for length in lengths[index]]


@pytest.mark.parametrize("num_rows", [64, 256])
def test_measuring_takes_as_long_as_one_call_and_seconds_are_at_stake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_rows: int
) -> None:
    problems = make_problems(250)
    alone = TimedGenerator(num_rows, seconds_per_token=0.02)
    finished_at = [alone.now for _ in alone([problem["prompt"] for problem in problems], 8, seed=0)]
    generator = TimedGenerator(num_rows, seconds_per_token=0.02)
    monkeypatch.setattr("paced_trl.estimation.filling.time", SimpleNamespace(monotonic=lambda: generator.now))
    stored: list[tuple[float, int]] = []
    append = PassRateStore.append

    def note(self: PassRateStore, rows: Any) -> None:
        append(self, rows)
        stored.append((generator.now, len(rows)))

    monkeypatch.setattr(PassRateStore, "append", note)
    estimate(tmp_path / "store", generator, problems=problems, num_generations=8)
    assert generator.num_calls == 1 and generator.now <= 1.1 * alone.now
    # Nothing that is completed waits for longer than a shard, and the moment until the next completion.
    longest_pause = max(np.diff([0.0, *finished_at]))
    kept = np.cumsum([number for _, number in stored]) // 8
    waited = [at - finished_at[previous] for (at, _), previous in zip(stored, [0, *kept[:-1]], strict=True)]
    assert max(waited) <= 10.0 + longest_pause
    assert 0.5 * alone.now / 10 < len(stored) <= alone.now / 10 + 2
    # The test can fail: who gets slices takes longer.
    slices = TimedGenerator(num_rows, seconds_per_token=0.02)
    generator = slices
    monkeypatch.setattr(PassRateStore, "append", append)
    in_parts = _gives_all_at_the_end(slices)  # type: ignore[arg-type]
    estimate(tmp_path / "slices", in_parts, problems=problems, num_generations=8)
    assert slices.num_calls > 10 and slices.now > 2 * alone.now


def test_generators_that_take_a_seed_per_prompt_are_asked_once(tmp_path: Path) -> None:
    class Seeded(FakeGenerator):
        takes_seeds = True

        def __call__(self, prompts: Sequence[Any], num_generations: Any, *, seed: Any) -> Iterator[Any]:
            self.calls.append((list(prompts), num_generations, seed))
            counts = [num_generations] * len(prompts) if isinstance(num_generations, int) else num_generations
            for index, prompt in enumerate(prompts):
                own = seed if isinstance(seed, int) else seed[index]
                yield index, [self.complete(prompt, own, number) for number in range(counts[index])]

    for store, make in ((tmp_path / "one", FakeGenerator), (tmp_path / "per prompt", Seeded)):
        estimate(store, make(RATES), problems=PROBLEMS[:10], num_generations=3)
        estimate(store, generator := make(RATES), num_generations=8)
        assert len(generator.calls) == (1 if make is Seeded else 2)
    assert contents(tmp_path / "one") == contents(tmp_path / "per prompt")


def _rows(shard: Path) -> list[Any]:
    import pyarrow.parquet as pq

    return pq.read_table(shard).to_pylist()


def test_long_prompts_come_first(tmp_path: Path) -> None:
    problems = [{**problem, "prompt": "x" * (index * 7 % 20)} for index, problem in enumerate(PROBLEMS)]
    generator = FakeGenerator()
    estimate(tmp_path / "store", generator, problems=problems, slice_size=20)
    lengths = [len(prompt) for prompts, _, _ in generator.calls for prompt in prompts]
    assert lengths == sorted(lengths, reverse=True)


def test_the_verifier_gets_the_further_columns_row_by_row(tmp_path: Path) -> None:
    problems = [{**problem, "task": f"task {index}", "parts": [index]} for index, problem in enumerate(PROBLEMS)]
    seen = []

    class Verifier:
        record = {"name": "spy"}

        def check_solutions(self, solutions: list[str], **columns: Any) -> list[str]:
            seen.append((solutions, columns))
            return ["passed"] * len(solutions)

        def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
            seen.append((solutions, columns))
            return ["failed"] * len(completions)

    estimate(tmp_path / "store", verifier=Verifier(), problems=problems, num_generations=3, slice_size=7)
    by_prompt = {problem["prompt"]: problem for problem in problems}
    for solutions, columns in seen:
        assert columns.keys() == {"prompt", "problem_id", "task", "parts"}
        for solution, *values in zip(solutions, *columns.values(), strict=True):
            assert {"solution": solution, **dict(zip(columns, values, strict=True))} == by_prompt[solution]
    assert len(seen[0][0]) == 20 and sum(len(solutions) for solutions, _ in seen[1:]) == 60


class StrictVerifier:
    """Refuses golds that do not start with "p"."""

    record = {"name": "strict"}

    def check_solutions(self, solutions: list[str], **columns: Any) -> list[str]:
        return ["passed" if str(solution).startswith("p") else "unparseable" for solution in solutions]

    def __call__(self, completions: list[str], solutions: list[str], **columns: Any) -> list[str]:
        return exact_verifier(completions, solutions)


def test_unusable_golds_are_listed_and_left_out(tmp_path: Path) -> None:
    problems = [
        {**problem, "solution": f"?{index}" if index % 3 == 0 else problem["solution"]}
        for index, problem in enumerate(PROBLEMS)
    ]
    generator = FakeGenerator(RATES)
    message = r"7 of 20 problems are left out[^?]*id-0: '\?0' \(unparseable\)[\s\S]*id-12[\s\S]*and 2 more"
    with pytest.warns(UserWarning, match=message):
        table = estimate(tmp_path / "store", generator, StrictVerifier(), problems=problems)
    assert table["num_valid"][:] == [0 if index % 3 == 0 else 4 for index in range(20)]
    assert {prompt for prompts, _, _ in generator.calls for prompt in prompts} == {
        f"p{index}" for index in range(20) if index % 3
    }
    with pytest.warns(UserWarning, match="7 of 20"):
        estimate(tmp_path / "store", rerun := FakeGenerator(), StrictVerifier(), problems=problems)
    assert rerun.calls == []


def test_no_usable_gold_is_an_error_before_generation(tmp_path: Path) -> None:
    problems = [{**problem, "solution": "?"} for problem in PROBLEMS]
    generator = FakeGenerator()
    with pytest.raises(ValueError, match=r"None of the 20 solutions passes[\s\S]*id-0: '\?'"):
        estimate(tmp_path / "store", generator, StrictVerifier(), problems=problems)
    assert generator.calls == []


def test_impossible_prompts_are_refused_before_generation(tmp_path: Path) -> None:
    class Generator(FakeGenerator):
        def check_prompts(self, prompts: Sequence[str]) -> None:
            assert len(prompts) == 20
            raise ValueError("Prompt 3 has 9,000 tokens.")

    generator = Generator()
    with pytest.raises(ValueError, match="Prompt 3"):
        estimate(tmp_path / "store", generator)
    assert generator.calls == []


COMPLETION = Completion("x", 1, "stop")


@pytest.mark.parametrize(
    ("generated", "message"),
    [
        ([(0, [COMPLETION] * 3), (1, [COMPLETION] * 4)], "3 completions for prompt index 0, but was asked for 4"),
        ([(0, [COMPLETION] * 4), (2, [COMPLETION] * 4)], "prompt index 2, but it was given 2 prompts"),
        ([(0, [COMPLETION] * 4), (-1, [COMPLETION] * 4)], "prompt index -1"),
        ([(1, [COMPLETION] * 4)] * 2, "prompt index 1 twice"),
        ([(1, [COMPLETION] * 4)], "nothing for 1 of 2 prompts, the first with index 0"),
    ],
)
def test_a_generator_that_breaks_its_protocol_is_named(tmp_path: Path, generated: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(tmp_path / "store", lambda prompts, num_generations, *, seed: generated, problems=PROBLEMS[:2])
    assert contents(tmp_path / "store") == {}


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (lambda count: ["passed"] * (count - 1), "7 verdicts for 8"),
        (lambda count: [], "0 verdicts for 8"),
        (lambda count: [1.0] * count, "1.0, which is no verdict: one of passed, failed"),
    ],
)
def test_a_verifier_that_breaks_its_protocol_is_named(
    tmp_path: Path, verdicts: Callable[[int], list[Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        estimate(
            tmp_path / "store", verifier=lambda texts, solutions, **_: verdicts(len(texts)), problems=PROBLEMS[:2]
        )
    assert contents(tmp_path / "store") == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_generations": 0}, "`num_generations` is 0"),
        ({"slice_size": 0}, "`slice_size` is 0"),
        ({"allocation": "greedy"}, "`allocation` is 'greedy', which does not exist. It can be: fixed, adaptive"),
        ({"allocation": "adaptive", "num_generations": 1}, "`num_generations` is 1, and adaptive allocation screens"),
        ({"prior_features": ["lenght"]}, "`prior_features` has 'lenght', which is no column of the problems"),
        ({"problems": []}, "`problems` is empty"),
        ({"problems": [{"prompt": "a", "problem_id": "1"}]}, "no column `solution`; it has prompt, problem_id"),
        ({"problems": [PROBLEMS[0], PROBLEMS[1], PROBLEMS[0]]}, "Rows 0 and 2 .* `problem_id` 'id-0'"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(tmp_path / "store", **options)


def test_impossible_errors_to_stop_at_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`target_error` is 0\.0; it is the root mean square error"):
        allocation_of("adaptive", 8, target_error=0.0)
    with pytest.raises(ValueError, match=r"`target_error` is 0\.5, and with `allocation` 'fixed' nothing stops there"):
        allocation_of("fixed", 8, target_error=0.5)


def test_plain_rows_need_no_ids(tmp_path: Path) -> None:
    rows = [{"prompt": problem["prompt"], "solution": problem["solution"]} for problem in PROBLEMS]
    table = estimate(tmp_path / "list", problems=rows)
    assert estimate(tmp_path / "dataset", problems=Dataset.from_list(rows)).to_list() == table.to_list()
    assert read_pass_rates(rows, tmp_path / "list").to_list() == table.to_list()
    assert table["problem_id"][:] == ProblemSet(rows).ids and table["num_valid"][:] == [4] * 20
    counts = [dict(row, problem_id=None) for row in table]
    assert counts == [dict(row, problem_id=None) for row in estimate(tmp_path / "named")]


def test_a_store_of_other_settings_is_refused(tmp_path: Path) -> None:
    estimate(tmp_path / "store", FakeGenerator(record={"model": "student"}), StrictVerifier())
    assert PassRateStore(tmp_path / "store").record == {
        "generator": {"model": "student"},
        "verifier": {"name": "strict"},
        "seed": 0,
    }
    for store in (tmp_path / "store", PassRateStore(tmp_path / "store")):
        with pytest.raises(ValueError, match=r"generator\.model: 'student' in the store, 'other' now"):
            estimate(store, FakeGenerator(record={"model": "other"}), StrictVerifier())
        with pytest.raises(ValueError, match=r"seed: 0 in the store, 1 now"):
            estimate(store, FakeGenerator(record={"model": "student"}), StrictVerifier(), seed=1)
    assert len(
        estimate(PassRateStore(tmp_path / "store"), FakeGenerator(record={"model": "student"}), StrictVerifier())
    )


@pytest.mark.parametrize("change", [{"prompt": "other"}, {"solution": "other"}])
def test_an_id_that_means_another_problem_now_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    estimate(tmp_path / "store")
    changed = [*PROBLEMS[:5], {**PROBLEMS[5], **change}]
    with pytest.raises(ValueError, match="`problem_id` 'id-5' that were made for another prompt or solution"):
        estimate(tmp_path / "store", problems=changed)


def test_messages_mean_the_same_from_a_list_and_a_dataset(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "name": "x"}]
    problems = [{"problem_id": "a", "prompt": messages, "solution": 3}]
    estimate(tmp_path / "store", problems=problems)
    more = Dataset.from_list([*problems, {"problem_id": "b", "prompt": [{"role": "user", "x": "y"}], "solution": 4}])
    table = estimate(tmp_path / "store", generator := FakeGenerator(), problems=more)
    assert table["num_valid"][:] == [4, 4]
    assert len(generator.calls[0][0]) == 1


def test_a_store_that_is_being_written_is_refused(tmp_path: Path) -> None:
    estimate(tmp_path / "store")
    generator = FakeGenerator()
    with PassRateStore(tmp_path / "store").writing(), pytest.raises(RuntimeError, match="is being written by process"):
        estimate(tmp_path / "store", generator, num_generations=8)
    assert generator.calls == []


def table_of(num_passed: list[int], num_valid: list[int], **counts: list[int]) -> Dataset:
    zeros = [0] * len(num_passed)
    failed = [v - p for p, v in zip(num_passed, num_valid, strict=True)]
    columns = {f"num_{verdict}": zeros for verdict in VERDICTS[1:]} | {"num_failed": failed} | counts
    return Dataset.from_dict({"num_passed": num_passed, "num_valid": num_valid, **columns})


def test_the_summary_shows_the_frontier() -> None:
    text = summarize_pass_rates(table_of([0, 0, 1, 2, 4, 4, 4, 3], [4] * 8))
    counts = {match[0]: int(match[1]) for match in re.findall(r"^ +(\d/4) [█ ]*(\d+)$", text, re.MULTILINE)}
    assert counts == {"0/4": 2, "1/4": 1, "2/4": 1, "3/4": 1, "4/4": 3}
    assert "mastered 37.5%   frontier 37.5%   out of reach 25.0%\n" in text
    assert "passed 18 (56.2%)   failed 14 (43.8%)" in text
    assert "Warning" not in text and "unmeasured" not in text


def test_the_summary_of_unequal_counts_has_tenths() -> None:
    text = summarize_pass_rates(table_of([0, 1, 1, 9, 19, 20, 0], [2, 20, 10, 10, 20, 20, 0]))
    counts = {match[0]: int(match[1]) for match in re.findall(r"^ +(\S+) [█ ]*(\d+)$", text, re.MULTILINE)}
    filled = {label: count for label, count in counts.items() if count}
    # Only problems that never and always passed are at the ends: 1 of 20 and 19 of 20 are not.
    assert filled == {"0": 1, "0.1": 2, "0.9": 2, "1": 1}
    assert "unmeasured 14.3%" in text


@pytest.mark.parametrize(
    ("table", "advice"),
    [
        (table_of([0] * 19 + [1], [4] * 20), "Only 5.0% of the problems are at the frontier.*take easier ones"),
        (table_of([4] * 19 + [1], [4] * 20), "Only 5.0% of the problems are at the frontier.*take harder ones"),
        (table_of([2, 2], [3, 4], num_timeout=[1, 0]), "verifier failed on 12.5%"),
        (table_of([2, 2], [4, 4], num_failed=[0, 0], num_truncated=[2, 2]), "50.0% .* `max_completion_length`"),
    ],
)
def test_the_summary_gives_advice(table: Dataset, advice: str) -> None:
    text = summarize_pass_rates(table)
    assert re.search(f"Warning: .*{advice}", text)
    assert text.count("Warning") == 1


@pytest.mark.parametrize(
    ("error", "plugin", "said"),
    [
        (
            0.314,
            0.402,
            "off by about 0.31 (posterior estimate, root mean square); plug-in estimates with 2 completion",
        ),
        (0.314, 0.402, "off by about 0.31 (plugin estimate, root mean square)."),
        (0.314, math.inf, "off by about 0.31 (plugin estimate, root mean square)."),
        (0.314, 32409.91, "off by about 0.31 (plugin estimate, root mean square)."),
        (math.inf, 32409.91, "Too few completions to estimate how exact the weights are: take more generations."),
        (math.nan, 0.4, "Too few completions to estimate how exact the weights are"),
    ],
)
def test_the_error_of_the_weights_is_said_in_words_or_not_at_all(error: float, plugin: float, said: str) -> None:
    text = str(Precision(16, 2.0, 0.0, 80, 2, error, plugin, "posterior" if "posterior" in said else "plugin"))
    assert said in text and "inf" not in text and "nan" not in text and "32409" not in text
    assert text.startswith("16 completions, 80 tokens: 2.00 a problem, as many as 2 each\n")


def test_shares_of_nothing_are_called_none() -> None:
    assert "mastered none   frontier 100.0%   out of reach none\n" in summarize_pass_rates(table_of([1, 2], [4, 4]))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_shows_rates_and_the_first_completion(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paced_trl.progress.SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr("paced_trl.progress._shown_examples", set())
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=120, color_system=None)
    with GenerationProgress("Pass rates", console=console) as progress:
        progress.start(completed=10, total=40)
        progress.advance(20, 100)
        progress.show_example("2+2=", "[bold]\x1b[2J4", "passed")
        progress.show_example("2+2=", "5", "failed")  # shown once
    text = output.getvalue()
    assert "First prompt:\n  2+2=\nFirst completion (passed):\n  [bold]\\x1b[2J4" in text
    assert text.count("First prompt") == 1
    assert re.search(r"Pass rates.*30/40.*completions/s, .*tokens/s, 0:00:0\d left", text)
    quiet = io.StringIO()
    with GenerationProgress("x", enabled=False, console=Console(file=quiet, force_terminal=is_terminal)) as progress:
        progress.start(completed=0, total=1)
        progress.advance(1, 1)
        progress.note("nothing")
    assert quiet.getvalue() == ""


def test_the_first_prompt_is_shown_as_the_model_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Generator(FakeGenerator):
        def render(self, prompt: str) -> str:
            return f"<user>{prompt}<assistant>"

    estimate(tmp_path / "store", Generator({"p0": 1.0}), problems=PROBLEMS[:1], progress=True)
    assert "First prompt:\n  <user>p0<assistant>\nFirst completion (passed, 5 tokens, finish reason stop):\n  p0" in (
        capsys.readouterr().err
    )
    estimate(tmp_path / "store", Generator(), problems=PROBLEMS[:1], progress=True)
    captured = capsys.readouterr()
    assert "All completions of 1 problems are in" in captured.err and captured.out == ""
