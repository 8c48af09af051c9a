import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale.row_counts import longcat_rows
from ngscale.table_sizes import (
    MAX_LATTICE_SCORE,
    MIN_RELATIVE_LENGTH,
    allowed_gcd,
    design_faults,
    is_sound,
    sound_ratio,
    sound_sizes,
)

RESONANT = {"short-vector", "lattice-score"}


def orders_of(max_order: int, num_subtables: int) -> list[int]:
    return [order for order in range(2, max_order + 1) for _ in range(num_subtables)]


def faults_of_bigrams(ratio: float, base: int, max_order: int, num_subtables: int) -> set[str]:
    orders = orders_of(max_order, num_subtables)
    table_rows = longcat_rows(ratio, base, len(orders))
    return {fault.code for fault in design_faults(table_rows, base, orders) if fault.order == 2}


@pytest.mark.parametrize(
    ("ratio", "base", "max_order", "num_subtables"),
    [(78, 131_072, 4, 4), (28.8, 163_840, 4, 4), (12.2, 131_072, 4, 2)],
)
def test_published_ratios_near_a_fraction_are_flagged(
    ratio: float, base: int, max_order: int, num_subtables: int
) -> None:
    """HASHING sections 10 and 11: Lite's 78, 28.8 = 144/5, 12.2 = 61/5 (PaddleFleet)."""
    assert faults_of_bigrams(ratio, base, max_order, num_subtables) >= RESONANT


@pytest.mark.parametrize(("ratio", "max_order"), [(100.567, 5), (59.604, 4)])
def test_published_ratios_off_the_fractions_are_not_flagged_as_resonant(
    ratio: float, max_order: int
) -> None:
    """HASHING section 10, F3 and F1: their fault is that all sizes are even, as V is."""
    assert faults_of_bigrams(ratio, 163_840, max_order, 4) == {"base-gcd"}


def test_the_256_fold_table_of_longcat_2_is_flagged_by_its_score() -> None:
    """HASHING section 10, F1: 469 collisions of 5-grams against 203 of an ideal hash, 2.3 times."""
    faults = [
        fault
        for fault in design_faults((16_476_928,), 163_840, (5,))
        if fault.code == "lattice-score"
    ]
    assert [fault.value for fault in faults] == [pytest.approx(469 / 203, rel=0.1)]


def test_a_common_factor_is_allowed_where_the_formula_cannot_avoid_it() -> None:
    assert allowed_gcd(1, 1)
    assert not allowed_gcd(1, 5)
    assert allowed_gcd(12, 5)
    assert not allowed_gcd(12, 2)
    # Among E successive odd numbers one is a multiple of every odd g <= E, and only of those.
    for g in range(3, 15, 2):
        for num_tables in range(1, 15):
            forced = all(
                any((start + 2 * i) % g == 0 for i in range(num_tables))
                for start in range(1, 4 * g, 2)
            )
            assert forced == allowed_gcd(num_tables, g)


@pytest.mark.parametrize(
    ("ratio", "base", "max_order", "num_subtables", "nearest"),
    [
        (78, 131_072, 4, 4, 77.982),
        (100.567, 163_840, 5, 4, 100.569),
        (59.604, 163_840, 4, 4, 59.607),
        (28.8, 163_840, 4, 4, 28.799),
        (12.2, 131_072, 4, 2, 12.202),
    ],
)
def test_the_nearest_sound_ratio_passes_and_none_nearer_does(
    ratio: float, base: int, max_order: int, num_subtables: int, nearest: float
) -> None:
    orders = orders_of(max_order, num_subtables)
    found = sound_ratio(ratio, base, orders)
    assert found == nearest
    assert list(design_faults(longcat_rows(nearest, base, len(orders)), base, orders)) == []
    steps = round(abs(nearest - ratio) * 1000)
    start = round(ratio * 1000)
    nearer = [(start + k) / 1000 for k in range(1 - steps, steps)]
    if nearest > ratio:
        nearer.append((start - steps) / 1000)  # the lower of two equally near goes first
    for candidate in nearer:
        assert not is_sound(longcat_rows(candidate, base, len(orders)), base, orders)


def test_a_sound_ratio_is_its_own_answer() -> None:
    orders = orders_of(4, 4)
    assert sound_ratio(77.982, 131_072, orders) == 77.982


def test_a_design_that_cannot_be_mended_has_no_answer() -> None:
    """Of 64 successive odd sizes one is next to a multiple of 128."""
    assert sound_ratio(20, 128, (2,) * 64) is None


@settings(max_examples=8)
@given(
    st.lists(st.integers(20_000, 400_000), min_size=1, max_size=4),
    st.sampled_from([1000, 1024, 2048]),
)
def test_sound_sizes_pass_each_and_together(table_rows: list[int], base: int) -> None:
    orders = tuple(2 + i // 2 for i in range(len(table_rows)))
    found = sound_sizes(table_rows, base, orders)
    assert found is not None
    assert all(math.gcd(size, base) == 1 for size in found)
    assert list(design_faults(found, base, orders)) == []


def test_factors_that_cost_the_identity_are_a_fault_of_the_order() -> None:
    rows = (1013 * 3, 1013 * 5)
    codes = {fault.code for fault in design_faults(rows, 1000, (2, 2))}
    assert "shared-factors" in codes
    assert "shared-factors" not in {f.code for f in design_faults((3041, 5065), 1000, (2, 2))}
    # One table cannot identify bigrams whatever its factors.
    assert "shared-factors" not in {f.code for f in design_faults((3041,), 1000, (2,))}


def test_limits_lie_between_the_published_good_and_bad_ratios() -> None:
    """HASHING section 11: 12.231 counts like uniform at 0.34, 30.1 five times as much at 0.152."""
    assert 0.152 < MIN_RELATIVE_LENGTH < 0.34
    assert 1.0 < MAX_LATTICE_SCORE < 979 / 761  # 30.01
