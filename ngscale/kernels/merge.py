"""Sorted tables of n-grams -> one sorted table."""

from numba import njit


@njit(cache=True, nogil=True)
def merge_tables(left, left_counts, right, right_counts, tokens, counts):
    """Merge two tables, oldest token first, and add the counts of n-grams in both; the n-grams.

    left, right: uint32 [order, n], row 0 the newest token; tokens: uint32, counts: int64, written,
    with room for both.
    """
    order = len(left)
    i = j = at = 0
    while i < len(left_counts) or j < len(right_counts):
        side = 0
        if i == len(left_counts):
            side = 1
        elif j == len(right_counts):
            side = -1
        else:
            for row in range(order - 1, -1, -1):
                if left[row, i] != right[row, j]:
                    side = -1 if left[row, i] < right[row, j] else 1
                    break
        counts[at] = 0
        if side <= 0:
            for row in range(order):
                tokens[row, at] = left[row, i]
            counts[at] += left_counts[i]
            i += 1
        if side >= 0:
            for row in range(order):
                tokens[row, at] = right[row, j]
            counts[at] += right_counts[j]
            j += 1
        at += 1
    return at
