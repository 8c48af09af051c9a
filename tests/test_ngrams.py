import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.ngrams import count_ngrams
from ngscale.tokens import TokenStream
from tests.reference import distinct_ngrams

documents = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=25), min_size=1, max_size=6)


def stream_of(docs: list[list[int]], vocab_size: int = 7) -> TokenStream:
    return TokenStream(
        tokens=np.array([token for doc in docs for token in doc], dtype=np.uint32),
        doc_starts=np.cumsum([0, *map(len, docs)], dtype=np.int64),
        vocab_size=vocab_size,
        num_bytes=0,
    )


@given(documents)
def test_distinct_ngrams_and_counts_match_a_counter(docs: list[list[int]]) -> None:
    tables = count_ngrams(stream_of(docs), 8)
    for order in range(2, 9):
        expected = distinct_ngrams(docs, order)
        if not expected:
            assert order not in tables
            continue
        table = tables[order]
        found = {
            tuple(gram): count
            for gram, count in zip(table.tokens.T.tolist(), table.counts.tolist(), strict=True)
        }
        assert found == expected
        assert table.distinct == len(expected)
        assert table.occurrences == sum(expected.values())


def test_no_ngram_crosses_a_document_boundary() -> None:
    tables = count_ngrams(stream_of([[1, 2], [3, 4]]), 3)
    assert tables[2].tokens.T.tolist() == [[2, 1], [4, 3]]
    assert 3 not in tables


def test_orders_that_do_not_fit_64_bits_packed_are_still_exact() -> None:
    """131,072**5 = 2**85: the chain of ranks keeps what a packed code would lose."""
    docs = [[131_071] * 5 + [0, 131_071, 131_070, 131_071, 131_071]]
    table = count_ngrams(stream_of(docs, vocab_size=131_072), 5)[5]
    expected = distinct_ngrams(docs, 5)
    assert {tuple(gram) for gram in table.tokens.T.tolist()} == set(expected)
