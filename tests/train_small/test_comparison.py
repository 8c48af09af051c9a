"""Paired statistics against scipy, hand numbers, and the rules of a verdict."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ngscale.train_small.comparison import compare, inconclusive_reasons

LOSSES = st.lists(st.floats(1, 9, allow_nan=False), min_size=3, max_size=8)


@given(st.data())
def test_interval_and_p_value_are_those_of_scipy(data: st.DataObject) -> None:
    design = data.draw(LOSSES)
    noise = st.floats(-1, 1).map(lambda x: round(x, 3))
    shifts = data.draw(st.lists(noise, min_size=len(design), max_size=len(design), unique=True))
    other = [loss + shift for loss, shift in zip(design, shifts, strict=True)]
    found = compare("moe", design, other)
    expected = stats.ttest_rel(design, other)
    interval = expected.confidence_interval(0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.low == pytest.approx(interval.low, abs=1e-9)
    assert found.high == pytest.approx(interval.high, abs=1e-9)


def test_a_hand_computed_interval() -> None:
    """Differences -0.1, -0.2, -0.3: mean -0.2, sd 0.1, t(0.975, 2) = 4.302653."""
    found = compare("moe", [4.9, 4.8, 4.7], [5.0, 5.0, 5.0])
    assert found.mean_difference == pytest.approx(-0.2)
    assert found.low == pytest.approx(-0.2 - 4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(-0.2 + 4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert found.verdict == "undecided"  # the interval reaches +0.048


def test_verdicts_follow_the_interval() -> None:
    assert compare("moe", [4.0, 4.1, 4.2], [5.0, 5.1, 5.21]).verdict == "better"
    assert compare("moe", [5.0, 5.1, 5.21], [4.0, 4.1, 4.2]).verdict == "worse"
    assert compare("moe", [5.0, 5.1, 5.2], [5.1, 5.0, 5.2]).verdict == "undecided"


def test_one_or_two_seeds_never_decide() -> None:
    one = compare("moe", [1.0], [9.0])
    assert (one.low, one.high, one.p_value, one.verdict) == (None, None, None, "undecided")
    assert compare("moe", [1.0, 1.0], [9.0, 9.01]).verdict == "undecided"


def test_equal_losses_are_undecided_and_stay_numbers() -> None:
    equal = compare("moe", [2.0, 3.0, 4.0], [2.0, 3.0, 4.0])
    assert (equal.low, equal.high, equal.p_value, equal.verdict) == (0.0, 0.0, 1.0, "undecided")


def test_each_rule_gives_its_reason() -> None:
    clear = compare("moe", [4.0, 4.1, 4.2], [5.0, 5.1, 5.21])
    unclear = compare("moe", [5.0, 5.1, 5.2], [5.1, 5.0, 5.2])
    assert inconclusive_reasons([clear], num_seeds=3, tokens_per_active_parameter=20) == []
    assert inconclusive_reasons([clear], num_seeds=2, tokens_per_active_parameter=20) == [
        "fewer than 3 seeds (2)"
    ]
    assert inconclusive_reasons([clear], num_seeds=3, tokens_per_active_parameter=0.5) == [
        "0.5 training tokens per active parameter, fewer than 20"
    ]
    assert inconclusive_reasons([unclear], num_seeds=3, tokens_per_active_parameter=20) == [
        "the interval against moe contains 0"
    ]
