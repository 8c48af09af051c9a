"""Fine-grained MoE (arXiv:2402.07871): granularity of the experts, expansion fixed at 64."""

from ngscale.budget.evidence.law import NO_TABLES, Law, Range

MOE = {"a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147, "g": 2.1, "gamma": 0.58, "c": 0.47}
DENSE = {"a": 16.3, "alpha": 0.126, "b": 26.7, "beta": 0.127, "c": 0.47}
"""Table 1."""


def moe_loss(
    *, non_vocabulary_parameters: float, training_tokens: float, granularity_4d: float
) -> float:
    """Nats/token on that study's own text (Eq. 9)."""
    k = MOE
    return float(
        k["c"]
        + (k["g"] / granularity_4d ** k["gamma"] + k["a"]) / non_vocabulary_parameters ** k["alpha"]
        + k["b"] / training_tokens ** k["beta"]
    )


def dense_loss(*, non_vocabulary_parameters: float, training_tokens: float) -> float:
    """The dense counterpart."""
    k = DENSE
    return float(
        k["c"]
        + k["a"] / non_vocabulary_parameters ** k["alpha"]
        + k["b"] / training_tokens ** k["beta"]
    )


_SIZES = (
    Range(quantity="non_vocabulary_parameters", unit="parameters", low=129e6, high=3.7e9),
    Range(quantity="training_tokens", unit="tokens", low=16e9, high=130e9),
)
_SCOPE = "over 100 models; N counts all parameters but embedding and unembedding"

LAWS = (
    Law(
        key="krajewski.moe",
        source="arXiv:2402.07871 (Eq. 9, Table 1)",
        standing="secondary account",
        formula="L = c + (g/G^gamma + a)/N^alpha + b/D^beta",
        coefficients=MOE,
        units="nats/token",
        denominator="the study's own held-out text",
        scope=_SCOPE,
        validity=(
            *_SIZES,
            Range(quantity="granularity_4d", unit="4 d_model / d_expert", low=1, high=16),
            Range(quantity="expansion", unit="experts", low=64, high=64),
            NO_TABLES,
        ),
        compute=moe_loss,
        conditions=("ngram_parameters", "expansion"),
    ),
    Law(
        key="krajewski.dense",
        source="arXiv:2402.07871 (Table 1, dense)",
        standing="secondary account",
        formula="L = c + a/N^alpha + b/D^beta",
        coefficients=DENSE,
        units="nats/token",
        denominator="the study's own held-out text",
        scope=_SCOPE,
        validity=(*_SIZES, Range(quantity="num_experts", unit="experts", low=1, high=1), NO_TABLES),
        compute=dense_loss,
        conditions=("ngram_parameters", "num_experts"),
    ),
)
