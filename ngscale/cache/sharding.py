"""Rows and reads of every rank: whole tables, ranges of rows, or everything everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ngscale.cache.measure import Source
from ngscale.hashing.stream import NO_ROW
from ngscale.spec import NgramSpec

INT32_LIMIT = 2**31
"""Elements that 32-bit signed offsets reach, from 0 on."""
_NAMES = ("head-split", "row-split", "replicated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank's part."""

    rows: int
    """Stored."""
    mean_reads: float
    """Of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to spread tables over ranks, and the reads of a step it leads to."""

    name: str
    ranks: tuple[Rank, ...]
    rows_of_busiest: int
    """Stored by the rank that stores most."""
    mean_reads: float
    """Of a rank and step."""
    busiest_reads: float
    """Of the rank with most of them, step by step, on average over steps."""
    skew: float
    """Reads of the busiest rank of the whole trace over the mean rank's."""
    wide_offsets: bool
    """Whether a rank's rows x columns, stored as one, are more than 2**31."""


def splits(
    source: Source,
    specs: Sequence[NgramSpec],
    *,
    num_ranks: int,
    step_tokens: int,
    num_positions: int,
    width: int,
) -> list[Split]:
    """Whole tables (a head's each), ranges of rows, copies (ranks take the tokens in turn)."""
    sizes = np.array([spec.readable_rows(t) for spec in specs for t in range(spec.num_tables)])
    ranges = -(-sizes // num_ranks)
    homes = np.arange(len(sizes)) % num_ranks
    num_steps = -(-num_positions // step_tokens)
    reads = np.zeros((3, num_steps * num_ranks), np.int64)
    start = 0
    for rows in source():
        places = np.arange(start, start + len(rows))[:, None]
        steps = places // step_tokens * num_ranks
        for i, ranks in enumerate((homes[None, :], rows // ranges, places % num_ranks)):
            cells = np.broadcast_to(steps + ranks, rows.shape)[rows != NO_ROW]
            reads[i] += np.bincount(cells, minlength=reads.shape[1])
        start += len(rows)
    each = range(num_ranks)
    stored = (
        [int(sizes[homes == rank].sum()) for rank in each],
        [int(np.clip(sizes - rank * ranges, 0, ranges).sum()) for rank in each],
        [int(sizes.sum())] * num_ranks,
    )
    return [
        _split(name, rows, counts.reshape(num_steps, num_ranks), width)
        for name, rows, counts in zip(_NAMES, stored, reads, strict=True)
    ]


def _split(name: str, rows: Sequence[int], reads: np.ndarray, width: int) -> Split:
    totals = reads.sum(axis=0)
    means = reads.mean(axis=0).tolist()
    return Split(
        name=name,
        ranks=tuple(Rank(rows=n, mean_reads=m) for n, m in zip(rows, means, strict=True)),
        rows_of_busiest=max(rows),
        mean_reads=float(reads.mean()),
        busiest_reads=float(reads.max(axis=1).mean()),
        skew=float(totals.max() / totals.mean()),
        wide_offsets=max(rows) * width > INT32_LIMIT,
    )


class Offsets(NamedTuple):
    """How far the elements of tables stored as one reach."""

    stored: str
    rows: int
    elements: int
    """Rows x columns."""
    wide: bool
    """Whether an offset needs more than 32 bits."""


def offsets(specs: Sequence[NgramSpec], width: int) -> list[Offsets]:
    """Of every table by itself, and of a layer's tables one below the other."""
    found = []
    for spec in specs:
        where = f"layer {spec.layers[0]}, " if len(specs) > 1 and spec.layers else ""
        for table, order in enumerate(spec.table_orders):
            found.append((f"{where}table {table} ({order}-grams)", spec.readable_rows(table)))
        found.append((f"{where}all tables, padded", spec.physical_rows))
    return [Offsets(name, rows, rows * width, rows * width > INT32_LIMIT) for name, rows in found]
