"""Exact LRU miss ratios of every cache size in one pass over a trace.

Memory is bounded by the distinct rows: times of last accesses are numbered anew whenever they have
run through twice as many as there are rows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

_GROUP_BITS, _REGION_BITS = 2**12, 2**18
"""Times of a group of 64 words, and of a region of 64 groups (``ngscale/kernels/reuse.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Hits of a trace at every cache size."""

    hits: Int64[np.ndarray, " sizes"]
    """Of a cache of 0, 1, 2, ... rows; the last one holds for every larger cache."""
    num_accesses: int
    distinct: int
    """Rows accessed at least once."""

    def misses_at(self, rows: int) -> int:
        """Misses of a cache of so many rows."""
        return self.num_accesses - int(self.hits[min(rows, len(self.hits) - 1)])

    def miss_ratio_at(self, rows: int) -> float:
        """Share of the accesses that miss."""
        return self.misses_at(rows) / self.num_accesses

    def rows_for(self, miss_ratio: float) -> int | None:
        """The fewest rows that miss at most this share; None where no size does."""
        needed = self.num_accesses - int(miss_ratio * self.num_accesses)
        size = int(np.searchsorted(self.hits, needed))
        return size if size < len(self.hits) else None


def curve_of(histogram: Int64[np.ndarray, " distances"], *, distinct: int) -> Curve:
    """The curve of the accesses at each stack distance, first accesses at 0."""
    hits = np.cumsum(histogram)
    return Curve(hits=hits - histogram[0], num_accesses=int(hits[-1]), distinct=distinct)


class StackDistances:
    """LRU stack distances of a trace that comes in chunks of row numbers."""

    def __init__(self) -> None:
        self.live = 0
        """Distinct rows so far."""
        self.num_accesses = 0
        self._now = 0
        self._last = np.full(1, -1, np.int32)
        self._histogram = np.zeros(2, np.int64)
        self._slot_at = np.empty(0, np.int32)
        self._make_room(_GROUP_BITS)

    def add(self, numbers: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """Distance of each access, 0 where its row is new. Numbers are dense: ``Numbering``'s."""
        from ngscale.kernels.reuse import stack_distances, tally

        distances = np.empty(len(numbers), np.int32)
        if len(numbers) == 0:
            return distances
        rows = int(numbers.max()) + 1
        self._last = grown(self._last, rows, -1)
        self._histogram = grown(self._histogram, rows + 1, 0)
        done = 0
        while done < len(numbers):
            if self._now == len(self._slot_at):
                self._compact()
            count, now, live = stack_distances(
                numbers[done:],
                self._last,
                self._slot_at,
                self._marks,
                *self._sums,
                self._now,
                self.live,
                distances[done:],
            )
            self._now, self.live, done = int(now), int(live), done + int(count)
        self.num_accesses += len(numbers)
        tally(distances, self._histogram)
        return distances

    def histogram(self) -> Int64[np.ndarray, " distances"]:
        """Accesses at each distance; at 0 the first accesses of rows."""
        return self._histogram[: self.live + 1].copy()

    @property
    def num_bytes(self) -> int:
        """Of all it holds."""
        held = (self._last, self._histogram, self._slot_at, self._marks, *self._sums)
        return sum(array.nbytes for array in held)

    def _compact(self) -> None:
        """Number the live times anew from 0 on; room for as many again at least."""
        from ngscale.kernels.reuse import compact, enter

        self._now = int(compact(self._last, self._slot_at, self._marks, self._now))
        if 2 * self._now > len(self._slot_at):
            self._make_room(2 * len(self._slot_at))
        enter(self._marks, *self._sums, self._now)

    def _make_room(self, capacity: int) -> None:
        """So many times; marks and sums are empty."""
        slot_at = np.empty(capacity, np.int32)
        slot_at[: self._now] = self._slot_at[: self._now]
        self._slot_at = slot_at
        self._marks = np.zeros(capacity // 64, np.uint64)
        groups, regions = -(-capacity // _REGION_BITS), -(-capacity // (64 * _REGION_BITS))
        self._sums = (
            np.zeros(capacity // 64, np.int16),
            np.zeros(64 * groups, np.int32),
            np.zeros(64 * regions, np.int32),
        )


def grown(array: np.ndarray, size: int, fill: int) -> np.ndarray:
    """The array, or one of at least ``size`` that begins with it: half as long again at least."""
    if size <= len(array):
        return array
    longer = np.full(max(size, len(array) * 3 // 2), fill, array.dtype)
    longer[: len(array)] = array
    return longer
