"""What became of one completion: the six verdicts, which of them count, and how a cut-off completion changes one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Verdict(StrEnum):
    """
    What became of one completion.

    The first four are valid: they count in `num_valid`, and all but `PASSED` count as not passed. `TIMEOUT` (the check
    ran out of time or memory) and `UNVERIFIABLE` (the gold is unusable, or the verifier itself failed) say nothing
    about the student and never enter a pass rate. Verifiers never return `TRUNCATED`: who knows that a completion was
    cut off at the token limit turns its other verdicts than `PASSED` into it.
    """

    PASSED = "passed"
    FAILED = "failed"
    UNPARSEABLE = "unparseable"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    UNVERIFIABLE = "unverifiable"

    @property
    def is_valid(self) -> bool:
        """Whether the verdict counts in `num_valid`."""
        return self in VALID_VERDICTS


VALID_VERDICTS = (Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.TRUNCATED)


def mark_truncated(verdicts: Sequence[Verdict], truncated: Sequence[bool]) -> list[Verdict]:
    """Return the verdicts, with `TRUNCATED` where a completion that was cut off is wrong or states no answer."""
    wrong = (Verdict.FAILED, Verdict.UNPARSEABLE)
    return [
        Verdict.TRUNCATED if cut_off and verdict in wrong else verdict
        for verdict, cut_off in zip(verdicts, truncated, strict=True)
    ]
