import os

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ngscale.collisions.metrics import measure
from ngscale.collisions.occupancy import Sharing, occupied_rows, sharing
from ngscale.errors import SpecError
from ngscale.hashing.longcat import Polynomial
from ngscale.ngrams import NgramTable
from tests.reference import polynomial_row, shared_rows

JIT = os.environ.get("NUMBA_DISABLE_JIT") != "1"
"""Without it every word of a bitmap is counted in Python: small tables only."""
large = pytest.mark.skipif(not JIT, reason="large bitmaps take minutes with the JIT off")
COUNTS = st.one_of(st.integers(1, 3), st.integers(1, 2**40))
BASES = st.one_of(st.integers(2, 300), st.sampled_from([4_096, 131_072, 2**24]))


def table_of(grams: dict[tuple[int, ...], int], *, ascending: bool = True) -> NgramTable:
    """N-grams newest token first, in the order of their codes unless told otherwise."""
    ordered = sorted(grams, key=lambda gram: gram[::-1]) if ascending else list(grams)
    return NgramTable(
        order=len(ordered[0]),
        tokens=np.array(ordered, dtype=np.uint32).T.copy(),
        counts=np.array([grams[gram] for gram in ordered], dtype=np.int64),
    )


def plain(table: NgramTable, base: int, sizes: list[int]) -> list[tuple[int, int, int]]:
    grams, counts = table.tokens.T.tolist(), table.counts.tolist()
    return [
        shared_rows([polynomial_row(gram, base, rows) for gram in grams], counts) for rows in sizes
    ]


def filled(found: Sharing) -> tuple[np.ndarray, ...]:
    assert found.colliding is not None
    assert found.colliding_tokens is not None
    return found.occupied, found.colliding, found.colliding_tokens


def check(table: NgramTable, base: int, sizes: list[int]) -> None:
    expected = plain(table, base, sizes)
    for intrinsic in (True, False):
        for threads in (1, 3):
            found = sharing(table, base, sizes, threads=threads, intrinsic=intrinsic)
            assert list(zip(*map(np.ndarray.tolist, filled(found)), strict=True)) == expected
            occupied = occupied_rows(table, base, sizes, threads=threads, intrinsic=intrinsic)
            assert occupied.tolist() == [held for held, _, _ in expected]
            assert occupied.dtype == np.int64


@st.composite
def tables(draw: st.DrawFn, order: int | None = None) -> tuple[NgramTable, int]:
    base = draw(BASES)
    order = draw(st.integers(2, 8)) if order is None else order
    token = st.one_of(st.sampled_from([0, base - 1]), st.integers(0, base - 1))
    grams = st.dictionaries(st.tuples(*[token] * order), COUNTS, min_size=1, max_size=25)
    return table_of(draw(grams), ascending=draw(st.booleans())), base


SIZES = st.one_of(
    st.integers(1, 70),
    st.integers(4_090, 9_000),
    *([st.integers(2**18, 2**18 + 200), st.integers(1, 2**22)] if JIT else []),
)


@given(tables(), st.lists(SIZES, min_size=1, max_size=6))
def test_counts_at_any_sizes_match_exact_integers(
    case: tuple[NgramTable, int], sizes: list[int]
) -> None:
    table, base = case
    check(table, base, sizes)


@given(
    tables(order=2),
    st.integers(4_096, 2**21 if JIT else 5_000),
    st.lists(st.integers(0, 140), min_size=6, max_size=20, unique=True),
)
def test_runs_of_neighbouring_sizes_match_exact_integers(
    case: tuple[NgramTable, int], first: int, offsets: list[int]
) -> None:
    table, base = case
    # Wide enough for one sort to serve the run, with rows of both signs in the guard zones.
    first = max(first, base * 5) if base < (2**19 if JIT else 2**9) else first
    check(table, base, [first + offset for offset in offsets])


