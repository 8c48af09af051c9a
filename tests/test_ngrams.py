import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import InputError, ResourceError, UsageError
from ngscale.ngrams import NgramTable, count_ngrams
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


def zipf_stream(num_tokens: int, vocab_size: int = 500, num_docs: int = 7) -> TokenStream:
    """Frequent ids fill buckets of their own, rare ones share them."""
    rng = np.random.default_rng(5)
    tokens = (rng.zipf(1.2, num_tokens) - 1) % vocab_size
    inner = np.sort(rng.integers(0, num_tokens, num_docs - 1))
    return TokenStream(
        tokens=tokens.astype(np.uint32),
        doc_starts=np.array([0, *inner, num_tokens], dtype=np.int64),
        vocab_size=vocab_size,
        num_bytes=0,
    )


def same(left: dict[int, NgramTable], right: dict[int, NgramTable]) -> bool:
    return left.keys() == right.keys() and all(
        left[order].tokens.tobytes() == right[order].tokens.tobytes()
        and left[order].counts.tobytes() == right[order].counts.tobytes()
        for order in left
    )


@given(documents, st.sets(st.integers(1, 8)), st.booleans())
def test_chosen_orders_come_sorted_and_may_cross_documents(
    docs: list[list[int]], orders: set[int], cross: bool
) -> None:
    tables = count_ngrams(stream_of(docs), orders=list(orders), cross_documents=cross)
    texts = [[token for doc in docs for token in doc]] if cross else docs
    for order in orders:
        expected = distinct_ngrams(texts, order)
        grams = [tuple(g) for g in tables[order].tokens.T.tolist()] if order in tables else []
        assert grams == sorted(expected, key=lambda gram: gram[::-1])
    assert set(tables) <= orders


@pytest.mark.parametrize("vocab_size", [500, 65_535, 131_072, 2**24])
@pytest.mark.parametrize("num_tokens", [1, 8, 700, 300_000])
def test_tables_do_not_depend_on_threads(num_tokens: int, vocab_size: int) -> None:
    stream = zipf_stream(num_tokens, vocab_size=vocab_size)
    one, two, five = (count_ngrams(stream, 5, threads=threads) for threads in (1, 2, 5))
    assert same(one, two)
    assert same(one, five)
    for order, table in one.items():
        newest_last = table.tokens[::-1].T.tolist()
        assert newest_last == sorted(newest_last)
        docs = np.split(stream.tokens, stream.doc_starts[1:-1])
        assert table.occurrences == sum(max(len(doc) - order + 1, 0) for doc in docs)


def test_a_table_in_several_ranges_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = zipf_stream(50_000)
    whole = count_ngrams(stream, 3)
    monkeypatch.setattr("ngscale.ngrams._RANGE_GRAMS", 640)
    assert same(count_ngrams(stream, 3), whole)
    assert all(table.tokens.flags.c_contiguous for table in whole.values())


def test_chunks_and_memory_maps_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = zipf_stream(50_000)
    whole = count_ngrams(stream, 5)
    np.save(tmp_path / "tokens.npy", stream.tokens)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    monkeypatch.setattr("ngscale.ngram_buckets._CHUNK_TOKENS", 999)
    assert same(count_ngrams(replace(stream, tokens=mapped), 5, max_memory_bytes=2**30), whole)


def test_no_orders_and_no_tokens_give_no_tables() -> None:
    assert count_ngrams(stream_of([[1, 2, 3]]), orders=[]) == {}
    assert count_ngrams(stream_of([[1, 2, 3]]), 1) == {}
    empty = replace(stream_of([[1]]), tokens=np.empty(0, np.uint32), doc_starts=np.array([0]))
    assert count_ngrams(empty, orders=range(1, 9)) == {}


@pytest.mark.parametrize("orders", [[0], [9], [-1, 2]])
def test_an_order_out_of_range_is_a_usage_error(orders: list[int]) -> None:
    with pytest.raises(UsageError, match=r"must be in 1\.\.8"):
        count_ngrams(stream_of([[1, 2, 3]]), orders=orders)


def test_orders_are_given_one_way() -> None:
    with pytest.raises(UsageError, match="one of them"):
        count_ngrams(stream_of([[1, 2, 3]]), 3, orders=[2])


def test_an_id_beyond_the_vocabulary_is_named() -> None:
    with pytest.raises(InputError, match="token 7 at index 4 is not below the vocabulary size 7"):
        count_ngrams(stream_of([[1, 2, 3], [6, 7]]), 2)


def test_a_limit_below_the_tables_asks_for_a_directory() -> None:
    stream = zipf_stream(300_000)
    with pytest.raises(ResourceError, match="raise it or give a directory"):
        count_ngrams(stream, 5, max_memory_bytes=15 * 2**20, threads=2)
    assert same(count_ngrams(stream, 5, max_memory_bytes=2**30), count_ngrams(stream, 5))


def test_a_limit_below_one_bucket_names_the_least_that_works(tmp_path: Path) -> None:
    stream = zipf_stream(50_000)
    with pytest.raises(ResourceError) as caught:
        count_ngrams(stream, 5, max_memory_bytes=1000, directory=tmp_path, threads=2)
    least = int(re.findall(r"\((\d+) bytes", str(caught.value))[0])
    with pytest.raises(ResourceError, match="at least"):
        count_ngrams(stream, 5, max_memory_bytes=least - 1, directory=tmp_path, threads=2)
    tables = count_ngrams(stream, 5, max_memory_bytes=least, directory=tmp_path, threads=2)
    assert same(tables, count_ngrams(stream, 5))
