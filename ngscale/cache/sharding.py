"""Rows and reads of every rank: whole tables, ranges of rows, or everything everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ngscale.cache.measure import Source
from ngscale.hashing.stream import NO_ROW
from ngscale.spec import NgramSpec

INT32_LIMIT = 2**31
"""Offsets of elements, and row ids of tables stored as one, from here on need 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to spread tables over ranks, and the reads of a step it leads to."""

    name: str
    rows_of_busiest: int
    """Stored by the rank that stores most."""
    mean_reads: float
    """Of a rank and step."""
    busiest_reads: float
    """Of the rank with most of them, step by step, on average over steps."""
    skew: float
    """Reads of the busiest rank of the whole trace over the mean rank's."""
    wide_offsets: bool
    """Whether rows x columns of a rank's rows, stored as one, reach 2**31."""


def splits(
    source: Source,
    specs: Sequence[NgramSpec],
    *,
    num_ranks: int,
    step_tokens: int,
    num_positions: int,
    width: int,
) -> list[Split]:
    """By tables, by rows, and copies (whose ranks take every ``num_ranks``-th token)."""
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
    stored = (
        max(int(sizes[homes == rank].sum()) for rank in range(num_ranks)),
        int(ranges.sum()),
        int(sizes.sum()),
    )
    return [
        _split(name, rows, counts.reshape(num_steps, num_ranks), width)
        for name, rows, counts in zip(("tables", "rows", "copies"), stored, reads, strict=True)
    ]


def _split(name: str, rows: int, reads: np.ndarray, width: int) -> Split:
    totals = reads.sum(axis=0)
    return Split(
        name=name,
        rows_of_busiest=rows,
        mean_reads=float(reads.mean()),
        busiest_reads=float(reads.max(axis=1).mean()),
        skew=float(totals.max() / totals.mean()),
        wide_offsets=rows * width >= INT32_LIMIT,
    )
