"""Tokens -> sorted n-grams, one range of buckets at a time: the plan, the scatter and the sort.

No rank, fingerprint or position: an n-gram of any order is packed whole, so what is counted is
exact, and what one range of buckets needs in memory does not depend on the other ranges.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int64, UInt32, UInt64

from ngscale.errors import InputError, ResourceError
from ngscale.kernels.radix import (
    assign_buckets,
    count_buckets,
    count_distinct,
    count_tokens,
    emit_grams,
    scatter_columns,
    scatter_words,
    sort_buckets,
)
from ngscale.resident import AROUND_BYTES, give_back, let_go
from ngscale.tokens import TokenStream

_CHUNK_TOKENS = 2**18
"""Tokens that a thread reads at a time."""
_TASK_GRAMS = 2**18
"""N-grams that a thread sorts or writes at a time, more only where a bucket is larger."""
_BUCKET_GRAMS = 2**16
"""Fits the second-level cache twice; smaller buckets make the scatter slower."""
_MAX_BUCKETS = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How an n-gram of ``order`` tokens lies in 64-bit words: no field straddles two."""

    order: int
    vocab_size: int

    @property
    def bits(self) -> int:
        """Of a field, which holds 0 .. V0."""
        return self.vocab_size.bit_length()

    @property
    def num_words(self) -> int:
        """W."""
        return -(-self.order // self._fields_per_word)

    @property
    def _fields_per_word(self) -> int:
        return 64 // self.bits

    @property
    def word_of(self) -> Int64[np.ndarray, " order"]:
        """The word of each field, oldest token first."""
        words = [field // self._fields_per_word for field in range(self.order)]
        return np.array(words, dtype=np.int64)

    @property
    def shift_of(self) -> UInt64[np.ndarray, " order"]:
        """The shift of each field in its word, oldest token first."""
        fields = np.arange(self.order, dtype=np.int64)
        ends = np.minimum((self.word_of + 1) * self._fields_per_word, self.order)
        return np.asarray((ends - 1 - fields) * self.bits, dtype=np.uint64)

    @property
    def tops(self) -> UInt64[np.ndarray, " W"]:
        """The shift of each word's oldest field."""
        return self.shift_of[:: self._fields_per_word]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BucketPlan:
    """Which n-gram goes to which bucket, and how many do: a function of tokens and order."""

    packing: Packing
    doc_starts: Int64[np.ndarray, " num_docs_plus_1"]
    token_counts: Int64[np.ndarray, " V0"]
    entry: UInt32[np.ndarray, " V0"]
    spans: tuple[tuple[int, int], ...]
    """The positions each thread reads."""
    span_counts: Int64[np.ndarray, "threads buckets"]
    """N-grams that begin in each span, by bucket."""
    frugal: bool
    """Whether pages of a memory-mapped stream are let go as soon as they were read."""

    @property
    def sizes(self) -> Int64[np.ndarray, " buckets"]:
        """N-grams in every bucket."""
        return np.asarray(self.span_counts.sum(axis=0))

    @property
    def num_buckets(self) -> int:
        """B."""
        return int(self.span_counts.shape[1])

    @property
    def num_bytes(self) -> int:
        """What the plan itself takes while buckets are sorted, cursors and starts included."""
        threads = len(self.spans)
        return 8 * (threads + 2) * self.packing.vocab_size + 16 * self.num_buckets * (threads + 8)

    def range_bytes(self, grams: int, largest: int) -> int:
        """What a range of so many n-grams takes, whose largest bucket has ``largest``."""
        words, order = self.packing.num_words, self.packing.order
        bucket = largest * (16 + 8 * words + 9)
        block = min(grams, _TASK_GRAMS + largest) * (4 * order + 8)
        mapped = min(4 * _CHUNK_TOKENS + AROUND_BYTES, 4 * self.spans[-1][1])
        return 8 * words * grams + len(self.spans) * max(bucket + block, mapped)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedRange:
    """The n-grams of a range of buckets in ascending order, repeats included."""

    packing: Packing
    words: UInt64[np.ndarray, "W n"]
    starts: Int64[np.ndarray, " buckets_plus_1"]
    distinct: dict[int, Int64[np.ndarray, " buckets"]]
    """Per order, the distinct n-grams of each bucket."""

    def emit(
        self,
        order: int,
        buckets: tuple[int, int],
        tokens: UInt32[np.ndarray, "order G"],
        counts: Int64[np.ndarray, " G"],
        at: int,
    ) -> None:
        """Write the distinct n-grams of some buckets from column ``at`` on."""
        packing = self.packing
        emit_grams(
            self.words, self.starts, *buckets, order, packing.word_of, packing.shift_of,
            np.uint64(packing.bits), at, tokens, counts,
        )  # fmt: skip

    def tasks(self) -> list[tuple[int, int]]:
        """Ranges of buckets of about equal work."""
        return _even_ranges(self.starts, _TASK_GRAMS)


def count_first_tokens(
    stream: TokenStream,
    positions: tuple[int, int],
    pool: ThreadPoolExecutor,
    threads: int,
    *,
    frugal: bool,
) -> Int64[np.ndarray, " V0"]:
    """Occurrences of every id at positions [start, end).

    Raises:
        InputError: an id is not below ``vocab_size``.
    """

    def count(span: tuple[int, int]) -> Int64[np.ndarray, " V0"]:
        counts = np.zeros(stream.vocab_size, np.int64)
        for first, _, tokens in _chunks(stream, span, 0, frugal=frugal):
            bad = count_tokens(tokens, counts)
            if bad >= 0:
                raise InputError(
                    f"token {tokens[bad]} at index {first + bad} is not below the vocabulary "
                    f"size {stream.vocab_size}; give the size of its tokenizer"
                )
        return counts

    spans = even_spans(positions, threads)
    return sum(pool.map(count, spans), np.zeros(stream.vocab_size, np.int64))


def plan_buckets(
    stream: TokenStream,
    positions: tuple[int, int],
    order: int,
    pool: ThreadPoolExecutor,
    threads: int,
    *,
    cross_documents: bool,
    frugal: bool,
) -> BucketPlan:
    """Read [start, end) twice: count the tokens, then the buckets they suggest.

    Raises:
        InputError: an id is not below ``vocab_size``.
    """
    token_counts = count_first_tokens(stream, positions, pool, threads, frugal=frugal)
    start, end = positions
    after = (end, min(end + order - 1, stream.num_tokens))  # read by n-grams that begin before
    count_first_tokens(stream, after, pool, 1, frugal=frugal)
    target = bucket_target(end - start)
    entry = np.empty(stream.vocab_size, np.uint32)
    num_buckets = assign_buckets(token_counts, target, entry)
    ends = np.array([0, stream.num_tokens])
    doc_starts = ends if cross_documents else stream.doc_starts

    def count(span: tuple[int, int]) -> Int64[np.ndarray, " buckets"]:
        counts = np.zeros(num_buckets, np.int64)
        for first, num, tokens in _chunks(stream, span, 1, frugal=frugal):
            count_buckets(tokens, num, first, doc_starts, entry, counts)
        return counts

    spans = even_spans(positions, threads)
    return BucketPlan(
        packing=Packing(order=order, vocab_size=stream.vocab_size),
        doc_starts=doc_starts,
        token_counts=token_counts,
        entry=entry,
        spans=spans,
        span_counts=np.stack(list(pool.map(count, spans))),
        frugal=frugal,
    )


def bucket_target(num_tokens: int) -> int:
    """N-grams to a bucket: many buckets in a small corpus, at most 65,536 in a huge one."""
    return max(min(_BUCKET_GRAMS, num_tokens // 512), 256, 4 * num_tokens // _MAX_BUCKETS + 1)


def sort_range(
    stream: TokenStream,
    plan: BucketPlan,
    buckets: tuple[int, int],
    orders: Sequence[int],
    pool: ThreadPoolExecutor,
) -> SortedRange:
    """Collect and sort the n-grams of a range of buckets.

    Raises:
        ResourceError: they are more than 32 bits can count.
    """
    if plan.frugal:
        give_back()
    low, high = buckets
    span_counts = plan.span_counts[:, low:high]
    starts = np.concatenate([[0], np.cumsum(span_counts.sum(axis=0))])
    if starts[-1] >= 2**32:
        raise ResourceError(f"{starts[-1]} n-grams begin alike, or memory is beyond 2**32 n-grams")
    words = np.empty((plan.packing.num_words, int(starts[-1])), np.uint64)
    before = np.cumsum(span_counts, axis=0) - span_counts
    cursors = (starts[:-1] + before).astype(np.uint32)
    bits, tops = np.uint64(plan.packing.bits), plan.packing.tops

    def scatter(thread: int) -> None:
        span = plan.spans[thread]
        for first, num, tokens in _chunks(stream, span, plan.packing.order - 1, frugal=plan.frugal):
            source = (tokens, num, first, plan.doc_starts, plan.entry, bits)
            if len(tops) == 1:
                scatter_words(*source, tops[0], low, high, cursors[thread], words[0])
            else:
                scatter_columns(*source, tops, low, high, cursors[thread], words)

    list(pool.map(scatter, range(len(plan.spans))))
    distinct = {order: np.zeros(high - low, np.int64) for order in orders}

    def sort(task: tuple[int, int]) -> None:
        largest = int(np.diff(starts[task[0] : task[1] + 1]).max())
        sort_buckets(words, starts, *task, np.empty((2, largest), np.uint64))
        for order in orders:
            field = order - 1
            last, shift = plan.packing.word_of[field], plan.packing.shift_of[field]
            count_distinct(words, starts, *task, last, shift, bits, distinct[order])

    list(pool.map(sort, _even_ranges(starts, _TASK_GRAMS)))
    return SortedRange(packing=plan.packing, words=words, starts=starts, distinct=distinct)


def even_spans(positions: tuple[int, int], number: int) -> tuple[tuple[int, int], ...]:
    """[start, end) in ``number`` parts of about equal length."""
    start, end = positions
    edges = [start + (end - start) * i // number for i in range(number + 1)]
    return tuple(pairwise(edges))


def _chunks(
    stream: TokenStream, span: tuple[int, int], ahead: int, *, frugal: bool
) -> Iterator[tuple[int, int, UInt32[np.ndarray, " n"]]]:
    """(first position, positions, their tokens and up to ``ahead`` more), from span to span."""
    for first in range(*span, _CHUNK_TOKENS):
        end = min(first + _CHUNK_TOKENS, span[1])
        tokens = stream.tokens[first : end + ahead]
        yield first, end - first, tokens.view(np.ndarray)
        if frugal:
            let_go(tokens)
            let_go(stream.doc_starts)


def _even_ranges(starts: Int64[np.ndarray, " n_plus_1"], size: int) -> list[tuple[int, int]]:
    """Consecutive buckets, cut where each next ``size`` n-grams are full."""
    edges = np.searchsorted(starts, np.arange(0, starts[-1], size), side="left")
    return list(pairwise(np.unique([0, *edges.tolist(), len(starts) - 1]).tolist()))
