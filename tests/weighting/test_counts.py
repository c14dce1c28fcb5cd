"""Counts, pass rates and shares, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from paced_trl.weighting.counts import (
    FrontierShares,
    bin_labels,
    check_counts,
    frontier_shares,
    pass_rate_bins,
    pass_rates,
)


def test_pass_rates_are_c_over_k_and_nan_where_unmeasured():
    np.testing.assert_array_equal(pass_rates([0, 3, 0, 2], [4, 4, 0, 2]), [0.0, 0.75, np.nan, 1.0])
    np.testing.assert_array_equal(pass_rates([0, 3, 0], [4, 4, 0]), [0.0, 0.75, np.nan])


def test_shares_are_of_all_problems_and_sum_to_one():
    shares = frontier_shares([0, 0, 2, 4, 4, 1, 0, 0], [4, 4, 4, 4, 4, 1, 0, 0])
    assert shares == FrontierShares(mastered=3 / 8, frontier=1 / 8, out_of_reach=2 / 8, unmeasured=2 / 8)
    assert frontier_shares([4, 1, 2, 0], [4, 4, 4, 4]) == FrontierShares(0.25, 0.5, 0.25, 0.0)


def test_faded_evidence_has_rates_and_shares_as_counts_have():
    np.testing.assert_array_equal(pass_rates([0.0, 0.3, 0.0], [0.5, 1.2, 0.0]), [0.0, 0.3 / 1.2, np.nan])
    shares = frontier_shares([0.0, 0.3, 0.7, 0.0], [0.5, 1.2, 0.7, 0.0])
    assert shares == FrontierShares(mastered=0.25, frontier=0.25, out_of_reach=0.25, unmeasured=0.25)


@pytest.mark.parametrize(
    ("passed", "valid", "bins", "labels"),
    [
        ([0, 1, 2, 4, 0], [4, 4, 4, 4, 0], [0, 1, 2, 4], ["0/4", "1/4", "2/4", "3/4", "4/4"]),
        ([0, 1, 31, 32, 5], [32, 32, 32, 32, 10], [0, 1, 9, 10, 5], None),
        ([0, 1, 16], [16, 16, 16], [0, 1, 16], [f"{count}/16" for count in range(17)]),
        ([0, 1, 17], [17, 17, 17], [0, 1, 10], None),
        ([0, 0], [0, 0], [], None),
    ],
)
def test_a_bin_per_count_where_all_have_one_number_else_tenths(passed, valid, bins, labels):
    index, last = pass_rate_bins(passed, valid)
    assert index.tolist() == bins
    assert bin_labels(valid) == (labels or ["0", *(f"0.{tenths}" for tenths in range(1, 10)), "1"])
    assert last == len(bin_labels(valid)) - 1


@pytest.mark.parametrize(
    ("num_passed", "num_valid"),
    [
        ([1, 0], [4, 4]),
        (np.array([1, 0], dtype=np.int32), np.array([4.0, 4.0])),
        (np.array([1, 0], dtype=object), np.array([np.int64(4), 4.0], dtype=object)),
        ([True, False], [4, 4]),
    ],
)
def test_whole_numbers_of_any_type_are_counts(num_passed, num_valid):
    passed, valid = check_counts(num_passed, num_valid)
    assert passed.dtype == valid.dtype == np.int64
    assert passed.tolist() == [1, 0]
    assert valid.tolist() == [4, 4]


def test_columns_of_a_dataset_are_counts():
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"num_passed": [1, 0], "num_valid": [4, 2]})
    np.testing.assert_array_equal(pass_rates(dataset["num_passed"], dataset["num_valid"]), [0.25, 0.0])


@pytest.mark.parametrize(
    ("num_passed", "num_valid", "message"),
    [
        ([], [], "are empty"),
        ([1, 2], [4], "`num_passed` holds 2 problems and `num_valid` 1"),
        ([[1], [2]], [4, 4], r"`num_passed` has shape \(2, 1\)"),
        (3, [4], r"`num_passed` has shape \(\)"),
        ([1, -1], [4, 4], "`num_passed` is -1 in row 1"),
        ([1, 2.5], [4, 4], "`num_passed` is 2.5 in row 1"),
        ([1, 2], [4, np.nan], "`num_valid` is nan in row 1"),
        ([1, 2], [np.inf, 4], "`num_valid` is inf in row 0"),
        ([1, None], [4, 4], "`num_passed` is None in row 1"),
        ([1, 2], [4, 2**40], f"`num_valid` is {2**40} in row 1"),
        ([1, 2], [4, 10**30], f"`num_valid` is {10**30} in row 1"),
        (["1", "2"], [4, 4], "`num_passed` is '1' in row 0"),
        ([1, 5], [4, 4], "`num_passed` is 5 and `num_valid` 4 in row 1.*swapped"),
    ],
)
def test_what_is_no_count_is_refused_by_name_row_and_value(num_passed, num_valid, message):
    with pytest.raises(ValueError, match=message):
        check_counts(num_passed, num_valid)
