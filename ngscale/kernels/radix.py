"""N-grams as packed words: scattered to buckets by their two oldest tokens, sorted in the cache.

A field is a token + 1, or 0 past the end of the document: n-grams cut short stay apart and sort
first. A word holds as many fields as fit in 64 bits, oldest highest; an n-gram is W words.
``entry`` packs what a token decides, in 32 bits: the first bucket of the n-grams it begins
(16 bits), the shift of the next token's rank (4) and its own rank (12). The n-gram goes to
bucket ``first(oldest) + (rank(next) >> shift(oldest))``; buckets ascend as n-grams do.

Tried and dropped: 64-byte write-combining buffers in the scatter (2.5x slower), digits of 8 to 11
bits (up to 1.5x), one read for the histograms of all digits (1.1x), numpy's sort per bucket.
"""

import numpy as np
from numba import njit

RANK_BITS = 12
_DIGIT_BITS = 12
_INSERTION_SORT_BELOW = 24
_LEAD = np.uint32(16)
_SHIFT = np.uint32(12)
_SHIFT_MASK = np.uint32(15)
_RANK_MASK = np.uint32(4095)
_ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def count_tokens(tokens, counts):
    """Add the occurrences of every id; the index of the first id that is none, or -1.

    tokens: uint32 [T]; counts: int64 [V0].
    """
    for i in range(len(tokens)):
        if tokens[i] >= len(counts):
            return i
        counts[tokens[i]] += 1
    return -1


@njit(cache=True, nogil=True)
def assign_buckets(token_counts, target, entry):
    """Choose buckets of about ``target`` n-grams; their number.

    Tokens share a bucket until it is full; one that is more than that alone gets up to 4,096,
    by the rank of the token after it. token_counts: int64 [V0]; entry: uint32 [V0], written.
    """
    total = max(token_counts.sum(), 1)
    lead = 0
    filled = 0
    before = 0
    for token in range(len(token_counts)):
        count = token_counts[token]
        shift = RANK_BITS
        while count > target and shift > 0 and (target << (RANK_BITS - shift)) < 2 * count:
            shift -= 1
        if filled > 0 and (shift < RANK_BITS or filled + count > target):
            lead += 1
            filled = 0
        rank = (before << RANK_BITS) // total
        entry[token] = (lead << 16) | (shift << 12) | min(rank, (1 << RANK_BITS) - 1)
        before += count
        filled += count
        if shift < RANK_BITS:
            lead += 1 << (RANK_BITS - shift)
            filled = 0
    return lead + 1


@njit(cache=True, nogil=True)
def count_buckets(tokens, num, first, doc_starts, entry, counts):
    """Add to every bucket the positions that begin an n-gram of it.

    tokens: uint32, positions ``first`` .. ``first + num - 1`` of the stream and, unless that is
    its end, one more; doc_starts: int64 [D + 1]; entry: uint32 [V0]; counts: int64 [buckets].
    """
    if num == 0:
        return
    doc = np.searchsorted(doc_starts, first, side="right")
    doc_end = doc_starts[doc] - first
    here = entry[tokens[0]]
    for i in range(num):
        after = here
        if i + 1 < len(tokens):
            after = entry[tokens[i + 1]]
        rank = after & _RANK_MASK
        if i + 1 == doc_end:
            rank = np.uint32(0)
            while i + 1 == doc_end and doc + 1 < len(doc_starts):
                doc += 1
                doc_end = doc_starts[doc] - first
        counts[(here >> _LEAD) + (rank >> ((here >> _SHIFT) & _SHIFT_MASK))] += 1
        here = after


@njit(cache=True, nogil=True)
def scatter_words(tokens, num, first, doc_starts, entry, bits, top, low, high, cursors, words):
    """Write every n-gram of buckets ``low`` .. ``high - 1``, one word each, to its bucket.

    tokens: uint32, positions ``first`` .. ``first + num - 1`` and the order - 1 after them, if
    the stream has them; doc_starts: int64 [D + 1]; entry: uint32 [V0]; bits: uint64, of a field;
    top: uint64, the shift of the oldest field; cursors: uint32 [high - low], next free column,
    advanced; words: uint64 [n]. Runs backwards: a word is its successor's shifted by a field.
    """
    doc = np.searchsorted(doc_starts, first + len(tokens), side="left") - 1
    doc_start = doc_starts[doc] - first
    word = np.uint64(0)
    rank = np.uint32(0)
    for i in range(len(tokens) - 1, -1, -1):
        if i + 1 == doc_start:
            word = np.uint64(0)
            rank = np.uint32(0)
            while i + 1 == doc_start:
                doc -= 1
                doc_start = doc_starts[doc] - first
        token = tokens[i]
        word = (word >> bits) | ((np.uint64(token) + _ONE) << top)
        here = entry[token]
        bucket = np.int64((here >> _LEAD) + (rank >> ((here >> _SHIFT) & _SHIFT_MASK)))
        if i < num and low <= bucket < high:
            slot = np.uint64(bucket - low)
            column = cursors[slot]
            cursors[slot] = column + np.uint32(1)
            words[column] = word
        rank = here & _RANK_MASK


