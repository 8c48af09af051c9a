import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.collisions.joint import joint_sharing, never_merges
from ngscale.ngrams import NgramTable
from tests.collisions.test_occupancy import table_of, tables
from tests.reference import jointly_shared, polynomial_row


def plain(table: NgramTable, base: int, sizes: list[int]) -> tuple[int, int, int, int]:
    grams = table.tokens.T.tolist()
    rows = [[polynomial_row(gram, base, size) for gram in grams] for size in sizes]
    return jointly_shared(rows, table.counts.tolist())


@given(
    tables(),
    st.lists(st.one_of(st.integers(1, 12), st.integers(1, 2**31 - 1)), min_size=1, max_size=5),
)
def test_joint_counts_match_exact_integers(case: tuple[NgramTable, int], sizes: list[int]) -> None:
    table, base = case
    expected = plain(table, base, sizes)
    for threads in (1, 3):
        found = joint_sharing(table, base, sizes, threads=threads)
        assert found[:4] == expected
        if found.merged_proven_zero:
            assert found.merged == 0


@pytest.mark.parametrize(
    "sizes",
    [[97], [97, 101], [96, 64], [64, 128, 32, 16], [31 * 64, 62 * 64], [60, 90, 150], [7, 1, 11]],
)
def test_crowded_tables_match_exact_integers(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    grams = [(int(b), int(a)) for a, b in rng.integers(0, 64, (2_000, 2))]
    table = table_of({gram: 1 + sum(gram) for gram in grams})
    found = joint_sharing(table, 64, sizes)
    assert found[:4] == plain(table, 64, sizes)


def test_coprime_sizes_above_the_base_exclude_identity_loss_of_bigrams() -> None:
    """HASHING section 12: lcm >= V**n; LongCat-Flash-Lite's bigram tables."""
    table = table_of({(0, 1): 1, (131_071, 131_071): 1})
    lite = [78 * 131_072 + odd for odd in (1, 3, 5, 7)]
    assert never_merges(table, 131_072, lite)
    assert never_merges(table, 131_072, lite[:2])
    assert not never_merges(table, 131_072, lite[:1])
    assert not never_merges(table, 131_072, [31 * 131_072, 62 * 131_072])


def test_ids_beyond_the_base_are_not_proven_apart() -> None:
    """7 * 1 + 2 and 7 * 0 + 9 are the same code."""
    table = table_of({(2, 1): 1, (9, 0): 4})
    found = joint_sharing(table, 7, [50, 51])
    assert found == (2, 5, 2, 5, False)
