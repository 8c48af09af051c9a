"""The bootstrap interval of a ratio of sums over sequences."""

import numpy as np
import pytest

from ngscale.decode.measure import ratio_interval


def test_the_interval_of_many_sequences_is_the_normal_one() -> None:
    """Of a mean (all below are 1): 1.96 standard errors either way; and the same again."""
    values = np.random.default_rng(1).normal(2.0, 0.5, 400)
    low, high = ratio_interval(values, np.ones(400, dtype=np.int64))
    reach = 1.96 * values.std() / np.sqrt(400)
    assert values.mean() - low == pytest.approx(reach, rel=0.07)
    assert high - values.mean() == pytest.approx(reach, rel=0.07)
    assert ratio_interval(values, np.ones(400, dtype=np.int64)) == (low, high)


def test_every_sequence_is_drawn_with_what_stands_below_it() -> None:
    """Draws of one alone give its ratio; 3/1 and 30/10 are 3 however they are drawn."""
    assert ratio_interval(np.array([0, 10]), np.array([1, 1])) == (0.0, 10.0)
    assert ratio_interval(np.array([3, 30]), np.array([1, 10])) == (3.0, 3.0)
    low, high = ratio_interval(np.array([1, 40]), np.array([1, 10]))
    assert (low, high) == (1.0, 4.0)
    assert ratio_interval(np.array([0, 0]), np.array([0, 0])) == (0.0, 0.0)


def test_one_sequence_has_no_spread() -> None:
    assert ratio_interval(np.array([7]), np.array([2])) == (3.5, 3.5)
