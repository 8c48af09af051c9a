"""Measuring many table sizes: check -> run (threads) -> points."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ngscale.collisions.expected import Expected, IdealHash
from ngscale.collisions.metrics import Measured, measure
from ngscale.collisions.sequences import SequenceNgrams, expect_sequences, measure_sequences
from ngscale.collisions.threads import Scratch, num_threads
from ngscale.errors import ResourceError
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable
from ngscale.units import format_bytes

_BYTES_PER_ROW = 8
"""Per thread: a row's traffic."""

Done = Callable[[], object]
"""Called after each finished table."""


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


def check_sizes(scheme: Scheme, sizes: Iterable[int], *, vocab_size: int, max_order: int) -> None:
    """Refuse sizes the scheme cannot hash exactly, and sizes that do not fit in memory.

    Raises:
        SpecError: a size is out of range, or the arithmetic would overflow.
        ResourceError: counting the largest table needs more memory than the machine has.
    """
    sizes = list(sizes)
    for rows in sizes:
        scheme.check(vocab_size=vocab_size, table_rows=rows, max_order=max_order)
    needed = max(sizes) * _BYTES_PER_ROW * num_threads()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ResourceError(
            f"{max(sizes)} rows need {format_bytes(needed)} for counting, this machine has "
            f"{format_bytes(memory)}; sweep smaller sizes"
        )


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
        done()
        return finished

    jobs = [(order, rows) for order in sorted(sizes) for rows in sizes[order]]
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        return list(pool.map(job, *zip(*jobs, strict=True)))
