"""A hash table from row ids to slots 0, 1, 2, ... in order of first sight: memory for rows seen."""

import numpy as np
from numba import njit

_EMPTY = -1
_AHEAD = 64
"""Rows whose cache lines are touched before they are needed, so that misses overlap."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio (Knuth, The Art of Computer Programming 3, sec. 6.4)."""


@njit(cache=True, nogil=True)
def find_or_add(index, seen, used, wanted, slots):
    """Slots of ``wanted``; rows not seen before get the next ones. Returns how many are in use.

    ``index`` int32 [a power of two, over ``used + len(wanted)``]: slots, -1 where empty;
    ``seen`` int64 [capacity]: the row of each slot in use; ``wanted`` int64 [n], distinct or not;
    ``slots`` int64 [n] is written.
    """
    mask = np.int64(len(index) - 1)
    shift = _shift(len(index))
    places = np.empty(_AHEAD, np.int64)
    touched = np.empty(_AHEAD, np.int64)  # written, never read: what counts are the loads
    for start in range(0, len(wanted), _AHEAD):
        end = min(start + _AHEAD, len(wanted))
        for i in range(start, end):
            place = np.int64((np.uint64(wanted[i]) * _MULTIPLIER) >> shift) & mask
            places[i - start] = place
            touched[i - start] = index[place]
        for i in range(end - start):
            touched[i] = seen[max(touched[i], 0)]
        for i in range(start, end):
            row, place = wanted[i], places[i - start]
            while index[place] != _EMPTY and seen[index[place]] != row:
                place = (place + 1) & mask
            if index[place] == _EMPTY:
                index[place] = used
                seen[used] = row
                used += 1
            slots[i] = index[place]
    return used


@njit(cache=True, nogil=True)
def rebuild(index, seen, used):
    """Enter the first ``used`` rows of ``seen`` into an empty ``index``."""
    mask = np.int64(len(index) - 1)
    shift = _shift(len(index))
    for slot in range(used):
        place = np.int64((np.uint64(seen[slot]) * _MULTIPLIER) >> shift) & mask
        while index[place] != _EMPTY:
            place = (place + 1) & mask
        index[place] = slot


@njit(cache=True, nogil=True)
def _shift(size):
    """To keep as many upper bits of a 64-bit product as ``size``, a power of two, has places."""
    bits = 0
    while size > 1:
        size >>= 1
        bits += 1
    return np.uint64(64 - bits)
