"""Where the n-grams of a corpus stand: what it takes to draw its documents again.

Of a long corpus a sample of the n-grams, each with all its occurrences: an n-gram is in the
sample or not by a hash of its tokens, so sums over n-grams are estimated without bias.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Int64, UInt32

from ngscale.hashing.byte_hashes import Ideal
from ngscale.tokens import TokenStream

MAX_OCCURRENCES = 2**20
"""A corpus of more tokens is sampled: about so many occurrences are kept of an order."""
_CHUNK = 2**22
_SAMPLE_KEY, _HIGH_KEY, _LOW_KEY = 101, 102, 103


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Occurrences:
    """Occurrences of n-grams of one order, in no particular order."""

    grams: Int32[np.ndarray, " P"]
    """Which n-gram, 0 .. num_grams - 1."""
    docs: Int32[np.ndarray, " P"]
    """In which document."""
    offsets: Int64[np.ndarray, " P"]
    """How many tokens of the document stand before its newest token."""
    num_grams: int
    doc_tokens: Int64[np.ndarray, " D"]
    """Tokens of each document."""
    weight: int
    """How many n-grams of the corpus one of these stands for."""

    @property
    def num_docs(self) -> int:
        """D."""
        return len(self.doc_tokens)

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.doc_tokens.sum())

    def shuffled(self, rng: np.random.Generator) -> Int64[np.ndarray, " P"]:
        """Where each occurrence stands when the documents follow each other in random order."""
        return np.asarray(self._starts(rng.permutation(self.num_docs))[self.docs] + self.offsets)

    def first(self, num_tokens: int, rng: np.random.Generator) -> "Occurrences":
        """The first ``num_tokens`` of the documents in random order; the last one is cut there."""
        starts = self._starts(rng.permutation(self.num_docs))
        kept = starts[self.docs] + self.offsets < num_tokens
        lengths = np.clip(num_tokens - starts, 0, self.doc_tokens)
        doc_of = np.cumsum(lengths > 0) - 1
        grams = self.grams[kept]
        seen = np.bincount(grams, minlength=self.num_grams) > 0
        return replace(
            self,
            grams=(np.cumsum(seen) - 1).astype(np.int32)[grams],
            docs=doc_of.astype(np.int32)[self.docs[kept]],
            offsets=self.offsets[kept],
            num_grams=int(seen.sum()),
            doc_tokens=lengths[lengths > 0],
        )

    def spectrum(self) -> tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " C"]]:
        """Counts that occur, and how many of these n-grams have each."""
        return np.unique(np.bincount(self.grams), return_counts=True)

    def in_documents(self, number: int) -> int:
        """N-grams that occur in exactly ``number`` documents, once or more in each."""
        pairs = np.unique(self.grams.astype(np.int64) * self.num_docs + self.docs)
        return int(np.count_nonzero(np.bincount(pairs // self.num_docs) == number))

    def _starts(self, order: Int64[np.ndarray, " D"]) -> Int64[np.ndarray, " D"]:
        starts = np.empty(self.num_docs, dtype=np.int64)
        starts[order] = np.cumsum(self.doc_tokens[order]) - self.doc_tokens[order]
        return starts


def draw(
    stream: TokenStream,
    order: int,
    *,
    cross_documents: bool = False,
    max_occurrences: int = MAX_OCCURRENCES,
) -> Occurrences:
    """Occurrences of the n-grams that ``ngrams.count_ngrams`` counts, of every k-th by a hash.

    N-grams are told apart by 62 bits of two hashes: of a million, some pair would be taken for
    one in one of eight million samples.
    """
    weight = -(-stream.num_tokens // max_occurrences)
    keys, positions = [], []
    for start in range(0, stream.num_tokens - order + 1, _CHUNK):
        newest = np.arange(start + order - 1, min(start + order - 1 + _CHUNK, stream.num_tokens))
        if not cross_documents:
            newest = newest[_inside(stream, newest, order)]
        grams = _windows(stream, newest, order)
        if weight > 1:
            chosen = Ideal(seed=_SAMPLE_KEY).rows(grams, weight) == 0
            newest, grams = newest[chosen], np.ascontiguousarray(grams[:, chosen])
        high = Ideal(seed=_HIGH_KEY).rows(grams, 2**31).astype(np.int64)
        keys.append(high << 31 | Ideal(seed=_LOW_KEY).rows(grams, 2**31))
        positions.append(newest)
    at = np.concatenate(positions)
    found, which = np.unique(np.concatenate(keys), return_inverse=True)
    docs = np.searchsorted(stream.doc_starts, at, side="right") - 1
    return Occurrences(
        grams=which.astype(np.int32),
        docs=docs.astype(np.int32),
        offsets=at - stream.doc_starts[docs],
        num_grams=len(found),
        doc_tokens=np.diff(stream.doc_starts),
        weight=weight,
    )


def _inside(
    stream: TokenStream, newest: Int64[np.ndarray, " C"], order: int
) -> Int64[np.ndarray, " K"]:
    """Indices of the n-grams that begin in the document they end in."""
    docs = np.searchsorted(stream.doc_starts, newest, side="right") - 1
    return np.flatnonzero(newest - stream.doc_starts[docs] >= order - 1)


def _windows(
    stream: TokenStream, newest: Int64[np.ndarray, " C"], order: int
) -> UInt32[np.ndarray, "order C"]:
    return np.stack([stream.tokens[newest - back] for back in range(order)])
