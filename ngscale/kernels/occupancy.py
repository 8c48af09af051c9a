"""What a table looks like once every n-gram of a corpus has been written to its row."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def fill_rows(row_ids, counts, traffic_of_row):
    """Count the occurrences of every row.

    row_ids: uint32 [G]; counts: int64 [G], at least 1; traffic_of_row: uint32 or int64 [rows],
    zeroed, wide enough for the sum of all counts.
    """
    for g in range(len(row_ids)):
        traffic_of_row[row_ids[g]] += counts[g]


@njit(cache=True, nogil=True)
def read_ngrams(row_ids, counts, traffic_of_row):
    """(n-grams that share their row, their occurrences, sum of count**2 / traffic of the row).

    Arrays as ``fill_rows`` left them. A row whose traffic is the count of one of its n-grams is
    private: a second array that counts n-grams made this 1.5x slower. The sum runs in the order
    of the n-grams, so it is the same bits at any thread count.
    """
    sharing = sharing_traffic = np.int64(0)
    own_traffic = 0.0
    for g in range(len(row_ids)):
        count = counts[g]
        traffic = np.int64(traffic_of_row[row_ids[g]])
        shared = np.int64(traffic != count)
        sharing += shared
        sharing_traffic += shared * count
        own_traffic += count * (count / traffic)
    return sharing, sharing_traffic, own_traffic


@njit(cache=True, nogil=True)
def read_rows(traffic_of_row):
    """(occupied rows, largest traffic of a row, sum of C log C in nats) over the rows.

    traffic_of_row: uint32 or int64 [rows], as ``fill_rows`` left it.
    """
    small = np.zeros(256)
    for held in range(1, len(small)):
        small[held] = held * np.log(held)
    occupied = largest = np.int64(0)
    weighted_log = 0.0
    for row in range(len(traffic_of_row)):
        traffic = np.int64(traffic_of_row[row])
        occupied += np.int64(traffic > 0)
        largest = max(largest, traffic)
        # Most rows hold a few occurrences, or none (+ 0.0): no branch on that, and no logarithm.
        weighted_log += small[traffic] if traffic < len(small) else traffic * np.log(traffic)
    return occupied, largest, weighted_log


@njit(cache=True, nogil=True)
def distinct_rows_by_sequence(row_ids, sequence_starts, last_sequence):
    """Rows touched by each sequence, added up: a row counts once per sequence that touches it.

    row_ids: uint32 [G], the distinct n-grams of each sequence after one another;
    sequence_starts: int64 [num_sequences + 1]; last_sequence: int32 [rows], overwritten.
    """
    last_sequence[:] = -1
    touched = 0
    for sequence in range(len(sequence_starts) - 1):
        for g in range(sequence_starts[sequence], sequence_starts[sequence + 1]):
            if last_sequence[row_ids[g]] != sequence:
                last_sequence[row_ids[g]] = sequence
                touched += 1
    return touched


@njit(cache=True, nogil=True)
def touch_rows(row_ids, touched):
    """Mark rows and return how many were not marked before.

    row_ids: uint32 [G], repeats allowed; touched: uint8 [rows], 0 or 1, updated.
    """
    new = 0
    for g in range(len(row_ids)):
        if touched[row_ids[g]] == 0:
            touched[row_ids[g]] = 1
            new += 1
    return new
