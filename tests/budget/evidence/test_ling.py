"""EVIDENCE section 3.4."""

import pytest

from ngscale.budget.evidence import ling
from ngscale.budget.evidence.law import Amount, evaluate

CLAIM = {"activation_ratio": 0.031, "granularity_2d": 12, "forward_flops": 1e22}


def test_our_log_bases_reproduce_the_claimed_leverage() -> None:
    """EVIDENCE 3.4: EL > 7 at C = 1e22, A = 3.1%, G = 12; log2 for G, log10 for C give 7.24."""
    assert ling.leverage(**CLAIM) == pytest.approx(7.24, abs=0.005)


def test_our_log_bases_reproduce_the_optimal_granularity() -> None:
    """EVIDENCE 3.4: the paper has it near 12; log2 gives 11.3."""
    assert ling.best_granularity() == pytest.approx(11.3, abs=0.05)
    around = [ling.leverage(**CLAIM | {"granularity_2d": G}) for G in (10.0, 11.337, 13.0)]
    assert max(around) == around[1]


def test_the_claim_itself_is_beyond_what_was_measured() -> None:
    """arXiv:2507.17702 sec. 4.1.1: trained at 1e18 to 3e20 FLOPs; 1e22 is its extrapolation."""
    (law,) = ling.LAWS
    known = {
        "activation_ratio": Amount(0.031, "share of experts"),
        "granularity_2d": Amount(12, "2 d_model / d_expert"),
        "ngram_parameters": Amount(0, "parameters"),
    }
    outside = evaluate(law, known | {"forward_flops": Amount(1e22, "FLOPs")})
    assert "forward_flops 1e+22 is outside" in outside.reason
    inside = evaluate(law, known | {"forward_flops": Amount(1e20, "FLOPs")})
    assert inside.value is not None
    assert 4 < inside.value < 7.24
