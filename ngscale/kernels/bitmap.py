"""Bitmaps of table rows in 64-bit words: fold what hangs over their ends, count.

A table with guard zones holds bit i of a table of ``rows`` rows at position ``origin + i``, i from
-left to rows + right: positions outside [0, rows) are rows modulo the size, not yet reduced.
``origin``, ``left`` and ``right`` are multiples of 64, and neither zone is longer than rows - 64,
so that one fold reduces them. Words are uint64 [any], everything else int64, in bits.
"""

import numpy as np
from numba import njit

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
EVEN = np.uint64(0x5555555555555555)
ODD = np.uint64(0xAAAAAAAAAAAAAAAA)


@njit(cache=True, nogil=True)
def _bits_at(words, position):
    """The 64 bits that start at a position."""
    word, shift = position >> 6, np.uint64(position & 63)
    if shift == np.uint64(0):
        return words[word]
    return (words[word] >> shift) | (words[word + 1] << (np.uint64(64) - shift))


@njit(cache=True, nogil=True)
def _or_at(words, position, bits):
    """OR 64 bits in from a position on."""
    word, shift = position >> 6, np.uint64(position & 63)
    words[word] |= bits << shift
    if shift != np.uint64(0):
        words[word + 1] |= bits >> (np.uint64(64) - shift)


@njit(cache=True, nogil=True)
def fold(occupied, origin, rows, left, right):
    """Bring both guard zones of one table home."""
    for done in range(0, left, 64):
        _or_at(occupied, origin + rows - left + done, occupied[(origin - left + done) >> 6])
    for done in range(0, right, 64):
        _or_at(occupied, origin + done, _bits_at(occupied, origin + rows + done))


@njit(cache=True, nogil=True)
def fold_twice(occupied, twice, origin, rows, left, right):
    """Bring both guard zones home: a row held at home and in a zone is held twice."""
    for done in range(0, left, 64):
        word, home = (origin - left + done) >> 6, origin + rows - left + done
        _or_at(twice, home, twice[word] | _bits_at(occupied, home) & occupied[word])
        _or_at(occupied, home, occupied[word])
    for done in range(0, right, 64):
        zone, home = origin + rows + done, origin + done
        bits = _bits_at(occupied, zone)
        _or_at(twice, home, _bits_at(twice, zone) | _bits_at(occupied, home) & bits)
        _or_at(occupied, home, bits)


@njit(cache=True, nogil=True)
def unfold(words, origin, rows, left, right):
    """Overwrite both guard zones with the rows they stand for, so that looking up needs no wrap."""
    for done in range(0, left, 64):
        words[(origin - left + done) >> 6] = _bits_at(words, origin + rows - left + done)
    end, shift = (origin + rows) >> 6, np.uint64((origin + rows) & 63)
    words[end] &= (np.uint64(1) << shift) - np.uint64(1)
    for word in range(end + 1, end + (right >> 6) + 2):
        words[word] = np.uint64(0)
    for done in range(0, right, 64):
        _or_at(words, origin + rows + done, words[(origin + done) >> 6])


@njit(cache=True, nogil=True)
def held_twice(pairs, twice):
    """The odd bits of pairs, packed: half the memory to look rows up in.

    pairs: uint64 [W]; twice: uint64 [(W + 1) / 2], overwritten.
    """
    twice[:] = np.uint64(0)
    for word in range(len(pairs)):
        bits = (pairs[word] >> np.uint64(1)) & EVEN
        bits = (bits | (bits >> np.uint64(1))) & np.uint64(0x3333333333333333)
        bits = (bits | (bits >> np.uint64(2))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        bits = (bits | (bits >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
        bits = (bits | (bits >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
        bits = (bits | (bits >> np.uint64(16))) & np.uint64(0x00000000FFFFFFFF)
        twice[word >> 1] |= bits << np.uint64(32 * (word & 1))


@njit(cache=True, nogil=True)
def popcount(bits):
    """Set bits of a word. LLVM knows this form, with the wrapping product, as one instruction.

    As Python (JIT off) the product does not wrap, and its upper bits are masked.
    """
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    bits = (bits & pairs) + ((bits >> np.uint64(2)) & pairs)
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (int(bits) * 0x0101010101010101 >> 56) & 0x7F


@njit(cache=True, nogil=True)
def count(words, origin, rows, every):
    """Set bits of one table, of the kind ``every`` (uint64); what lies behind it is masked."""
    table = words[origin >> 6 :]
    whole = table[: rows >> 6]
    total = np.int64(0)
    for word in range(len(whole)):  # over the words themselves it is not vectorised: 5x slower
        total += popcount(whole[word] & every)
    if rows & 63:
        rest = (np.uint64(1) << np.uint64(rows & 63)) - np.uint64(1)
        total += popcount(table[rows >> 6] & rest & every)
    return total
