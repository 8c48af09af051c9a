"""Counts and the three denominators of a share."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.budget.evidence.facts import Denominator, amounts
from ngscale.errors import SpecError
from tests.budget.evidence.designs import BARE, LITE

DENOMINATORS: tuple[Denominator, ...] = ("total parameters", "sparse parameters", "total budget")


def test_lites_share_of_total_is_45_81_percent() -> None:
    """EVIDENCE 1.5 [C]: 31,406,985,216 of 68,562,465,024."""
    share = LITE.share("total parameters")
    assert share == Fraction(31_406_985_216, 68_562_465_024)
    assert round(100 * float(share), 2) == 45.81


def test_sparse_leaves_out_active_and_vocabulary() -> None:
    """Engram's P_tot - P_act without embedding and head; Lite's head is counted active."""
    embedding = head = 131_072 * 3_072
    expected = 68_562_465_024 - embedding - head - (2_920_518_912 - head)
    assert LITE.sparse_parameters == expected


def test_the_budget_of_a_trade_is_the_total() -> None:
    assert LITE.share("total budget") == LITE.share("total parameters")


@given(st.fractions(0, 1), st.sampled_from(DENOMINATORS), st.sampled_from(DENOMINATORS))
def test_converting_keeps_the_parameters_exactly(
    share: Fraction, given_by: Denominator, wanted: Denominator
) -> None:
    converted = LITE.convert(share, given_by, wanted)
    assert converted * LITE.whole(wanted) == share * LITE.whole(given_by)
    assert LITE.convert(converted, wanted, given_by) == share


def test_tables_among_the_active_parameters_are_a_contradiction() -> None:
    with pytest.raises(SpecError, match="ngram_parameters 31406985216 are more than the 0"):
        replace(LITE, active_parameters=LITE.total_parameters - 131_072 * 3_072)


def test_flops_are_six_per_active_parameter_and_token() -> None:
    known = amounts(BARE)
    assert known["training_flops"].value == 6 * 823_000_000 * 16_800_000_000
    assert known["active_parameters_with_vocabulary"].value == 990_000_000
    assert "training_tokens" not in amounts(LITE)
