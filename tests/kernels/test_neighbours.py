"""Granules and sorting; what is marked with them is tested through ``collisions.occupancy``,
and here with granules where the JIT is off, which that module avoids.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels import neighbours
from ngscale.kernels.intrinsics import GRANULE_BITS
from tests.reference import fold

codes = st.lists(
    st.one_of(st.integers(0, 300), st.integers(0, 2**34)), min_size=1, max_size=40, unique=True
).map(sorted)
CENTRE = 2**20 + 7


def granules_of(keys: list[int], dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    first, masks = np.array(keys, dtype=np.int64), np.empty(len(keys), dtype=dtype)
    width = GRANULE_BITS if dtype is np.uint64 else 1
    number = neighbours.granules(first, width, masks)
    return first[:number], masks[:number]


def sorted_by_row(
    first: np.ndarray, payload: np.ndarray, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    heads = np.empty(((CENTRE - 1) >> shift) + 2, dtype=np.int64)
    p, q = np.empty(len(first), dtype=np.uint32), np.empty(len(first), dtype=np.uint32)
    carried = np.empty_like(payload)
    neighbours.sort_by_row(first, payload, CENTRE, shift, heads, p, q, carried)
    return p, q, carried


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8])
@given(keys=codes)
def test_granules_hold_every_key_once_in_narrow_windows(
    dtype: type[np.generic], keys: list[int]
) -> None:
    first, masks = granules_of(keys, dtype)
    held = [
        start + bit
        for start, mask in zip(first.tolist(), masks.tolist(), strict=True)
        for bit in range(64)
        if mask >> bit & 1
    ]
    assert held == keys
    assert all(mask < 2**GRANULE_BITS for mask in masks.tolist())


@given(codes, st.integers(10, 20))
def test_sorting_splits_keys_and_is_stable_within_a_bucket(keys: list[int], shift: int) -> None:
    payload = np.arange(len(keys), dtype=np.int64)
    p, q, carried = sorted_by_row(np.array(keys, dtype=np.int64), payload, shift)
    expected = sorted(range(len(keys)), key=lambda i: (keys[i] % CENTRE >> shift, i))
    assert carried.tolist() == expected
    assert p.tolist() == [keys[i] % CENTRE for i in expected]
    assert q.tolist() == [keys[i] // CENTRE for i in expected]


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8])
@pytest.mark.parametrize(
    "deltas", [list(range(-28, 36, 8)), [-30, -3, 0, 1, 32]], ids=["octet", "few"]
)
@given(keys=codes)
def test_marks_lie_where_the_rows_are_before_folding(
    dtype: type[np.generic], deltas: list[int], keys: list[int]
) -> None:
    """Positions modulo each size are the rows; those met again are in the second tables."""
    guard = (max(keys) // CENTRE + 1) * 64 // 64 * 64 + 128
    stride = (CENTRE + 2 * guard + 192) // 64 * 8
    where = (guard, np.array(deltas, dtype=np.int64), len(deltas) == 8, stride)
    marked = sorted_by_row(*granules_of(keys, dtype), 14)
    tables = np.zeros(len(deltas) * stride, dtype=np.uint8)
    neighbours.mark(*marked, *where, tables)
    both = np.zeros(2 * len(deltas) * stride, dtype=np.uint8)
    neighbours.mark_twice(*marked, *where, both)
    assert np.array_equal(both[: len(tables)], tables)
    heavy = np.arange(1, len(keys) + 1, dtype=np.int64) << 35
    weighed = sorted_by_row(np.array(keys, dtype=np.int64), heavy, 14)
    sums = np.empty(len(deltas), dtype=np.int64)
    neighbours.weigh(*weighed, *where, tables, sums)
    assert sums.tolist() == [heavy.sum()] * len(deltas)
    for i, delta in enumerate(deltas):
        table = tables[i * stride : (i + 1) * stride]
        again = both[(len(deltas) + i) * stride : (len(deltas) + i + 1) * stride]
        places = {key % CENTRE - key // CENTRE * delta for key in keys}
        assert set((np.flatnonzero(np.unpackbits(table, bitorder="little")) - guard).tolist()) == (
            places
        )
        assert fold(places, CENTRE + delta)[0] == {key % (CENTRE + delta) for key in keys}
        met = [key % CENTRE - key // CENTRE * delta for key in keys]
        assert set((np.flatnonzero(np.unpackbits(again, bitorder="little")) - guard).tolist()) == {
            place for place in met if met.count(place) > 1
        }
