import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.lattice import (
    collision_family,
    ngram_code,
    reduced_basis,
    relative_length,
    shortest_ngram_vector,
    vector_words,
    vectors_within,
)
from tests.reference import lattice_box, polynomial_row

LITE_V0 = 131_072
HERMITE = {2: 2 / math.sqrt(3), 3: 2 ** (1 / 3), 4: math.sqrt(2), 5: 8 ** (1 / 5)}
"""Hermite's constants: the squared shortest vector is at most this times det**(2/n)."""


def shortest_square(rows: int, base: int, order: int) -> int:
    """By brute force, in a box that Minkowski's bound on the largest entry guarantees."""
    half_width = math.ceil(rows ** (1 / order))
    vectors = lattice_box(rows, [base**s for s in range(order)], half_width)
    known = min(sum(a * a for a in v) for v in vectors if any(v))
    # The shortest may leave that box for the ball; no entry exceeds the length of a known one.
    wider = lattice_box(rows, [base**s for s in range(order)], math.isqrt(known))
    return min(sum(a * a for a in v) for v in wider if any(v))


@pytest.mark.parametrize(
    ("order", "moduli", "bases"),
    [(2, 130, (7, 10, 32)), (3, 70, (7, 10)), (4, 30, (7, 10)), (5, 12, (6, 7))],
)
def test_the_shortest_vector_is_shortest_at_every_small_modulus(
    order: int, moduli: int, bases: tuple[int, ...]
) -> None:
    for rows, base in itertools.product(range(1, moduli), bases):
        vector = shortest_ngram_vector(rows, base, order)
        assert sum(a * base**s for s, a in enumerate(vector)) % rows == 0
        assert sum(a * a for a in vector) == shortest_square(rows, base, order), (rows, base)


@given(st.integers(1, 2**31 - 1), st.integers(2, 300_000), st.integers(2, 5))
def test_a_reduced_basis_spans_the_lattice_and_is_short(rows: int, base: int, order: int) -> None:
    multipliers = [1] + [pow(base, s, rows) for s in range(1, order)]
    basis = reduced_basis(rows, multipliers)
    for row in basis:
        assert sum(a * base**s for s, a in enumerate(row)) % rows == 0
    assert abs(determinant(basis)) == rows
    vector = shortest_ngram_vector(rows, base, order)
    assert 0 < relative_length(vector, rows) <= math.sqrt(HERMITE[order]) * (1 + 1e-9)
    assert sum(a * a for a in vector) <= sum(a * a for a in basis[0])


def determinant(rows: list[list[int]]) -> int:
    if len(rows) == 1:
        return rows[0][0]
    return sum(
        (-1) ** s * rows[0][s] * determinant([row[:s] + row[s + 1 :] for row in rows[1:]])
        for s in range(len(rows))
    )


@given(st.integers(1, 60), st.integers(2, 12), st.integers(2, 3), st.integers(1, 40))
def test_enumeration_misses_nothing(rows: int, base: int, order: int, square: int) -> None:
    multipliers = [1] + [pow(base, s, rows) for s in range(1, order)]
    found = list(vectors_within(reduced_basis(rows, multipliers), square))
    box = lattice_box(rows, multipliers, math.isqrt(square))
    brute = {v for v in box if 0 < sum(a * a for a in v) <= square}
    both_signs = set(found) | {tuple(-a for a in v) for v in found}
    assert both_signs == brute
    assert 2 * len(found) == len(brute)


def test_words_say_which_tokens_collide() -> None:
    assert vector_words((1, 78)) == (
        "tokens 78 ids apart one back collide when the current ids differ by 1"
    )
    assert vector_words((0, 30)) == (
        "tokens 30 ids apart one back collide when the current ids are equal"
    )
    assert vector_words((0, 1, 78)) == (
        "tokens 78 ids apart two back collide when the ids one back differ by 1 "
        "and the current ids are equal"
    )
    assert vector_words((-3, 2, 1)) == (
        "tokens 1 id apart two back collide when the ids one back differ by 2 "
        "and the current ids differ by -3"
    )
    assert vector_words((5, 0)) == "current tokens 5 ids apart collide whatever stands before them"


def test_lites_tables_have_the_published_family() -> None:
    """HASHING section 10, F2: (a, b) and (a + 78j, b + (2i+1)j), a the previous token."""
    for table in range(12):
        rows = 78 * LITE_V0 + 2 * table + 1
        family = collision_family(shortest_ngram_vector(rows, LITE_V0, 2), rows, LITE_V0)
        assert family.step == (78, 2 * table + 1)
        assert len(family.examples) == 3
    assert family.sentence() == "(a, b) ~ (a + 78j, b + 23j)"


@given(st.integers(2, 10**8), st.integers(2, 300_000), st.integers(2, 5))
def test_example_pairs_are_in_range_different_and_in_one_row(
    rows: int, base: int, order: int
) -> None:
    vector = shortest_ngram_vector(rows, base, order)
    family = collision_family(vector, rows, base)
    assert len(family.examples) == (3 if max(map(abs, vector)) < base else 0)
    for pair in family.examples:
        assert pair.first != pair.second
        for ngram in (pair.first, pair.second):
            assert all(0 <= token < base for token in ngram)
            assert polynomial_row(ngram[::-1], base, rows) == pair.row
            assert ngram_code(ngram, base) % rows == pair.row


@pytest.mark.parametrize(
    ("rows", "base", "p", "q"),
    [(4_718_593, 163_840, 144, 5), (1_599_079, 131_072, 61, 5), (3_997_697, 131_072, 61, 2)],
)
def test_near_a_fraction_the_step_is_p_and_what_is_left_of_q_times_the_rows(
    rows: int, base: int, p: int, q: int
) -> None:
    """HASHING sections 10 and 11: 28.8 = 144/5, 12.2 = 61/5, 30.5 = 61/2."""
    family = collision_family(shortest_ngram_vector(rows, base, 2), rows, base)
    assert family.step == (p, q * rows - p * base)
