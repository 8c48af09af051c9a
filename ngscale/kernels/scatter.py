"""Bitmaps of one table of any size and order: rows in vectors, then one bit set per n-gram.

Rows go through a buffer small enough for the L2 cache; the bitmap should fit there too. The
columns, weights, slopes and modulus are those of ``polynomial.block_rows``; buffer: uint32 [B];
occupied, twice: uint64 [rows / 64 + 1], zeroed.
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
def mark_twice(columns, weights, slopes, modulus, buffer, occupied, twice):
    """``mark``, and in ``twice`` the rows that are set again."""
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        for row in rows:
            bit = np.uint64(1) << np.uint64(row & np.uint32(63))
            word = np.uint64(row >> np.uint32(6))
            held = occupied[word]
            twice[word] |= held & bit
            occupied[word] = held | bit


@njit(cache=True, nogil=True)
def weigh(columns, weights, slopes, modulus, buffer, twice, gram_weights):
    """Sum of ``gram_weights`` (int64 [G]) over the n-grams whose row is set in ``twice``."""
    total = np.int64(0)
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        here = gram_weights[start : start + len(rows)]
        for i in range(len(rows)):
            word = twice[np.uint64(rows[i] >> np.uint32(6))]
            bit = (word >> np.uint64(rows[i] & np.uint32(63))) & np.uint64(1)
            total += here[i] & -np.int64(bit)
    return total


@njit(cache=True, nogil=True)
def keep_shared(columns, weights, slopes, modulus, buffer, twice, shared):
    """Clear ``shared`` (uint8 [G]) where the n-gram's row is not set in ``twice``."""
    for start in range(0, len(columns[0]), len(buffer)):
        rows = buffer[: len(columns[0]) - start]
        block_rows(columns, weights, slopes, modulus, start, rows)
        here = shared[start : start + len(rows)]
        for i in range(len(rows)):
            word = twice[np.uint64(rows[i] >> np.uint32(6))]
            bit = (word >> np.uint64(rows[i] & np.uint32(63))) & np.uint64(1)
            here[i] &= np.uint8(bit)
