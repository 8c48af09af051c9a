"""What is drawn is what is counted, and a shuffled corpus is the same corpus."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from ngscale.collisions.occurrences import Occurrences, draw
from ngscale.ngrams import count_ngrams
from ngscale.tokens import TokenStream


def stream_of(num_docs: int = 40, seed: int = 0) -> TokenStream:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 60, num_docs)
    tokens = np.minimum(rng.zipf(1.4, int(lengths.sum())), 30).astype(np.uint32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenStream(tokens=tokens, doc_starts=starts, vocab_size=31, num_bytes=0)


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("cross_documents", [False, True])
def test_unsampled_occurrences_have_the_spectrum_that_is_counted(
    order: int, cross_documents: bool
) -> None:
    stream = stream_of()
    drawn = draw(stream, order, cross_documents=cross_documents)
    table = count_ngrams(stream, orders=[order], cross_documents=cross_documents)[order]
    counts, num_grams = np.unique(table.counts, return_counts=True)
    assert drawn.weight == 1
    assert drawn.num_tokens == stream.num_tokens
    assert [found.tolist() for found in drawn.spectrum()] == [counts.tolist(), num_grams.tolist()]


def test_a_sample_holds_every_occurrence_of_its_ngrams_and_about_its_share_of_them() -> None:
    stream = stream_of(num_docs=3000)
    whole, some = draw(stream, 3), draw(stream, 3, max_occurrences=stream.num_tokens // 8)
    assert some.weight in (8, 9)
    every = Counter(np.bincount(whole.grams).tolist())
    assert not Counter(np.bincount(some.grams).tolist()) - every
    share = some.num_grams * some.weight / whole.num_grams
    assert abs(share - 1.0) < 4 * (some.weight / whole.num_grams) ** 0.5


def test_documents_that_hold_an_ngram_are_counted_once_each() -> None:
    stream = stream_of()
    where = defaultdict(set)
    for doc, (low, high) in enumerate(
        zip(stream.doc_starts[:-1], stream.doc_starts[1:], strict=True)
    ):
        ids = stream.tokens[low:high].tolist()
        for gram in pairwise(ids):
            where[gram].add(doc)
    drawn = draw(stream, 2)
    for number in (1, 2, 7):
        expected = sum(len(docs) == number for docs in where.values())
        assert drawn.in_documents(number) == expected


def test_the_first_tokens_in_random_order_are_whole_documents_and_one_cut() -> None:
    drawn = draw(stream_of(), 2)
    rng = np.random.default_rng(5)
    part = drawn.first(300, rng)
    assert part.num_tokens == 300
    assert part.num_grams == len(set(part.grams.tolist())) == part.grams.max() + 1
    whole = Counter(drawn.doc_tokens.tolist())
    assert sum((Counter(part.doc_tokens.tolist()) - whole).values()) <= 1
    for doc in range(part.num_docs):
        assert np.count_nonzero(part.docs == doc) == max(0, part.doc_tokens[doc] - 1)
    everything = drawn.first(drawn.num_tokens, rng)
    assert [a.tolist() for a in everything.spectrum()] == [a.tolist() for a in drawn.spectrum()]


def test_a_shuffle_moves_documents_whole() -> None:
    drawn: Occurrences = draw(stream_of(), 2)
    at = drawn.shuffled(np.random.default_rng(1))
    assert len(set(at.tolist())) == len(at)
    assert at.max() < drawn.num_tokens
    for doc in range(drawn.num_docs):
        here = drawn.docs == doc
        assert len(set((at[here] - drawn.offsets[here]).tolist())) <= 1
