"""Occupied and shared rows at many table sizes, exactly: which kernel suits which sizes.

Runs of neighbouring sizes of bigrams share one sort (``kernels/neighbours.py``), lone sizes walk
the sorted keys, other orders hash in vectors (``kernels/scatter.py``), and a handful of n-grams in
a huge table is sorted. All give the same counts, at any number of threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ngscale.collisions.threads import Done, Scratch, nobody, num_threads, run_jobs
from ngscale.hashing.longcat import Lanes, gram_codes, gram_row_ids, lane_columns
from ngscale.ngrams import NgramTable
from ngscale.spec import check_rows

_MIN_RUN = 6
"""Sizes that pay for sorting the keys once (4 ns a key, against 1 ns a key and size)."""
_MIN_LONE = 12
"""Sizes without neighbours that pay for making the keys (13 ns a key, against 1 ns)."""
_MAX_SPAN = 127
"""Largest distance within a run: sorting is then under a tenth of the run, guard zones short."""
_MIN_ROWS = 4096
"""Below, tables are smaller than the guard zones are worth."""
_OCTET = 8
_MAX_BUCKETS = 1024
"""More streams than this and the sort itself misses the TLB."""
_TABLE_BYTES = 2**28
"""Most a thread spends on the tables of one group."""
SPARSE = 64
"""From this many rows per n-gram on, sorting row ids is cheaper than clearing a bitmap."""


class Sharing(NamedTuple):
    """Per size, int64: what shares a row with another n-gram."""

    occupied: Int64[np.ndarray, " S"]
    """Rows that hold at least one n-gram."""
    colliding: Int64[np.ndarray, " S"] | None = None
    """N-grams that share their row; None where occupied rows alone were counted."""
    colliding_tokens: Int64[np.ndarray, " S"] | None = None
    """Occurrences of those n-grams in the corpus."""


def occupied_rows(
    table: NgramTable,
    hash_base: int,
    sizes: Sequence[int],
    *,
    threads: int | None = None,
    intrinsic: bool = True,
    done: Done = nobody,
) -> Int64[np.ndarray, " S"]:
    """Rows that hold at least one n-gram, at every size.

    ``intrinsic=False`` does without the one LLVM intrinsic, at the same counts.

    Raises:
        SpecError: a size is out of range.
    """
    found = _sweep(table, hash_base, sizes, threads, done, intrinsic=intrinsic, shared=False)
    return found.occupied


def sharing(
    table: NgramTable,
    hash_base: int,
    sizes: Sequence[int],
    *,
    threads: int | None = None,
    intrinsic: bool = True,
    done: Done = nobody,
) -> Sharing:
    """Occupied rows, colliding n-grams and colliding occurrences, at every size.

    Raises:
        SpecError: a size is out of range.
    """
    return _sweep(table, hash_base, sizes, threads, done, intrinsic=intrinsic, shared=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Keys:
    """Bigrams as ascending codes, in granules, and those seen more than once."""

    first: Int64[np.ndarray, " R"]
    masks: np.ndarray
    """uint64 [R], or uint8 [R] where every key is its own granule."""
    heavy: Int64[np.ndarray, " H"]
    """Codes with a count of at least 2."""
    extra: Int64[np.ndarray, " H"]
    """Their counts less 1."""
    largest: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Columns:
    """N-grams of any order as the vector kernels take them, and those seen more than once."""

    grams: tuple[np.ndarray, ...] | None
    """None if an id is too large for 32-bit lanes."""
    heavy: tuple[np.ndarray, ...]
    extra: Int64[np.ndarray, " H"]
    """Counts of the heavy n-grams less 1."""


def _sweep(
    table: NgramTable,
    hash_base: int,
    sizes: Sequence[int],
    threads: int | None,
    done: Done,
    *,
    intrinsic: bool,
    shared: bool,
) -> Sharing:
    for rows in set(sizes):
        check_rows(rows, hash_base=hash_base, max_order=table.order)
    threads = num_threads() if threads is None else threads
    todo = sorted(set(sizes))
    jobs: list[tuple[int, ...]] = [(rows,) for rows in todo]
    keys = None
    if table.order == 2:
        runs = list(_runs(hash_base**2, todo, threads))
        lone = 0 if shared else sum(len(run) == 1 for run in runs)
        if lone >= _MIN_LONE or len(runs) < len(todo):
            keys = _keys(table, hash_base, shared=shared, intrinsic=intrinsic)
        jobs = jobs if keys is None else runs
    columns = _columns(table, shared=shared) if any(len(job) == 1 for job in jobs) else None
    found = np.empty((len(todo), 3), dtype=np.int64)
    at = {rows: i for i, rows in enumerate(todo)}

    def work(job: tuple[int, ...], scratch: Scratch) -> None:
        if len(job) > 1:
            assert keys is not None
            of_run = _run(keys, table.distinct, job, scratch, shared=shared)
            found[at[job[0]] : at[job[-1]] + 1] = [of_run[rows] for rows in job]
        elif columns is None or columns.grams is None or job[0] > SPARSE * table.distinct:
            found[at[job[0]]] = _sparse(table, hash_base, job[0])
        elif keys is not None and not shared and job[0] >= max(_MIN_ROWS, hash_base):
            found[at[job[0]]] = _lone(keys, job[0], scratch), 0, 0
        else:
            lanes = Lanes.of(hash_base, job[0], table.order)
            found[at[job[0]]] = _one(columns, lanes, job[0], scratch, shared=shared)
        done(len(job))

    run_jobs(jobs, work, Scratch, threads=threads)
    results = found[[at[rows] for rows in sizes]]
    return Sharing(*np.ascontiguousarray(results.T))


def _columns(table: NgramTable, *, shared: bool) -> _Columns:
    heavy = np.flatnonzero(table.counts >= 2) if shared else np.zeros(0, dtype=np.int64)
    columns = lane_columns(table.tokens)
    return _Columns(
        grams=columns,
        heavy=() if columns is None else tuple(column[heavy] for column in columns),
        extra=table.counts[heavy] - 1,
    )


def _keys(table: NgramTable, hash_base: int, *, shared: bool, intrinsic: bool) -> _Keys | None:
    """None where bigrams have no codes of their own."""
    from ngscale.kernels.intrinsics import GRANULE_BITS, UNALIGNED
    from ngscale.kernels.neighbours import granules

    coded = gram_codes(table.tokens, hash_base=hash_base)
    if coded is None:
        return None
    (codes, ascending), counts = coded, table.counts
    if not ascending:
        order = np.argsort(codes)
        codes, counts = codes[order], counts[order]
    heavy = np.flatnonzero(counts >= 2) if shared else np.zeros(0, dtype=np.int64)
    heavy_codes = codes[heavy]
    largest = int(codes[-1]) if len(codes) else 0
    masks = np.empty(len(codes), dtype=np.uint64 if intrinsic and UNALIGNED else np.uint8)
    number = granules(codes, GRANULE_BITS if masks.itemsize == 8 else 1, masks)
    return _Keys(
        first=codes[:number],
        masks=masks[:number],
        heavy=heavy_codes,
        extra=counts[heavy] - 1,
        largest=largest,
    )


def _runs(codes: int, sizes: Sequence[int], threads: int) -> Iterator[tuple[int, ...]]:
    """Runs of neighbouring sizes where one sort of the keys serves them, else sizes one by one.

    ``codes`` is above every key, sizes ascend.
    """
    # Half the span when there would be fewer runs than threads.
    widest = _MAX_SPAN if len(sizes) > _MAX_SPAN * threads else _MAX_SPAN // 2
    start = 0
    while start < len(sizes):
        limit = sizes[start] + min(widest, _span(codes, sizes[start]))
        end = start + 1
        while end < len(sizes) and sizes[end] <= limit:
            end += 1
        if end - start < _MIN_RUN:
            end = start + 1
        yield tuple(sizes[start:end])
        start = end


def _span(codes: int, rows: int) -> int:
    """How far sizes may lie apart for guard zones of at most an eighth of the table each."""
    return rows // (4 * (codes // rows + 1)) if rows >= _MIN_ROWS else 0


def _groups(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Octets (eight sizes, 8 apart) while there are any, then the rest in order."""
    rest = set(sizes)
    if most >= _OCTET:
        for start in sizes:
            octet = [start + _OCTET * step for step in range(_OCTET)]
            if rest.issuperset(octet):
                rest.difference_update(octet)
                yield octet
    left = sorted(rest)
    for start in range(0, len(left), most):
        yield left[start : start + most]


