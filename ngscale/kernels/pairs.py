"""Pairs of bigrams in one row, as they would be if the two tokens of a bigram were independent."""

from numba import njit


@njit(cache=True, nogil=True)
def meeting_pairs(sizes, base, previous, current, pairs):
    """``sum over m >= 1 of F(a) G(b) + F(a+1) G(V-b)`` with ``m * size = a*V + b``, 0 <= b < V.

    sizes: int64 [S], positive; base: int64, V; previous, current: float64 [V + 1], F and G, last
    element 0; pairs: float64 [S], overwritten.
    """
    for at in range(len(sizes)):
        step_a = sizes[at] // base
        step_b = sizes[at] - step_a * base
        a, b = step_a, step_b
        total = 0.0
        while a < base:
            total += previous[a] * current[b] + previous[a + 1] * current[base - b]
            a += step_a
            b += step_b
            if b >= base:
                b -= base
                a += 1
        pairs[at] = total
