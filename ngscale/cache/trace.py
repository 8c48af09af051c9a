"""The rows a design reads, in the order in which they are read.

Every position of a document reads one row of each table. Prefill reads document after document.
Decoding reads ``concurrency`` of them (or of their parts) at a time, in turn: each has
``lookahead`` positions a turn (one, or as many as are drafted and kept), and the next one begins
where one ends. Rows of rejected drafts are not in it, nor is anything merged that two sequences
read at the same time.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ngscale.errors import InputError, UsageError
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.spec import NgramSpec, check_hashed
from ngscale.tokens import TokenStream

CHUNK = 2**14
"""Positions at a time."""
_TABLE_SHIFT = 32
"""Row ids are below 2**31 (``spec.MAX_TABLE_ROWS``)."""

_ENOUGH = 64
"""Different rows that a hash puts into the same half of a table once in 2**63 times."""

Rows = Int64[np.ndarray, "positions tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """In which order positions are read."""

    concurrency: int = 1
    """Sequences at a time; 1 is prefill, or one user."""
    lookahead: int = 1
    """Positions of one sequence a turn."""
    request_tokens: int | None = None
    """Longer documents are cut into sequences of so many; None: a document is one."""
    max_tokens: int
    """The documents are read up to so many tokens."""


def rows_of_text(stream: TokenStream, specs: Sequence[NgramSpec], order: Order) -> Iterator[Rows]:
    """Rows of every table, ``NO_ROW`` (-1) where there is none, in chunks of positions."""
    reach = max(spec.max_order for spec in specs)
    for places in positions(stream, order):
        # N ids before the position and its own: a rule for the very start of a sequence meets the
        # oldest of them alone, or the stream's first.
        starts = np.maximum(places - reach, 0)
        if order.concurrency == 1:
            wanted = np.arange(starts[0], places[-1] + 1)
            ends = places - starts[0]
            window = np.zeros(len(wanted), np.int64)
        else:  # every position has a window of its own
            lengths = places - starts + 1
            ends = np.cumsum(lengths) - 1
            window = np.repeat(np.arange(len(places)), lengths)
            wanted = np.arange(lengths.sum()) - (ends - places)[window]
        segments = np.searchsorted(stream.doc_starts, wanted, side="right")
        segments += window * (stream.num_docs + 1)
        yield np.concatenate(
            [row_ids(stream.tokens[wanted], spec, segments=segments)[ends] for spec in specs],
            axis=1,
        )


def positions(stream: TokenStream, order: Order) -> Iterator[Int64[np.ndarray, " n"]]:
    """Positions of the stream as they are read, in chunks."""
    total = min(stream.num_tokens, order.max_tokens)
    if order.concurrency == 1:
        for start in range(0, total, CHUNK):
            yield np.arange(start, min(start + CHUNK, total))
        return
    turns = in_turn(sequences(stream, order), order.concurrency, order.lookahead)
    for start in range(0, total, CHUNK):
        yield turns[start : start + CHUNK]


def sequences(stream: TokenStream, order: Order) -> Int64[np.ndarray, " sequences"]:
    """Lengths of what is decoded as one: documents, or their parts, whose n-grams reach back into
    the part before.
    """
    ends = np.minimum(stream.doc_starts[1:], min(stream.num_tokens, order.max_tokens))
    lengths = ends - stream.doc_starts[:-1]
    lengths = np.asarray(lengths[lengths > 0], np.int64)
    if (most := order.request_tokens) is None:
        return lengths
    counts = -(-lengths // most)
    cut = np.full(counts.sum(), most, np.int64)
    cut[np.cumsum(counts) - 1] = lengths - (counts - 1) * most
    return cut


def in_turn(
    lengths: Int64[np.ndarray, " documents"], concurrency: int, lookahead: int
) -> Int64[np.ndarray, " tokens"]:
    """Positions of documents that lie one behind the other, as they take turns."""
    free = [(0, seat) for seat in range(concurrency)]
    begins, seats = [], []
    for length in lengths.tolist():
        turn, seat = heapq.heappop(free)
        begins.append(turn)
        seats.append(seat)
        heapq.heappush(free, (turn - -length // lookahead, seat))
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    turns = np.repeat(np.array(begins, np.int64), lengths) + within // lookahead
    keys = turns * concurrency + np.repeat(np.array(seats, np.int64), lengths)
    return np.argsort(keys, kind="stable")


def rows_of_file(path: Path, specs: Sequence[NgramSpec]) -> Iterator[Rows]:
    """The rows of a file as ``ngscale ids --npy`` writes it: int64 [positions, tables].

    Raises:
        InputError: it is no such file, is cut short, or has rows that the tables have not.
    """
    sizes = [spec.readable_rows(table) for spec in specs for table in range(spec.num_tables)]
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is no whole .npy of rows: {error}") from error
    if held.ndim != 2 or held.dtype != np.int64 or not len(held):
        raise InputError(f"{path}: is {held.dtype} {held.shape}, not int64 [positions, tables]")
    if held.shape[1] != len(sizes):
        raise InputError(
            f"{path}: has rows of {held.shape[1]} tables, the design has {len(sizes)}; it is of "
            "another design"
        )
    for start in range(0, len(held), CHUNK):
        rows = np.asarray(held[start : start + CHUNK])
        wrong = (rows < NO_ROW) | (rows >= np.array(sizes))
        if wrong.any():
            at, table = np.argwhere(wrong)[0].tolist()
            raise InputError(
                f"{path}: position {start + at}: row {rows[at, table]} is not in table {table}, "
                f"which has {sizes[table]}; it is of another design"
            )
        yield rows


def check_file(path: Path, specs: Sequence[NgramSpec]) -> int:
    """Positions of a file, all of whose rows have been looked at.

    Raises:
        InputError: as ``rows_of_file``; or many different rows and none in a table's upper half.
    """
    tables = [
        (order, spec.table_rows[i]) for spec in specs for i, order in enumerate(spec.table_orders)
    ]
    total, highest = 0, np.full(len(tables), NO_ROW)
    different = [0] * len(tables)
    for rows in rows_of_file(path, specs):
        if not total:
            different = [len(np.unique(column)) for column in rows.T]
        total += len(rows)
        highest = np.maximum(highest, rows.max(axis=0))
    for table, (order, size) in enumerate(tables):
        # A table of order 1 is read by token id, and small ids are the frequent ones.
        if order > 1 and different[table] > _ENOUGH and highest[table] < size // 2:
            raise InputError(
                f"{path}: of {size} rows of table {table} none beyond {highest[table]} is read; it "
                "is of another design"
            )
    return total


def page_keys(
    rows: Rows, tables: Sequence[int], rows_per_page: int
) -> Int64[np.ndarray, " accesses"]:
    """One number for every page read by these tables, position by position."""
    held = rows[:, list(tables)]
    keys = (np.array(tables, np.int64) << _TABLE_SHIFT) + held // rows_per_page
    read: Int64[np.ndarray, " accesses"] = keys[held != NO_ROW]
    return read


def check_order(stream: TokenStream, order: Order) -> None:
    """Refuse more sequences at a time than there are.

    Raises:
        UsageError: names how many there are.
    """
    if order.concurrency > 1 and (there := len(sequences(stream, order))) < order.concurrency:
        raise UsageError(
            f"--concurrency {order.concurrency}: the text read has {there} sequences; cut its "
            "documents into shorter ones (--request-tokens 1K), or read more --tokens"
        )


def check_stream(stream: TokenStream, specs: Sequence[NgramSpec], title: str) -> None:
    """Refuse ids that the design does not hash.

    Raises:
        UsageError: the tokenizer has more ids.
    """
    for spec in specs:
        check_hashed(title, spec, stream.vocab_size)