def _is_octet(sizes: Sequence[int]) -> bool:
    return len(sizes) == _OCTET and all(
        size == sizes[0] + _OCTET * step for step, size in enumerate(sizes)
    )


def _words(bits: int) -> int:
    """Bits, rounded up to whole 64-bit words."""
    return -(-bits // 64) * 64


def _run(
    keys: _Keys, distinct: int, sizes: tuple[int, ...], scratch: Scratch, *, shared: bool
) -> dict[int, tuple[int, int, int]]:
    """(occupied, colliding, colliding tokens) of every size of a run, by size."""
    from ngscale.kernels import neighbours

    centre = (sizes[0] + sizes[-1]) // 2
    # Windows of 2 KiB, of which the L1 cache holds eight; of 1 KiB for two tables a size.
    shift = 13 if shared else 14
    while (centre - 1) >> shift >= _MAX_BUCKETS:
        shift += 1
    heads = scratch.take("heads", ((centre - 1) >> shift) + 2, np.int64)

    def ordered(
        name: str, codes: np.ndarray, payload: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = scratch.take(f"{name} p", len(codes), np.uint32)
        q = scratch.take(f"{name} q", len(codes), np.uint32)
        carried = scratch.take(name, len(codes), payload.dtype.type)
        neighbours.sort_by_row(codes, payload, centre, shift, heads, p, q, carried)
        return p, q, carried

    marked = ordered("masks", keys.first, keys.masks)
    weighed = ordered("extra", keys.heavy, keys.extra)
    zones = _Zones(centre=centre, quotient=keys.largest // centre, sizes=sizes)
    found = {}
    most = max(1, min(_OCTET, _TABLE_BYTES // (zones.stride * (1 + shared))))
    for group in _groups(sizes, most):
        results = _group(marked, weighed, zones, group, scratch, shared=shared)
        for size, (occupied, repeated, extra) in zip(group, results, strict=True):
            colliding = distinct - (occupied - repeated)
            found[size] = (occupied, colliding, colliding + extra)
    return found


class _Zones:
    """Where the tables of a run lie in memory, in bits: guard zones on both sides of each."""

    def __init__(self, *, centre: int, quotient: int, sizes: Sequence[int]) -> None:
        self.centre = centre
        self.quotient = quotient
        self.origin = self._left(max(sizes))
        last = self.origin + max(sizes) + self._right(min(sizes))
        # One word for what an unaligned access writes beyond, one for what a fold reads there.
        self.stride = _words(last + 128) // 8

    def _left(self, size: int) -> int:
        """Before row 0 of a table."""
        return _words(self.quotient * max(0, size - self.centre))

    def _right(self, size: int) -> int:
        """Behind the last row: quotients, and the tail of a granule."""
        return _words((self.quotient + 1) * max(0, self.centre - size) + 64)

    def of(self, size: int) -> tuple[int, int, int, int]:
        """(origin, rows, left zone, right zone), as ``bitmap`` wants them."""
        return self.origin, size, self._left(size), self._right(size)


Ordered = tuple[np.ndarray, np.ndarray, np.ndarray]


def _group(
    marked: Ordered,
    weighed: Ordered,
    zones: _Zones,
    sizes: list[int],
    scratch: Scratch,
    *,
    shared: bool,
) -> Iterator[tuple[int, int, int]]:
    """(occupied rows, rows held twice, extra weight on those) of up to eight sizes at once."""
    from ngscale.kernels import bitmap, neighbours

    origin, stride, octet = zones.origin, zones.stride, _is_octet(sizes)
    deltas = np.array(sizes, dtype=np.int64) - zones.centre
    tables = scratch.zeros("tables", (1 + shared) * len(sizes) * stride, np.uint8)
    words = tables.view(np.uint64).reshape(1 + shared, len(sizes), stride // 8)
    if not shared:
        neighbours.mark(*marked, origin, deltas, octet, stride, tables)
        for size, occupied in zip(sizes, words[0], strict=True):
            bitmap.fold(occupied, *zones.of(size))
            yield int(bitmap.count(occupied, origin, size, bitmap.ALL)), 0, 0
        return
    neighbours.mark_twice(*marked, origin, deltas, octet, stride, tables)
    for size, occupied, twice in zip(sizes, *words, strict=True):
        bitmap.fold_twice(occupied, twice, *zones.of(size))
        bitmap.unfold(twice, *zones.of(size))
    extra = np.empty(len(sizes), dtype=np.int64)
    behind = tables[len(sizes) * stride :]
    neighbours.weigh(*weighed, origin, deltas, octet, stride, behind, extra)
    for size, occupied, twice, weight in zip(sizes, *words, extra, strict=True):
        held = int(bitmap.count(occupied, origin, size, bitmap.ALL))
        yield held, int(bitmap.count(twice, origin, size, bitmap.ALL)), int(weight)


def _one(
    columns: _Columns, lanes: Lanes, rows: int, scratch: Scratch, *, shared: bool
) -> tuple[int, int, int]:
    """(occupied, colliding, colliding tokens) at one size, of any order."""
    from ngscale.kernels import bitmap, scatter

    assert columns.grams is not None
    hashed = (lanes.weights, lanes.slopes, lanes.modulus)
    buffer = scratch.take("buffer", scatter.BUFFER_ROWS, np.uint32)
    if not shared:
        words = scratch.zeros("tables", rows // 64 + 1, np.uint64)
        scatter.mark(columns.grams, *hashed, buffer, words)
        return int(bitmap.count(words, 0, rows, bitmap.ALL)), 0, 0
    words = scratch.zeros("tables", rows // 32 + 1, np.uint64)
    scatter.mark_pairs(columns.grams, *hashed, buffer, words)
    occupied = int(bitmap.count(words, 0, 2 * rows, bitmap.EVEN))
    repeated = int(bitmap.count(words, 0, 2 * rows, bitmap.ODD))
    colliding = len(columns.grams[0]) - (occupied - repeated)
    twice = scratch.take("twice", rows // 64 + 1, np.uint64)
    bitmap.held_twice(words, twice)
    extra = scatter.weigh(columns.heavy, *hashed, buffer, twice, columns.extra)
    return occupied, colliding, colliding + int(extra)


def _lone(keys: _Keys, rows: int, scratch: Scratch) -> int:
    """Occupied rows of bigrams at one size."""
    from ngscale.kernels import bitmap, neighbours

    words = scratch.zeros("tables", rows // 64 + 4, np.uint64)
    neighbours.mark_one(keys.first, keys.masks, rows, words.view(np.uint8))
    bitmap.fold(words, 0, rows, 0, 64)
    return int(bitmap.count(words, 0, rows, bitmap.ALL))


def _sparse(table: NgramTable, hash_base: int, rows: int) -> tuple[int, int, int]:
    """The same by sorting row ids: memory does not grow with the table."""
    row_ids = gram_row_ids(table.tokens, hash_base=hash_base, table_rows=rows)
    _, row, grams = np.unique(row_ids, return_inverse=True, return_counts=True)
    colliding = grams[row] > 1
    return len(grams), int(colliding.sum()), int(table.counts[colliding].sum())
