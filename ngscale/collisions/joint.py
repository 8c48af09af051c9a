"""Several sub-tables of one order at once: who shares a row in all of them, who is lost in all."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from ngscale.collisions.occupancy import SPARSE
from ngscale.collisions.threads import Scratch, num_threads, run_jobs
from ngscale.hashing.longcat import Lanes, gram_row_ids, lane_columns
from ngscale.ngrams import NgramTable
from ngscale.spec import check_rows


class JointSharing(NamedTuple):
    """Counts over all K tables together."""

    colliding: int
    """N-grams that share their row in every table: none of the K rows is theirs alone."""
    colliding_tokens: int
    """Their occurrences in the corpus."""
    merged: int
    """N-grams for which one and the same other n-gram has their row in every table: the model
    cannot tell the two apart (identity loss)."""
    merged_tokens: int
    """Their occurrences in the corpus."""
    merged_proven_zero: bool
    """The least common multiple of the sizes alone excludes identity loss, on any text."""


def joint_sharing(
    table: NgramTable, hash_base: int, table_rows: Sequence[int], *, threads: int | None = None
) -> JointSharing:
    """All-K sharing and identity loss of the n-grams of one order in K tables.

    Raises:
        SpecError: a size is out of range.
    """
    for rows in table_rows:
        check_rows(rows, hash_base=hash_base, max_order=table.order)
    threads = min(len(table_rows), num_threads() if threads is None else threads)
    colliding = np.flatnonzero(_share_everywhere(table, hash_base, table_rows, threads))
    proven = never_merges(table, hash_base, table_rows)
    merged = colliding[:0] if proven else _merged(table, hash_base, table_rows, colliding)
    return JointSharing(
        colliding=len(colliding),
        colliding_tokens=int(table.counts[colliding].sum()),
        merged=len(merged),
        merged_tokens=int(table.counts[merged].sum()),
        merged_proven_zero=proven,
    )


def never_merges(table: NgramTable, hash_base: int, table_rows: Sequence[int]) -> bool:
    """Whether no two n-grams can share a row in every table, by their sizes alone.

    Two n-grams share all rows iff the least common multiple of the sizes divides the difference of
    their codes sum_s c_s V**s, which is below V**n for ids below V.
    """
    if math.lcm(*table_rows) < hash_base**table.order:
        return False
    return not table.tokens.size or int(table.tokens.max()) < hash_base


def _share_everywhere(
    table: NgramTable, hash_base: int, table_rows: Sequence[int], threads: int
) -> Bool[np.ndarray, " G"]:
    """Which n-grams share their row in every table; one table at a time per thread."""
    columns = lane_columns(table.tokens)
    parts: list[np.ndarray] = []

    def fresh() -> tuple[Scratch, np.ndarray]:
        parts.append(np.ones(table.distinct, dtype=np.uint8))
        return Scratch(), parts[-1]

    def work(rows: int, own: tuple[Scratch, np.ndarray]) -> None:
        scratch, shared = own
        if columns is None or rows > SPARSE * table.distinct:
            row_ids = gram_row_ids(table.tokens, hash_base=hash_base, table_rows=rows)
            shared &= repeated(row_ids)
        else:
            _keep_shared(columns, Lanes.of(hash_base, rows, table.order), rows, scratch, shared)

    # Every table once: the order of the AND does not matter, nor which thread does it.
    run_jobs(table_rows, work, fresh, threads=threads)
    everywhere: Bool[np.ndarray, " G"] = np.bitwise_and.reduce(parts).astype(np.bool_)
    return everywhere


def _keep_shared(
    columns: tuple[np.ndarray, ...], lanes: Lanes, rows: int, scratch: Scratch, shared: np.ndarray
) -> None:
    from ngscale.kernels import bitmap, scatter

    hashed = (lanes.weights, lanes.slopes, lanes.modulus)
    buffer = scratch.take("buffer", scatter.BUFFER_ROWS, np.uint32)
    pairs = scratch.zeros("pairs", rows // 32 + 1, np.uint64)
    scatter.mark_pairs(columns, *hashed, buffer, pairs)
    twice = scratch.take("twice", rows // 64 + 1, np.uint64)
    bitmap.held_twice(pairs, twice)
    scatter.keep_shared(columns, *hashed, buffer, twice, shared)


def _merged(
    table: NgramTable,
    hash_base: int,
    table_rows: Sequence[int],
    among: Int64[np.ndarray, " S"],
) -> Int64[np.ndarray, " L"]:
    """Those ``among`` the n-grams that have the same rows as another one in every table."""
    if not len(among):
        return among

    def row_ids(grams: np.ndarray, rows: int) -> np.ndarray:
        tokens = table.tokens[:, grams]
        return gram_row_ids(tokens, hash_base=hash_base, table_rows=rows).astype(np.int64)

    # Two tables at once to begin with: every n-gram shares its row in the first alone.
    first, second, *others = [*table_rows, 1, 1][: max(2, len(table_rows))]
    left = among
    codes = row_ids(left, first) * second + row_ids(left, second)
    for rows in [*others, 1]:
        kept = repeated(codes)
        left = left[kept]
        classes = np.unique(codes[kept], return_inverse=True)[1]
        codes = classes * rows + row_ids(left, rows)
    return left


def repeated(codes: np.ndarray) -> Bool[np.ndarray, " S"]:
    """Which elements occur more than once."""
    ordered = np.sort(codes)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice) == 0:
        return np.zeros(len(codes), dtype=np.bool_)
    at = np.minimum(np.searchsorted(twice, codes), len(twice) - 1)
    found: Bool[np.ndarray, " S"] = twice[at] == codes
    return found
