"""EVIDENCE section 3.2."""

import math

import pytest

from ngscale.budget.evidence import joint_moe
from ngscale.budget.evidence.facts import amounts
from ngscale.budget.evidence.law import Amount, evaluate
from tests.budget.evidence.designs import BARE, LITE

(LAW,) = joint_moe.LAWS

TABLE_4 = {
    1: (30.3640, -0.1817, 53.9838, -0.1965),
    2: (27.7982, -0.1780, 66.8401, -0.2065),
    4: (24.8462, -0.1731, 87.7022, -0.2192),
    8: (21.8330, -0.1676, 119.9126, -0.2338),
    16: (19.0159, -0.1617, 167.5073, -0.2494),
    32: (16.5424, -0.1557, 234.6726, -0.2652),
}


@pytest.mark.parametrize("num_experts", TABLE_4)
def test_table_4_follows_from_the_rounded_table_3_to_about_0_3_percent(num_experts: int) -> None:
    """EVIDENCE 3.2: "recomputed from the rounded Table 3 these agree to about 0.3%"."""
    ours = joint_moe.reduced(num_experts)
    assert ours == pytest.approx(TABLE_4[num_experts], rel=0.003)


@pytest.mark.parametrize(
    ("flops", "num_experts", "parameters", "tokens", "published"),
    [
        (1e20, 1, 1.727e9, 9.65e9, (1.7e9, 9.7e9)),
        (1e20, 8, 0.990e9, 16.8e9, (0.990e9, 17e9)),
        (1e21, 8, 3.79e9, 44.0e9, (3.8e9, 44.3e9)),
    ],
)
def test_compute_optima(
    flops: float, num_experts: int, parameters: float, tokens: float, published: tuple[float, float]
) -> None:
    """EVIDENCE 3.2: from the coefficients to their digits, from the paper's Table 1 within 2%."""
    optimum = joint_moe.optimum(num_experts, flops)
    assert optimum[0] == pytest.approx(parameters, rel=0.0015)
    assert optimum[1] == pytest.approx(tokens, rel=0.0025)
    assert optimum == pytest.approx(published, rel=0.02)


def test_the_optimum_is_the_least_loss_at_its_compute() -> None:
    N, D = joint_moe.optimum(8, 1e20)

    def loss(factor: float) -> float:
        return joint_moe.loss(
            num_experts=8,
            active_parameters_with_vocabulary=N * factor,
            training_tokens=D / factor,
        )

    assert loss(1) < min(loss(0.9), loss(1.1))


def test_a_model_inside_the_range_has_the_loss_of_the_formula() -> None:
    m, mu, n, nu = TABLE_4[8]
    by_table_4 = m * 0.99e9**mu + n * 16.8e9**nu + 1.3637
    value = evaluate(LAW, amounts(BARE)).value
    assert value == pytest.approx(by_table_4, rel=1e-3)


def test_256_experts_are_outside() -> None:
    """EVIDENCE 3.2: "valid for E <= 32: Lite (256) and LongCat-2.0 (768) are far outside"."""
    outcome = evaluate(LAW, amounts(LITE))
    assert not outcome.applies
    assert outcome.reason.startswith(
        "outside evidence: num_experts 256 is outside 1..32 of arXiv:2502.05172"
    )


@pytest.mark.parametrize(
    ("quantity", "amount", "problem"),
    [
        ("active_parameters_with_vocabulary", Amount(3.79e9, "parameters"), "outside 79M..2.7B"),
        ("training_tokens", Amount(300e9, "tokens"), "300B is outside 500M..80B"),
        ("num_experts_per_tok", Amount(2, "experts"), "2 is not the 1 of"),
        ("ngram_parameters", Amount(1e9, "parameters"), "no published law has a term"),
    ],
)
def test_every_end_of_the_range_bars(quantity: str, amount: Amount, problem: str) -> None:
    outcome = evaluate(LAW, amounts(BARE) | {quantity: amount})
    assert outcome.value is None
    assert problem in outcome.reason


def test_the_saturated_count_starts_at_e_start() -> None:
    m, mu, _, _ = joint_moe.reduced(1)
    assert m == pytest.approx(35.91 * 2.0732**-0.2285)
    assert mu == pytest.approx(-0.1889 + 0.0098 * math.log(2.0732))
