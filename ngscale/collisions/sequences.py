"""The per-sequence counting rule: collisions within each of S sequences, added up.

The only plausible reading of arXiv:2601.21204 sec. 3.1 ("n-gram collision counts over 100 training
sequences"): its baseline of 0 to 1,600 does not fit pooled counting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.collisions.expected import Expected, expected_occupied, occupied_variance
from ngscale.collisions.metrics import Measured
from ngscale.errors import UsageError
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import count_ngrams
from ngscale.tokens import TokenStream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceNgrams:
    """Distinct n-grams of each of S sequences, one sequence after another."""

    order: int
    tokens: UInt32[np.ndarray, "order G"]
    """Row s holds each n-gram's token s places back."""
    starts: Int64[np.ndarray, " S_plus_1"]
    """Index of each sequence's first n-gram, and G at the end."""

    @property
    def distinct(self) -> int:
        """G: distinct n-grams summed over sequences."""
        return int(self.starts[-1])


def draw_sequences(stream: TokenStream, num_sequences: int, length: int) -> list[TokenStream]:
    """Evenly spaced windows that do not overlap; documents keep their boundaries inside them.

    Raises:
        UsageError: the corpus has fewer than ``num_sequences * length`` tokens.
    """
    if num_sequences * length > stream.num_tokens:
        raise UsageError(
            f"{num_sequences} sequences of {length} tokens need {num_sequences * length:,} tokens, "
            f"the corpus has {stream.num_tokens:,}; lower --sequences or --sequence-length"
        )
    starts = np.linspace(0, stream.num_tokens - length, num_sequences).astype(np.int64)
    return [_window(stream, int(start), length) for start in starts]


def _window(stream: TokenStream, start: int, length: int) -> TokenStream:
    inside = stream.doc_starts[(stream.doc_starts > start) & (stream.doc_starts < start + length)]
    return TokenStream(
        tokens=np.asarray(stream.tokens[start : start + length]),
        doc_starts=np.concatenate([[0], inside - start, [length]]).astype(np.int64),
        vocab_size=stream.vocab_size,
        num_bytes=0,
    )


def sequence_ngrams(windows: Sequence[TokenStream], orders: Sequence[int]) -> list[SequenceNgrams]:
    """Distinct n-grams of every window, for each order."""
    tables = [count_ngrams(window, max(orders)) for window in windows]
    result = []
    for order in orders:
        grams = [table[order].tokens for table in tables if order in table]
        if not grams:
            raise UsageError(f"no sequence has a {order}-gram; raise --sequence-length")
        starts = np.cumsum([0, *(gram.shape[1] for gram in grams)], dtype=np.int64)
        result.append(
            SequenceNgrams(order=order, tokens=np.concatenate(grams, axis=1), starts=starts)
        )
    return result


def measure_sequences(grams: SequenceNgrams, scheme: Scheme, table_rows: int) -> Measured:
    """Rows touched and collisions within each sequence, summed over sequences."""
    from ngscale.kernels.occupancy import distinct_rows_by_sequence

    row_ids = scheme.rows(grams.tokens, table_rows)
    scratch = np.empty(table_rows, dtype=np.int32)
    occupied = int(distinct_rows_by_sequence(row_ids, grams.starts, scratch))
    return Measured(occupied=occupied, collisions=grams.distinct - occupied)


def expect_sequences(grams: SequenceNgrams, table_rows: int) -> Expected:
    """The ideal hash's expectation, summed over sequences."""
    sizes = np.diff(grams.starts)
    occupied = float(expected_occupied(sizes, table_rows).sum())
    variance = float(occupied_variance(sizes, table_rows).sum())
    return Expected(
        occupied=occupied, collisions=grams.distinct - occupied, collisions_sd=variance**0.5
    )
