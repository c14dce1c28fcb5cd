"""
What counts of passes say about pass rates: of each problem, and of the whole table.

Responsible for checking counts, and for pass rates and their shares. The pass rate p of K student generations is the
paper's (PACED, arXiv 2603.11178). How far counts can be trusted is in `prior.py`.

This module knows nothing of weights, of verdicts, or of where the counts come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


_MAX_COUNT = 2**31 - 1

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


# With more generations each, a bin per possible pass rate would be a bin of few problems.
MAX_BINS = 16


@dataclass(frozen=True)
class FrontierShares:
    """
    Shares of a table's problems by what was observed; they sum to 1.

    Args:
        mastered (`float`): Share of problems whose valid generations all passed.
        frontier (`float`): Share of problems of which some generations passed and some did not.
        out_of_reach (`float`): Share of problems of which no valid generation passed.
        unmeasured (`float`): Share of problems without a valid generation.
    """

    mastered: float
    frontier: float
    out_of_reach: float
    unmeasured: float


def check_counts(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[Counts, Counts]:
    """
    Return the counts as integer arrays, or refuse them.

    Args:
        num_passed (`ArrayLike`): Generations that passed, per problem, of **shape (P,)**: whole numbers.
        num_valid (`ArrayLike`): Generations with a valid verdict, per problem, of **shape (P,)**: whole numbers.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Both as int64 arrays of **shape (P,)**.

    Raises:
        ValueError: If there is no problem, if the shapes differ or are not flat, or if some problem has a count that
            is not a whole number, is negative, or has more passes than valid generations.
    """
    passed, valid = _whole_numbers(num_passed, "num_passed"), _whole_numbers(num_valid, "num_valid")
    _check_pair(passed, valid)
    return passed, valid


def check_evidence(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[Floats, Floats]:
    """
    Return counts that may have been discounted, and so need not be whole, or refuse them.

    Args:
        num_passed (`ArrayLike`): Discounted generations that passed, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Discounted generations with a valid verdict, per problem, of **shape (P,)**.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Both as float64 arrays of **shape (P,)**.

    Raises:
        ValueError: As [`check_counts`], but for fractions.
    """
    passed, valid = np.asarray(num_passed, dtype=np.float64), np.asarray(num_valid, dtype=np.float64)
    for name, values in (("num_passed", passed), ("num_valid", valid)):
        if values.ndim != 1:
            raise ValueError(f"`{name}` has shape {values.shape}, but takes one count per problem. Pass a flat list.")
        wrong = np.flatnonzero(~((values >= 0) & (values <= _MAX_COUNT)))
        if wrong.size:
            raise ValueError(
                f"`{name}` is {values[wrong[0]]} in row {wrong[0]}, which is no count of generations. Give numbers "
                f"from 0 to {_MAX_COUNT}; a problem that was not measured has 0."
            )
    _check_pair(passed, valid)
    return passed, valid


def _check_pair(passed: Counts | Floats, valid: Counts | Floats) -> None:
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


def pass_rates(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> Floats:
    """
    Return the observed pass rates c / K.

    Args:
        num_passed (`ArrayLike`): Generations that passed, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Generations with a valid verdict, per problem, of **shape (P,)**.

    Returns:
        `np.ndarray`: Pass rates in [0, 1], float64 of **shape (P,)**; nan for problems without a valid generation.

    Raises:
        ValueError: If the counts are invalid ([`check_counts`]).

    Example:

    ```python
    >>> pass_rates([0, 3, 0], [4, 4, 0])
    array([0.  , 0.75,  nan])
    ```
    """
    passed, valid = check_counts(num_passed, num_valid)
    return np.divide(passed, valid, out=np.full(passed.shape, np.nan), where=valid > 0)


def frontier_shares(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> FrontierShares:
    """
    Return the shares of mastered, frontier, out-of-reach and unmeasured problems.

    The shares are of what was observed: with few generations, some problems of the frontier are seen to pass always
    or never by chance.

    Args:
        num_passed (`ArrayLike`): Generations that passed, per problem, of **shape (P,)**.
        num_valid (`ArrayLike`): Generations with a valid verdict, per problem, of **shape (P,)**.

    Returns:
        [`FrontierShares`]: Fractions of all problems.

    Raises:
        ValueError: If the counts are invalid ([`check_counts`]).

    Example:

    ```python
    >>> frontier_shares([4, 1, 2, 0], [4, 4, 4, 4])
    FrontierShares(mastered=0.25, frontier=0.5, out_of_reach=0.25, unmeasured=0.0)
    ```
    """
    passed, valid = check_counts(num_passed, num_valid)
    measured = valid > 0
    return FrontierShares(
        mastered=float(np.mean(measured & (passed == valid))),
        frontier=float(np.mean((passed > 0) & (passed < valid))),
        out_of_reach=float(np.mean(measured & (passed == 0))),
        unmeasured=float(np.mean(~measured)),
    )


def _whole_numbers(values: npt.ArrayLike, name: str) -> Counts:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"`{name}` has shape {array.shape}, but takes one count per problem. Pass a flat list.")
    if array.dtype.kind in "biu":
        wrong = (array < 0) | (array > _MAX_COUNT)
    elif array.dtype.kind == "f":
        # Written so that nan is wrong too.
        wrong = ~((array >= 0) & (array <= _MAX_COUNT) & (array == np.floor(array)))
    else:
        wrong = np.array([not _is_count(value) for value in array], dtype=np.bool_)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`{name}` is {array[row : row + 1].tolist()[0]!r} in row {row}, which is no count of generations. Give "
            f"whole numbers from 0 to {_MAX_COUNT}; a problem that was not measured has 0."
        )
    return array.astype(np.int64)


def _is_count(value: object) -> bool:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return bool(0 <= value <= _MAX_COUNT) and float(value).is_integer()


def pass_rate_bins(num_passed: npt.ArrayLike, num_valid: npt.ArrayLike) -> tuple[np.ndarray, int]:
    """
    Return the bin of each measured problem, and the number n of the last bin: bin i stands at the pass rate i / n.

    With one number of valid generations, up to 16, there is a bin per possible pass rate; otherwise there are eleven,
    of which the first and the last hold none but problems that never and always passed.
    """
    passed, valid = np.asarray(num_passed), np.asarray(num_valid)
    passed, valid = passed[valid > 0], valid[valid > 0]
    one_number = valid.size > 0 and np.ptp(valid) == 0 and valid[0] <= MAX_BINS
    last = int(valid[0]) if one_number else 10
    index = np.rint(passed / valid * last).astype(int)
    inner = (passed > 0) & (passed < valid)
    index[inner] = index[inner].clip(1, last - 1)
    return index, last
