from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ngscale.resonance import fractions_between, nearest_fraction, nearest_rows


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
