"""The check that asks reasoning-gym's own scorers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from .answers import MARKUP, MAX_CACHED_GOLDS, final_text, stated_answer, tagged_answer
from .check import Check, Row
from .verdict import Verdict


class ReasoningGymCheck(Check):
    """
    Score answers as the reasoning-gym task itself does; only a full score passes.

    Needs the columns `reasoning_gym_task` (name of the task) and `reasoning_gym_entry` (the task's entry with
    `question`, `answer` and `metadata`, as JSON). `reasoning_gym_config` (the task's knobs as a JSON object) is needed
    where the scorer depends on them, as in `decimal_arithmetic`. The answer is read from answer tags, else from "the
    answer is ...", else from the last line, or from as many last lines as the gold has.

    reasoning-gym gives partial credit, and some scorers raise on junk: an answer that is scored below 1 is `FAILED`,
    one on which the scorer raises `UNPARSEABLE`. A row is `UNVERIFIABLE` if its entry has no answer, if its own answer
    does not score 1, or if nonsense does (`game_of_life_halting`).

    Some scorers evaluate what the student wrote. The worker process bounds time and memory, but is no sandbox.
    """

    package: ClassVar[tuple[str, str, str] | None] = ("reasoning_gym", "reasoning-gym", "reasoning-gym")
    columns: ClassVar[tuple[str, ...] | None] = ("reasoning_gym_task", "reasoning_gym_entry")
    optional_columns: ClassVar[tuple[str, ...]] = ("reasoning_gym_config",)

    def __init__(self) -> None:
        self._datasets: dict[tuple[str, str], Any] = {}
        self._is_usable: dict[tuple[str, str, str], bool] = {}

    def start(self, timeout: float) -> None:
        import reasoning_gym

        self._create_dataset = reasoning_gym.create_dataset

    def verdict(self, row: Row) -> Verdict:
        if not self.is_usable(row):
            return Verdict.UNVERIFIABLE
        answers = self._answers(str(row.completion), str(row.solution))
        scores = [self._score(answer, row) for answer in answers]
        if all(score is None for score in scores):
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if any(score is not None and score >= 1 for score in scores) else Verdict.FAILED

    def is_usable(self, row: Row) -> bool:
        key = (row.columns["reasoning_gym_task"], row.columns["reasoning_gym_entry"], str(row.solution))
        if key not in self._is_usable:
            if len(self._is_usable) >= MAX_CACHED_GOLDS:
                self._is_usable.clear()
            nonsense = self._score("qzx, no answer", row)
            self._is_usable[key] = (
                row.solution is not None
                and self._score(str(row.solution), row) == 1
                and not (nonsense is not None and nonsense >= 1)
            )
        return self._is_usable[key]

    def _score(self, answer: str, row: Row) -> float | None:
        task, config = row.columns["reasoning_gym_task"], row.columns.get("reasoning_gym_config") or "{}"
        entry = json.loads(row.columns["reasoning_gym_entry"])
        if (task, config) not in self._datasets:
            self._datasets[task, config] = self._create_dataset(task, **json.loads(config))
        try:
            return float(self._datasets[task, config].score_answer(answer, entry))
        except MemoryError:
            raise
        except Exception:  # prime_factorization and others on junk
            return None

    def _answers(self, completion: str, solution: str) -> list[str]:
        """Return the ways to read the one answer of a completion: as it stands, and without what surrounds it."""
        text = final_text(completion).strip()
        if not text:
            return []
        num_lines = len(solution.strip().splitlines())
        if num_lines > 1:
            return list(dict.fromkeys([text, "\n".join(text.splitlines()[-num_lines:])]))
        if tagged_answer(completion) is None:
            text = stated_answer(text) or text.rpartition("\n")[2]
        plain = text.strip(MARKUP + "$").removesuffix(".")
        readings = [text, plain, plain.rpartition("=")[2].strip()]
        if "\\boxed{" in text:
            readings.append(text.rpartition("\\boxed{")[2].partition("}")[0])
        return list(dict.fromkeys(reading for reading in readings if reading))
