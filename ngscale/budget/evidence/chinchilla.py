"""Chinchilla (arXiv:2203.15556) and its refit (arXiv:2404.10102): dense models, N and D."""

from functools import partial
from typing import NamedTuple

from ngscale.budget.evidence.law import NO_TABLES, Law, Range


class Fit(NamedTuple):
    """``L = E + A / N**alpha + B / D**beta``."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float


ROUNDED = Fit(1.69, 406.4, 410.7, 0.34, 0.28)
TEX = Fit(1.6934, 406.4, 410.7, 0.3392, 0.2849)
"""The digits of the TeX source of the Chinchilla paper."""
REFIT = Fit(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""Besiroglu et al.; standard errors 0.03, 124.58, 1293.23, 0.02, 0.02."""


def loss(fit: Fit, *, total_parameters: float, training_tokens: float) -> float:
    """Nats/token on that study's own text."""
    E, A, B, alpha, beta = fit
    return float(E + A / total_parameters**alpha + B / training_tokens**beta)


def optimum(fit: Fit, training_flops: float) -> tuple[float, float]:
    """Compute-optimal (N, D) at ``C = 6 N D``.

    ``N = G (C/6)**(beta/(alpha+beta))``, ``G = (alpha A / (beta B))**(1/(alpha+beta))``.
    """
    _, A, B, alpha, beta = fit
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    N = G * (training_flops / 6) ** (beta / (alpha + beta))
    return N, training_flops / 6 / N


def _law(key: str, source: str, fit: Fit) -> Law:
    return Law(
        key=key,
        source=source,
        standing="secondary account",
        formula="L = E + A / N^alpha + B / D^beta",
        coefficients=fit._asdict(),
        units="nats/token",
        denominator="the study's own held-out text",
        scope="over 400 dense models (abstract of arXiv:2203.15556)",
        validity=(
            Range(
                quantity="num_experts",
                unit="experts",
                low=1,
                high=1,
                why="the models were dense",
            ),
            Range(quantity="total_parameters", unit="parameters", low=70e6, high=16e9),
            Range(quantity="training_tokens", unit="tokens", low=5e9, high=500e9),
            NO_TABLES,
        ),
        compute=partial(loss, fit),
        conditions=("ngram_parameters", "num_experts"),
    )


LAWS = (
    _law("chinchilla.rounded", "arXiv:2203.15556 (rounded coefficients)", ROUNDED),
    _law("chinchilla.tex", "arXiv:2203.15556 (TeX source)", TEX),
    _law("chinchilla.refit", "arXiv:2404.10102", REFIT),
)
