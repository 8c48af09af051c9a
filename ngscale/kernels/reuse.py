"""Reuse of rows in a trace: exact LRU stack distances, CLOCK, samples by hash.

The stack distance of an access is the number of distinct rows accessed since the same row's last
access, that row included: an LRU cache of C rows hits exactly where it is at most C (Mattson et
al., 1970, doi:10.1147/sj.92.0078). Times of last accesses are bits of a bitmap, counted in blocks
of 512 by a Fenwick tree; a block enters the tree when time leaves it, so that an access clears one
bit, walks the tree twice and appends.
"""

import numpy as np
from numba import njit

from ngscale.kernels.bitmap import popcount

BLOCK_BITS = 512
_BLOCK_SHIFT = 9
_ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def stack_distances(slots, last, slot_at, marks, tree, now, live, distances):
    """Distances of the next accesses, 0 where a row is seen for the first time.

    Stops before ``slots`` end where time reaches its capacity; returns (accesses done, now, live).
    slots: int64 [n], below len(last); last: int32 [slots], time of the last access, -1 for none;
    slot_at: int32 [capacity], the slot accessed at each time; marks: uint64 [capacity / 64], the
    times that are some row's last; tree: int32 [capacity / 512 + 1], a Fenwick tree of blocks left
    behind; now, live: int64, times used, rows seen; distances: int32 [n], written.
    """
    num_blocks = len(tree) - 1
    count = min(len(slots), len(slot_at) - now)
    for i in range(count):
        slot = slots[i]
        before = np.int64(last[slot])
        if before < 0:
            distances[i] = 0
            live += 1
        else:
            block = before >> _BLOCK_SHIFT
            word = before >> 6
            older = np.int64(0)
            node = block
            while node > 0:
                older += tree[node]
                node &= node - 1
            for other in range(block << (_BLOCK_SHIFT - 6), word):
                older += popcount(marks[other])
            bit = _ONE << np.uint64(before & 63)
            older += popcount(marks[word] & (bit - _ONE))
            distances[i] = live - older
            marks[word] ^= bit
            if block < now >> _BLOCK_SHIFT:
                node = block + 1
                while node <= num_blocks:
                    tree[node] -= 1
                    node += node & -node
        marks[now >> 6] |= _ONE << np.uint64(now & 63)
        slot_at[now] = slot
        last[slot] = now
        now += 1
        if now & (BLOCK_BITS - 1) == 0:
            _enter_block(marks, tree, (now >> _BLOCK_SHIFT) - 1)
    return count, now, live


@njit(cache=True, nogil=True)
def _enter_block(marks, tree, block):
    """Add the marks of a block that time has left to the tree."""
    held = np.int64(0)
    for word in range(block << (_BLOCK_SHIFT - 6), (block + 1) << (_BLOCK_SHIFT - 6)):
        held += popcount(marks[word])
    node = block + 1
    while node < len(tree):
        tree[node] += held
        node += node & -node


@njit(cache=True, nogil=True)
def compact(last, slot_at, marks, tree, now):
    """Number the live times anew from 0 on, in order; returns the new ``now``.

    Arrays as in ``stack_distances``.
    """
    tree[:] = 0
    kept = 0
    for time in range(now):
        if (marks[time >> 6] >> np.uint64(time & 63)) & _ONE:
            slot = slot_at[time]
            slot_at[kept] = slot
            last[slot] = kept
            kept += 1
    marks[:] = 0
    for time in range(kept):
        marks[time >> 6] |= _ONE << np.uint64(time & 63)
    enter_blocks(marks, tree, kept)
    return kept


@njit(cache=True, nogil=True)
def enter_blocks(marks, tree, now):
    """Fill an empty tree with the blocks that ``now`` has left behind."""
    for block in range(now >> _BLOCK_SHIFT):
        _enter_block(marks, tree, block)


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
