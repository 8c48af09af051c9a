"""EVIDENCE section 2.2; section 6, items 14 and 15."""

from dataclasses import replace

import pytest

from ngscale.budget.evidence import engram, loss_difference
from ngscale.budget.evidence.rule import judge
from tests.budget.evidence.designs import LITE, traded

(RULE,) = engram.RULES


def at_rho(rho: float) -> float:
    """Share of total whose share of sparse parameters is 1 - rho, at total/active 10."""
    return (1 - rho) * 0.9


def test_the_anchor_is_1_7248_to_1_7109() -> None:
    """EVIDENCE 2.2: rho 100% to about 80% at C = 6e20, delta 0.0139."""
    result = loss_difference("engram", traded(share_of_total=at_rho(0.8), ratio=10))
    assert result.nats == pytest.approx(-0.0139, abs=1e-6)
    assert result.low == pytest.approx(-0.0140, abs=1e-6)
    assert result.high == pytest.approx(-0.0138, abs=1e-6)
    assert result.sign == -1


def test_rho_40_ties_without_a_published_digit() -> None:
    """EVIDENCE 2.2: rho about 40% still equals pure MoE."""
    result = loss_difference("engram", traded(share_of_total=at_rho(0.4), ratio=10))
    assert result.nats == pytest.approx(0, abs=1e-9)
    assert (result.low, result.high) == (None, None)


def test_between_the_anchors_it_says_that_it_interpolates() -> None:
    result = loss_difference("engram", traded(share_of_total=at_rho(0.6), ratio=10))
    assert result.nats == pytest.approx(-0.0139 / 2, abs=1e-6)
    assert result.low is None
    assert result.sign is None
    assert "interpolated between the published 20% and 60% of sparse parameters" in result.reason


@pytest.mark.parametrize(
    ("share", "ratio", "tokens", "problem"),
    [
        (at_rho(0.3), 10, None, "beyond the last point 60%"),
        (at_rho(0.8), 12, None, "total_active_ratio 12 is outside 9.5..10.5"),
        (at_rho(0.8), 10, 10**12, "training_flops"),
    ],
)
def test_outside_the_study_there_is_no_number(
    share: float, ratio: float, tokens: int | None, problem: str
) -> None:
    facts = replace(traded(share_of_total=share, ratio=ratio), training_tokens=tokens)
    result = loss_difference("engram", facts)
    assert result.nats is None
    assert problem in result.reason


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.19, "broken"), (0.225, "holds"), (0.4, "broken")]
)
def test_the_optimum_is_a_share_of_sparse_parameters(share: float, verdict: str) -> None:
    """EVIDENCE 5: 20-25% of sparse parameters; 22.5% of sparse is 20.25% of total here."""
    facts = traded(share_of_total=share * 0.9, ratio=10)
    finding = judge(RULE, facts)
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(share, abs=1e-6)


def test_lite_is_outside_its_ratio() -> None:
    finding = judge(RULE, LITE)
    assert finding.verdict == "outside evidence"
    assert "tables hold 48.14% of the sparse parameters" in finding.sentence
