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
def read_ngrams(row_ids, counts, grams_in_row, traffic_of_row):
    """(n-grams that share their row, their occurrences, sum of count**2 / traffic of the row).

    Arrays as ``fill_rows`` left them. The sum runs in the order of the n-grams, so it is the
    same bits at any thread count.
    """
    sharing = 0
    sharing_traffic = 0
    own_traffic = 0.0
    for g in range(len(row_ids)):
        row = row_ids[g]
        if grams_in_row[row] > 1:
            sharing += 1
            sharing_traffic += counts[g]
        own_traffic += counts[g] * (counts[g] / traffic_of_row[row])
    return sharing, sharing_traffic, own_traffic


@njit(cache=True, nogil=True)
def read_rows(traffic_of_row):
    """(occupied rows, largest traffic of a row, sum of C log C in nats) over the rows.

    traffic_of_row: int64 [rows], as ``fill_rows`` left it.
    """
    occupied = 0
    largest = 0
    weighted_log = 0.0
    for row in range(len(traffic_of_row)):
        traffic = traffic_of_row[row]
        if traffic > 0:
            occupied += 1
            largest = max(largest, traffic)
            weighted_log += traffic * np.log(traffic)
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
