import numpy as np
import pytest

from ngscale.collisions.expected import expected_occupied
from ngscale.collisions.sequences import (
    draw_sequences,
    expect_sequences,
    measure_sequences,
    sequence_ngrams,
)
from ngscale.errors import UsageError
from ngscale.hashing.longcat import Polynomial
from tests.reference import distinct_ngrams, polynomial_row
from tests.test_ngrams import stream_of


def test_collisions_are_counted_within_each_sequence_and_added_up() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 7, size=n).tolist() for n in (90, 3, 60)]
    windows = draw_sequences(stream_of(docs), 5, 30)
    assert [window.num_tokens for window in windows] == [30] * 5
    for order in (2, 3):
        (grams,) = sequence_ngrams(windows, [order])
        measured = measure_sequences(grams, Polynomial(base=7), 20)
        expected_collisions, sizes = 0, []
        for window in windows:
            parts = np.split(window.tokens, window.doc_starts[1:-1])
            found = distinct_ngrams([part.tolist() for part in parts], order)
            rows = {polynomial_row(gram, 7, 20) for gram in found}
            expected_collisions += len(found) - len(rows)
            sizes.append(len(found))
        assert measured.collisions == expected_collisions
        ideal = expect_sequences(grams, 20)
        assert ideal.occupied == pytest.approx(sum(expected_occupied(n, 20) for n in sizes))


def test_sequences_do_not_overlap_and_span_the_corpus() -> None:
    stream = stream_of([list(range(7)) * 20])
    windows = draw_sequences(stream, 4, 35)
    assert np.concatenate([w.tokens for w in windows]).tolist() == stream.tokens.tolist()


def test_a_corpus_too_short_for_the_sequences_is_refused() -> None:
    with pytest.raises(UsageError, match="need 50 tokens, the corpus has 20"):
        draw_sequences(stream_of([[1] * 20]), 5, 10)


def test_the_synthetic_recipe_reproduces_its_published_counts() -> None:
    """HASHING section 11, synthetic recipe, order 2 at V0 = 131,072: 156,366 at exactly 30 x V0,
    55,613 one row on, 833 at 3,933,470 rows. Computed there independently of this code.
    """
    vocab_size, length = 131_072, 8_192
    weights = (np.arange(vocab_size) + 2.7) ** -1.05
    cumulative = np.cumsum(weights / weights.sum())
    rng = np.random.default_rng(0)
    ids = np.searchsorted(cumulative, rng.random((100, length)))
    tokens = np.minimum(ids, vocab_size - 1).reshape(-1).tolist()
    windows = draw_sequences(stream_of([tokens], vocab_size), 100, length)
    (grams,) = sequence_ngrams(windows, [2])
    scheme = Polynomial(base=vocab_size)
    counted = [
        measure_sequences(grams, scheme, rows).collisions
        for rows in (30 * vocab_size, 30 * vocab_size + 1, 3_933_470)
    ]
    assert counted == [156_366, 55_613, 833]
