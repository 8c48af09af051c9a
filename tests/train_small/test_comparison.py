"""Paired statistics against scipy, hand numbers, and the rules of a verdict."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ngscale.train_small.comparison import (
    Pair,
    compare_all,
    detectable_difference,
    holm,
    inconclusive_reasons,
    seeds_needed,
)
from tests.train_small.small import compare

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
    assert (equal.equivalence_p_value, equal.detectable_difference) == (0.0, 0.0)
    shifted = compare("moe", [2.0, 3.0, 4.0], [3.0, 4.0, 5.0])
    assert (shifted.p_value, shifted.equivalence_p_value, shifted.verdict) == (0.0, 1.0, "better")


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
        "nothing is decided"
    ]
    assert inconclusive_reasons([clear, unclear], num_seeds=3, tokens_per_active_parameter=20) == [
        "undecided against moe"
    ]


NOISE = (0.001, -0.001, 0.0005, -0.0005, 0.0008, -0.0008)


def shifted(shift: float, num_seeds: int = 6, scale: float = 1.0) -> list[float]:
    return [5 + shift + scale * noise for noise in NOISE[:num_seeds]]


def test_equivalence_needs_both_tests_and_six_seeds() -> None:
    assert compare("moe", shifted(0), [5.0] * 6).verdict == "equivalent"
    assert compare("moe", shifted(0, 5), [5.0] * 5).verdict == "undecided"
    assert compare("moe", shifted(0, scale=10), [5.0] * 6).verdict == "undecided"
    assert compare("moe", shifted(0.004), [5.0] * 6, margin=0.005).verdict == "equivalent"
    assert compare("moe", shifted(0.0045), [5.0] * 6, margin=0.005).verdict == "worse"
    assert compare("moe", shifted(-0.004), [5.0] * 6, margin=0.004).verdict == "better"


@given(st.lists(st.floats(-0.02, 0.02).map(lambda x: round(x, 5)), min_size=6, max_size=9))
def test_equivalence_is_two_one_sided_tests_of_scipy(differences: list[float]) -> None:
    if len(set(differences)) == 1:
        return
    found = compare("moe", differences, [0.0] * len(differences), margin=0.01)
    above = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    assert found.equivalence_p_value == pytest.approx(max(above, below), abs=1e-9)
    assert (found.verdict == "equivalent") == (max(above, below) < 0.05)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1; no adjusted value below one before it."""
    assert holm([0.02, 0.01, None, 0.04, 0.03]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_more_comparisons_ask_for_more() -> None:
    """Mean -0.15, sd 0.05, t = 5.196 at 2 degrees of freedom; three times its p decides nothing."""
    design, other = [4.9, 4.85, 4.8], [5.0, 5.0, 5.0]
    alone = compare("moe", design, other)
    assert alone.p_value == pytest.approx(0.0351, abs=1e-4)
    assert alone.verdict == "better"
    pairs = [Pair("moe", design, other), Pair("base", other, other), Pair("placebo", other, other)]
    first = compare_all(pairs)[0]
    assert alone.p_value is not None
    assert first.holm_p_value == pytest.approx(3 * alone.p_value)
    assert first.verdict == "undecided"
    assert (first.low, first.high) == (alone.low, alone.high)


@pytest.mark.parametrize("num_seeds", [3, 6])
def test_the_detectable_difference_is_found_in_four_of_five(num_seeds: int) -> None:
    rng = np.random.default_rng(0)
    shift = detectable_difference(1.0, num_seeds)
    drawn = rng.normal(shift, 1.0, (50_000, num_seeds))
    p_values = np.asarray(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue)
    assert (p_values < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_the_seeds_needed_suffice_and_one_less_does_not() -> None:
    """Of both tests; simulated, with no difference for the equivalence."""
    num = seeds_needed(0.01, 0.005)
    assert detectable_difference(0.01, num) <= 0.005
    rng = np.random.default_rng(0)

    def passes(num_seeds: int) -> float:
        drawn = rng.normal(0, 0.01, (50_000, num_seeds))
        above = stats.ttest_1samp(drawn, -0.005, axis=1, alternative="greater").pvalue
        below = stats.ttest_1samp(drawn, 0.005, axis=1, alternative="less").pvalue
        return float((np.maximum(above, below) < 0.05).mean())

    assert passes(num) >= 0.79
    assert passes(num - 2) < 0.8
    assert seeds_needed(0.0, 0.005) == 6
    assert seeds_needed(1e-5, 0.005) == 6
