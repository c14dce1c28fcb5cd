"""
Fill a pass-rate store up to a wanted number of generations per problem: the loop under estimation and references.

Problems whose gold is unusable are left out; the rest is generated in slices, each slice verified and appended as one
shard. A kill loses the slice in flight and nothing else; who calls again gets the rest, and never a completion twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from .protocols import checked_verdicts, generate_all, verify_all
from .stored_problems import check_prompt_settings, keep_problems


if TYPE_CHECKING:
    from ..generation.completions import Completion, Generator
    from .protocols import VerifierLike

logger = logging.getLogger(__name__)

# A slice is what a kill can cost: long enough that batches stay full, short enough not to hurt.
_SECONDS_PER_SLICE = 15.0
_MAX_SLICE = 8192
_DEFAULT_BATCH = 64
_NUM_LISTED, _MAX_SHOWN = 5, 80


def run_record(generator: Generator, verifier: VerifierLike, seed: int) -> dict[str, Any]:
    """Return the record of a run's store; of another seed, a rerun would silently get the completions of the first."""
    return {
        "generator": getattr(generator, "record", None) or {},
        "verifier": getattr(verifier, "record", None) or {},
        "seed": seed,
    }


class StoreFiller:
    """
    Brings P problems to a wanted number of stored generations; `num_generations` has those stored, **shape (P,)**.

    `is_usable`, **shape (P,)**, is False where the gold was found to be unusable. Of several `processes` each
    generates its share, and all call `fill` with the same targets: the completions are those that one process makes.
    """

    def __init__(
        self,
        problems: ProblemSet,
        generator: Generator,
        verifier: VerifierLike,
        store: PassRateStore,
        *,
        seed: int,
        slice_size: int | None,
        progress: GenerationProgress,
        processes: Processes,
    ):
        if slice_size is not None and slice_size < 1:
            raise ValueError(
                f"`slice_size` is {slice_size}: a slice holds at least 1 completion, or None to adapt it."
            )
        self.problems = problems
        self.generator = generator
        self.verifier = verifier
        self.store = store
        self.seed = seed
        self.progress = progress
        self.processes = processes
        self.is_usable = np.ones(len(problems), dtype=bool)
        self._is_checked = np.zeros(len(problems), dtype=bool)
        # Smaller slices would leave batches partly empty.
        self._batch_size: int = getattr(generator, "batch_size", _DEFAULT_BATCH)
        self._is_slice_fixed = slice_size is not None
        self._slice_size: int = self._batch_size if slice_size is None else slice_size
        self._has_shown_example = False
        self._count_stored()

    def _count_stored(self) -> None:
        stored = self.store.generation_counts()
        rows = pc.index_in(pa.array(self.problems.ids, pa.string()), stored["problem_id"].combine_chunks())
        self.num_generations = _taken(stored["num_generations"], rows)
        self._next_index = _taken(stored["next_generation_index"], rows)
        self._refuse_other_problems(stored["problem_hash"].take(rows).to_pylist())

    def _refuse_other_problems(self, stored_hashes: list[str | None]) -> None:
        for row, (stored, current) in enumerate(zip(stored_hashes, self.problems.hashes, strict=True)):
            if stored is not None and stored != current:
                raise ValueError(
                    f"The store {str(self.store.path)!r} has completions for `problem_id` {self.problems.ids[row]!r} "
                    "that were made for another prompt or solution: other data, or other prompt settings such as "
                    "`as_chat`. Give another store, or ids that change with the problem (leave `problem_id` out and "
                    "they do)."
                )

    def fill(self, targets: npt.NDArray[np.int64], *, total: int | None = None) -> int:
        """
        Generate, verify and store until every usable problem has its target; return how many completions were missing.

        `targets`, **shape (P,)**, counts stored generations; `total` is what the display counts towards, where more
        calls will follow.
        """
        try:
            self._check_problems(np.flatnonzero((targets > self.num_generations) & ~self._is_checked))
            missing = np.where(self.is_usable, np.maximum(targets - self.num_generations, 0), 0)
            # All processes have seen the same store by now, and none has written to it yet.
            self.processes.wait()
            done = int(self.num_generations.sum())
            self.progress.start(completed=done, total=total or done + int(missing.sum()))
            for indices in self._slices(missing):
                self._run_slice(indices, missing)
            if self.processes.count > 1:
                self.processes.wait()
                self._count_stored()
        except KeyboardInterrupt:
            self._say_what_is_kept()
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

    def _say_what_is_kept(self) -> None:
        text = (
            f"Stopped. {self.num_generations.sum()} completions are kept in {str(self.store.path)!r}; the same "
            "command goes on from there."
        )
        if self.progress.enabled:
            self.progress.note(text)
        else:
            logger.warning(text)

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

    def _slices(self, missing: npt.NDArray[np.int64]) -> Iterator[list[int]]:
        """Yield this process's share of the problems in slices, each with one next generation index."""
        # A call has one seed, so its problems begin at the same index. Longest prompts come first: batches of similar
        # lengths waste little, and what does not fit into memory fails at once.
        rows = np.flatnonzero(missing).tolist()
        rows.sort(key=lambda row: (self._next_index[row], -self.problems.prompt_lengths[row], row))
        indices: list[int] = []
        size = 0
        for row in self.processes.share(rows):
            is_other_group = indices and self._next_index[row] != self._next_index[indices[0]]
            if indices and (is_other_group or size + missing[row] > self._slice_size):
                yield indices
                indices, size = [], 0
            indices.append(row)
            size += int(missing[row])
        if indices:
            yield indices

    def _run_slice(self, indices: list[int], missing: npt.NDArray[np.int64]) -> None:
        started = time.monotonic()
        columns = self.problems.columns(indices)
        counts = [int(missing[index]) for index in indices]
        # Seeded by the next index: a continued run repeats no draw and ends as an uninterrupted one.
        digest = hashlib.sha256(f"{self.seed}|{self._next_index[indices[0]]}".encode()).digest()
        seed = int.from_bytes(digest[:4], "little")
        generated = generate_all(self.generator, columns["prompt"], counts, seed, self.progress)
        owners = [(position, number) for position, count in enumerate(counts) for number in range(count)]
        completions = [generated[position][number] for position, number in owners]
        verdicts = verify_all(
            self.verifier,
            completions,
            {name: [values[position] for position, _ in owners] for name, values in columns.items()},
        )
        rows = [
            {
                "problem_id": self.problems.ids[indices[position]],
                "generation_index": int(self._next_index[indices[position]]) + number,
                "completion": completion.text,
                "num_tokens": completion.num_tokens,
                "finish_reason": completion.finish_reason,
                "verdict": verdict,
                "problem_hash": self.problems.hashes[indices[position]],
            }
            for (position, number), completion, verdict in zip(owners, completions, verdicts, strict=True)
        ]
        self.store.append(rows)
        self.num_generations[indices] += counts
        self._next_index[indices] += counts
        if not self._has_shown_example:
            self._has_shown_example = True
            self._show_example(columns["prompt"][0], completions[0], verdicts[0])
        if not self._is_slice_fixed:
            rate = len(rows) / max(time.monotonic() - started, 1e-3)
            # At most fourfold: the first slice may hold what is not typical.
            largest = max(self._batch_size, min(4 * self._slice_size, _MAX_SLICE))
            self._slice_size = int(np.clip(rate * _SECONDS_PER_SLICE, self._batch_size, largest))

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
    """
    Open or create the store of a job, keep other jobs out of it, and yield what fills it.

    A store of another record is refused. Of several processes the main one holds the lock and shows progress, and the
    others write beside it.
    """
    processes = Processes.current()
    if not processes.is_main:
        processes.wait()
    record = run_record(generator, verifier, seed)
    if isinstance(store, PassRateStore):
        store.check_record(record)
    else:
        store = PassRateStore(store, record)
    with (
        store.writing() if processes.is_main else store.joining(),
        GenerationProgress(description, enabled=progress and processes.is_main) as display,
    ):
        check_prompt_settings(store, problems)
        filler = StoreFiller(
            problems,
            generator,
            verifier,
            store,
            seed=seed,
            slice_size=slice_size,
            progress=display,
            processes=processes,
        )
        if processes.is_main:
            keep_problems(store, problems)
            processes.wait()
        yield filler


def _taken(column: pa.ChunkedArray, rows: pa.Array) -> npt.NDArray[np.int64]:
    """Return a column's values at some rows, 0 where the row is null."""
    return pc.fill_null(column.take(rows), 0).to_numpy().astype(np.int64)
