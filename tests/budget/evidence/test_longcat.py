"""EVIDENCE section 1.4; section 5; section 6, items 14 and 15."""

from dataclasses import replace

import pytest

from ngscale.budget.evidence import Facts, longcat, loss_difference
from ngscale.budget.evidence.rule import judge
from tests.budget.evidence.designs import LITE, traded

RULES = {rule.key.partition(".")[2]: rule for rule in longcat.RULES}


def sized(active: int, ratio: float, *, base: float = 12.0) -> Facts:
    return traded(share_of_total=1 - base / ratio, ratio=ratio, active=active)


@pytest.mark.parametrize(("ratio", "share"), [(20, 0.40), (24, 0.50), (30, 0.60), (50, 0.76)])
def test_shares_on_the_curve_of_fig_2(ratio: float, share: float) -> None:
    """EVIDENCE 1.4 [C]: 1 - 12/r is 40% at 20, 50% at 24, 60% at 30; 76% at 50."""
    assert longcat.share_on_curve(ratio) == pytest.approx(share)


def test_ratios_of_the_labels_of_fig_7a() -> None:
    """EVIDENCE 1.3 [C]: 6.4B-A280M, 25B-A790M, 34B-A1.3B are 22.9, 31.6, 26.2."""
    ratios = [6.4 / 0.28, 25 / 0.79, 34 / 1.3]
    assert ratios == pytest.approx([22.9, 31.6, 26.2], abs=0.05)


@pytest.mark.parametrize(
    ("active", "ratio", "base", "sign"),
    [
        (280_000_000, 18, 12, -1),
        (280_000_000, 22, 12, None),
        (280_000_000, 18, 6, None),
        (280_000_000, 31, 12, 1),
        (790_000_000, 31, 12, None),
        (1_300_000_000, 50, 12, -1),
        (1_300_000_000, 55, 12, None),
        (2_900_000_000, 20, 12, None),
    ],
)
def test_the_text_gives_signs_and_no_numbers(
    active: int, ratio: float, base: float, sign: int | None
) -> None:
    """EVIDENCE 1.4: crossing slightly above 20 from base 12; A280M always worse above 30; A790M
    worse on one set only; A1.3B better at 50.
    """
    result = loss_difference("longcat", sized(active, ratio, base=base))
    assert result.nats is None
    assert result.sign == sign


def test_a_design_without_tables_is_the_moe() -> None:
    result = loss_difference("longcat", replace(LITE, ngram_parameters=0))
    assert result.sign == 0


@pytest.mark.parametrize(
    ("active", "share", "verdict"),
    [
        (280_000_000, 0.5, "holds"),
        (280_000_000, 0.51, "broken"),
        (1_300_000_000, 0.4, "outside evidence"),
    ],
)
def test_the_cap_is_of_total_parameters_at_280m(active: int, share: float, verdict: str) -> None:
    """EVIDENCE 5: at most 50% of total, an A280M result."""
    finding = judge(RULES["cap"], traded(share_of_total=share, ratio=20, active=active))
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(19, "holds"), (25, "outside evidence"), (31, "broken")]
)
def test_entry_is_by_total_active_ratio(ratio: float, verdict: str) -> None:
    assert judge(RULES["entry"], sized(280_000_000, ratio)).verdict == verdict


@pytest.mark.parametrize(
    ("active", "ratio", "verdict"),
    [
        (280_000_000, 31, "broken"),
        (1_300_000_000, 50, "holds"),
        (790_000_000, 31, "outside evidence"),
    ],
)
def test_the_crossing_moves_with_width(active: int, ratio: float, verdict: str) -> None:
    assert judge(RULES["width"], sized(active, ratio)).verdict == verdict


@pytest.mark.parametrize(
    ("layers", "verdict"),
    [(10, "holds"), (20, "holds"), (40, "broken"), (60, "outside evidence")],
)
def test_the_gain_contracts_beyond_20_shortcut_layers(layers: int, verdict: str) -> None:
    """EVIDENCE 1.4 (Fig. 7b): 1.3B, tables about 50% of total."""
    facts = traded(share_of_total=0.5, ratio=26, active=1_300_000_000)
    finding = judge(RULES["depth"], replace(facts, num_shortcut_layers=layers))
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("N", "K", "verdict"),
    [
        (2, 1, "broken"),
        (3, 3, "holds"),
        (5, 3, "holds"),
        (3, 1, "broken"),
        (7, 2, "broken"),
        (9, 4, "outside evidence"),
    ],
)
def test_orders_and_subtables(N: int, K: int, verdict: str) -> None:
    """EVIDENCE 5: N 3..5 and K >= 2, A790M."""
    facts = replace(
        traded(share_of_total=0.3, ratio=20, active=790_000_000), max_order=N, num_subtables=K
    )
    assert judge(RULES["orders"], facts).verdict == verdict


def test_lites_sizes_are_next_to_78_times_the_base() -> None:
    """EVIDENCE 1.5: moduli 78 V0 + 1 to + 23; LongCat-2.0's 100.567 is far from a multiple."""
    lite = judge(RULES["table-size"], LITE)
    assert lite.verdict == "broken"
    assert "12 of 12 table sizes" in lite.sentence
    two = replace(LITE, hash_base=163_840, table_rows=(16_476_898,))
    assert judge(RULES["table-size"], two).verdict == "holds"


def test_amplification_is_for_a_drowned_embedding() -> None:
    """EVIDENCE 1.4 (Fig. 5): the first attention about 10 times its identity branch."""
    drowned = judge(RULES["amplification"], replace(LITE, first_attention_ratio=10.0))
    assert drowned.verdict == "holds"
    calm = judge(RULES["amplification"], replace(LITE, first_attention_ratio=0.5))
    assert calm.verdict == "outside evidence"
    assert judge(RULES["amplification"], LITE).value is None
