"""Our own allocation curve."""

import json

import pytest

from ngscale.budget.allocation import (
    LABEL,
    Anchor,
    _interval,
    allocation_json,
    allocation_section,
    estimate,
    fit,
    inside,
    published_anchors,
    trained_anchor,
)
from ngscale.budget.training_records import TrainedPair, TrainingRecords
from ngscale.records import dump_json
from tests.budget.evidence.designs import LITE, traded


def anchor(share: float, change: float, ratio: float | None = 10.0, study: str = "a") -> Anchor:
    return Anchor(study=study, share=share, total_active_ratio=ratio, changes=(change,))


PAIR = TrainedPair(
    name="mine",
    backbone="corpus 1 2",
    ngram_parameters=30,
    total_parameters=100,
    active_parameters=4,
    moe_loss_nats=2.0,
    differences_nats=(-0.02, -0.01, -0.03),
)


def test_two_anchors_are_met_exactly() -> None:
    """y = -0.06 s + 0.1 s^2."""
    curve = fit([anchor(0.2, -0.008), anchor(0.6, 0.0)])
    assert (curve.b, curve.c) == pytest.approx((-0.06, 0.1))


def test_a_study_weighs_the_same_however_many_anchors_it_has() -> None:
    few = fit([anchor(0.2, -0.008), anchor(0.6, 0.0), anchor(0.2, 0.0, study="b")])
    many = fit(
        [
            anchor(0.2, -0.008),
            anchor(0.6, 0.0),
            *[anchor(0.2, 0.0, study="b") for _ in range(7)],
        ]
    )
    assert (few.b, few.c) == pytest.approx((many.b, many.c))


def test_published_anchors_in_shares_of_total() -> None:
    """EVIDENCE 2.2, 2.4, 1.4: Engram's 20% of sparse at 9.9B/993M is 18.0% of total."""
    shares = {(item.study, round(item.share, 3)): item.change for item in published_anchors()}
    assert shares == pytest.approx(
        {
            ("Engram", 0.18): -0.0139 / 1.7248,
            ("Engram", 0.54): 0.0,
            ("Qwen3.8", 0.1): -0.002 / 1.202,
            ("Qwen3.8", 0.25): -0.005 / 1.202,
            ("Qwen3.8", 0.5): -0.001 / 1.202,
            ("LongCat", 0.45): 0.0,
        }
    )


def test_the_band_holds_the_curve_and_is_the_same_every_time() -> None:
    first, second = allocation_json(LITE), allocation_json(LITE)
    assert first == second
    for low, middle, high in zip(first["low"], first["change"], first["high"], strict=True):
        assert low <= middle <= high
    assert first["change"][0] == 0
    assert min(first["change"]) < -0.003


def test_the_band_leaves_out_a_fortieth_on_either_side() -> None:
    assert _interval(list(range(1_000))) == (25, 974)


def test_outside_the_hull_there_is_no_evidence() -> None:
    """Lite's ratio of 23.5 is above every anchor's."""
    here = allocation_json(LITE)["here"]
    assert here["change"] is None
    assert here["reason"].startswith("no evidence here: a share of 45.8% at total/active 23.5")


def test_inside_the_hull_there_is_an_estimate_with_a_band() -> None:
    here = allocation_json(traded(share_of_total=0.2, ratio=15))["here"]
    assert here["low"] < here["change"] < 0
    assert here["high"] < 0
    assert LABEL in here["reason"]


@pytest.mark.parametrize(
    ("share", "ratio", "expected"),
    [(0.3, 15, True), (0.0, 10, True), (0.5, 10, True), (0.5, 19, False), (0.6, 11, False)],
)
def test_the_hull_is_that_of_the_anchors_and_their_moes(
    share: float, ratio: float, expected: bool
) -> None:
    curve = fit([anchor(0.5, 0.0, 10), anchor(0.4, -0.01, 20), anchor(0.9, 0.1, None)])
    assert inside(curve.hull, share, ratio) is expected


def test_anchors_of_one_ratio_reach_no_other() -> None:
    curve = fit([anchor(0.2, -0.008), anchor(0.6, 0.0)])
    assert estimate(curve, share=0.4, total_active_ratio=10.0).change is not None
    assert estimate(curve, share=0.4, total_active_ratio=10.5).change is None
    assert estimate(curve, share=0.7, total_active_ratio=10.0).change is None


def test_own_records_widen_the_hull_and_move_the_curve() -> None:
    item = trained_anchor(PAIR)
    assert (item.share, item.total_active_ratio, item.change) == pytest.approx((0.3, 25.0, -0.01))
    records = TrainingRecords(pairs=(PAIR,), left_out=("old: fewer than 3 seeds (1)",))
    facts = traded(share_of_total=0.3, ratio=24)
    without, with_own = allocation_json(facts), allocation_json(facts, records)
    assert without["here"]["change"] is None
    assert with_own["here"]["change"] is not None
    assert with_own["records_left_out"] == ["old: fewer than 3 seeds (1)"]


def test_seeds_that_disagree_widen_the_band() -> None:
    def width(changes: tuple[float, ...]) -> float:
        own = Anchor(study="own", share=0.3, total_active_ratio=10.0, changes=changes)
        curve = fit([anchor(0.2, -0.008), anchor(0.6, 0.0), own])
        here = estimate(curve, share=0.3, total_active_ratio=10.0)
        assert here.low is not None
        assert here.high is not None
        return here.high - here.low

    assert width((-0.05, -0.01, 0.03)) > width((-0.01, -0.01, -0.01))


def test_the_section_says_whose_curve_it_is_and_is_made_from_json() -> None:
    allocation = json.loads(dump_json(allocation_json(traded(share_of_total=0.2, ratio=15))))
    section = allocation_section(allocation)
    assert section.paragraphs[0].startswith(LABEL)
    (figure,) = section.figures
    (panel,) = figure.panels
    assert [series.label for series in panel.series] == [LABEL, "Engram", "Qwen3.8", "LongCat"]
    assert panel.series[0].low is not None
