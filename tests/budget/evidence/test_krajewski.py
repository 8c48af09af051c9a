"""EVIDENCE section 3.6; coefficients from a secondary account."""

import pytest

from ngscale.budget.evidence import krajewski
from ngscale.budget.evidence.law import Amount, evaluate

MOE, DENSE = krajewski.LAWS
KNOWN = {
    "non_vocabulary_parameters": Amount(1e9, "parameters"),
    "training_tokens": Amount(16e9, "tokens"),
    "granularity_4d": Amount(8, "4 d_model / d_expert"),
    "expansion": Amount(64, "experts"),
    "ngram_parameters": Amount(0, "parameters"),
}


def test_the_law_is_the_formula_with_table_1() -> None:
    """EVIDENCE 3.6: L = c + (g/G^gamma + a)/N^alpha + b/D^beta."""
    by_hand = 0.47 + (2.1 / 8**0.58 + 18.1) / 1e9**0.115 + 30.8 / 16e9**0.147
    assert evaluate(MOE, KNOWN).value == pytest.approx(by_hand)
    dense = evaluate(DENSE, KNOWN | {"num_experts": Amount(1, "experts")}).value
    assert dense == pytest.approx(0.47 + 16.3 / 1e9**0.126 + 26.7 / 16e9**0.127)


def test_finer_experts_are_better_throughout_the_range() -> None:
    losses = [
        evaluate(MOE, KNOWN | {"granularity_4d": Amount(G, "4 d_model / d_expert")}).value or 0.0
        for G in (1, 2, 4, 8, 16)
    ]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5


def test_another_expansion_is_outside() -> None:
    outcome = evaluate(MOE, KNOWN | {"expansion": Amount(8, "experts")})
    assert "expansion 8 is not the 64 of" in outcome.reason
