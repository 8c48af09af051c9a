"""Sums over the short vectors of many small lattices."""

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def reduce_pairwise(basis):
    """Subtract multiples of one vector from another while that shortens it.

    basis: int64 [k, k], k at most 4, entries below 2**31, changed in place; sorted by length, the
    shortest last. For k = 2 this is Lagrange-Gauss. Any basis gives the same sums: a good one
    makes them quick.
    """
    size = len(basis)
    changed = True
    while changed:
        changed = False
        for i in range(size):
            for j in range(size):
                if i == j:
                    continue
                dot = norm = old = 0.0
                for s in range(size):
                    dot += float(basis[i, s]) * float(basis[j, s])
                    norm += float(basis[j, s]) * float(basis[j, s])
                    old += float(basis[i, s]) * float(basis[i, s])
                step = np.int64(np.rint(dot / norm))
                # Strictly shorter by more than rounding, so that the loop ends.
                if step != 0 and old - 2.0 * step * dot + step * step * norm < old * (1 - 1e-12):
                    for s in range(size):
                        basis[i, s] -= step * basis[j, s]
                    changed = True
    for i in range(1, size):
        for j in range(i, 0, -1):
            here = there = 0.0
            for s in range(size):
                here += float(basis[j, s]) ** 2
                there += float(basis[j - 1, s]) ** 2
            if here > there:
                for s in range(size):
                    basis[j, s], basis[j - 1, s] = basis[j - 1, s], basis[j, s]


@njit(cache=True, nogil=True)
def coefficient_limits(basis, half_width, limits):
    """Largest coefficient of each basis vector in a vector with all |entries| <= half_width.

    basis: int64 [k, k]; half_width: int64; limits: int64 [k], overwritten. ``half_width`` times
    the l1 norms of the dual basis, from a Gauss-Jordan inverse.
    """
    size = len(basis)
    left = basis.astype(np.float64)
    right = np.eye(size)
    for c in range(size):
        pivot = c
        for r in range(c + 1, size):
            if abs(left[r, c]) > abs(left[pivot, c]):
                pivot = r
        for s in range(size):
            left[c, s], left[pivot, s] = left[pivot, s], left[c, s]
            right[c, s], right[pivot, s] = right[pivot, s], right[c, s]
        scale = 1.0 / left[c, c]
        for s in range(size):
            left[c, s] *= scale
            right[c, s] *= scale
        for r in range(size):
            factor = left[r, c]
            if r != c and factor != 0.0:
                for s in range(size):
                    left[r, s] -= factor * left[c, s]
                    right[r, s] -= factor * right[c, s]
    for i in range(size):
        norm = 0.0
        for s in range(size):
            norm += abs(right[s, i])
        limits[i] = np.int64(np.floor(half_width * norm + 1e-9))


@njit(cache=True, nogil=True)
def pair_line(a, b, step_a, step_b, num_points, weights):
    """Sum of weights[|a + c*step_a|] * weights[|b + c*step_b|], c = 0..num_points-1.

    All int64 but weights, float64 [V]. Four sums of their own: one would wait for each addition.
    """
    first = second = third = fourth = 0.0
    c = 0
    while c + 4 <= num_points:
        first += weights[np.uint64(abs(a))] * weights[np.uint64(abs(b))]
        second += weights[np.uint64(abs(a + step_a))] * weights[np.uint64(abs(b + step_b))]
        a += 2 * step_a
        b += 2 * step_b
        third += weights[np.uint64(abs(a))] * weights[np.uint64(abs(b))]
        fourth += weights[np.uint64(abs(a + step_a))] * weights[np.uint64(abs(b + step_b))]
        a += 2 * step_a
        b += 2 * step_b
        c += 4
    while c < num_points:
        first += weights[np.uint64(abs(a))] * weights[np.uint64(abs(b))]
        a += step_a
        b += step_b
        c += 1
    return (first + second) + (third + fourth)


@njit(cache=True, nogil=True)
def box_sum(basis, half_width, weights):
    """Sum over lattice vectors v with 0 < |v[s]| <= half_width of prod_s weights[|v[s]|].

    basis: int64 [k, k], k = 2..4, of full rank, as ``reduce_pairwise`` leaves it; half_width:
    int64, below len(weights); weights: float64 [V], weights[0] = 0. Coefficients of all but the
    shortest vector are counted through; the shortest runs over the stretch inside the box.
    """
    size = len(basis)
    limits = np.empty(size, dtype=np.int64)
    coefficient_limits(basis, half_width, limits)
    coefficients = -limits
    coefficients[0] = 0  # v and -v weigh the same
    start = np.empty(size, dtype=np.int64)
    step = basis[size - 1]
    total = 0.0
    while True:
        low, high = -limits[size - 1], limits[size - 1]
        for s in range(size):
            start[s] = 0
            for i in range(size - 1):
                start[s] += coefficients[i] * basis[i, s]
            if step[s] == 0:
                if abs(start[s]) > half_width:
                    high = low - 1
            else:
                pace = abs(step[s])
                at = start[s] if step[s] > 0 else -start[s]
                low = max(low, -((half_width + at) // pace))
                high = min(high, (half_width - at) // pace)
        line = 0.0
        if size == 2:
            line = pair_line(
                start[0] + low * step[0],
                start[1] + low * step[1],
                step[0],
                step[1],
                high - low + 1,
                weights,
            )
        else:
            for c in range(low, high + 1):
                product = 1.0
                for s in range(size):
                    product *= weights[np.uint64(abs(start[s] + c * step[s]))]
                line += product
        total += line if coefficients[0] == 0 else 2.0 * line
        place = size - 2
        while place >= 0 and coefficients[place] == limits[place]:
            coefficients[place] = -limits[place]
            place -= 1
        if place < 0:
            return total
        coefficients[place] += 1


@njit(cache=True, nogil=True, parallel=True)
def box_sums(dets, multipliers, half_widths, weights):
    """``box_sum`` of the lattices {v : sum_s v[s] multipliers[s] = 0 mod det}; float64 [S].

    dets: int64 [S], below 2**31; multipliers: int64 [S, k], 0 <= . < det, the first 1 (mod det);
    half_widths: int64 [S]; weights: float64 [V].
    """
    size = multipliers.shape[1]
    sums = np.empty(len(dets))
    for at in prange(len(dets)):
        det = dets[at]
        basis = np.zeros((size, size), dtype=np.int64)
        basis[0, 0] = det
        for s in range(1, size):
            multiplier = multipliers[at, s]
            basis[s, 0] = -multiplier if 2 * multiplier <= det else det - multiplier
            basis[s, s] = 1
        reduce_pairwise(basis)
        sums[at] = box_sum(basis, half_widths[at], weights)
    return sums
