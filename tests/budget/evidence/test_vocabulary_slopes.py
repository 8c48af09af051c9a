"""EVIDENCE section 2.5 (Over-Encoding)."""

from dataclasses import replace

import pytest

from ngscale.budget.evidence import vocabulary_slopes
from ngscale.budget.evidence.facts import amounts
from ngscale.budget.evidence.law import evaluate
from tests.budget.evidence.designs import LITE

SLOPE, MULTIPLE = vocabulary_slopes.LAWS


def test_the_slope_is_0_0256_per_decade_and_0_0154_per_factor_of_4() -> None:
    """EVIDENCE 2.5; section 6, item 16."""
    assert vocabulary_slopes.SLOPE == -0.0256
    step = vocabulary_slopes.loss(1e6) - vocabulary_slopes.loss(4e6)
    assert step == pytest.approx(0.0154, abs=5e-5)


def test_the_law_gives_table_2_of_the_paper() -> None:
    """EVIDENCE 2.5: m = 12.8M, 2-gram: 2.493."""
    assert vocabulary_slopes.loss(12.8e6) == pytest.approx(2.493, abs=0.0006)


def test_table_4_prices_the_multiple() -> None:
    """EVIDENCE 2.5: 0.024 train and 0.023 eval, 67% and 58% of the gain; gain 0.036 train."""
    cost, part = vocabulary_slopes.cost_of_multiple(vocabulary_slopes.TRAIN_LOSS)
    assert (cost, part) == pytest.approx((0.024, 0.67), abs=0.004)
    held_out = {"baseline": 3.094, "64V": 3.077, "3.2M": 3.054}
    cost, part = vocabulary_slopes.cost_of_multiple(held_out)
    assert (cost, part) == pytest.approx((0.023, 0.58), abs=0.006)
    losses = vocabulary_slopes.TRAIN_LOSS
    assert losses["baseline"] - losses["3.2M"] == pytest.approx(0.036)


def test_64_times_the_base_is_an_exact_multiple_and_3_2_million_is_none() -> None:
    """EVIDENCE 2.5: 64 x 50,280 = 3,217,920; 3.2M / 50,280 = 63.644."""
    assert 64 * 50_280 == 3_217_920
    assert round(3.2e6 / 50_280, 3) == 63.644


def test_the_slope_holds_between_20k_and_12_8m_rows() -> None:
    known = amounts(LITE)
    assert evaluate(SLOPE, known).value == -0.0256
    wide = amounts(replace(LITE, table_rows=(16_476_898,)))
    assert "table_rows 16.48M is outside 20,000..12.8M" in evaluate(SLOPE, wide).reason


def test_the_cost_is_known_at_64_times_the_base_only() -> None:
    at_64 = amounts(replace(LITE, table_rows=(64 * 131_072,)))
    assert evaluate(MULTIPLE, at_64).value == pytest.approx(0.024)
    assert not evaluate(MULTIPLE, amounts(LITE)).applies
