"""Which sizes to measure, and measuring them: plan (pure) -> run (threads) -> points."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ngscale.collisions.expected import Expected, IdealHash
from ngscale.collisions.metrics import Measured, measure
from ngscale.errors import ResourceError
from ngscale.ngrams import NgramTable
from ngscale.resonance import fractions_between, nearest_rows
from ngscale.spec import check_rows
from ngscale.units import format_bytes

_COARSE_STEPS = 60
_OFFSETS = (1, 2, 3, 5, 9, 17, 31, 61, 121, 241, 481, 961)
"""Distances from an integer multiple, about log-spaced: a shoulder dies within a thousand rows."""
_FRACTION_OFFSETS = (1, 3)
_BYTES_PER_ROW = 12
"""Per thread: 4 bytes count a row's n-grams, 8 its traffic."""


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
        """Impurity over the ideal hash's; None for a single n-gram."""
        if self.distinct < 2:
            return None
        return self.measured.impurity / self.expected.impurity


def ratio_grid(low: float, high: float, base: int) -> list[int]:
    """Sizes of [low, high] x base: coarse everywhere, dense around integer multiples, and the
    nearest sizes to every p/q with q <= 6; around the two ends a little beyond the range.
    """
    first = nearest_rows(*low.as_integer_ratio(), base)
    last = nearest_rows(*high.as_integer_ratio(), base)
    step = max(1, (last - first) // _COARSE_STEPS)
    sizes = set(range(first, last + 1, step)) | {last}
    for p, q in fractions_between(low, high):
        offsets = _OFFSETS if q == 1 else _FRACTION_OFFSETS
        middle = nearest_rows(p, q, base)
        sizes |= {middle + sign * offset for offset in (0, *offsets) for sign in (-1, 1)}
    return sorted(size for size in sizes if size >= base)


def check_sizes(sizes: Sequence[int], *, base: int, max_order: int) -> None:
    """Refuse sizes that are not sizes, that overflow 64 bits, or that do not fit in memory.

    Raises:
        SpecError: a size is out of range.
        ResourceError: counting the largest table needs more memory than the machine has.
    """
    for rows in sizes:
        check_rows(rows, hash_base=base, max_order=max_order)
    needed = max(sizes) * _BYTES_PER_ROW * num_threads()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ResourceError(
            f"{max(sizes)} rows need {format_bytes(needed)} for counting, this machine has "
            f"{format_bytes(memory)}; sweep smaller sizes"
        )


def num_threads() -> int:
    """Threads the sweep uses: the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run(
    tables: Mapping[int, NgramTable],
    sizes: Mapping[int, Sequence[int]],
    *,
    hash_base: int,
    done: Callable[[], object],
) -> list[Point]:
    """Measure every size of every order; the result does not depend on the number of threads.

    Args:
        tables: n-grams by order.
        sizes: table sizes by order.
        hash_base: V of the polynomial.
        done: called after each finished table.
    """
    ideals = {order: IdealHash(tables[order]) for order in sizes}

    def point(job: tuple[int, int]) -> Point:
        order, rows = job
        table = tables[order]
        finished = Point(
            order=order,
            table_rows=rows,
            distinct=table.distinct,
            measured=measure(table, hash_base=hash_base, table_rows=rows),
            expected=ideals[order].at(rows),
        )
        done()
        return finished

    jobs = [(order, rows) for order in sorted(sizes) for rows in sizes[order]]
    with ThreadPoolExecutor(max_workers=num_threads()) as pool:
        return list(pool.map(point, jobs))
