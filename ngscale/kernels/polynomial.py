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
def stream_rows(tokens, weights, moduli, orders, boundary, out):
    """Rows at every position of one token sequence, LongCat's start-of-sequence and boundary rule.

    tokens: uint32 [T]; weights: uint64 [E, N], V**s mod modulus of table i; moduli: uint64 [E];
    orders: int64 [E]; boundary: int64, -1 for none; out: int64 [T, E].
    """
    segment_start = 0
    for p in range(len(tokens)):
        for i in range(len(moduli)):
            total = np.uint64(0)
            for s in range(min(orders[i], p - segment_start + 1)):
                total += np.uint64(tokens[p - s]) * weights[i, s]
            out[p, i] = total % moduli[i]
        if np.int64(tokens[p]) == boundary:
            segment_start = p + 1
