"""A whole trace measured, against caches simulated one by one; samples against all rows."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ngscale.cache.measure import log_sizes, measure
from ngscale.cache.reuse import StackDistances, curve_of
from ngscale.cache.sampling import Samples
from ngscale.cache.scopes import Scope
from ngscale.cache.trace import Rows
from ngscale.errors import ResourceError
from ngscale.numbering import Numbering
from tests import reference

BOTH = Scope(name="both", kind="all", order=None, tables=(0, 1))
TRACES = st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 30)), min_size=2, max_size=80)


@given(TRACES, st.integers(1, 3), st.integers(1, 20))
def test_the_second_half_is_what_counts(
    trace: list[tuple[int, int]], rows_per_page: int, size: int
) -> None:
    assume(max(map(max, trace[len(trace) // 2 :])) >= 0)
    rows = np.array(trace, np.int64)

    def source() -> Iterator[Rows]:
        yield from np.array_split(rows, 3)

    found = measure(
        source, BOTH, num_positions=len(rows), rows_per_page=rows_per_page, with_clock=True
    )

    def pages(part: list[tuple[int, int]]) -> list[int]:
        return [
            1000 * table + row // rows_per_page
            for position in part
            for table, row in enumerate(position)
            if row >= 0
        ]

    half = len(trace) // 2
    first, second, whole = pages(trace[:half]), pages(trace[half:]), pages(trace)
    lru = reference.lru_misses(whole, size) - reference.lru_misses(first, size)
    assert found.lru.misses_at(size) == lru
    assert found.lru.num_accesses == len(second)
    assert found.lru.distinct == len(set(second))
    assert found.hot.misses_at(size) == reference.static_hot_misses(first, second, size)
    assert found.hindsight.misses_at(size) == reference.static_hot_misses(second, second, size)
    for frames, ratio in found.clock.items():
        misses = reference.clock_misses(whole, frames) - reference.clock_misses(first, frames)
        assert ratio == misses / len(second)
    assert found.working_set[-1].so_far == len(set(whole))
    assert found.working_set[-1].tokens == len(trace)


def test_memory_is_kept_to() -> None:
    """Rows that never recur: 80 bytes each and more, twice over while an array grows."""

    def source() -> Iterator[Rows]:
        yield from np.array_split(np.arange(200_000).reshape(-1, 2), 10)

    def run(max_bytes: int) -> None:
        measure(
            source,
            BOTH,
            num_positions=100_000,
            rows_per_page=1,
            with_clock=False,
            max_bytes=max_bytes,
        )

    run(200 * 2**20)
    with pytest.raises(ResourceError, match=r"pages of both need more than 8.00 MiB.*--sample"):
        run(8 * 2**20)


def zipf(length: int) -> np.ndarray:
    return np.random.default_rng(1).zipf(1.3, length) % 5_000


def exact_and_sampled(rate: float) -> tuple[list[float], list[float], list[float]]:
    keys = zipf(60_000).astype(np.int64)
    numbering, stack, samples = Numbering(), StackDistances(), Samples(rate, range(1, 6))
    for part in np.split(keys, 4):
        stack.add(numbering.number(part))
        samples.add(part)
    exact, sampled = curve_of(stack.histogram(), distinct=stack.live), samples.curve()
    sizes = log_sizes(4_000, 8)
    return (
        [exact.miss_ratio_at(size) for size in sizes],
        [sampled.miss_ratio_at(size) for size in sizes],
        [sampled.half_width_at(size) for size in sizes],
    )


def test_a_sample_of_every_row_is_exact() -> None:
    exact, sampled, width = exact_and_sampled(1.0)
    assert sampled == exact
    assert width == [0] * len(exact)


def test_the_interval_of_a_sample_tells_its_error() -> None:
    """Of 8 sizes at 95%, which stand and fall together: most within, none beyond three times.

    The interval is narrow from ten sampled rows on; below, one hot row decides.
    """
    exact, sampled, width = exact_and_sampled(0.2)
    errors = [abs(a - b) / w for a, b, w in zip(exact, sampled, width, strict=True)]
    assert max(errors) < 3
    assert sorted(errors)[len(errors) // 2] < 1
    in_sample = [0.2 * size for size in log_sizes(4_000, 8)]
    assert max(w for w, rows in zip(width, in_sample, strict=True) if rows >= 10) < 0.05
