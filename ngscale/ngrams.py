"""TokenStream -> NgramTable: the distinct n-grams of a corpus with their counts, exactly."""

import os
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.errors import ResourceError, UsageError
from ngscale.free_memory import expect, free_bytes
from ngscale.ngram_buckets import (
    BucketPlan,
    SortedRange,
    count_first_tokens,
    plan_buckets,
    sort_range,
)
from ngscale.ngram_runs import NgramRun, PartWriter, open_run
from ngscale.tokens import TokenStream
from ngscale.units import format_bytes

MAX_ORDER = 8
_RANGE_GRAMS = 2**26
"""N-grams sorted at a time where memory is not limited; more make the scatter slower."""
_WIDE_RANGES = 4
"""Ranges where an n-gram takes several words: their memory falls to a quarter, for +30% time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NgramTable:
    """Distinct n-grams of one order, sorted by their tokens from the oldest to the newest.

    None crosses a document boundary, unless the count was told to; short ones at the start of
    a document, which a model would pad, are not counted. The arrays of a count with a run
    directory are read-only memory maps of its files: only what is read takes memory.
    """

    order: int
    tokens: UInt32[np.ndarray, "order G"]
    """Row s holds each n-gram's token s places back; row 0 is the newest."""
    counts: Int64[np.ndarray, " G"]
    """Occurrences in the corpus."""

    @property
    def distinct(self) -> int:
        """G."""
        return len(self.counts)

    @property
    def occurrences(self) -> int:
        """T: counted positions of this order."""
        return int(self.counts.sum())


def count_ngrams(
    stream: TokenStream,
    max_order: int | None = None,
    *,
    orders: Sequence[int] | None = None,
    cross_documents: bool = False,
    max_memory_bytes: int | None = None,
    directory: Path | None = None,
    threads: int | None = None,
    positions: tuple[int, int] | None = None,
) -> dict[int, NgramTable]:
    """Tables for ``orders`` (2..max_order), those of which the corpus has at least one n-gram.

    Exact at any order: n-grams are packed whole into 64-bit words, split into buckets by their
    two oldest tokens and sorted bucket by bucket; one sort serves all orders. The result does
    not depend on threads, memory or directory.

    ``max_memory_bytes`` bounds what this function allocates, on top of the process and of the
    stream (a stream mapped read-only from a file keeps no page resident): the corpus is then
    read once per range of buckets that fits. With a ``directory``, tables are files there, a
    killed count goes on where it was, and a finished one is only opened; without, the tables
    themselves must fit the bound.

    Raises:
        UsageError: an order is not in 1..8, or neither or both of the two ways are given.
        InputError: an id is not below ``vocab_size``, or the directory cannot be written.
        ResourceError: the bound is too small (the message says for what), or the disk is full.
    """
    wanted = _wanted(max_order, orders)
    threads = threads or os.cpu_count() or 1
    if not wanted or not stream.num_tokens:
        return {}
    job = _Job(
        stream=stream,
        orders=wanted,
        cross_documents=cross_documents,
        max_memory_bytes=max_memory_bytes,
        threads=threads,
        positions=positions or (0, stream.num_tokens),
    )
    with ThreadPoolExecutor(threads) as pool:
        tables = {1: _single_tokens(job, pool)} if 1 in wanted else {}
        longer = tuple(order for order in wanted if order > 1)
        if longer and directory is None:
            tables |= _count_in_memory(job, longer, pool)
        elif longer and directory is not None:
            with open_run(
                directory, stream, longer, cross_documents=cross_documents, positions=positions
            ) as run:
                tables |= _count_on_disk(job, longer, run, pool)
    return {order: table for order, table in tables.items() if table.distinct}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    stream: TokenStream
    orders: tuple[int, ...]
    cross_documents: bool
    max_memory_bytes: int | None
    threads: int
    positions: tuple[int, int]

    @property
    def num_positions(self) -> int:
        return self.positions[1] - self.positions[0]

    @property
    def frugal(self) -> bool:
        return self.max_memory_bytes is not None

    def plan(self, pool: ThreadPoolExecutor) -> BucketPlan:
        return plan_buckets(
            self.stream,
            self.positions,
            max(self.orders),
            pool,
            self.threads,
            cross_documents=self.cross_documents,
            frugal=self.frugal,
        )


