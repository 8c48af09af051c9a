"""EVIDENCE section 2.4; section 6, items 15, 16 and 18."""

import math
import statistics
from dataclasses import replace

import pytest

from ngscale.budget.evidence import loss_difference, qwen
from ngscale.budget.evidence.facts import amounts
from ngscale.budget.evidence.law import evaluate
from ngscale.budget.evidence.rule import judge
from tests.budget.evidence.designs import LITE, traded

(RULE,) = qwen.RULES
(SLOPE,) = qwen.LAWS


@pytest.mark.parametrize(
    ("share", "nats", "sign"),
    [(0.0, 0.0, 0), (0.10, -0.002, -1), (0.25, -0.005, -1), (0.50, -0.001, None)],
)
def test_table_8_gives_its_own_differences(share: float, nats: float, sign: int | None) -> None:
    """EVIDENCE 2.4, Table 8: 1.202 / 1.200 / 1.197 / 1.201 at 0, 10, 25, 50%; three decimals."""
    result = loss_difference("qwen", traded(share_of_total=share, ratio=20))
    assert result.nats == pytest.approx(nats, abs=1e-9)
    assert result.sign == sign
    if share:
        assert result.low == pytest.approx(nats - 0.001, abs=1e-9)
        assert result.high == pytest.approx(nats + 0.001, abs=1e-9)


def test_between_points_it_interpolates_and_beyond_50_percent_it_refuses() -> None:
    result = loss_difference("qwen", traded(share_of_total=0.175, ratio=20))
    assert result.nats == pytest.approx(-0.0035, abs=1e-9)
    assert "interpolated" in result.reason
    beyond = loss_difference("qwen", traded(share_of_total=0.51, ratio=20))
    assert beyond.nats is None
    assert "beyond the last point 50%" in beyond.reason


def test_the_rounding_of_the_published_losses_is_the_range() -> None:
    """Brute force over every loss that rounds to the published one."""
    share, points = 0.4, qwen.CURVE.points
    weight = (share - 0.25) / 0.25
    extremes = [
        (1 - weight) * (1.197 + left) + weight * (1.201 + right) - (1.202 + base)
        for base in (-0.0005, 0.0005)
        for left in (-0.0005, 0.0005)
        for right in (-0.0005, 0.0005)
    ]
    result = loss_difference("qwen", traded(share_of_total=share, ratio=20))
    assert [point.share for point in points] == [0.0, 0.10, 0.25, 0.50]
    assert result.low == pytest.approx(min(extremes), abs=1e-8)
    assert result.high == pytest.approx(max(extremes), abs=1e-8)


def test_other_tokens_per_active_parameter_are_outside() -> None:
    """EVIDENCE 2.4: all studies at 300."""
    facts = traded(share_of_total=0.25, ratio=20)
    at_300 = replace(facts, training_tokens=300 * facts.active_parameters)
    at_4000 = replace(facts, training_tokens=4000 * facts.active_parameters)
    assert loss_difference("qwen", at_300).nats == pytest.approx(-0.005, abs=1e-9)
    assert "250..350" in loss_difference("qwen", facts).reason
    assert "4,000 is outside 250..350" in loss_difference("qwen", at_4000).reason


def test_our_line_through_table_9() -> None:
    """EVIDENCE 2.4: loss = 1.5873 - 0.02675 log10(scale) over 20x-200x, a slope of -0.027."""
    scales = [scale for scale in qwen.EXTRA_PARAMETERS if scale]
    line = statistics.linear_regression(
        [math.log10(scale) for scale in scales],
        [qwen.EXTRA_PARAMETERS[scale] for scale in scales],
    )
    assert line.slope == pytest.approx(qwen.SLOPE, abs=5e-6)
    assert line.intercept == pytest.approx(1.5873, abs=5e-5)
    assert round(qwen.SLOPE, 3) == -0.027


def test_the_slope_holds_between_20_and_200_rows_per_id() -> None:
    assert evaluate(SLOPE, amounts(LITE)).value == -0.02675
    few = amounts(replace(LITE, table_rows=(10 * 131_072,)))
    assert "rows_per_base_id 10 is outside 20..200" in evaluate(SLOPE, few).reason


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(0.05, "broken"), (0.25, "holds"), (0.50, "broken"), (0.6, "outside evidence")],
)
def test_the_optimum_lies_between_the_neighbours_of_25_percent(share: float, verdict: str) -> None:
    assert judge(RULE, traded(share_of_total=share, ratio=20)).verdict == verdict


def test_the_warning_quotes_the_report() -> None:
    """EVIDENCE 6, item 18."""
    assert '"no clear improvement over the MoE-only baseline"' in qwen.DOWNSTREAM_WARNING
