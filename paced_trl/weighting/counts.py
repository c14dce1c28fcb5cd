"""
Counts of passed and valid generations per problem: checked, and what they say of each problem and of the table.

Counts are whole, or fractions where evidence has faded. How far they can be trusted is in `prior.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# With more generations each, a bin per possible pass rate would be a bin of few problems.
MAX_BINS = 16
_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True)
class FrontierShares:
    """Shares of a table's problems of which all, some or none of the valid generations passed, and without any."""

    mastered: float
    frontier: float
    out_of_reach: float
    unmeasured: float


def check_counts(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[Counts, Counts]:
    """Return passes and valid generations of each problem as int64, **shape (P,)** each; refuse what is no count."""
    passed, valid = _checked_pair(num_passed, num_valid, "whole numbers")
    return passed.astype(np.int64), valid.astype(np.int64)


def check_evidence(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return counts that need not be whole as float64, **shape (P,)** each; refuse what [`check_counts`] does."""
    passed, valid = _checked_pair(num_passed, num_valid, "numbers")
    return passed.astype(np.float64), valid.astype(np.float64)


def pass_rates(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> Floats:
    """Return the observed pass rates c / K of counts that need not be whole, **shape (P,)**; nan where K is 0."""
    passed, valid = check_evidence(num_passed, num_valid)
    return np.divide(passed, valid, out=np.full(passed.shape, np.nan), where=valid > 0)


def frontier_shares(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> FrontierShares:
    """Return the shares of what was observed; with few generations, some at the frontier pass always or never."""
    passed, valid = check_evidence(num_passed, num_valid)
    measured = valid > 0
    return FrontierShares(
        mastered=float(np.mean(measured & (passed == valid))),
        frontier=float(np.mean((passed > 0) & (passed < valid))),
        out_of_reach=float(np.mean(measured & (passed == 0))),
        unmeasured=float(np.mean(~measured)),
    )


def pass_rate_bins(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[np.ndarray, int]:
    """
    Return the bin of each measured problem, and the number n of the last bin: bin i stands at the pass rate i / n.

    With one number of valid generations, up to 16, there is a bin per possible pass rate; else eleven, of which the
    first and the last hold none but problems that never and always passed.
    """
    passed, valid = np.asarray(num_passed), np.asarray(num_valid)
    passed, valid = passed[valid > 0], valid[valid > 0]
    last = int(valid[0]) if _has_one_number(valid) else 10
    index = np.rint(passed / valid * last).astype(int)
    inner = (passed > 0) & (passed < valid)
    index[inner] = index[inner].clip(1, last - 1)
    return index, last


def bin_labels(num_valid: npt.ArrayLike) -> list[str]:
    """Return the labels of the bins of [`pass_rate_bins`]: counts such as `3/8`, or pass rates such as `0.3`."""
    valid = np.asarray(num_valid)
    valid = valid[valid > 0]
    if _has_one_number(valid):
        return [f"{count}/{valid[0]}" for count in range(int(valid[0]) + 1)]
    return ["0", *(f"{tenths / 10:.1f}" for tenths in range(1, 10)), "1"]


def _has_one_number(valid: np.ndarray) -> bool:
    return valid.size > 0 and np.ptp(valid) == 0 and valid[0] <= MAX_BINS


def _checked(values: npt.ArrayLike, name: str, allowed: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"`{name}` has shape {array.shape}, but takes one count per problem. Pass a flat list.")
    if array.dtype.kind in "biuf":
        # Written so that nan is wrong too.
        is_count = (array >= 0) & (array <= _MAX_COUNT)
        if allowed == "whole numbers":
            is_count &= array == np.floor(array)
    else:
        is_count = np.array([_is_count(value, allowed) for value in array], dtype=np.bool_)
    if not is_count.all():
        row = int(np.flatnonzero(~is_count)[0])
        raise ValueError(
            f"`{name}` is {array[row : row + 1].tolist()[0]!r} in row {row}, which is no count of generations. Give "
            f"{allowed} from 0 to {_MAX_COUNT}; a problem that was not measured has 0."
        )
    return array


def _is_count(value: object, allowed: str) -> bool:
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value <= _MAX_COUNT:
        return False
    return allowed == "numbers" or float(value).is_integer()


def _checked_pair(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike, allowed: str) -> tuple[np.ndarray, np.ndarray]:
    passed, valid = _checked(num_passed, "num_passed", allowed), _checked(num_valid, "num_valid", allowed)
    if passed.shape != valid.shape:
        raise ValueError(
            f"`num_passed` holds {passed.size} problems and `num_valid` {valid.size}, so they cannot be of the same "
            "table. Pass one count of each per problem."
        )
    if not passed.size:
        raise ValueError(
            "`num_passed` and `num_valid` are empty, so there is no problem to measure. Pass at least one."
        )
    excess = np.flatnonzero(passed > valid)
    if excess.size:
        row = excess[0]
        raise ValueError(
            f"`num_passed` is {passed[row]} and `num_valid` {valid[row]} in row {row}: no more generations can pass "
            "than are valid. Check that the two columns are not swapped."
        )
    return passed, valid
