"""Quantiles, intervals and rows of the records, against scipy and by hand."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ngscale.probe.numbers import data_table, flat, quantiles, rounded, window_interval


def test_floats_keep_six_digits_wherever_they_stand() -> None:
    nested = {"a": 1.23456789, "b": [np.float32(0.1), {"c": (2.5e-8, 7)}], "d": "1.23456789"}
    assert rounded(nested) == {"a": 1.23457, "b": [0.1, {"c": [2.5e-08, 7]}], "d": "1.23456789"}
    kept = Fraction(1, 3)
    assert rounded(kept) is kept
    assert rounded(123_456_789) == 123_456_789


def test_quantiles_are_those_named_in_their_order() -> None:
    """0..1000 in steps of one: the quantile q is 1000 q."""
    values = np.arange(1001.0)[::-1].copy()
    found = quantiles(values, ("p99", "min", "p5", "median", "p95", "max"))
    assert list(found.items()) == [
        *(("p99", 990.0), ("min", 0.0), ("p5", 50.0)),
        *(("median", 500.0), ("p95", 950.0), ("max", 1000.0)),
    ]


def test_the_interval_over_windows_is_students() -> None:
    values = [1.0, 1.5, 1.25, 2.0, 0.75]
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert window_interval(values) == pytest.approx([interval.low, interval.high], rel=1e-5)


def test_two_windows_give_an_interval_and_one_none() -> None:
    """t(0.975, 1) = 12.7062, and the standard error of 1 and 3 is 1."""
    assert window_interval([1.0, 3.0]) == pytest.approx([2 - 12.7062, 2 + 12.7062], rel=1e-5)
    assert window_interval([1.0]) is None
    assert window_interval([]) is None


def test_a_row_has_nested_keys_and_no_lists() -> None:
    nested = {
        "layer": 3,
        "norm": {"min": 0.5, "by": {"p5": 0.6}},
        "low_high": [1.0, 2.0],
        "x": None,
    }
    row = flat(nested)
    assert row == {"layer": 3, "norm_min": 0.5, "norm_by_p5": 0.6, "x": None}
    table = data_table("layers", [row])
    assert [column.key for column in table.columns] == list(row)
    assert (table.name, table.title, table.terminal) == ("layers", "layers", False)
