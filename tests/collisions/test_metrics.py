import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.collisions.metrics import measure
from ngscale.hashing.longcat import Polynomial
from ngscale.ngrams import count_ngrams
from tests.collisions.test_expected import entropy
from tests.reference import distinct_ngrams, occupancy, polynomial_row
from tests.test_ngrams import documents, stream_of


@given(documents, st.integers(2, 4), st.integers(1, 60))
def test_measures_match_exact_integers(docs: list[list[int]], order: int, rows: int) -> None:
    tables = count_ngrams(stream_of(docs), order)
    if order not in tables:
        return
    expected = distinct_ngrams(docs, order)
    row_ids = [polynomial_row(gram, 7, rows) for gram in expected]
    occupied, colliding, own = occupancy(row_ids, list(expected.values()))
    measured = measure(tables[order], Polynomial(base=7), rows)
    assert measured.occupied == occupied
    assert measured.collisions == len(expected) - occupied
    assert measured.colliding == colliding
    counts = list(expected.values())
    shared = sum(c for row, c in zip(row_ids, counts, strict=True) if row_ids.count(row) > 1)
    assert measured.token_weighted == shared / sum(counts)
    assert measured.effective_rows is not None
    assert math.log(measured.effective_rows) == pytest.approx(
        entropy(row_ids, counts), rel=1e-9, abs=1e-12
    )
    busiest = max(
        sum(c for other, c in zip(row_ids, counts, strict=True) if other == row) for row in row_ids
    )
    assert measured.max_row_share == busiest / sum(counts)
    assert measured.purity == pytest.approx(float(own / sum(expected.values())), rel=1e-12)


def test_private_rows_are_pure_and_one_row_is_as_impure_as_counts_allow() -> None:
    table = count_ngrams(stream_of([[0, 1, 2, 3, 0, 1]]), 2)[2]
    assert measure(table, Polynomial(base=7), 49).purity == 1.0
    alone = measure(table, Polynomial(base=7), 1)
    counts = table.counts
    assert (alone.occupied, alone.colliding) == (1, table.distinct)
    assert alone.purity is not None
    assert alone.impurity == 1 - alone.purity
    assert replace(alone, purity=None).impurity is None
    assert alone.purity == pytest.approx(float(np.sum(counts**2) / np.sum(counts) ** 2))


def test_at_an_exact_multiple_only_the_current_token_and_m_classes_remain() -> None:
    """HASHING section 11: M = m*V0 sees (b, a mod m) only, for every order."""
    docs = [list(np.random.default_rng(0).integers(0, 7, size=400).tolist())]
    for order in (2, 3):
        table = count_ngrams(stream_of(docs), order)[order]
        classes = {(b, a % 3) for b, a in zip(*table.tokens[:2].tolist(), strict=True)}
        assert measure(table, Polynomial(base=7), 21).occupied == len(classes)
