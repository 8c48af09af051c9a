"""EVIDENCE section 3.1; coefficients from secondary accounts."""

import pytest

from ngscale.budget.evidence import chinchilla
from ngscale.budget.evidence.facts import amounts
from ngscale.budget.evidence.law import Amount, evaluate
from tests.budget.evidence.designs import BARE

FLOPS = 5.76e23
DENSE = {
    "num_experts": Amount(1, "experts"),
    "ngram_parameters": Amount(0, "parameters"),
    "total_parameters": Amount(1e9, "parameters"),
    "training_tokens": Amount(20e9, "tokens"),
}


def test_the_published_fit_wants_40_3b_parameters_at_59_tokens_each() -> None:
    """EVIDENCE 3.1, check at C = 5.76e23 (TeX source): 40.3B, D/N 59."""
    parameters, tokens = chinchilla.optimum(chinchilla.TEX, FLOPS)
    assert parameters == pytest.approx(40.3e9, abs=0.05e9)
    assert tokens / parameters == pytest.approx(59, abs=0.5)


def test_the_refit_wants_72_2b_parameters_at_18_4_tokens_each() -> None:
    """EVIDENCE 3.1, check at C = 5.76e23 (Besiroglu et al.): 72.2B, D/N 18.4."""
    parameters, tokens = chinchilla.optimum(chinchilla.REFIT, FLOPS)
    assert parameters == pytest.approx(72.2e9, abs=0.05e9)
    assert tokens / parameters == pytest.approx(18.4, abs=0.05)


@pytest.mark.parametrize("fit", [chinchilla.ROUNDED, chinchilla.TEX, chinchilla.REFIT])
@pytest.mark.parametrize("flops", [1e20, FLOPS])
def test_the_optimum_is_the_least_loss_at_its_compute(fit: chinchilla.Fit, flops: float) -> None:
    N, D = chinchilla.optimum(fit, flops)
    compute = 6 * N * D
    assert compute == pytest.approx(flops)
    best = chinchilla.loss(fit, total_parameters=N, training_tokens=D)
    for factor in (0.9, 1.1):
        near = chinchilla.loss(fit, total_parameters=N * factor, training_tokens=D / factor)
        assert near > best


def test_the_law_is_the_formula_inside_its_range_and_nothing_outside() -> None:
    """70M to 16B parameters, 5B to 500B tokens (abstract of arXiv:2203.15556)."""
    (_, tex, _) = chinchilla.LAWS
    value = evaluate(tex, DENSE).value
    assert value == 1.6934 + 406.4 / 1e9**0.3392 + 410.7 / 20e9**0.2849
    outside = evaluate(tex, DENSE | {"total_parameters": Amount(40.3e9, "parameters")})
    assert outside.value is None
    assert "total_parameters 40.3B is outside 70M..16B" in outside.reason


def test_a_mixture_of_experts_is_no_dense_model() -> None:
    outcome = evaluate(chinchilla.LAWS[0], amounts(BARE))
    assert "num_experts 8 is not the 1 of" in outcome.reason
