import itertools
import math

import numpy as np
import pytest

from ngscale.certificate import joint_certificate, tables_needed
from ngscale.hashing.longcat import gram_row_ids
from tests.reference import polynomial_row

LITE = [78 * 131_072 + 2 * i + 1 for i in range(12)]
LONGCAT_2 = [16_476_898 + 2 * i for i in range(16)]


def shares_all_rows(table_rows: tuple[int, ...], base: int, order: int, num_ids: int) -> bool:
    seen = set()
    for gram in itertools.product(range(num_ids), repeat=order):
        rows = tuple(polynomial_row(gram, base, modulus) for modulus in table_rows)
        if rows in seen:
            return True
        seen.add(rows)
    return False


@pytest.mark.parametrize(
    ("base", "order", "largest"),
    [(2, 3, 10), (3, 2, 11), (3, 3, 29), (4, 2, 24), (7, 2, 20), (4, 3, 22)],
)
def test_pairs_of_tables_are_told_apart_as_every_ngram_says(
    base: int, order: int, largest: int
) -> None:
    proven = 0
    for table_rows in itertools.combinations_with_replacement(range(1, largest), 2):
        found = joint_certificate(table_rows, base, order)
        assert found.jointly_injective != shares_all_rows(table_rows, base, order, base)
        assert found.jointly_injective == (math.lcm(*table_rows) >= base**order)
        proven += found.jointly_injective
        check_witness(found.witness, table_rows, base, base)
    assert proven > 0


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("base", [2, 3, 4, 5, 6])
def test_all_n_grams_meet_in_every_table_exactly_where_the_lcm_divides_their_codes(
    base: int, order: int
) -> None:
    """Exhaustively: every n-gram, through the kernel, and all sets of up to two sizes (three, if
    there are at most 32 n-grams) from 1 to beyond V**n. What shares all rows is a class of codes
    modulo the lcm, so there are min(lcm, V**n) of them, and none merges two n-grams from lcm =
    V**n on.
    """
    num_grams = base**order
    codes = np.arange(num_grams)
    grams = np.stack([codes // base**s % base for s in range(order)]).astype(np.uint32)
    rows = [
        gram_row_ids(grams, hash_base=base, table_rows=modulus).astype(np.int64)
        for modulus in range(1, num_grams + 2)
    ]
    proven = 0
    for num_tables in (1, 2, 3) if num_grams <= 32 else (1, 2):
        for chosen in itertools.combinations_with_replacement(range(1, num_grams + 2), num_tables):
            together = np.zeros(num_grams, dtype=np.int64)
            for modulus in chosen:
                together = together * modulus + rows[modulus - 1]
            lcm = math.lcm(*chosen)
            classes = min(lcm, num_grams)
            assert len(np.unique(together)) == classes
            assert len(np.unique(together * lcm + codes % lcm)) == classes
            proven += lcm >= num_grams
    assert proven > 0


def test_fewer_ids_than_the_base_are_decided_too() -> None:
    """A prime base above the vocabulary: the lcm may fall short of V**n and still suffice."""
    beyond_the_theorem = 0
    for rows, num_ids in itertools.product(range(1, 140), (3, 5, 9)):
        found = joint_certificate((rows,), 11, 2, num_ids)
        assert found.jointly_injective != shares_all_rows((rows,), 11, 2, num_ids)
        beyond_the_theorem += found.jointly_injective and rows < 11**2
        check_witness(found.witness, (rows,), 11, num_ids)
    assert beyond_the_theorem > 0


def check_witness(
    witness: tuple[tuple[int, ...], tuple[int, ...]] | None,
    table_rows: tuple[int, ...],
    base: int,
    num_ids: int,
) -> None:
    if witness is None:
        return
    first, second = witness
    assert first != second
    assert all(0 <= token < num_ids for token in first + second)
    for rows in table_rows:
        assert polynomial_row(first[::-1], base, rows) == polynomial_row(second[::-1], base, rows)


def test_any_k_tables_suffice_as_every_subset_says() -> None:
    for table_rows in itertools.combinations_with_replacement((3, 4, 6, 8, 9, 10, 35), 4):
        for base, order in ((3, 2), (3, 3), (5, 3)):
            enough = [
                k
                for k in range(1, 5)
                if all(
                    math.lcm(*chosen) >= base**order
                    for chosen in itertools.combinations(table_rows, k)
                )
            ]
            expected = min(enough) if enough else None
            assert tables_needed(table_rows, base, order) == expected, table_rows


@pytest.mark.parametrize(
    ("table_rows", "base", "needed"),
    [(LITE, 131_072, [2, 3, 3]), (LONGCAT_2, 163_840, [2, 3, 4, 4])],
)
def test_published_designs_are_jointly_injective_at_every_order(
    table_rows: list[int], base: int, needed: list[int]
) -> None:
    """HASHING section 12: smallest k such that any k sub-tables suffice; all K = 4 do."""
    for order, k in enumerate(needed, start=2):
        own = tuple(table_rows[4 * (order - 2) : 4 * (order - 1)])
        found = joint_certificate(own, base, order)
        assert found.jointly_injective
        assert found.witness is None
        assert found.tables_needed == k


def test_lites_tables_4_and_7_share_3() -> None:
    """HASHING section 12."""
    gcds = joint_certificate(tuple(LITE[4:8]), 131_072, 3).pairwise_gcd
    assert [found for found in gcds if found[2] > 1] == [(0, 3, 3)]


def test_a_single_table_is_refuted_by_two_ngrams() -> None:
    found = joint_certificate((LITE[0],), 131_072, 2)
    assert found.witness == ((0, 0), (78, 1))
    assert found.tables_needed is None


def test_many_equal_tables_are_searched_by_value_not_by_subset() -> None:
    assert tables_needed((101,) * 64, 1000, 2) is None
    assert tables_needed((10_007,) * 60 + (10_009,), 1000, 2) == 61
