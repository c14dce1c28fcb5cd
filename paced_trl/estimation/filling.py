"""
Fill a pass-rate store up to a wanted number of generations per problem: the loop under estimation and references.

Problems whose gold is unusable are left out. The generator is asked for the rest at once; while it goes on, what it
has completed is verified and appended as a shard every few seconds. A kill loses what is newer than the last shard and
nothing else; who calls again gets the rest, and never a completion twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..problems import ProblemSet
from ..processes import Processes
from ..progress import GenerationProgress
from ..store.store import VERDICTS, PassRateStore
from ..text import shortened
from .protocols import checked_verdicts, generate_stream, verify_all, yields_as_it_goes
from .stored_problems import check_prompt_settings, keep_problems


if TYPE_CHECKING:
    from ..generation.completions import Completion, Generator
    from .protocols import VerifierLike

logger = logging.getLogger(__name__)

# What a kill can cost of what is completed.
_SECONDS_PER_SHARD = 10.0
# Completions that generators which give all at the end are asked for.
_DEFAULT_SLICE, _MAX_SLICE = 64, 8192
_NUM_LISTED, _MAX_SHOWN = 5, 80


def run_record(generator: Generator, verifier: VerifierLike, seed: int) -> dict[str, Any]:
    """Return the record of a run's store; of another seed, a rerun would silently get the completions of the first."""
    return {
        "generator": getattr(generator, "record", None) or {},
        "verifier": getattr(verifier, "record", None) or {},
        "seed": seed,
    }