@large
@pytest.mark.parametrize("base", [4_096, 131_072])
def test_octets_match_exact_integers_where_rows_cross_the_guard_zones(base: int) -> None:
    """70 sizes in a row: octets and a remainder; dense runs of keys, first and last ids."""
    rng = np.random.default_rng(1)
    sizes = list(range(31 * base - 20, 31 * base + 50))
    first = rng.integers(0, base, 300)
    rows = rng.integers(0, sizes[0], 300)
    grams: dict[tuple[int, ...], int] = {
        (int(b), int(a)): int(c) for a, b, c in zip(first, rows % base, rows + 1, strict=True)
    }
    grams |= {(b, a): 1 + b % 2 for a in (0, 1, 31, 62, base - 1) for b in range(130)}
    grams |= {(base - 1 - b, a): 2**40 for a in (0, base - 32, base - 1) for b in range(70)}
    # Keys whose row is the first or the last of some size of the run.
    for size in sizes[::7]:
        for quotient in (0, 1, base // 40, base // 32):
            for code in (quotient * size - 1, quotient * size, quotient * size + size - 1):
                if 0 <= code < base**2:
                    grams[code % base, code // base] = 3
    check(table_of(grams), base, sizes)


@pytest.mark.parametrize("first", [4_096, 20_000, 50_001])
def test_sizes_without_neighbours_match_exact_integers(first: int) -> None:
    """Enough of them that the keys are made; rows up to the last bit of the table."""
    grams: dict[tuple[int, ...], int] = {(code % 300, code // 300): 1 for code in range(900)}
    grams |= {(299, 299): 2**40, (298, 299): 1}
    check(table_of(grams), 300, [first + 700 * step for step in range(14)])


@large
@pytest.mark.parametrize("rows", [31 * 4_096, 31 * 4_096 + 1, 126_989, 2**17, 5 * 10**6])
def test_full_tables_agree_with_the_pooled_metrics(rows: int) -> None:
    """Multiples of the base, primes, powers of two; more n-grams than rows, and fewer."""
    rng = np.random.default_rng(rows)
    codes = np.unique(rng.integers(0, 4_096**2, 40_000))
    counts = rng.integers(1, 5, len(codes))
    tokens = np.stack([codes % 4_096, codes // 4_096]).astype(np.uint32)
    table = NgramTable(order=2, tokens=tokens, counts=counts)
    sizes = list(range(rows, rows + 9))
    found = sharing(table, 4_096, sizes)
    for size, occupied, colliding, weight in zip(sizes, *filled(found), strict=True):
        measured = measure(table, Polynomial(base=4_096), size)
        assert (measured.occupied, measured.colliding) == (occupied, colliding)
        assert measured.token_weighted == weight / table.occurrences


@pytest.mark.parametrize("order", [2, 3, 5, 8])
def test_sizes_at_the_upper_bound_take_memory_by_the_ngrams_not_by_the_rows(order: int) -> None:
    grams = {(0,) * order: 1, (131_071,) * order: 2**40, (5,) * order: 2}
    grams |= {(b, *(131_071,) * (order - 1)): 1 for b in range(50)}
    check(table_of(grams), 131_072, [2**31 - 1, 2**31 - 2, 2**30 + 7])


def test_ids_beyond_the_base_or_the_lanes_are_hashed_all_the_same() -> None:
    """A base below the vocabulary merges codes; ids of 2**24 and more take the 64-bit kernel."""
    check(table_of({(9, 0): 1, (2, 1): 2, (300, 4): 3}), 7, [5, 5_000, 5_001])
    check(table_of({(2**25, 0): 1, (2, 1): 2, (2**25 + 10, 4): 3}), 7, [5, 10, 5_000])


def test_sizes_that_are_not_sizes_are_refused() -> None:
    table = table_of({(0, 1): 1})
    for rows in (0, -1, 2**31):
        with pytest.raises(SpecError, match=str(rows)):
            occupied_rows(table, 7, [5, rows])


def test_no_sizes_give_no_counts_and_repeated_sizes_repeat() -> None:
    table = table_of({(0, 1): 1, (0, 3): 1})
    assert occupied_rows(table, 7, []).tolist() == []
    assert occupied_rows(table, 7, [2, 1, 2]).tolist() == [1, 1, 1]


@given(tables(order=3), st.lists(st.integers(1, 100), min_size=2, max_size=5))
def test_sizes_may_come_in_any_order(case: tuple[NgramTable, int], sizes: list[int]) -> None:
    table, base = case
    assume(sizes != sorted(sizes))
    by_size = dict(zip(sorted(sizes), occupied_rows(table, base, sorted(sizes)), strict=True))
    assert occupied_rows(table, base, sizes).tolist() == [by_size[rows] for rows in sizes]
