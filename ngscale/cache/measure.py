"""A trace -> what caches of its rows would hit. The first half warms and ranks, the second counts.

So every policy is measured on the same accesses, and a hot set is ranked by text that comes before.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ngscale.cache import static_hot
from ngscale.cache.clock import Clock
from ngscale.cache.reuse import Curve, StackDistances, curve_of, grown
from ngscale.cache.scopes import Scope
from ngscale.cache.trace import Rows, page_keys
from ngscale.errors import NoResultError, ResourceError
from ngscale.numbering import Numbering
from ngscale.units import format_bytes

NUM_INTERVALS = 40
"""Of the working set over time."""
NUM_CLOCK_SIZES = 6

Source = Callable[[], Iterator[Rows]]
"""The trace from its beginning, as often as it is asked for."""
Advance = Callable[[int], object]
"""Told how much has just been done: reads counted, positions hashed."""


def nobody(steps: int, /) -> None:
    """The ``Advance`` of a caller who does not ask."""


class WorkingSet(NamedTuple):
    """After so many tokens."""

    tokens: int
    so_far: int
    """Distinct pages since the beginning."""
    in_interval: int
    """Distinct pages of the last interval."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """One scope's caches over the second half of a trace."""

    scope: Scope
    lru: Curve
    hot: Curve
    """A fixed set, ranked by the first half."""
    hindsight: Curve
    """The best fixed set there is: ranked by the second half itself."""
    clock: dict[int, float]
    """Miss ratio by size in pages."""
    histogram: Int64[np.ndarray, " distances"]
    """Accesses at each stack distance; at 0 those of pages never seen before."""
    working_set: list[WorkingSet]


def measure(
    source: Source,
    scope: Scope,
    *,
    num_positions: int,
    rows_per_page: int,
    with_clock: bool,
    max_bytes: int | None = None,
    advance: Advance = nobody,
) -> Measured:
    """Read a trace twice: for every size in one pass, then for CLOCK at a few.

    Raises:
        NoResultError: the second half reads no row.
        ResourceError: the pages read would take more than ``max_bytes``.
    """
    from ngscale.kernels.reuse import tally

    half = num_positions // 2
    numbering, stack = Numbering(), StackDistances()
    counted = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
    stamps = np.zeros(0, np.int32)
    before = np.zeros(1, np.int64)
    stops = {*np.linspace(0, num_positions, NUM_INTERVALS + 1).astype(np.int64).tolist(), half}
    working_set: list[WorkingSet] = []
    for start, end, rows in parts(source, sorted(stops)):
        if start == half:
            before = stack.histogram()
        numbers = numbering.number(page_keys(rows, scope.tables, rows_per_page))
        stack.add(numbers)
        advance(len(numbers))
        side = int(start >= half)
        counted[side] = grown(counted[side], numbering.used, 0)
        tally(numbers, counted[side])
        interval = len(working_set) + 1
        stamps = grown(stamps, numbering.used, 0)
        stamps[numbers] = interval
        if end in stops:
            distinct = int(np.count_nonzero(stamps == interval))
            working_set.append(WorkingSet(end, numbering.used, distinct))
        held = numbering.num_bytes + stack.num_bytes + stamps.nbytes
        check_memory(held + sum(part.nbytes for part in counted), max_bytes, scope, end)
    histogram = stack.histogram()
    del stack, stamps
    histogram[: len(before)] -= before
    first, second = (grown(counts, numbering.used, 0)[: numbering.used] for counts in counted)
    lru = curve_of(histogram, distinct=int(np.count_nonzero(second)))
    if lru.num_accesses == 0:
        raise NoResultError(f"{scope.name}: the second half of the trace reads no row")
    clock = {}
    if with_clock:
        sizes = log_sizes(numbering.used, NUM_CLOCK_SIZES)
        clock = _clock(source, scope, numbering, sizes, half, rows_per_page, advance)
    return Measured(
        scope=scope,
        lru=lru,
        hot=static_hot.curve(first, second),
        hindsight=static_hot.curve(second, second),
        clock={size: misses / lru.num_accesses for size, misses in clock.items()},
        histogram=histogram,
        working_set=working_set,
    )


def check_memory(held: int, max_bytes: int | None, scope: Scope, positions: int) -> None:
    """Stop while there is room: an array that grows is there twice, so as much again is needed.

    Raises:
        ResourceError: names the way out.
    """
    if max_bytes is not None and 2 * held > max_bytes:
        raise ResourceError(
            f"--max-memory: the pages of {scope.name} need more than {format_bytes(max_bytes)} "
            f"after {positions:,} tokens; take a sample of the rows (--sample 0.1), or fewer "
            "--tokens"
        )


def log_sizes(largest: int, number: int, *, span: int = 1000) -> list[int]:
    """Distinct sizes from largest / span on, evenly spaced in the logarithm."""
    low = max(1.0, largest / span)
    return sorted({round(size) for size in np.geomspace(low, max(low, largest), number)})


def _clock(
    source: Source,
    scope: Scope,
    numbering: Numbering,
    sizes: Sequence[int],
    half: int,
    rows_per_page: int,
    advance: Advance,
) -> dict[int, int]:
    """Misses of the second half by size."""
    caches = {size: Clock(size) for size in sizes}
    warm = dict.fromkeys(sizes, 0)
    for start, _, rows in parts(source, [half]):
        if start == half:
            warm = {size: cache.misses for size, cache in caches.items()}
        numbers = numbering.number(page_keys(rows, scope.tables, rows_per_page))
        for cache in caches.values():
            cache.add(numbers)
        advance(len(numbers))
    return {size: cache.misses - warm[size] for size, cache in caches.items()}


def parts(source: Source, stops: Sequence[int]) -> Iterator[tuple[int, int, Rows]]:
    """(first position, end, rows) of the trace's chunks, cut at ``stops`` too."""
    start = 0
    for chunk in source():
        end = start + len(chunk)
        cuts = [start, *(stop for stop in stops if start < stop < end), end]
        for low, high in pairwise(cuts):
            yield low, high, chunk[low - start : high - start]
        start = end
