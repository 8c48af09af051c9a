"""EVIDENCE section 3.5; coefficients from a secondary account."""

import pytest

from ngscale.budget.evidence import clark
from ngscale.budget.evidence.law import Amount, evaluate


def cutoff(fit: clark.Fit) -> float:
    """The size at which more experts stop helping."""
    return float(10 ** (-fit.b / fit.c))


PUBLISHED_CUTOFF = {"s-base": 937e9, "rl-r": 85e9, "hash": 83e9}


def test_the_rounded_coefficients_put_the_cutoff_of_s_base_at_1e12() -> None:
    """EVIDENCE 3.5: 10^{-b/c} = 1.0e12 for S-BASE."""
    assert cutoff(clark.FITS["s-base"]) == pytest.approx(1.0e12, rel=0.005)


@pytest.mark.parametrize("routing", PUBLISHED_CUTOFF)
def test_published_cutoffs_are_possible_within_the_rounding_of_b_and_c(routing: str) -> None:
    """N_cutoff 937B / 85B / 83B; b and c are published to three decimals, so the rounded ones
    give 1.0e12, 3.2e10 and 2.2e11.
    """
    fit, half = clark.FITS[routing], 0.0005
    least = cutoff(fit._replace(b=fit.b + half, c=fit.c + half))
    most = cutoff(fit._replace(b=fit.b - half, c=fit.c - half))
    assert least < PUBLISHED_CUTOFF[routing] < most


def test_beyond_the_cutoff_more_experts_raise_the_loss() -> None:
    fit = clark.FITS["s-base"]
    size = cutoff(fit)

    def gain(parameters: float) -> float:
        few, many = (
            clark.loss(fit, dense_parameters=parameters, num_experts=count) for count in (2, 128)
        )
        return few - many

    assert gain(size / 10) > 0 > gain(size * 10)
    assert gain(size) == pytest.approx(0, abs=1e-12)


def test_base_10_gives_a_loss_and_e_would_not() -> None:
    """A dense model of 1B after 130B tokens: 2 to 3 nats; e to the same sum is below 1.5."""
    loss = clark.loss(clark.FITS["s-base"], dense_parameters=1e9, num_experts=1)
    assert 2 < loss < 3


def test_the_upper_size_is_not_known_so_nothing_is_inside() -> None:
    known = {
        "num_experts": Amount(8, "experts"),
        "training_tokens": Amount(130e9, "tokens"),
        "dense_parameters": Amount(1e9, "parameters"),
        "ngram_parameters": Amount(0, "parameters"),
    }
    for law in clark.LAWS:
        assert "the range of dense_parameters in" in evaluate(law, known).reason
