"""TokenStream -> NgramTable: the distinct n-grams of a corpus with their counts, exactly."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.errors import ResourceError
from ngscale.tokens import TokenStream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NgramTable:
    """Distinct n-grams of one order. None crosses a document boundary; short ones at the start
    of a document, which a model would pad, are not counted.
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


def count_ngrams(stream: TokenStream, max_order: int) -> dict[int, NgramTable]:
    """Tables for orders 2..max_order (those of which the corpus has at least one n-gram).

    An n-gram is the pair (rank of its first n-1 tokens among the distinct (n-1)-grams, last
    token), which fits 64 bits at any order, so no fingerprint is needed.

    Raises:
        ResourceError: the corpus is too long for 64-bit codes.
    """
    if stream.num_tokens * stream.vocab_size >= 2**63:
        raise ResourceError(
            f"{stream.num_tokens} tokens of {stream.vocab_size} ids exceed 64-bit n-gram codes"
        )
    tokens = stream.tokens.astype(np.int64)
    position_in_doc = np.arange(len(tokens)) - np.repeat(
        stream.doc_starts[:-1], np.diff(stream.doc_starts)
    )
    ranks = tokens.copy()
    tables: dict[int, NgramTable] = {}
    for order in range(2, max_order + 1):
        ends = np.flatnonzero(position_in_doc >= order - 1)
        if len(ends) == 0:
            break
        codes = ranks[ends - 1] * stream.vocab_size + tokens[ends]
        _, first, inverse, counts = np.unique(
            codes, return_index=True, return_inverse=True, return_counts=True
        )
        ranks[ends] = inverse
        newest = ends[first]
        grams = np.stack([stream.tokens[newest - back] for back in range(order)])
        tables[order] = NgramTable(order=order, tokens=grams, counts=counts.astype(np.int64))
    return tables
