"""Bitmaps of one table of any size and order: rows in vectors, then one bit set per n-gram.

Rows go through a buffer small enough for the L2 cache; the bitmap should fit there too. The
columns, weights, slopes and modulus are those of ``polynomial.block_rows``; buffer: uint32 [B];
occupied: uint64 [rows / 64 + 1] and pairs: uint64 [rows / 32 + 1] (two bits a row: occupied, held
twice), zeroed; twice: uint64 [rows / 64 + 1], from ``bitmap.held_twice``. (Two bitmaps instead of
pairs: 1.2x slower.)
"""

import numpy as np
from numba import njit

from ngscale.kernels.polynomial import block_rows

BUFFER_ROWS = 16_384
"""Long enough that the vector loop and the bit loop each run at full speed (256: 1.5x slower)."""


@njit(cache=True, nogil=True)
def mark(columns, weights, slopes, modulus, buffer, occupied):
    """Set the row of every n-gram."""
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        for row in rows:
            bit = np.uint64(1) << np.uint64(row & np.uint32(63))
            occupied[np.uint64(row >> np.uint32(6))] |= bit


@njit(cache=True, nogil=True)
def mark_pairs(columns, weights, slopes, modulus, buffer, pairs):
    """``mark`` with two bits a row."""
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        for row in rows:
            bit = np.uint64(1) << np.uint64(np.uint64(2) * (row & np.uint32(31)))
            word = np.uint64(row >> np.uint32(5))
            held = pairs[word]
            pairs[word] = held | bit | ((held & bit) << np.uint64(1))


@njit(cache=True, nogil=True)
def _bit(words, row):
    """0 or 1."""
    word = words[np.uint64(row >> np.uint32(6))]
    return (word >> np.uint64(row & np.uint32(63))) & np.uint64(1)


@njit(cache=True, nogil=True)
def weigh(columns, weights, slopes, modulus, buffer, twice, gram_weights):
    """Sum of ``gram_weights`` (int64 [G]) over the n-grams whose row is set in ``twice``."""
    total = np.int64(0)
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        here = gram_weights[start : start + len(rows)]
        for i in range(len(rows)):
            total += here[i] & -np.int64(_bit(twice, rows[i]))
    return total


@njit(cache=True, nogil=True)
def keep_shared(columns, weights, slopes, modulus, buffer, twice, shared):
    """Clear ``shared`` (uint8 [G]) where the n-gram's row is not set in ``twice``."""
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        here = shared[start : start + len(rows)]
        for i in range(len(rows)):
            here[i] &= np.uint8(_bit(twice, rows[i]))
