"""A long sweep told by counts, against loops over its points one by one."""

import math
from typing import Any

import numpy as np
import pytest

from ngscale.collisions import sweep
from ngscale.collisions.occupancy import Sharing
from ngscale.collisions.peaks import SHOULDER_ROWS, find_peaks
from ngscale.collisions.survey import THRESHOLDS, columns, survey
from ngscale.collisions.sweep import Point, SharingSweep
from ngscale.hashing.longcat import Polynomial
from ngscale.ngrams import NgramTable
from ngscale.resonance import lattice_length, nearest_fraction

V0 = 1_024
SIZES = list(range(8 * V0, 11 * V0 + 1))


@pytest.fixture(scope="module")
def table() -> NgramTable:
    """Bigrams of Zipf-like ids, seed 0: frequent ids are small, as a tokenizer's are."""
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, size=(2, 20_000)), V0) - 1
    grams, counts = np.unique(ids, axis=1, return_counts=True)
    return NgramTable(order=2, tokens=grams.astype(np.uint32), counts=counts.astype(np.int64))


@pytest.fixture(scope="module")
def swept(table: NgramTable) -> SharingSweep:
    told: list[int] = []
    (found,) = sweep.run_sharing({2: table}, {2: SIZES}, V0, told.append)
    assert sum(told) == len(SIZES)
    return found


def test_sharing_alone_is_what_the_full_sweep_measures(
    table: NgramTable, swept: SharingSweep
) -> None:
    some = SIZES[:: len(SIZES) // 20]
    full = sweep.run({2: table}, {2: some}, Polynomial(base=V0), lambda steps: None)
    for point, fast in zip(full, swept.points(map(SIZES.index, some)), strict=True):
        assert point.table_rows == fast.table_rows
        assert point.collision_excess == pytest.approx(fast.collision_excess, rel=1e-12)
        for key in ("occupied", "collisions", "colliding", "token_weighted"):
            assert getattr(point.measured, key) == getattr(fast.measured, key)
            assert getattr(point.expected, key) == getattr(fast.expected, key)
        assert fast.measured.purity is fast.expected.purity is None
    assert swept.excess().tolist() == pytest.approx([p.collision_excess for p in swept.points()])


def test_counts_by_kind_are_those_of_a_loop(swept: SharingSweep) -> None:
    found = survey(swept, V0, "V0").summary
    points = swept.points()
    kinds = {
        "all": points,
        "odd": [p for p in points if p.table_rows % 2],
        "prime": [p for p in points if all(p.table_rows % d for d in range(2, 120))],
        "lattice length above 0.5, coprime to the base": [
            p
            for p in points
            if math.gcd(p.table_rows, V0) == 1 and lattice_length(p.table_rows, V0) > 0.5
        ],
    }
    by_name = {kind["kind"]: kind for kind in found["kinds"]}
    assert "elsewhere" not in by_name  # nothing is 2,000 ids from a fraction of so small a base
    for name, members in kinds.items():
        excess = sorted(p.collision_excess or 0.0 for p in members)
        kind = by_name[name]
        assert kind["num_sizes"] == len(members)
        assert kind["max"] == pytest.approx(excess[-1], rel=1e-12)
        assert excess[(len(excess) - 1) // 2] <= kind["median"] * (1 + 1e-12)
        for bound in THRESHOLDS:
            assert kind["above"][str(bound)] == sum(value > bound for value in excess)
    assert by_name["all"]["above"]["1.05"] > 10
    assert found["worst"]["table_rows"] == max(points, key=_excess).table_rows


def test_elsewhere_is_farther_than_a_shoulder_from_every_small_fraction() -> None:
    """Sevenths and eighths of 131,072: the latter are whole numbers, and far from p/q, q <= 6."""
    base = 131_072
    sizes = np.array([31 * base, 31 * base + 2001, 31 * base + base // 8, 31 * base + base // 7])
    occupied = np.array([10, 60, 20, 80])
    counts = Sharing(occupied=occupied, colliding=100 - occupied, colliding_tokens=100 - occupied)
    found = survey(
        SharingSweep(order=2, distinct=100, occurrences=100, sizes=sizes, measured=counts),
        base,
        "V0",
    ).summary
    by_name = {kind["kind"]: kind["num_sizes"] for kind in found["kinds"]}
    far = [nearest_fraction(rows, base).distance > SHOULDER_ROWS for rows in sizes.tolist()]
    assert far == [False, True, True, True]
    assert by_name["elsewhere"] == sum(far)
    assert found["worst"]["name"] == "31 x V0"
    assert found["worst_elsewhere"]["name"] == "249/8 x V0"


def _excess(point: Point) -> float:
    return point.collision_excess or 0.0


def test_no_spike_falls_through_the_envelope(swept: SharingSweep) -> None:
    drawn = survey(swept, V0, "V0").summary["envelope"]
    excess = swept.excess()
    assert max(drawn["largest"]) == excess.max()
    assert min(drawn["smallest"]) == excess.min()
    assert len(drawn["table_rows"]) == 512
    rows = zip(drawn["smallest"], drawn["median"], drawn["largest"], strict=True)
    assert all(low <= middle <= high for low, middle, high in rows)


def test_peaks_are_those_of_all_sizes_and_listed(swept: SharingSweep) -> None:
    found = survey(swept, V0, "V0")
    everything = find_peaks(swept.points(), V0)
    assert [describe(peak) for peak in found.peaks] == [describe(peak) for peak in everything]
    assert {10 * V0, 9 * V0} <= {peak.point.table_rows for peak in found.peaks}
    listed = {point.table_rows for point in found.points}
    assert {peak.point.table_rows for peak in everything} <= listed
    assert {8 * V0, 9 * V0 + 1, 11 * V0 - 1} <= listed
    assert len(listed) < len(SIZES) / 4


def describe(peak: Any) -> tuple[object, ...]:
    return peak.point.table_rows, peak.near, peak.height, peak.width_rows


def test_the_data_hold_every_size_and_give_the_same_survey(swept: SharingSweep) -> None:
    data = columns([swept])
    assert data["table_rows"].tolist() == SIZES
    assert set(data["order"].tolist()) == {2}
    again = SharingSweep(
        order=2,
        distinct=swept.distinct,
        occurrences=swept.occurrences,
        sizes=data["table_rows"],
        measured=Sharing(*(data[key] for key in Sharing._fields)),
    )
    assert survey(again, V0, "V0").summary == survey(swept, V0, "V0").summary
