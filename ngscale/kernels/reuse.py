"""Reuse of rows in a trace: exact LRU stack distances, CLOCK, samples by hash.

The stack distance of an access is the number of distinct rows accessed since the same row's last
access, that row included: an LRU cache of C rows hits exactly where it is at most C (Mattson et
al., 1970, doi:10.1147/sj.92.0078). Times of last accesses are bits of a bitmap. How many lie before
a time is read from sums that begin anew every 64 words, 64 groups of words and 64 regions of
groups; the sums behind a cleared bit are lowered by one, 64 neighbours at once, whatever the bit's
place: no loop whose length the branch predictor would have to guess. (A Fenwick tree over blocks of
512 times instead of the sums: 1.5 to 2.1 times as long.)
"""

import numpy as np
from numba import njit

from ngscale.kernels.bitmap import popcount

_AHEAD = 64
"""Accesses whose cache lines are touched before they are needed, so that misses overlap."""
_ONE = np.uint64(1)
_NEIGHBOURS = np.uint64(64)
"""Unsigned, as every index beside it: a signed one may be negative in Python, and is checked."""
_STEP = np.repeat(np.array([0, 1], np.int16), 64)
_WIDE_STEP = _STEP.astype(np.int32)
"""From 63 - p on: 1 for those of 64 places that lie behind p. Comparing instead is done in 64 bits,
and is slower."""


@njit(cache=True, nogil=True)
def stack_distances(slots, last, slot_at, marks, words, groups, regions, now, live, distances):
    """Distances of the next accesses, 0 where a row is seen for the first time.

    Stops before ``slots`` end where time reaches its capacity; returns (accesses done, now, live).
    slots: int64 [n], below len(last); last: int32 [slots], time of the last access, -1 for none;
    slot_at: int32 [capacity, a multiple of 4,096], the slot accessed at each time; marks: uint64
    [capacity / 64], the times that are some row's last; words: int16 [capacity / 64], marks before
    each word in its group; groups: int32 [a multiple of 64], before each group in its region;
    regions: int32 [a multiple of 64], before each region; all three up to ``now`` alone; now, live:
    int64, times used, rows seen; distances: int32 [n], written.
    """
    count = min(len(slots), len(slot_at) - now)
    ahead = np.empty(_AHEAD, np.int64)
    touched = np.empty(_AHEAD, np.uint64)  # written, never read: what counts are the loads
    for start in range(0, count, _AHEAD):
        end = min(start + _AHEAD, count)
        for at in range(start, end):
            ahead[at - start] = np.int64(max(last[slots[at]], 0)) >> 6
        for at in range(end - start):
            touched[at] = marks[ahead[at]] ^ np.uint64(words[ahead[at]])
        for at in range(start, end):
            slot = slots[at]
            before = np.int64(last[slot])
            if before < 0:
                distances[at] = 0
                live += 1
            else:
                word = before >> 6
                group = before >> 12
                bit = _ONE << np.uint64(before & 63)
                older = np.int64(regions[group >> 6]) + groups[group] + words[word]
                distances[at] = live - older - popcount(marks[word] & (bit - _ONE))
                marks[word] ^= bit
                home, step = np.uint64(group << 6), np.uint64(63 - (word & 63))
                for i in range(_NEIGHBOURS):
                    words[home + i] -= _STEP[step + i]
                home, step = np.uint64(group >> 6 << 6), np.uint64(63 - (group & 63))
                for i in range(_NEIGHBOURS):
                    groups[home + i] -= _WIDE_STEP[step + i]
                home, step = np.uint64(group >> 12 << 6), np.uint64(63 - (group >> 6 & 63))
                for i in range(_NEIGHBOURS):
                    regions[home + i] -= _WIDE_STEP[step + i]
                for region in range(((group >> 12) + 1) << 6, (now >> 18) + 1):
                    regions[region] -= 1  # beyond 2**24 times
            marks[now >> 6] |= _ONE << np.uint64(now & 63)
            slot_at[now] = slot
            last[slot] = now
            now += 1
            if now & 63 == 0 and now < len(slot_at):
                _begin_word(marks, words, groups, regions, now >> 6)
    return count, now, live


