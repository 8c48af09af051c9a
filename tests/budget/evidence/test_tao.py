"""EVIDENCE section 3.6; coefficients from a secondary account."""

import pytest

from ngscale.budget.evidence import tao
from ngscale.budget.evidence.law import Amount, evaluate


def test_in_millions_and_billions_every_term_counts_and_in_ones_only_e_does() -> None:
    """The study's ``approach3_isoloss.py`` divides N by 1e6 and H by 1e9 before it fits."""
    loss = tao.unigram_normalised_loss(
        non_vocabulary_parameters=1e9, vocabulary_parameters=1e8, training_characters=1e11
    )
    by_hand = -5.533 + 1.831 / 1e3**0.447 + 0.196 / 1e2**0.671 + 2.124 / 1e2**0.447
    assert loss == pytest.approx(by_hand)
    in_ones = 1.831 / 1e9**0.447 + 0.196 / 1e8**0.671 + 2.124 / 1e11**0.447
    assert in_ones < 0.001


def test_the_unit_of_the_data_is_not_settled_so_nothing_is_inside() -> None:
    (law,) = tao.LAWS
    known = {
        "num_experts": Amount(1, "experts"),
        "ngram_parameters": Amount(0, "parameters"),
        "non_vocabulary_parameters": Amount(1e9, "parameters"),
        "vocabulary_parameters": Amount(1e8, "parameters"),
        "training_characters": Amount(1e11, "characters"),
    }
    assert "the range of training_characters in" in evaluate(law, known).reason
