"""EVIDENCE section 3.3; coefficients from two secondary accounts that agree."""

import pytest

from ngscale.budget.evidence import abnar
from ngscale.budget.evidence.law import Amount, evaluate


@pytest.mark.parametrize(
    ("parameters", "tokens", "sparsity", "expected"),
    [(1e9, 2e10, 0.0, 2.5657), (1e10, 2e10, 0.95, 2.4073)],
)
def test_check_values(parameters: float, tokens: float, sparsity: float, expected: float) -> None:
    """EVIDENCE 3.3: L(1e9, 2e10, 0) = 2.5657, L(1e10, 2e10, 0.95) = 2.4073."""
    loss = abnar.loss(
        total_parameters=parameters, training_tokens=tokens, inactive_experts=sparsity
    )
    assert loss == pytest.approx(expected, abs=5e-5)


def test_a_range_that_is_not_known_is_never_inside() -> None:
    (law,) = abnar.LAWS
    known = {
        "inactive_experts": Amount(0.5, "share of experts"),
        "total_parameters": Amount(1e9, "parameters"),
        "training_tokens": Amount(2e10, "tokens"),
        "ngram_parameters": Amount(0, "parameters"),
    }
    assert "the range of total_parameters in" in evaluate(law, known).reason


def test_the_held_out_sparsity_is_outside() -> None:
    """EVIDENCE 3.3: R2 68% at S = 0.98."""
    (law,) = abnar.LAWS
    outcome = evaluate(law, {"inactive_experts": Amount(0.98, "share of experts")})
    assert "68% of the variance" in outcome.reason
