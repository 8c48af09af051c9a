from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.collisions.subtables import measure_subtables
from ngscale.hashing.byte_hashes import Crc32
from ngscale.hashing.longcat import Polynomial
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import count_ngrams
from tests.reference import crc32_row, distinct_ngrams, polynomial_row
from tests.test_ngrams import documents, stream_of


@pytest.mark.parametrize("scheme", [Polynomial(base=7), Crc32()], ids=lambda s: s.name)
@given(documents, st.lists(st.integers(1, 60), min_size=2, max_size=4))
def test_joint_counts_match_exact_integers(
    scheme: Scheme, docs: list[list[int]], sizes: list[int]
) -> None:
    table = count_ngrams(stream_of(docs), 2).get(2)
    if table is None:
        return
    counts = distinct_ngrams(docs, 2)
    row = crc32_row if scheme.name == "crc32" else lambda gram, m: polynomial_row(gram, 7, m)
    rows = {gram: tuple(row(gram, size) for size in sizes) for gram in counts}
    shared = [
        gram
        for gram in counts
        if all(
            any(other != gram and rows[other][k] == rows[gram][k] for other in counts)
            for k in range(len(sizes))
        )
    ]
    lost = [g for g in counts if any(o != g and rows[o] == rows[g] for o in counts)]
    found = measure_subtables(table, scheme, sizes).measured
    assert found.colliding == len(shared)
    assert found.colliding_tokens == sum(counts[gram] for gram in shared)
    assert found.merged == len(lost)
    assert found.merged_tokens == sum(counts[gram] for gram in lost)


def test_expectations_equal_the_average_over_all_pairs_of_hashes() -> None:
    """Three n-grams into tables of 2 and 3 rows: 2**3 * 3**3 pairs of functions."""
    table = count_ngrams(stream_of([[0, 1, 2, 0]]), 2)[2]
    sizes, n = (2, 3), 3
    sharing_all = lost = 0
    for first in product(range(2), repeat=n):
        for second in product(range(3), repeat=n):
            maps = (first, second)
            for g in range(n):
                others = [o for o in range(n) if o != g]
                sharing_all += all(any(m[o] == m[g] for o in others) for m in maps)
                lost += any(all(m[o] == m[g] for m in maps) for o in others)
    total = prod(size**n for size in sizes)
    found = measure_subtables(table, Polynomial(base=7), sizes)
    assert found.expected_colliding == pytest.approx(sharing_all / total)
    assert found.expected_merged == pytest.approx(lost / total)
