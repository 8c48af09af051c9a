from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels import radix
from ngscale.ngram_buckets import Packing, bucket_target
from tests.reference import (
    bucket_entries,
    bucket_of,
    distinct_ngrams,
    gram_marks,
    packed_words,
    starting_grams,
)

V0 = 131_072
"""Ids of 18-bit fields: three to a word, so orders 4 and 7 begin another."""
ids = st.sampled_from([0, 1, 2, 3, V0 - 2, V0 - 1])
documents = st.lists(st.lists(ids, min_size=1, max_size=12), min_size=1, max_size=5)
orders = st.integers(2, 8)
uint64s = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(2**63, 2**63 + 9))


def arrays_of(docs: list[list[int]]) -> tuple[Any, Any]:
    tokens = np.array([token for doc in docs for token in doc], dtype=np.uint32)
    return tokens, np.cumsum([0, *map(len, docs)], dtype=np.int64)


def entries_of(docs: list[list[int]], target: int) -> tuple[Any, int]:
    tokens, _ = arrays_of(docs)
    entry = np.empty(V0, np.uint32)
    counts = np.bincount(tokens, minlength=V0).astype(np.int64)
    return entry, int(radix.assign_buckets(counts, target, entry))


def sorted_words(grams: list[list[int]], order: int) -> Any:
    columns = sorted(packed_words(gram, order, V0) for gram in grams)
    return np.array(columns, dtype=np.uint64).T.copy()


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 7))
def test_token_counts_stop_at_the_first_id_beyond(tokens: list[int], vocab_size: int) -> None:
    counts = np.zeros(vocab_size, np.int64)
    bad = radix.count_tokens(np.array(tokens, dtype=np.uint32), counts)
    beyond = [i for i, token in enumerate(tokens) if token >= vocab_size]
    assert bad == (beyond[0] if beyond else -1)
    if not beyond:
        assert counts.tolist() == [tokens.count(token) for token in range(vocab_size)]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 60))
def test_buckets_are_assigned_as_the_twin_says(token_counts: list[int], target: int) -> None:
    entry = np.empty(len(token_counts), np.uint32)
    num = radix.assign_buckets(np.array(token_counts, np.int64), target, entry)
    assert (entry.tolist(), num) == bucket_entries(token_counts, target)