@njit(cache=True, nogil=True)
def _begin_word(marks, words, groups, regions, word):
    """The sums before a word that time has just reached."""
    before = words[word - 1] + popcount(marks[word - 1])
    if word & 63:
        words[word] = before
        return
    words[word] = 0
    group = word >> 6
    before += groups[group - 1]
    if group & 63:
        groups[group] = before
        return
    groups[group] = 0
    regions[group >> 6] = regions[(group >> 6) - 1] + before


@njit(cache=True, nogil=True)
def compact(last, slot_at, marks, now):
    """Number the live times anew from 0 on, in order; returns the new ``now``.

    Arrays as in ``stack_distances``; ``enter`` writes marks and sums.
    """
    kept = 0
    for word in range((now + 63) >> 6):
        bits = marks[word]
        while bits != 0:
            rest = bits & (bits - _ONE)
            slot = slot_at[(word << 6) + popcount((bits ^ rest) - _ONE)]
            slot_at[kept] = slot
            last[slot] = kept
            kept += 1
            bits = rest
    return kept


@njit(cache=True, nogil=True)
def enter(marks, words, groups, regions, now):
    """Mark the times below ``now``, all of them live, and no other."""
    marks[:] = 0
    marks[: now >> 6] = ~np.uint64(0)
    if now & 63:
        marks[now >> 6] = (_ONE << np.uint64(now & 63)) - _ONE
    for word in range(len(words)):
        words[word] = (word & 63) << 6
    for group in range(len(groups)):
        groups[group] = (group & 63) << 12
    for region in range(len(regions)):
        regions[region] = region << 18


@njit(cache=True, nogil=True)
def tally(values, counts):
    """Count values from 0 on. values: int32 or int64 [n]; counts: int64, added to."""
    for i in range(len(values)):
        counts[values[i]] += 1


@njit(cache=True, nogil=True)
def clock_misses(slots, frame_of, slot_of, referenced, hand, used):
    """(misses, hand, frames in use) of a CLOCK cache (Corbato, 1968) over more accesses.

    A hit sets a row's bit; a miss moves the hand on, clearing bits, to the first frame without
    one, and puts the row there with its bit clear. slots: int64 [n], below len(frame_of);
    frame_of: int32 [slots], -1 outside the cache; slot_of: int32 [frames]; referenced: uint8
    [frames]; hand, used: int64.
    """
    misses = np.int64(0)
    frames = len(slot_of)
    for i in range(len(slots)):
        slot = slots[i]
        frame = frame_of[slot]
        if frame >= 0:
            referenced[frame] = 1
            continue
        misses += 1
        if used < frames:
            place = used
            used += 1
        else:
            while referenced[hand]:
                referenced[hand] = 0
                hand = hand + 1 if hand + 1 < frames else 0
            place = hand
            hand = hand + 1 if hand + 1 < frames else 0
            frame_of[slot_of[place]] = -1
        slot_of[place] = slot
        frame_of[slot] = place
        referenced[place] = 0
    return misses, hand, used


@njit(cache=True, nogil=True)
def sampled(keys, seed, threshold, out):
    """Copy the keys whose hash is below ``threshold`` to ``out``; returns how many.

    keys: int64 [n]; seed, threshold: uint64; out: int64 [n]. The hash is splitmix64's output
    function (Steele et al., 2014, doi:10.1145/2660193.2660195) of key xor seed.
    """
    kept = 0
    for i in range(len(keys)):
        mixed = np.uint64(keys[i]) ^ seed
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        if mixed < threshold:
            out[kept] = keys[i]
            kept += 1
    return kept
