"""Measuring many table sizes: check -> run (threads) -> points."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ngscale.collisions.expected import Expected, IdealHash, expect_sharing, expected_occupied
from ngscale.collisions.metrics import Measured, measure
from ngscale.collisions.occupancy import Sharing, occupied_rows, sharing
from ngscale.collisions.sequences import SequenceNgrams, expect_sequences, measure_sequences
from ngscale.collisions.threads import Done, Scratch, num_threads
from ngscale.free_memory import expect, free_bytes
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable

_BYTES_PER_ROW = 8
"""Per thread: a row's traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One table: an order and a size, measured beside the ideal hash."""

    order: int
    table_rows: int
    distinct: int
    measured: Measured
    expected: Expected

    @property
    def collision_excess(self) -> float | None:
        """Collisions over the ideal hash's; None for a single n-gram, which has nothing to hit."""
        if self.distinct < 2:
            return None
        return self.measured.collisions / self.expected.collisions

    @property
    def impurity_excess(self) -> float | None:
        """Impurity over the ideal hash's; None where the rule does not define it."""
        if self.distinct < 2 or self.measured.impurity is None or self.expected.impurity is None:
            return None
        return self.measured.impurity / self.expected.impurity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharingSweep:
    """Sharing at many sizes of one order, as arrays: a sweep may have a million of them."""

    order: int
    distinct: int
    occurrences: int
    sizes: Int64[np.ndarray, " S"]
    measured: Sharing
    exact: Bool[np.ndarray, " S"] | None = None
    """Where ``measured`` is counted, elsewhere predicted; None if all of it is counted."""

    def excess(self) -> Float64[np.ndarray, " S"]:
        """Collisions over the ideal hash's; the order has at least two n-grams."""
        expected = self.distinct - expected_occupied(self.distinct, self.sizes)
        ratio: Float64[np.ndarray, " S"] = (self.distinct - self.measured.occupied) / expected
        return ratio

    def points(self, among: Iterable[int] | None = None) -> list[Point]:
        """The tables with these indices, or all of them, one by one."""
        return [self._point(i) for i in (range(len(self.sizes)) if among is None else among)]

    def _point(self, i: int) -> Point:
        assert self.exact is None or self.exact[i], "only what was counted is a point"
        occupied, colliding, tokens = (
            None if counts is None else int(counts[i]) for counts in self.measured
        )
        assert occupied is not None
        return Point(
            order=self.order,
            table_rows=int(self.sizes[i]),
            distinct=self.distinct,
            measured=Measured(
                occupied=occupied,
                collisions=self.distinct - occupied,
                colliding=colliding,
                token_weighted=None if tokens is None else tokens / self.occurrences,
            ),
            expected=expect_sharing(self.distinct, int(self.sizes[i])),
        )


def check_sizes(scheme: Scheme, sizes: Iterable[int], *, vocab_size: int, max_order: int) -> None:
    """Refuse sizes the scheme cannot hash exactly, and sizes that do not fit in memory.

    Raises:
        SpecError: a size is out of range, or the arithmetic would overflow.
        ResourceError: counting the largest table needs more memory than is free.
    """
    sizes = list(sizes)
    for rows in sizes:
        scheme.check(vocab_size=vocab_size, table_rows=rows, max_order=max_order)
    needed = max(sizes) * _BYTES_PER_ROW * num_threads()
    expect(f"counting {max(sizes)} rows", needed, "sweep smaller sizes", free_bytes())


def run(
    tables: Mapping[int, NgramTable],
    sizes: Mapping[int, Sequence[int]],
    scheme: Scheme,
    done: Done,
) -> list[Point]:
    """Measure every size of every order, pooled over the corpus.

    Both mappings are by order; the result does not depend on the number of threads.
    """
    ideals = {order: IdealHash(tables[order], sizes[order]) for order in sizes}
    own = threading.local()

    def point(order: int, rows: int) -> Point:
        if not hasattr(own, "scratch"):
            own.scratch = Scratch()
        return Point(
            order=order,
            table_rows=rows,
            distinct=tables[order].distinct,
            measured=measure(tables[order], scheme, rows, own.scratch),
            expected=ideals[order].at(rows),
        )

    return _in_threads(point, sizes, done)


def run_sharing(
    tables: Mapping[int, NgramTable],
    sizes: Mapping[int, Sequence[int]],
    hash_base: int,
    done: Done,
    *,
    shared: bool = True,
) -> list[SharingSweep]:
    """Sharing, or occupied rows alone, pooled over the corpus, by the polynomial's fast kernels."""

    def count(order: int) -> Sharing:
        if shared:
            return sharing(tables[order], hash_base, sizes[order], done=done)
        return Sharing(occupied_rows(tables[order], hash_base, sizes[order], done=done))

    return [as_sweep(tables[order], sizes[order], count(order)) for order in sorted(sizes)]


def as_sweep(table: NgramTable, sizes: Sequence[int], measured: Sharing) -> SharingSweep:
    """What was counted of ``table``, with what the points need to know of it."""
    return SharingSweep(
        order=table.order,
        distinct=table.distinct,
        occurrences=table.occurrences,
        sizes=np.array(sizes, dtype=np.int64),
        measured=measured,
    )


def run_sequences(
    grams: Mapping[int, SequenceNgrams],
    sizes: Mapping[int, Sequence[int]],
    scheme: Scheme,
    done: Done,
) -> list[Point]:
    """The same by the per-sequence rule."""

    def point(order: int, rows: int) -> Point:
        return Point(
            order=order,
            table_rows=rows,
            distinct=grams[order].distinct,
            measured=measure_sequences(grams[order], scheme, rows),
            expected=expect_sequences(grams[order], rows),
        )

    return _in_threads(point, sizes, done)


def _in_threads(
    point: Callable[[int, int], Point], sizes: Mapping[int, Sequence[int]], done: Done
) -> list[Point]:
    def job(order: int, rows: int) -> Point:
        finished = point(order, rows)
        done(1)
        return finished

    jobs = [(order, rows) for order in sorted(sizes) for rows in sizes[order]]
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        return list(pool.map(job, *zip(*jobs, strict=True)))
