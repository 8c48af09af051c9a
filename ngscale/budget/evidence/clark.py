"""Unified scaling laws for routed models (arXiv:2202.01169), all at 130B tokens."""

from functools import partial
from math import log10
from typing import NamedTuple

from ngscale.budget.evidence.law import NO_TABLES, Law, Range
from ngscale.budget.evidence.saturation import saturated


class Fit(NamedTuple):
    """``log10 L = a log10 N + b log10 Eh + c log10 N log10 Eh + d``."""

    a: float
    b: float
    c: float
    d: float
    E_start: float
    E_max: float


FITS = {
    "s-base": Fit(-0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
    "rl-r": Fit(-0.083, -0.126, 0.012, 1.111, 1.880, 469.982),
    "hash": Fit(-0.087, -0.136, 0.012, 1.157, 4.175, 477.741),
}
"""Table 3, by routing method."""


def loss(fit: Fit, *, dense_parameters: float, num_experts: float) -> float:
    """Nats/token on that study's own text (Eq. 1); N is the size of the dense base model."""
    N = log10(dense_parameters)
    E = log10(saturated(num_experts - 1, fit.E_start, fit.E_max))
    return float(10 ** (fit.a * N + fit.b * E + fit.c * N * E + fit.d))


LAWS = tuple(
    Law(
        key=f"clark.{routing}",
        source=f"arXiv:2202.01169 (Eq. 1, Table 3, {routing})",
        standing="secondary account",
        formula="log10 L = a log10 N + b log10 Eh + c log10 N log10 Eh + d, "
        "1/Eh = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max",
        coefficients=fit._asdict(),
        units="nats/token",
        denominator="the study's own held-out text",
        scope="every model on 130B tokens; the base of the logs is ours",
        validity=(
            Range(quantity="num_experts", unit="experts", low=1, high=512),
            Range(quantity="training_tokens", unit="tokens", low=130e9, high=130e9),
            Range(quantity="dense_parameters", unit="parameters", low=15e6, high=None),
            NO_TABLES,
        ),
        compute=partial(loss, fit),
        conditions=("ngram_parameters", "training_tokens"),
    )
    for routing, fit in FITS.items()
)
