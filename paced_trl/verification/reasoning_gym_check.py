"""The check that asks reasoning-gym's own scorers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from .answers import MARKUP, final_text, stated_answer, tagged_answer
from .check import Check, Row, cached
from .verdict import Verdict


class ReasoningGymCheck(Check):
    """
    Score answers as the reasoning-gym task itself does; only a full score passes, and there is partial credit.

    The columns hold the task's name, its entry and its knobs (JSON; scorers such as that of `decimal_arithmetic`
    depend on them). An answer on which the scorer raises is `UNPARSEABLE`; a row is `UNVERIFIABLE` if its own answer
    does not score 1, or if nonsense does (`game_of_life_halting`).

    Some scorers evaluate what the student wrote. The worker process bounds time and memory, but is no sandbox.
    """

    package: ClassVar[tuple[str, str, str] | None] = ("reasoning_gym", "reasoning-gym", "reasoning-gym")
    columns: ClassVar[tuple[str, ...] | None] = ("reasoning_gym_task", "reasoning_gym_entry")
    optional_columns: ClassVar[tuple[str, ...]] = ("reasoning_gym_config",)

    def __init__(self) -> None:
        self._datasets: dict[tuple[str, str], Any] = {}
        self._usable: dict[str, bool] = {}

    def start(self, timeout: float) -> None:
        import reasoning_gym

        self._create_dataset = reasoning_gym.create_dataset

    def verdict(self, row: Row) -> Verdict:
        if not self.is_usable(row):
            return Verdict.UNVERIFIABLE
        answers = self._answers(str(row.completion), str(row.solution))
        scores = [score for answer in answers if (score := self._score(answer, row)) is not None]
        if not scores:
            return Verdict.UNPARSEABLE
        return Verdict.PASSED if any(score >= 1 for score in scores) else Verdict.FAILED

    def is_usable(self, row: Row) -> bool:
        return cached(self._usable, repr((row.solution, row.columns)), lambda: self._tells_right_from_wrong(row))

    def _tells_right_from_wrong(self, row: Row) -> bool:
        if row.solution is None or self._score(str(row.solution), row) != 1:
            return False
        nonsense = self._score("qzx, no answer", row)
        return nonsense is None or nonsense < 1

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
