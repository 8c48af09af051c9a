"""What a table looks like once every n-gram of a corpus has been written to its row."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def fill_rows(row_ids, counts, grams_in_row, traffic_of_row):
    """Count the n-grams and the occurrences of every row.

    row_ids: uint32 [G]; counts: int64 [G]; grams_in_row: uint32 [rows] and traffic_of_row:
    int64 [rows], both overwritten.
    """
    grams_in_row[:] = 0
    traffic_of_row[:] = 0
    for g in range(len(row_ids)):
        grams_in_row[row_ids[g]] += np.uint32(1)
        traffic_of_row[row_ids[g]] += counts[g]


@njit(cache=True, nogil=True)
def read_rows(row_ids, counts, grams_in_row, traffic_of_row):
    """(n-grams that share their row, sum over n-grams of count**2 / traffic of their row).

    Arrays as ``fill_rows`` left them. The sum runs in the order of the n-grams, so it is the
    same bits at any thread count.
    """
    sharing = 0
    own_traffic = 0.0
    for g in range(len(row_ids)):
        row = row_ids[g]
        if grams_in_row[row] > 1:
            sharing += 1
        own_traffic += counts[g] * (counts[g] / traffic_of_row[row])
    return sharing, own_traffic
