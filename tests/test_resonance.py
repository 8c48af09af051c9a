import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.resonance import (
    fractions_between,
    gcd_with_base,
    lattice_length,
    lattice_lengths,
    name_by_vector,
    nearest_fraction,
    nearest_fractions,
    nearest_rows,
    reachable_rows,
    shortest_vector,
)


def test_names_are_those_a_person_would_write() -> None:
    assert nearest_fraction(31 * 131_072, 131_072).name() == "31 x V0"
    assert nearest_fraction(78 * 131_072 + 1, 131_072).name() == "78 x V0 + 1"
    assert nearest_fraction(61 * 65_536 - 3, 131_072).name() == "61/2 x V0 - 3"


def test_the_28_8_layout_is_144_fifths_and_12_2_is_61_fifths() -> None:
    """HASHING section 11: 5M - 144V = 5 for the first modulus of ratio 28.8."""
    near = nearest_fraction(4_718_593, 163_840)
    assert (near.p, near.q, near.distance) == (144, 5, 5)
    near = nearest_fraction(1_599_079, 131_072)
    assert (near.p, near.q) == (61, 5)


@given(st.integers(1, 10**8), st.integers(2, 300_000))
def test_nearest_fraction_minimises_the_lattice_distance(rows: int, base: int) -> None:
    near = nearest_fraction(rows, base)
    best = min(
        abs(q * rows - p * base)
        for q in range(1, 7)
        for p in {max(1, q * rows // base), q * rows // base + 1}
    )
    assert near.distance == best == abs(near.q * rows - near.p * base)
    assert rows == nearest_rows(near.p, near.q, base) + near.offset


def test_fractions_between_are_reduced_sorted_and_complete() -> None:
    found = [Fraction(p, q) for p, q in fractions_between(30, 31)]
    assert found == sorted({Fraction(p, q) for q in range(1, 7) for p in range(30 * q, 31 * q + 1)})


def test_fractions_of_low_sizes_begin_at_a_sixth() -> None:
    """Farey's sequence of order 6, without 0."""
    assert fractions_between(0, 1) == [
        *((1, 6), (1, 5), (1, 4), (1, 3), (2, 5), (1, 2)),
        *((3, 5), (2, 3), (3, 4), (4, 5), (5, 6), (1, 1)),
    ]


@pytest.mark.parametrize(
    ("rows", "base", "name"),
    [
        (4_063_232, 131_072, "31 x V0"),
        (13_107_201, 131_072, "100 x V0 + 1"),
        (3_997_828, 131_072, "61/2 x V0 + 132"),
        (1_599_079, 131_072, "61/5 x V0 + 1"),
        (1_603_142, 131_072, "159/13 x V0 + 31"),
        (3_778_937, 131_072, "173/6 x V0 - 306"),
        (1_000, 10, "100.000 x V0"),
    ],
)
def test_a_size_is_named_by_its_shortest_vector(rows: int, base: int, name: str) -> None:
    """Vectors of HASHING section 11, (A, B) with A V + B = q M: p/q is A/q and the offset B/q. At
    1,000 rows of base 10 it is (1, -10), which is no fraction.
    """
    assert name_by_vector(rows, base) == name


@pytest.mark.parametrize(
    ("rows", "vector", "length"),
    [
        (3_932_174, (30, 14), 0.017),
        (3_932_292, (30, 132), 0.068),
        (3_933_471, (30, 1311), 0.661),
        (3_932_160, (30, 0), 0.015),
        (4_063_232, (31, 0), 0.015),
        (3_945_268, (301, 8), 0.152),
        (3_958_375, (151, 3), 0.076),
        (3_964_929, (121, 4), 0.061),
        (3_975_851, (91, 1), 0.046),
        (3_997_697, (61, 2), 0.031),
        (3_997_828, (61, 264), 0.136),
        (10_297_934, (2357, 1316), 0.84),
        (13_107_201, (100, 1), 0.028),
        (7_812_416, (298, 2624), 0.94),
        (1_599_079, (61, 3), 0.048),
        (1_603_142, (159, 398), 0.34),
        (3_774_874, (144, 2), 0.074),
        (3_778_937, (173, -1834), 0.95),
        (4_006_478, (917, 1316), 0.80),
        (4_011_328, (1469, -1024), 0.89),
        (4_013_167, (1684, -1063), 0.99),
        (10_223_617, (78, 1), 0.024),
        (13_181_518, (3017, 1316), 0.91),
    ],
)
def test_shortest_vectors_are_the_published_ones(
    rows: int, vector: tuple[int, int], length: float
) -> None:
    """HASHING section 11, V0 = 131,072; vectors are given there up to sign."""
    A, B = shortest_vector(rows, 131_072)
    assert vector == (A, B) or vector == (A, -B)
    assert lattice_length(rows, 131_072) == pytest.approx(length, abs=0.006)


@given(st.integers(1, 400), st.integers(2, 60))
def test_the_shortest_vector_is_shortest_by_brute_force(rows: int, base: int) -> None:
    found = shortest_vector(rows, base)
    assert (found[0] * base + found[1]) % rows == 0
    assert found[0] > 0 or (found[0] == 0 and found[1] > 0)
    best = min(
        a * a + b * b
        for a in range(21)
        for b in range(-21, 22)
        if (a, b) != (0, 0) and (a * base + b) % rows == 0
    )
    assert found[0] ** 2 + found[1] ** 2 == best


def test_longcat_2_has_sixteen_even_moduli() -> None:
    """HASHING section 10, F1: V = 163,840 = 2**15 * 5, moduli 16,476,898 + 2i, g up to 256."""
    gcds = [gcd_with_base(16_476_898 + 2 * i, 163_840) for i in range(16)]
    assert gcds == [2, 20, 2, 8, 2, 4, 10, 16, 2, 4, 2, 40, 2, 4, 2, 256]
    assert {gcd_with_base(78 * 131_072 + 2 * i + 1, 131_072) for i in range(12)} == {1}


@pytest.mark.parametrize(("base", "order"), [(2, 2), (6, 2), (6, 3), (10, 3), (4, 4)])
def test_reachable_rows_are_counted_exactly(base: int, order: int) -> None:
    """HASHING section 10, F1: min(V**(n-1), M/g), for every current token."""
    for rows in range(1, 300):
        contexts = list(itertools.product(range(base), repeat=order - 1))
        for current in (0, base - 1):
            reached = {
                sum(c * base**s for s, c in enumerate((current, *context))) % rows
                for context in contexts
            }
            assert len(reached) == reachable_rows(rows, base, order)


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=20), st.integers(2, 300_000))
def test_many_sizes_at_once_get_what_each_gets_alone(sizes: list[int], base: int) -> None:
    sizes += [base, 3 * base // 2 + 1, 2 * base]
    many = np.array(sizes, dtype=np.int64)
    alone = [nearest_fraction(rows, base) for rows in sizes]
    assert list(zip(*map(np.ndarray.tolist, nearest_fractions(many, base)), strict=True)) == [
        (near.p, near.q, near.distance) for near in alone
    ]
    lengths = [lattice_length(rows, base) for rows in sizes]
    assert lattice_lengths(many, base).tolist() == pytest.approx(lengths, rel=1e-12)