def _wanted(max_order: int | None, orders: Sequence[int] | None) -> tuple[int, ...]:
    if (max_order is None) == (orders is None):
        raise UsageError("n-gram orders: give max_order or orders, one of them")
    wanted = sorted(set(range(2, (max_order or 0) + 1) if orders is None else orders))
    for order in wanted:
        if not 1 <= order <= MAX_ORDER:
            raise UsageError(f"n-gram order {order}: must be in 1..{MAX_ORDER}")
    return tuple(wanted)


def _single_tokens(job: _Job, pool: ThreadPoolExecutor) -> NgramTable:
    counts = count_first_tokens(job.stream, job.positions, pool, job.threads, frugal=job.frugal)
    ids = np.flatnonzero(counts)
    return NgramTable(order=1, tokens=ids[np.newaxis].astype(np.uint32), counts=counts[ids])


class _GrowingTable:
    """Room for as many n-grams as there may be; what stays empty was never touched."""

    def __init__(self, order: int, capacity: int) -> None:
        self.order = order
        self.capacity = capacity
        self.size = 0
        self._tokens = np.empty(order * capacity, np.uint32)
        self._counts = np.empty(capacity, np.int64)

    def take(self, part: SortedRange, pool: ThreadPoolExecutor) -> None:
        """Append the part's n-grams."""
        at = self.size + np.concatenate([[0], np.cumsum(part.distinct[self.order])])
        tokens = self._tokens.reshape(self.order, self.capacity)

        def emit(task: tuple[int, int]) -> None:
            part.emit(self.order, task, tokens, self._counts, int(at[task[0]]))

        list(pool.map(emit, part.tasks()))
        self.size = int(at[-1])

    def finish(self) -> NgramTable:
        """Close the gaps between the rows and give the rest of the room back."""
        size = self.size
        if size < self.capacity:
            for row in range(1, self.order):
                for start in range(0, size, _RANGE_GRAMS // 64):
                    num = min(_RANGE_GRAMS // 64, size - start)
                    source = row * self.capacity + start
                    target = row * size + start
                    self._tokens[target : target + num] = self._tokens[source : source + num]
            self._tokens.resize(self.order * size, refcheck=False)
            self._counts.resize(size, refcheck=False)
        tokens = self._tokens.reshape(self.order, size)
        return NgramTable(order=self.order, tokens=tokens, counts=self._counts)


def _count_in_memory(
    job: _Job, orders: tuple[int, ...], pool: ThreadPoolExecutor
) -> dict[int, NgramTable]:
    plan = job.plan(pool)
    tables: dict[int, _GrowingTable] = {}
    left = job.num_positions
    ranges = _ranges(job, plan, done={})
    if job.max_memory_bytes is None:
        most = max((int(plan.sizes[low:high].sum()) for low, high in ranges), default=0)
        expect(
            f"sorting {most} n-grams of order {max(orders)}",
            plan.num_bytes + plan.range_bytes(most, int(plan.sizes.max(initial=0))),
            "count within less (--max-memory SIZE)",
            free_bytes(),
        )
    for buckets in ranges:
        part = sort_range(job.stream, plan, buckets, orders, pool)
        left -= part.words.shape[1]
        _check_tables_fit(job, tables, part, plan)
        for order in orders:
            found = int(part.distinct[order].sum())
            table = tables.setdefault(order, _GrowingTable(order, found + left))
            table.take(part, pool)
        del part  # before the next one is collected
    return {order: table.finish() for order, table in tables.items()}


def _check_tables_fit(
    job: _Job, tables: dict[int, _GrowingTable], part: SortedRange, plan: BucketPlan
) -> None:
    if job.max_memory_bytes is None:
        return
    grams = part.words.shape[1]
    needed = plan.num_bytes + plan.range_bytes(grams, int(np.diff(part.starts).max()))
    for order, distinct in part.distinct.items():
        before = tables[order].size if order in tables else 0
        needed += (before + int(distinct.sum())) * (4 * order + 8)
    if needed > job.max_memory_bytes:
        raise ResourceError(
            f"the n-gram tables need more than {format_bytes(needed)}, the limit is "
            f"{format_bytes(job.max_memory_bytes)}; raise it or give a directory to spill to"
        )


def _count_on_disk(
    job: _Job, orders: tuple[int, ...], run: NgramRun, pool: ThreadPoolExecutor
) -> dict[int, NgramTable]:
    missing = [order for order in orders if run.load(order) is None]
    if missing:
        plan = job.plan(pool)
        done = run.parts()
        ranges = _ranges(job, plan, done)
        for low, high in ranges:
            if done.get(low) != high:
                part = sort_range(job.stream, plan, (low, high), orders, pool)
                _write_part(run, part, (low, high), pool)
                del part  # before the next one is collected
        for order in missing:
            run.join(order, ranges)
    run.finish()
    tables = {}
    for order in orders:
        loaded = run.load(order)
        assert loaded is not None
        tables[order] = NgramTable(order=order, tokens=loaded[0], counts=loaded[1])
    return tables


def _write_part(
    run: NgramRun, part: SortedRange, buckets: tuple[int, int], pool: ThreadPoolExecutor
) -> None:
    sizes = {order: int(distinct.sum()) for order, distinct in part.distinct.items()}
    with run.new_part(*buckets, sizes) as writer:
        for order, distinct in part.distinct.items():
            at = np.concatenate([[0], np.cumsum(distinct)])

            def write(
                task: tuple[int, int],
                order: int = order,
                at: Int64[np.ndarray, " n"] = at,
                writer: PartWriter = writer,
            ) -> None:
                start, end = int(at[task[0]]), int(at[task[1]])
                tokens = np.empty((order, end - start), np.uint32)
                counts = np.empty(end - start, np.int64)
                part.emit(order, task, tokens, counts, 0)
                writer.put(start, tokens, counts)

            list(pool.map(write, part.tasks()))


def _ranges(job: _Job, plan: BucketPlan, done: Mapping[int, int]) -> list[tuple[int, int]]:
    """Ranges of buckets that each fit in memory; finished ones as they are.

    Raises:
        ResourceError: one bucket alone does not fit.
    """
    sizes = plan.sizes.tolist()
    ranges: list[tuple[int, int]] = []
    low = 0
    while low < len(sizes):
        high = done.get(low, 0)
        if not high:
            high = _longest_range(job, plan, sizes, low, done)
        ranges.append((low, high))
        low = high
    return ranges


def _longest_range(
    job: _Job, plan: BucketPlan, sizes: list[int], low: int, stops: Container[int]
) -> int:
    limit = job.max_memory_bytes
    wide = plan.packing.num_words > 1
    most_grams = max(2**20, -(-job.num_positions // _WIDE_RANGES)) if wide else _RANGE_GRAMS
    grams = largest = 0
    for high in range(low, len(sizes)):
        grams += sizes[high]
        largest = max(largest, sizes[high])
        too_much = grams > most_grams
        if limit is not None:
            too_much = plan.num_bytes + plan.range_bytes(grams, largest) > limit
        if high > low and (too_much or high in stops):
            return high
        if too_much and limit is not None:
            _refuse(plan, limit)
    return len(sizes)


def _refuse(plan: BucketPlan, limit: int) -> NoReturn:
    largest = int(plan.sizes.max())
    needed = plan.num_bytes + plan.range_bytes(largest, largest)
    raise ResourceError(
        f"n-grams of order {plan.packing.order} need at least {format_bytes(needed)} of memory "
        f"({needed} bytes; {largest} of them begin alike), the limit is {format_bytes(limit)}; "
        "raise it"
    )
