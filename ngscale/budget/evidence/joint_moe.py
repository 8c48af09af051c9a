"""Joint MoE scaling laws (arXiv:2502.05172): Switch top-1 models, up to 32 experts."""

import math

from ngscale.budget.evidence.law import NO_TABLES, Law, Range
from ngscale.budget.evidence.saturation import saturated

COEFFICIENTS = {
    "a": 35.91,
    "alpha": -0.1889,
    "delta": -0.2285,
    "gamma": 0.0098,
    "b": 35.98,
    "beta": -0.1775,
    "omega": 0.5529,
    "zeta": -0.0259,
    "E_start": 2.0732,
    "E_max": 290.4521,
    "c": 1.3637,
}
"""Table 3."""


def reduced(num_experts: float) -> tuple[float, float, float, float]:
    """(m, mu, n, nu) of ``L = m N_act**mu + n D**nu + c`` at this many experts (their Table 4)."""
    k = COEFFICIENTS
    Eh = saturated(num_experts - 1, k["E_start"], k["E_max"])
    return (
        k["a"] * Eh ** k["delta"],
        k["alpha"] + k["gamma"] * math.log(Eh),
        k["b"] * Eh ** k["omega"],
        k["beta"] + k["zeta"] * math.log(Eh),
    )


def loss(
    *, num_experts: float, active_parameters_with_vocabulary: float, training_tokens: float
) -> float:
    """Nats/token on that study's own text (Eq. 6)."""
    m, mu, n, nu = reduced(num_experts)
    sizes = m * active_parameters_with_vocabulary**mu
    return float(sizes + n * training_tokens**nu + COEFFICIENTS["c"])


def optimum(num_experts: float, training_flops: float) -> tuple[float, float]:
    """Compute-optimal (N_act, D) at ``C = 6 N_act D``; their Table 1 was made this way."""
    m, mu, n, nu = reduced(num_experts)
    N = (mu * m / (nu * n)) ** (-1 / (mu + nu)) * (training_flops / 6) ** (nu / (mu + nu))
    return N, training_flops / 6 / N


LAWS = (
    Law(
        key="joint-moe",
        source="arXiv:2502.05172 (Eq. 6, Table 3)",
        standing="published",
        formula="L = a Eh^delta N_act^(alpha + gamma ln Eh) + b Eh^omega D^(beta + zeta ln Eh) + c,"
        " 1/Eh = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max",
        coefficients=COEFFICIENTS,
        units="nats/token",
        denominator="the study's own held-out text",
        scope="over 280 Switch top-1 models; N_act counts embedding and unembedding (appendix A.1)",
        validity=(
            Range(quantity="num_experts", unit="experts", low=1, high=32),
            Range(quantity="num_experts_per_tok", unit="experts", low=1, high=1),
            Range(
                quantity="active_parameters_with_vocabulary",
                unit="parameters",
                low=79e6,
                high=2.7e9,
            ),
            Range(quantity="total_parameters", unit="parameters", low=79e6, high=5.0e9),
            Range(quantity="training_tokens", unit="tokens", low=500e6, high=80e9),
            NO_TABLES,
        ),
        compute=loss,
        conditions=("ngram_parameters", "num_experts_per_tok", "total_parameters"),
    ),
)
