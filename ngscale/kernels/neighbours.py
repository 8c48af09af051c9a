"""Many neighbouring table sizes at once, for keys x < 2**63 whose row is x modulo the size.

With x = q * centre + p, the row in a table of centre + d rows is p - q*d modulo its size: no
division per size. Keys sorted by the bucket of p (``sort_by_row``), in which q ascends, touch
every table in one small moving window, so a table far larger than the L1 cache is written at the
speed of the L1 cache. Sizes 8 apart see the same keys at the same bit of a byte, q bytes further
down: of eight such sizes ("octet") each costs one addition and one OR.

Tables have guard zones (``bitmap.py``) instead of wrap-around tests. Tried and lost: shifting
each size's mask for itself (1.4x slower), 16 sizes at once (no gain), permuting neighbours apart
against store-forwarding stalls (no gain); for ``mark_twice``, a branch around the second OR (1.3x
slower) and two adjacent bits a row, in one access (1.1x slower: more arithmetic).
"""

import numpy as np
from numba import njit

from ngscale.kernels.intrinsics import or_bits


@njit(cache=True, nogil=True)
def granules(codes, width, masks):
    """Group ascending keys into windows of ``width`` bits; the number of windows.

    codes: int64 [G], ascending, overwritten with the first key of each window; width: int64, at
    most the bits of a mask less 7, or 1 for uint8; masks: uint64 or uint8 [G], written: the keys
    of each window, relative to its first.
    """
    number = -1
    end = np.int64(-1)
    for g in range(len(codes)):
        key = codes[g]
        if key >= end:
            number += 1
            codes[number] = key
            masks[number] = 1
            end = key + width
        else:
            masks[number] |= np.uint64(1) << np.uint64(key - codes[number])
    return number + 1


@njit(cache=True, nogil=True)
def sort_by_row(first, payload, centre, shift, heads, p, q, carried):
    """Split keys into (q, p) and counting-sort them, stably, by p >> shift.

    first: int64 [G], ascending; payload: any [G]; centre: int64; heads: int64
    [(centre - 1 >> shift) + 2], scratch; p, q: uint32 [G] and carried: like payload, written. The
    caller guarantees first[-1] // centre < 2**32.
    """
    heads[:] = 0
    base = np.int64(0)
    for g in range(len(first)):
        rest = first[g] - base
        if rest >= centre:  # once per row of the table, not once per key
            base += rest // centre * centre
            rest = first[g] - base
        heads[(rest >> shift) + 1] += 1
    for bucket in range(1, len(heads)):
        heads[bucket] += heads[bucket - 1]
    base, quotient = np.int64(0), np.int64(0)
    for g in range(len(first)):
        rest = first[g] - base
        if rest >= centre:
            quotient += rest // centre
            base = quotient * centre
            rest = first[g] - base
        to = heads[rest >> shift]
        heads[rest >> shift] = to + 1
        p[to] = rest
        q[to] = quotient
        carried[to] = payload[g]


@njit(cache=True, nogil=True)
def mark(p, q, masks, origin, deltas, octet, stride, tables):
    """Set the rows of every key in every table.

    p, q: uint32 [G] and masks: uint64 (granules) or uint8 (single keys) [G], from
    ``sort_by_row``; origin: int64, bits; deltas: int64 [S], size minus centre; octet: the deltas
    are eight, ascending by 8; stride: int64, bytes of a table; tables: uint8 [S * stride],
    zeroed or marked before.
    """
    if octet:
        for g in range(len(p)):
            back = np.int64(q[g])
            row = np.int64(p[g]) + origin - back * deltas[0]
            bits = np.uint64(masks[g]) << np.uint64(row & 7)
            at = row >> 3
            for _ in range(8):
                or_bits(tables, at, bits, masks)
                at += stride - back
        return
    for g in range(len(p)):
        back = np.int64(q[g])
        start = np.int64(p[g]) + origin
        for size in range(len(deltas)):
            row = start - back * deltas[size]
            bits = np.uint64(masks[g]) << np.uint64(row & 7)
            or_bits(tables, size * stride + (row >> 3), bits, masks)


@njit(cache=True, nogil=True)
def mark_twice(p, q, masks, origin, deltas, octet, stride, tables):
    """``mark``, and what was set already into a second set of tables behind the first.

    Arguments as ``mark``'s, but tables: uint8 [2 * S * stride]; a mask holds no key twice.
    """
    behind = len(deltas) * stride
    if octet:
        for g in range(len(p)):
            back = np.int64(q[g])
            row = np.int64(p[g]) + origin - back * deltas[0]
            bits = np.uint64(masks[g]) << np.uint64(row & 7)
            at = row >> 3
            for _ in range(8):
                held = or_bits(tables, at, bits, masks)
                or_bits(tables, at + behind, bits & held, masks)
                at += stride - back
        return
    for g in range(len(p)):
        back = np.int64(q[g])
        start = np.int64(p[g]) + origin
        for size in range(len(deltas)):
            row = start - back * deltas[size]
            bits = np.uint64(masks[g]) << np.uint64(row & 7)
            at = size * stride + (row >> 3)
            held = or_bits(tables, at, bits, masks)
            or_bits(tables, at + behind, bits & held, masks)


@njit(cache=True, nogil=True)
def weigh(p, q, weights, origin, deltas, octet, stride, tables, sums):
    """Add up the weights of the keys whose bit is set, per table.

    p, q: uint32 [G] and weights: int64 [G], from ``sort_by_row``; origin, deltas, octet, stride as
    ``mark``'s; tables: uint8 [S * stride], unfolded; sums: int64 [S], overwritten.
    """
    if octet:
        _weigh_octet(p, q, weights, origin, deltas, stride, tables, sums)
        return
    for size in range(len(deltas)):
        total = np.int64(0)
        for g in range(len(p)):
            place = np.int64(p[g]) - np.int64(q[g]) * deltas[size] + origin
            held = tables[np.uint64(size * stride + (place >> 3))] >> np.uint8(place & 7)
            total += weights[g] & -np.int64(held & np.uint8(1))
        sums[size] = total


@njit(cache=True, nogil=True)
def _weigh_octet(p, q, weights, origin, deltas, stride, tables, sums):
    """Eight tables per load of a key, sums in registers (in memory: 1.7x slower)."""
    a = b = c = d = e = f = h = i = np.int64(0)
    for g in range(len(p)):
        back = np.int64(q[g])
        place = np.int64(p[g]) - back * deltas[0] + origin
        bit = np.uint8(1 << (place & 7))
        at, step = np.uint64(place >> 3), np.uint64(stride - back)
        weight = weights[g]
        a += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        b += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        c += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        d += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        e += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        f += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        h += weight if tables[at] & bit else np.int64(0)
        at = np.uint64(at + step)
        i += weight if tables[at] & bit else np.int64(0)
    for size, total in enumerate((a, b, c, d, e, f, h, i)):
        sums[size] = total


@njit(cache=True, nogil=True)
def mark_one(first, masks, rows, table):
    """Set the rows of every granule in one table, for a size with no neighbours.

    first: int64 [G], ascending; masks: uint64 or uint8 [G]; rows: int64; table: uint8
    [rows / 8 + 17], zeroed; a granule may hang over its end (right zone of 64).
    """
    base = np.int64(0)
    for g in range(len(first)):
        rest = first[g] - base
        if rest >= rows:
            base += rest // rows * rows
            rest = first[g] - base
        or_bits(table, rest >> 3, np.uint64(masks[g]) << np.uint64(rest & 7), masks)
