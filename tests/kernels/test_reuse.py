"""Stack distances, CLOCK and sampling against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.cache import static_hot
from ngscale.cache.clock import Clock
from ngscale.cache.reuse import StackDistances, curve_of
from ngscale.kernels.reuse import enter, sampled, stack_distances
from ngscale.numbering import Numbering
from tests.reference import (
    clock_misses,
    lru_distances,
    lru_misses,
    splitmix64,
    static_hot_misses,
)

TRACES = st.lists(st.lists(st.integers(0, 12) | st.integers(0, 2**40), max_size=60), max_size=4)


@given(TRACES)
def test_distances_are_depths_in_mattsons_stack(chunks: list[list[int]]) -> None:
    numbering, stack = Numbering(), StackDistances()
    found: list[int] = []
    for chunk in chunks:
        found += stack.add(numbering.number(np.array(chunk, np.int64))).tolist()
    trace = [row for chunk in chunks for row in chunk]
    assert found == lru_distances(trace)
    assert stack.live == numbering.used == len(set(trace))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6000), st.integers(1, 20_000))
def test_distances_survive_growth_and_renumbering(seed: int, rows: int, length: int) -> None:
    """Beyond the first 4,096 times, with rows that recur soon and rows that hardly do."""
    generator = np.random.default_rng(seed)
    trace = np.minimum(generator.geometric(3 / (rows + 2), length), generator.integers(1, rows + 1))
    numbering, stack = Numbering(), StackDistances()
    cuts = np.sort(generator.integers(0, length, 3))
    for chunk in np.split(trace, cuts):
        stack.add(numbering.number(chunk))
    size = int(generator.integers(1, rows + 1))
    assert curve_of(stack.histogram(), distinct=stack.live).misses_at(size) == lru_misses(
        trace.tolist(), size
    )
    assert curve_of(stack.histogram(), distinct=stack.live).num_accesses == length


@pytest.mark.parametrize("start", [2**18 - 40, 2**24 - 40, 2**24 + 2**18 + 7])
def test_distances_are_right_where_sums_begin_anew(start: int) -> None:
    """So many rows once each, then a hundred of them again: by counting, row by row."""
    capacity = -(-(start + 200) // 2**12) * 2**12
    last = np.arange(start, dtype=np.int32)
    slot_at = np.empty(capacity, np.int32)
    slot_at[:start] = last
    marks = np.zeros(capacity // 64, np.uint64)
    sums = (
        np.zeros(capacity // 64, np.int16),
        np.zeros(-(-capacity // 2**18) * 64, np.int32),
        np.zeros(-(-capacity // 2**24) * 64, np.int32),
    )
    enter(marks, *sums, start)
    generator = np.random.default_rng(start)
    wanted = generator.integers(0, start, 100)
    wanted[::3] = start - 1 - generator.integers(0, 5, len(wanted[::3]))
    distances = np.empty(100, np.int32)
    done = stack_distances(wanted, last, slot_at, marks, *sums, start, start, distances)
    assert done == (100, start + 100, start)
    again: list[int] = []
    for row, distance in zip(wanted.tolist(), distances.tolist(), strict=True):
        if row in again:
            expected = len(again) - again.index(row)
            again.remove(row)
        else:  # the rows after it that did not come again, those that did, and itself
            expected = start - row + sum(other < row for other in again)
        again.append(row)
        assert distance == expected


@given(TRACES, st.integers(1, 30))
def test_every_size_of_a_curve_is_an_ordered_dicts(chunks: list[list[int]], size: int) -> None:
    numbering, stack, clock = Numbering(), StackDistances(), Clock(size)
    for chunk in chunks:
        numbers = numbering.number(np.array(chunk, np.int64))
        stack.add(numbers)
        clock.add(numbers)
    trace = [row for chunk in chunks for row in chunk]
    assert curve_of(stack.histogram(), distinct=stack.live).misses_at(size) == lru_misses(
        trace, size
    )
    assert clock.misses == clock_misses(trace, size)


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)), st.integers(0, 12))
def test_a_hot_set_is_the_most_frequent_rows(
    ranking: list[int], trace: list[int], size: int
) -> None:
    numbering = Numbering()
    first, second = (numbering.number(np.array(rows, np.int64)) for rows in (ranking, trace))
    counts = (np.bincount(part, minlength=numbering.used) for part in (first, second))
    curve = static_hot.curve(*counts)
    assert curve.misses_at(size) == static_hot_misses(ranking, trace, size)


@given(st.lists(st.integers(0, 2**62)), st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_sample_is_what_the_hash_says(keys: list[int], seed: int, threshold: int) -> None:
    out = np.empty(len(keys), np.int64)
    kept = sampled(np.array(keys, np.int64), np.uint64(seed), np.uint64(threshold), out)
    assert out[:kept].tolist() == [key for key in keys if splitmix64(key ^ seed) < threshold]
