"""Efficiency leverage of MoE (arXiv:2507.17702): dense compute over MoE compute at equal loss."""

import math

from ngscale.budget.evidence.law import NO_TABLES, Law, Range
from ngscale.budget.evidence.saturation import saturated

COEFFICIENTS = {
    "a": 1.23,
    "d": -7.61e-2,
    "gamma": 1.67e-2,
    "beta": -1.17e-1,
    "A_start": 1.63e-2,
    "A_max": 5.28e16,
}
"""Table 2."""


def leverage(*, activation_ratio: float, granularity_2d: float, forward_flops: float) -> float:
    """Eq. 13. The paper states no log bases; log2 for G and log10 for C reproduce its claims."""
    k = COEFFICIENTS
    A = saturated(activation_ratio, k["A_start"], k["A_max"])
    G = math.log2(granularity_2d)
    alpha = k["a"] + k["d"] * math.log10(forward_flops)
    return float(A ** (alpha + k["gamma"] * G**2 + k["beta"] * G))


def best_granularity() -> float:
    """The G of greatest leverage, at any A and C: the exponent's least value."""
    return 2 ** (-COEFFICIENTS["beta"] / (2 * COEFFICIENTS["gamma"]))


LAWS = (
    Law(
        key="ling",
        source="arXiv:2507.17702 (Eq. 13, Table 2)",
        standing="published",
        formula="EL = Ah^(a + d log10 C + gamma (log2 G)^2 + beta log2 G), "
        "1/Ah = 1/(A + (1/A_start - 1/A_max)^-1) + 1/A_max",
        coefficients=COEFFICIENTS,
        units="dense FLOPs over MoE FLOPs",
        denominator="a dense model of equal loss",
        scope="over 300 models up to 28B; bases of the logs are ours; C is FLOPs of the forward "
        "pass without embedding times tokens (sec. 2.1), not 6 N D",
        validity=(
            Range(quantity="activation_ratio", unit="share of experts", low=0.008, high=1),
            Range(quantity="granularity_2d", unit="2 d_model / d_expert", low=2, high=16),
            Range(quantity="forward_flops", unit="FLOPs", low=1e18, high=3e20),
            NO_TABLES,
        ),
        compute=leverage,
    ),
)