@njit(cache=True, nogil=True)
def scatter_columns(tokens, num, first, doc_starts, entry, bits, tops, low, high, cursors, words):
    """``scatter_words`` for n-grams of W words: tops: uint64 [W]; words: uint64 [W, n]."""
    doc = np.searchsorted(doc_starts, first + len(tokens), side="left") - 1
    doc_start = doc_starts[doc] - first
    mask = (_ONE << bits) - _ONE
    column_words = np.zeros(len(tops), np.uint64)
    rank = np.uint32(0)
    for i in range(len(tokens) - 1, -1, -1):
        if i + 1 == doc_start:
            column_words[:] = 0
            rank = np.uint32(0)
            while i + 1 == doc_start:
                doc -= 1
                doc_start = doc_starts[doc] - first
        carry = np.uint64(tokens[i]) + _ONE
        for j in range(len(tops)):
            word = column_words[j]
            column_words[j] = (word >> bits) | (carry << tops[j])
            carry = word & mask
        here = entry[tokens[i]]
        bucket = np.int64((here >> _LEAD) + (rank >> ((here >> _SHIFT) & _SHIFT_MASK)))
        if i < num and low <= bucket < high:
            slot = np.uint64(bucket - low)
            column = cursors[slot]
            cursors[slot] = column + np.uint32(1)
            for j in range(len(tops)):
                words[j, column] = column_words[j]
        rank = here & _RANK_MASK


@njit(cache=True, nogil=True)
def radix_digits(keys):
    """(lowest bit, passes, bits per pass) that sort ``keys``: only bits in which they differ.

    keys: uint64 [n], n > 0.
    """
    differ = np.uint64(0)
    for i in range(len(keys)):
        differ |= keys[i] ^ keys[0]
    if differ == 0:
        return 0, 0, 0
    low = 0
    while (differ >> np.uint64(low)) & _ONE == 0:
        low += 1
    high = low
    while high < 64 and differ >> np.uint64(high) != 0:
        high += 1
    widest = 4
    while widest < _DIGIT_BITS and (1 << widest) < len(keys):
        widest += 1
    passes = (high - low + widest - 1) // widest
    return low, passes, (high - low + passes - 1) // passes


@njit(cache=True, nogil=True)
def digit_offsets(keys, shift, mask, offsets):
    """Where each digit's keys begin once sorted by it.

    keys: uint64 [n]; shift, mask: uint64; offsets: uint32 [mask + 1], written.
    """
    offsets[:] = 0
    for i in range(len(keys)):
        offsets[(keys[i] >> shift) & mask] += np.uint32(1)
    before = np.uint32(0)
    for digit in range(len(offsets)):
        count = offsets[digit]
        offsets[digit] = before
        before += count