@dataclass(eq=False)
class StoreFiller:
    """
    Brings P problems to a wanted number of stored generations; `num_generations` has those stored, **shape (P,)**.

    Of several `processes` each generates its share, and all call `fill` with the same targets.
    """

    problems: ProblemSet
    generator: Generator
    verifier: VerifierLike
    store: PassRateStore
    seed: int
    slice_limit: int | None
    progress: GenerationProgress
    processes: Processes

    def __post_init__(self) -> None:
        size = self.slice_limit
        if size is not None and size < 1:
            raise ValueError(
                f"`slice_size` is {size}: a shard holds at least 1 completion; None for what 10 seconds bring."
            )
        self.is_usable = np.ones(len(self.problems), dtype=bool)  # False where the gold was found to be unusable
        self._is_checked = np.zeros(len(self.problems), dtype=bool)
        self._is_streaming = yields_as_it_goes(self.generator)
        self._is_slice_adapted = size is None and not self._is_streaming
        self._slice_size: int = _DEFAULT_SLICE if size is None else size
        self._finished: list[tuple[int, list[Completion]]] = []
        self._num_finished = 0
        self._judged_at = 0.0
        self._thread: ThreadPoolExecutor | None = None
        self._judging: Future[list[tuple[int, int]]] | None = None
        self._has_shown_example = False
        self._count_stored()

    def _count_stored(self) -> None:
        stored = self.store.generation_counts()
        rows = pc.index_in(pa.array(self.problems.ids, pa.string()), stored["problem_id"].combine_chunks())
        self.num_generations = values_at(stored["num_generations"], rows)
        self._next_index = values_at(stored["next_generation_index"], rows)
        hashes = zip(stored["problem_hash"].take(rows).to_pylist(), self.problems.hashes, strict=True)
        for row, (known, current) in enumerate(hashes):
            if known is not None and known != current:
                raise ValueError(
                    f"The store {str(self.store.path)!r} has completions for `problem_id` {self.problems.ids[row]!r} "
                    "that were made for another prompt or solution: other data, or other prompt settings such as "
                    "`as_chat`. Give another store, or ids that change with the problem (leave `problem_id` out and "
                    "they do)."
                )

    def fill(self, targets: npt.NDArray[np.int64], *, total: int | None = None) -> int:
        """Fill up to each usable problem's target, **shape (P,)**; return how many completions were missing."""
        try:
            self._check_problems(np.flatnonzero((targets > self.num_generations) & ~self._is_checked))
            missing = np.where(self.is_usable, np.maximum(targets - self.num_generations, 0), 0)
            # All processes have seen the same store by now, and none has written to it yet.
            self.processes.wait()
            done = int(self.num_generations.sum())
            # `total`: what the display counts towards, where more calls will follow.
            self.progress.start(completed=done, total=total or done + int(missing.sum()))
            with ExitStack() as stack:
                # Of the user's own verifiers, some work in the main thread only.
                if getattr(self.verifier, "is_thread_safe", False):
                    self._thread = stack.enter_context(ThreadPoolExecutor(1))
                for indices in self._calls(missing):
                    self._run_call(indices, missing)
                self._note_stored()
            if self.processes.count > 1:
                self.processes.wait()
                self._count_stored()
        except KeyboardInterrupt:
            with suppress(Exception):
                self._note_stored()
            text = f"{self.num_generations.sum()} completions are kept in {str(self.store.path)!r}."
            say = self.progress.note if self.progress.enabled else logger.warning
            say(text)
            raise
        return int(missing.sum())

    def first_verdicts(self, targets: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """Count the verdicts of each problem's first `targets` generations, by their indices: **shape (P,)** each."""
        stored = self.store.completions(columns=["problem_id", "generation_index", "verdict"])
        rows = pc.index_in(stored["problem_id"], pa.array(self.problems.ids, pa.string()))
        known = pc.is_valid(rows)
        owners = rows.filter(known).to_numpy().astype(np.int64)
        order = np.lexsort((stored["generation_index"].filter(known).to_numpy(), owners))
        owners = owners[order]
        number = np.arange(owners.size) - np.searchsorted(owners, owners)
        verdicts = np.asarray(pc.index_in(stored["verdict"].filter(known), pa.array(VERDICTS)))[order]
        is_first = number < targets[owners]
        size = len(self.problems)
        return {
            verdict: np.bincount(owners[is_first & (verdicts == code)], minlength=size)
            for code, verdict in enumerate(VERDICTS)
        }

    def _check_problems(self, indices: npt.NDArray[np.int64]) -> None:
        """Find out which golds are usable, and whether every prompt is possible, before anything is generated."""
        if not indices.size:
            return
        self._is_checked[indices] = True
        columns = self.problems.columns(indices.tolist())
        if hasattr(self.generator, "check_prompts"):
            self.generator.check_prompts(columns["prompt"])
        if not hasattr(self.verifier, "check_solutions"):
            return
        solutions = columns.pop("solution")
        verdicts = checked_verdicts(self.verifier.check_solutions(solutions, **columns), len(solutions))
        unusable = [
            (index, solution, verdict)
            for index, solution, verdict in zip(indices, solutions, verdicts, strict=True)
            if verdict != "passed"
        ]
        if not unusable:
            return
        self.is_usable[[index for index, _, _ in unusable]] = False
        listed = "".join(
            f"\n  {self.problems.ids[index]}: {shortened(repr(solution), _MAX_SHOWN)} ({verdict})"
            for index, solution, verdict in unusable[:_NUM_LISTED]
        )
        if len(unusable) > _NUM_LISTED:
            listed += f"\n  and {len(unusable) - _NUM_LISTED} more"
        if not self.is_usable.any():
            raise ValueError(
                f"None of the {len(self.problems)} solutions passes when it is verified against itself, so no "
                f"completion could ever pass. Check the solution column and the verifier:{listed}"
            )
        if not self.processes.is_main:
            return
        warnings.warn(
            f"{len(unusable)} of {len(self.problems)} problems are left out, because their solution does not pass "
            f"when it is verified against itself:{listed}",
            UserWarning,
            stacklevel=4,
        )

    def _calls(self, missing: npt.NDArray[np.int64]) -> Iterator[list[int]]:
        """Yield this process's share of the problems in parts, each of which is one call of the generator."""
        # Longest prompts come first: batches of similar lengths waste little, and what does not fit into memory fails
        # at once. A generator that takes one seed can only be asked for problems that begin at the same index.
        takes_seeds = getattr(self.generator, "takes_seeds", False)
        begins = np.zeros_like(self._next_index) if takes_seeds else self._next_index
        rows = np.flatnonzero(missing).tolist()
        rows.sort(key=lambda row: (begins[row], -self.problems.prompt_lengths[row], row))
        indices: list[int] = []
        size = 0
        for row in self.processes.share(rows):
            is_full = not self._is_streaming and size + missing[row] > self._slice_size
            if indices and (is_full or begins[row] != begins[indices[0]]):
                yield indices
                indices, size = [], 0
            indices.append(row)
            size += int(missing[row])
        if indices:
            yield indices

    def _run_call(self, indices: list[int], missing: npt.NDArray[np.int64]) -> None:
        """Let the generator complete some problems, and verify and store what it gives while it goes on."""
        started = self._judged_at = time.monotonic()
        counts = [int(missing[index]) for index in indices]
        seeds = [self._seed(int(self._next_index[index])) for index in indices]
        for position, completions in self._answers(self.problems.prompts(indices), counts, seeds):
            self._finished.append((indices[position], completions))
            self._num_finished += len(completions)
            if self._is_streaming and self._is_shard_due():
                self._judge_finished()
            elif self._judging is not None and self._judging.done():
                self._note_stored()
        # Also where more calls follow: these are of another seed, or of a generator that gives all at the end.
        self._judge_finished()
        if self._is_slice_adapted:
            self._note_stored()
            rate = sum(counts) / max(time.monotonic() - started, 1e-3)
            # At most fourfold: the first slice may hold what is not typical.
            largest = max(_DEFAULT_SLICE, min(4 * self._slice_size, _MAX_SLICE))
            self._slice_size = int(np.clip(rate * _SECONDS_PER_SHARD, _DEFAULT_SLICE, largest))

    def _answers(
        self, prompts: list[Any], counts: list[int], seeds: list[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield the generator's completions; where it fails, those that it gave before are stored first."""
        try:
            yield from generate_stream(self.generator, prompts, counts, seeds, self.progress)
        except Exception:
            if self._is_streaming:
                self._judge_finished()
                self._note_stored()
            raise

    def _seed(self, next_index: int) -> int:
        # By the next index: a continued run repeats no draw and ends as an uninterrupted one.
        digest = hashlib.sha256(f"{self.seed}|{next_index}".encode()).digest()
        return int.from_bytes(digest[:4], "little")

    def _is_shard_due(self) -> bool:
        if self.slice_limit is not None:
            return self._num_finished >= self.slice_limit
        return time.monotonic() - self._judged_at >= _SECONDS_PER_SHARD

    def _judge_finished(self) -> None:
        """Begin to verify and store what is finished, one shard; wait for the shard before, so that none piles up."""
        self._note_stored()
        self._judged_at = time.monotonic()
        finished, self._finished, self._num_finished = self._finished, [], 0
        if not finished:
            return
        if self._thread is None:
            self._judging = Future()
            self._judging.set_result(self._judge_and_store(finished))
            self._note_stored()
        else:
            self._judging = self._thread.submit(self._judge_and_store, finished)

    def _judge_and_store(self, finished: list[tuple[int, list[Completion]]]) -> list[tuple[int, int]]:
        """Return how many completions were stored of which problems."""
        owners = [(index, number) for index, completions in finished for number in range(len(completions))]
        completions = [completion for _, completions in finished for completion in completions]
        columns = self.problems.columns([index for index, _ in owners])
        verdicts = verify_all(self.verifier, completions, columns)
        self.store.append(
            [
                {
                    "problem_id": self.problems.ids[index],
                    "generation_index": int(self._next_index[index]) + number,
                    "completion": completion.text,
                    "num_tokens": completion.num_tokens,
                    "finish_reason": completion.finish_reason,
                    "verdict": verdict,
                    "problem_hash": self.problems.hashes[index],
                }
                for (index, number), completion, verdict in zip(owners, completions, verdicts, strict=True)
            ]
        )
        if not self._has_shown_example:
            self._has_shown_example = True
            self._show_example(columns["prompt"][0], completions[0], verdicts[0])
        return [(index, len(completions)) for index, completions in finished]

    def _note_stored(self) -> None:
        """Count what has been verified and stored, waiting for it; raise what went wrong there."""
        judging, self._judging = self._judging, None
        for index, count in judging.result() if judging is not None else ():
            self.num_generations[index] += count
            self._next_index[index] += count

    def _show_example(self, prompt: Any, completion: Completion, verdict: str) -> None:
        render = getattr(self.generator, "render", None)
        text = render(prompt) if render else prompt if isinstance(prompt, str) else json.dumps(prompt, default=str)
        outcome = f"{verdict}, {completion.num_tokens} tokens, finish reason {completion.finish_reason}"
        self.progress.show_example(text, completion.text, outcome)


@contextmanager
def filling(
    description: str,
    problems: ProblemSet,
    generator: Generator,
    verifier: VerifierLike,
    store: PassRateStore | str | os.PathLike[str],
    *,
    seed: int,
    slice_size: int | None,
    progress: bool,
) -> Iterator[StoreFiller]:
    """Open or create the store of a job, keep other jobs out of it, and yield what fills it."""
    processes = Processes.current()
    if not processes.is_main:
        processes.wait()
    record = run_record(generator, verifier, seed)
    if isinstance(store, PassRateStore):
        store.check_record(record)
    else:
        if processes.is_main and Path(store, "manifest.json").exists():
            PassRateStore(store).begin_again(record)
        store = PassRateStore(store, record)
    with (
        store.writing() if processes.is_main else store.joining(),
        GenerationProgress(description, enabled=progress and processes.is_main) as display,
    ):
        check_prompt_settings(store, problems)
        filler = StoreFiller(problems, generator, verifier, store, seed, slice_size, display, processes)
        if processes.is_main:
            keep_problems(store, problems)
            processes.wait()
        yield filler


def values_at(column: pa.ChunkedArray, rows: pa.Array) -> npt.NDArray[np.int64]:
    """Return a column's values at some rows, 0 where the row is null."""
    return pc.fill_null(column.take(rows), 0).to_numpy().astype(np.int64)
