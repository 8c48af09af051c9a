"""LongCat's polynomial in uint64. Callers guarantee (spec.check_rows) that no sum overflows."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def gram_rows(grams, weights, modulus, out):
    """Row of every n-gram in one table.

    grams: uint32 [order, G], row s = token s places back; weights: uint64 [order], V**s mod
    modulus; modulus: uint64; out: uint32 [G].
    """
    order, num_grams = grams.shape
    for g in range(num_grams):
        total = np.uint64(0)
        for s in range(order):
            total += np.uint64(grams[s, g]) * weights[s]
        out[g] = total % modulus


@njit(cache=True, nogil=True)
def gram_codes(grams, base, out):
    """The polynomial without a modulus; (largest token, whether the codes ascend).

    grams: uint32 [order, G]; base: int64; out: int64 [G]. Codes mean nothing where the largest
    token times base**(order - 1) does not fit.
    """
    order, num_grams = grams.shape
    largest, before, ascending = np.uint32(0), np.int64(-1), True
    for g in range(num_grams):
        code = np.int64(0)
        for s in range(order - 1, -1, -1):
            code = code * base + np.int64(grams[s, g])
            largest = max(largest, grams[s, g])
        out[g] = code
        ascending = ascending and bool(code > before)
        before = code
    return largest, ascending


@njit(cache=True, nogil=True, fastmath={"contract"})
def block_rows(columns, weights, slopes, modulus, start, out):
    """Rows of ``len(out)`` n-grams from ``start`` on, in 32-bit lanes that LLVM vectorises.

    The quotient, below n * 2**24 <= 2**27, is estimated in float64 from the slopes, less than
    2**-22 off. Lowered by 2**-20 it is never too large and at most one too small, which one
    conditional subtraction mends; the remainder then needs the sum modulo 2**32 only. Exact for
    every size below 2**31. (A 64-bit remainder has no vector instructions without AVX-512.)

    columns: tuple of n int32 [G], the token s places back, below 2**24; weights: tuple of n
    uint32, V**s mod modulus; slopes: tuple of n float64, weight / modulus; modulus: uint32;
    start: int64; out: uint32 [any].
    """
    wide = np.int64(modulus)
    for i in range(len(out)):
        g = np.uint64(start + i)
        total = np.int64(0)
        quotient = -(2.0**-20)
        for s in range(len(columns)):
            total += np.int64(columns[s][g]) * np.int64(weights[s])
            quotient += np.float64(columns[s][g]) * slopes[s]
        rest = np.uint32(total - np.int64(np.int32(quotient)) * wide)
        out[i] = min(rest, np.uint32(np.int64(rest) - wide))