def test_buckets_of_a_huge_corpus_fit_16_bits() -> None:
    """The worst case: every token is just too frequent to share a bucket or to split evenly."""
    num_tokens = 2**40
    token_counts = np.full(2**14, num_tokens // 2**14, np.int64)
    target = bucket_target(num_tokens)
    num = radix.assign_buckets(token_counts, target, np.empty(2**14, np.uint32))
    assert num <= 2**16


@given(documents, orders, st.integers(1, 20), st.integers(0, 3), st.data())
def test_every_ngram_is_counted_in_and_scattered_to_its_bucket(
    docs: list[list[int]], order: int, target: int, low: int, data: st.DataObject
) -> None:
    tokens, doc_starts = arrays_of(docs)
    entry, num_buckets = entries_of(docs, target)
    grams = starting_grams(docs, order)
    buckets = [bucket_of(gram, entry.tolist()) for gram in grams]
    cut = data.draw(st.integers(0, len(tokens)))
    counts = np.zeros(num_buckets, np.int64)
    for first, end in ((0, cut), (cut, len(tokens))):
        radix.count_buckets(tokens[first : end + 1], end - first, first, doc_starts, entry, counts)
    assert counts.tolist() == [buckets.count(bucket) for bucket in range(num_buckets)]

    packing = Packing(order=order, vocab_size=V0)
    low = min(low, num_buckets)
    starts = np.concatenate([[0], np.cumsum(counts[low:])])
    words = np.zeros((packing.num_words, starts[-1]), np.uint64)
    cursors = starts[:-1].astype(np.uint32)
    for first, end in ((0, cut), (cut, len(tokens))):
        ahead = tokens[first : end + order - 1]
        common = (ahead, end - first, first, doc_starts, entry, np.uint64(packing.bits))
        radix.scatter_columns(*common, packing.tops, low, num_buckets, cursors, words)
    assert cursors.tolist() == starts[1:].tolist()
    for i, bucket in enumerate(range(low, num_buckets)):
        found = words[:, starts[i] : starts[i + 1]].T.tolist()
        expected = [
            packed_words(g, order, V0) for g, b in zip(grams, buckets, strict=True) if b == bucket
        ]
        assert sorted(found) == sorted(expected)
    if packing.num_words == 1:
        single = np.zeros_like(words[0])
        again = starts[:-1].astype(np.uint32)
        for first, end in ((0, cut), (cut, len(tokens))):
            ahead = tokens[first : end + order - 1]
            common = (ahead, end - first, first, doc_starts, entry, np.uint64(packing.bits))
            radix.scatter_words(*common, packing.tops[0], low, num_buckets, again, single)
        assert single.tolist() == words[0].tolist()


@given(documents, st.integers(1, 20))
def test_buckets_ascend_as_ngrams_do(docs: list[list[int]], target: int) -> None:
    entry, _ = entries_of(docs, target)
    grams = sorted(starting_grams(docs, 3))
    buckets = [bucket_of(gram, entry.tolist()) for gram in grams]
    assert buckets == sorted(buckets)


@given(st.lists(uint64s, min_size=1, max_size=80))
def test_digits_span_the_bits_that_differ(keys: list[int]) -> None:
    low, passes, width = radix.radix_digits(np.array(keys, dtype=np.uint64))
    differ = 0
    for key in keys:
        differ |= key ^ keys[0]
    if not differ:
        assert passes == 0
        return
    assert low == (differ & -differ).bit_length() - 1
    assert differ.bit_length() <= low + passes * width < differ.bit_length() + passes
    assert 1 <= width <= 12


@given(st.lists(st.integers(0, 15), max_size=50))
def test_offsets_are_where_each_digit_begins(keys: list[int]) -> None:
    offsets = np.empty(4, np.uint32)
    array = np.array(keys, dtype=np.uint64)
    radix.digit_offsets(array, np.uint64(2), np.uint64(3), offsets)
    assert offsets.tolist() == [sum(key >> 2 < digit for key in keys) for digit in range(4)]


@given(st.lists(uint64s, max_size=80))
def test_keys_are_sorted(keys: list[int]) -> None:
    array = np.array(keys, dtype=np.uint64)
    by_insertion = array.copy()
    radix.sort_keys(array, np.empty_like(array), np.empty(4096, np.uint32))
    radix.insertion_sort(by_insertion)
    assert array.tolist() == by_insertion.tolist() == sorted(keys)


@given(st.integers(1, 3).flatmap(lambda w: st.lists(st.tuples(*[uint64s] * w), min_size=1)))
def test_columns_are_sorted_in_each_bucket(columns: list[tuple[int, ...]]) -> None:
    words = np.array(columns, dtype=np.uint64).T.copy()
    half = len(columns) // 2
    starts = np.array([0, half, half, len(columns)], dtype=np.int64)
    radix.sort_buckets(words, starts, 0, 3, np.empty((2, len(columns)), np.uint64))
    expected = sorted(columns[:half]) + sorted(columns[half:])
    assert [tuple(column) for column in words.T.tolist()] == expected


@given(documents, orders, st.data())
def test_marks_tell_new_ngrams_from_repeats_and_cut_ones(
    docs: list[list[int]], order: int, data: st.DataObject
) -> None:
    part = data.draw(st.integers(1, order))
    grams = sorted(starting_grams(docs, order))
    words = sorted_words(grams, order)
    packing = Packing(order=order, vocab_size=V0)
    marks = np.empty(len(grams), np.uint8)
    radix.mark_grams(
        words, packing.word_of[part - 1], packing.shift_of[part - 1], np.uint64(packing.bits), marks
    )
    assert marks.tolist() == gram_marks(grams, part)


@given(documents, orders, st.data())
def test_emitted_ngrams_and_counts_match_a_counter(
    docs: list[list[int]], order: int, data: st.DataObject
) -> None:
    part = data.draw(st.integers(1, order))
    words = sorted_words(starting_grams(docs, order), order)
    first_token = words[0] >> Packing(order=order, vocab_size=V0).shift_of[0]
    edges = np.flatnonzero(np.diff(first_token)) + 1  # one bucket per oldest token
    starts = np.array([0, 0, *edges, len(first_token)], dtype=np.int64)
    packing = Packing(order=order, vocab_size=V0)
    bits = np.uint64(packing.bits)
    distinct = np.zeros(len(starts) - 1, np.int64)
    radix.count_distinct(
        words, starts, 0, len(distinct), packing.word_of[part - 1], packing.shift_of[part - 1],
        bits, distinct,
    )  # fmt: skip
    expected = distinct_ngrams(docs, part)
    assert distinct.sum() == len(expected)
    tokens = np.zeros((part, len(expected) + 1), np.uint32)
    counts = np.zeros(len(expected) + 1, np.int64)
    radix.emit_grams(
        words, starts, 0, len(distinct), part, packing.word_of, packing.shift_of, bits, 1,
        tokens, counts,
    )  # fmt: skip
    grams = [tuple(gram) for gram in tokens[:, 1:].T.tolist()]
    assert grams == sorted(expected, key=lambda gram: gram[::-1])
    assert dict(zip(grams, counts[1:].tolist(), strict=True)) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 2])), min_size=1))
def test_one_key_and_the_count_of_each_new_ngram_are_kept(rows: list[tuple[int, int]]) -> None:
    keys = np.array([key for key, _ in rows], dtype=np.uint64)
    marks = np.array([2, *(mark for _, mark in rows[1:])], dtype=np.uint8)
    keys = keys[0] + np.cumsum(marks == 2).astype(np.uint64)  # repeats have their n-gram's key
    kept = np.zeros(len(keys) + 1, np.uint64)
    kept_counts = np.zeros(len(keys) + 1, np.int64)
    radix.keep_distinct(keys, marks, kept)
    found = radix.keep_counts(marks, kept_counts)
    assert found == np.count_nonzero(marks == 2)
    assert kept[1 : found + 1].tolist() == keys[marks == 2].tolist()
    expected = Counter(key for key, mark in zip(keys.tolist(), marks.tolist(), strict=True) if mark)
    assert kept_counts[1 : found + 1].tolist() == list(expected.values())


@pytest.mark.parametrize("vocab_size", [1, 2, 7, 65_535, 65_536, 131_072, 2**24, 2**31])
@pytest.mark.parametrize("order", range(1, 9))
def test_no_field_straddles_two_words(vocab_size: int, order: int) -> None:
    packing = Packing(order=order, vocab_size=vocab_size)
    gram = [max(vocab_size - 1 - i, 0) for i in range(order)]
    words = packed_words(gram, order, vocab_size)
    assert packing.num_words == len(words) == len(packing.tops)
    mask = (1 << packing.bits) - 1
    fields = [
        (words[word] >> int(shift) & mask) - 1
        for word, shift in zip(packing.word_of.tolist(), packing.shift_of.tolist(), strict=True)
    ]
    assert fields == gram
    assert all(word < 2**64 for word in words)