@njit(cache=True, nogil=True)
def insertion_sort(keys):
    """Ascending, in place. keys: uint64 [n]."""
    for i in range(1, len(keys)):
        key = keys[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


@njit(cache=True, nogil=True)
def sort_keys(keys, spare, offsets):
    """Ascending, in place, least significant digit first.

    keys: uint64 [n]; spare: uint64 [n]; offsets: uint32 [4096].
    """
    if len(keys) < _INSERTION_SORT_BELOW:
        insertion_sort(keys)
        return
    low, passes, width = radix_digits(keys)
    mask = (_ONE << np.uint64(width)) - _ONE
    source, target = keys, spare
    for p in range(passes):
        shift = np.uint64(low + p * width)
        digit_offsets(source, shift, mask, offsets[: 1 << width])
        for i in range(len(source)):
            key = source[i]
            digit = (key >> shift) & mask
            target[offsets[digit]] = key
            offsets[digit] += np.uint32(1)
        source, target = target, source
    if passes % 2 == 1:
        keys[:] = spare


@njit(cache=True, nogil=True)
def sort_columns(words, spare, order, next_order, offsets):
    """Columns ascending as numbers of W digits, in place.

    words: uint64 [W, n]; spare: uint64 [n]; order, next_order: uint32 [n]; offsets: uint32 [4096].
    """
    num_words, num = words.shape
    for i in range(num):
        order[i] = i
    for j in range(num_words - 1, -1, -1):
        keys = words[j]
        low, passes, width = radix_digits(keys)
        mask = (_ONE << np.uint64(width)) - _ONE
        for p in range(passes):
            shift = np.uint64(low + p * width)
            digit_offsets(keys, shift, mask, offsets[: 1 << width])
            for i in range(num):
                column = order[i]
                digit = (keys[column] >> shift) & mask
                next_order[offsets[digit]] = column
                offsets[digit] += np.uint32(1)
            order, next_order = next_order, order
    for j in range(num_words):
        for i in range(num):
            spare[i] = words[j, order[i]]
        words[j] = spare


@njit(cache=True, nogil=True)
def sort_buckets(words, starts, low, high, spare):
    """Sort each of the buckets ``low`` .. ``high - 1``.

    words: uint64 [W, n]; starts: int64 [buckets + 1]; spare: uint64 [2, largest of these buckets].
    """
    offsets = np.empty(1 << _DIGIT_BITS, np.uint32)
    orders = spare[1].view(np.uint32)
    half = len(orders) // 2
    for bucket in range(low, high):
        start, num = starts[bucket], starts[bucket + 1] - starts[bucket]
        if num == 0:
            continue
        if len(words) == 1:
            sort_keys(words[0, start : start + num], spare[0, :num], offsets)
        else:
            segment = words[:, start : start + num]
            sort_columns(segment, spare[0, :num], orders[:num], orders[half : half + num], offsets)


@njit(cache=True, nogil=True)
def mark_grams(words, last, shift, bits, marks):
    """What each column is to an order: 2 a new n-gram, 1 a repeat, 0 cut short.

    words: uint64 [W, n], sorted, n > 0; last: int64 and shift: uint64, word and shift of the
    order's newest field; bits: uint64, of a field; marks: uint8 [n], written.
    """
    mask = (_ONE << bits) - _ONE
    newest = words[last]
    marks[0] = 2
    for i in range(1, len(newest)):
        marks[i] = 1 + np.uint8((newest[i] ^ newest[i - 1]) >> shift != 0)
    for j in range(last):
        older = words[j]
        for i in range(1, len(older)):
            marks[i] |= np.uint8(older[i] != older[i - 1]) << np.uint8(1)
    for i in range(len(newest)):
        marks[i] = min(marks[i], np.uint8(2)) * np.uint8((newest[i] >> shift) & mask != 0)


@njit(cache=True, nogil=True)
def count_distinct(words, starts, low, high, last, shift, bits, distinct):
    """Distinct n-grams of every bucket ``low`` .. ``high - 1``, cut ones left out.

    words: uint64 [W, n], sorted; starts: int64 [buckets + 1]; last, shift, bits: as in
    ``mark_grams``; distinct: int64 [buckets].
    """
    marks = np.empty(np.max(starts[low + 1 : high + 1] - starts[low:high]), np.uint8)
    for bucket in range(low, high):
        start, end = starts[bucket], starts[bucket + 1]
        if start == end:
            continue
        mark_grams(words[:, start:end], last, shift, bits, marks)
        distinct[bucket] = 0
        for i in range(end - start):
            distinct[bucket] += marks[i] >> np.uint8(1)


@njit(cache=True, nogil=True)
def keep_distinct(keys, marks, kept):
    """Copy one key of each n-gram to ``kept[1]``, ``kept[2]``, ...; no branch on the data.

    keys: uint64 [n]; marks: uint8 [n]; kept: uint64 [n + 1], slot 0 is spoilt.
    """
    found = np.uint64(0)
    for i in range(len(keys)):
        found += np.uint64(marks[i] >> np.uint8(1))
        kept[found if marks[i] else np.uint64(0)] = keys[i]


@njit(cache=True, nogil=True)
def keep_counts(marks, kept):
    """Columns of each n-gram marked 2 to ``kept[1]``, ``kept[2]``, ...; how many there are.

    marks: uint8 [n]; kept: int64 [n + 1], slot 0 is spoilt.
    """
    found = np.uint64(0)
    count = 0
    for i in range(len(marks)):
        found += np.uint64(marks[i] >> np.uint8(1))
        count = 1 if marks[i] == 2 else count + int(marks[i])
        kept[found] = count
    return np.int64(found)


@njit(cache=True, nogil=True)
def unpack_field(keys, shift, bits, tokens):
    """The tokens of one field. keys: uint64 [n]; shift, bits: uint64; tokens: uint32 [n]."""
    mask = (_ONE << bits) - _ONE
    for i in range(len(keys)):
        tokens[i] = ((keys[i] >> shift) & mask) - _ONE


@njit(cache=True, nogil=True)
def emit_grams(words, starts, low, high, order, word_of, shift_of, bits, at, tokens, counts):
    """Write the distinct n-grams of buckets ``low`` .. ``high - 1`` with their counts.

    words: uint64 [W, n], sorted; starts: int64 [buckets + 1]; word_of: int64 [order or more] and
    shift_of: uint64, of field 0 (the oldest), 1, ...; bits: uint64; at: int64, the first column;
    tokens: uint32 [order, G], row s = s tokens back; counts: int64 [G].
    """
    largest = np.max(starts[low + 1 : high + 1] - starts[low:high])
    marks = np.empty(largest, np.uint8)
    kept = np.empty((word_of[order - 1] + 1, largest + 1), np.uint64)
    kept_counts = np.empty(largest + 1, np.int64)
    for bucket in range(low, high):
        start, end = starts[bucket], starts[bucket + 1]
        if start == end:
            continue
        marked = marks[: end - start]
        mark_grams(words[:, start:end], word_of[order - 1], shift_of[order - 1], bits, marked)
        found = keep_counts(marked, kept_counts)
        for j in range(len(kept)):
            keep_distinct(words[j, start:end], marked, kept[j])
        for field in range(order):
            grams = kept[word_of[field], 1 : found + 1]
            row = tokens[order - 1 - field, at : at + found]
            unpack_field(grams, shift_of[field], bits, row)
        counts[at : at + found] = kept_counts[1 : found + 1]
        at += found
