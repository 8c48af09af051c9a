"""The lattice score: how often a table brings different n-grams together, beside an ideal hash.

Tokens are drawn independently from a rank law over their ids; no corpus is read. The formula for
every order and the truncation of its sum: docs/method.md, "Lattice score".
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ngscale.lattice import reduced_basis

if TYPE_CHECKING:  # 0.05 s of an audit that takes half a second
    from jaxtyping import Float64, Int64

    BoxSums = Callable[
        [
            Int64[np.ndarray, " S"],
            Int64[np.ndarray, "S k"],
            Int64[np.ndarray, " S"],
            Float64[np.ndarray, " V"],
        ],
        Float64[np.ndarray, " S"],
    ]
    """(determinants, multipliers, half widths, R with R[0] = 0) -> sum of the products of R over
    the vectors in the box that are nonzero in every place."""

RANK_EXPONENT = 1.05
RANK_SHIFT = 2.7
_MAX_PLACES = 4
"""Vectors that are nonzero in more places count with their mean density only."""
_PAIR_REACH = 48
_TRIPLE_REACH = 4
_QUADRUPLE_REACH = 2


@lru_cache(maxsize=8)
def rank_autocorrelation(num_ids: int) -> "Float64[np.ndarray, ' V']":
    """``R(d) = sum_i P(i) P(i+d)`` of ``P(i) ~ (i + 2.7)**-1.05``, d = 0..V-1."""
    law = (np.arange(num_ids) + RANK_SHIFT) ** -RANK_EXPONENT
    law /= law.sum()
    spectrum = np.fft.rfft(law, 2 * num_ids)
    # The transform leaves noise of 1e-17, far below R(V-1), but it may be negative for tiny V.
    return np.maximum(np.fft.irfft(np.abs(spectrum) ** 2, 2 * num_ids)[:num_ids], 0.0)


@lru_cache(maxsize=8)
def _apart(num_ids: int) -> "Float64[np.ndarray, ' V']":
    """R with R[0] = 0: two tokens that are different."""
    apart = rank_autocorrelation(num_ids).copy()
    apart[0] = 0.0
    return apart


@lru_cache(maxsize=64)
def _prefix_sums(num_ids: int, step: int) -> "Float64[np.ndarray, ' L']":
    """``step`` times the sum of R(d) over 0 < abs(d) <= L*step, d a multiple of the step."""
    return 2.0 * step * np.cumsum(_apart(num_ids)[::step])


@lru_cache(maxsize=4096)
def lattice_score(rows: int, base: int, order: int) -> float:
    """Score of one table: 1 is an ideal hash. Without Numba: milliseconds, no compilation."""
    return float(_scores(np.array([rows], dtype=np.int64), base, order, _box_sums)[0])


def lattice_scores(sizes: Sequence[int], base: int, order: int) -> "Float64[np.ndarray, ' S']":
    """Scores of many sizes, each below 2**31; the same numbers as ``lattice_score``."""
    from ngscale.kernels.lattice import box_sums

    return _scores(np.asarray(sizes, dtype=np.int64), base, order, box_sums)


def _scores(
    sizes: "Int64[np.ndarray, ' S']", base: int, order: int, box_sums: "BoxSums"
) -> "Float64[np.ndarray, ' S']":
    same = float(rank_autocorrelation(base)[0])
    apart = _apart(base)
    total = np.zeros(len(sizes))
    at_zero: dict[tuple[int, ...], Float64[np.ndarray, " S"]] = {}
    for num_places in range(1, order + 1):
        for places in combinations(range(order), num_places):
            lowest = places[0]
            gaps = tuple(s - lowest for s in places)
            dets = sizes // np.gcd(_power(base, lowest, sizes), sizes)
            # Where V and M are coprime, only the gaps between the places matter.
            new = dets != sizes if lowest else np.full(len(sizes), True)
            found = at_zero[gaps].copy() if lowest else np.empty(len(sizes))
            found[new] = _support_sums(dets[new], base, gaps, apart, box_sums)
            at_zero.setdefault(gaps, found)
            total += same ** (order - num_places) * found
    return sizes * total / (1.0 - same**order)


def _support_sums(
    dets: "Int64[np.ndarray, ' S']",
    base: int,
    gaps: tuple[int, ...],
    apart: "Float64[np.ndarray, ' V']",
    box_sums: "BoxSums",
) -> "Float64[np.ndarray, ' S']":
    """Sum over v with ``sum_k v[k] V**gaps[k] = 0 mod det``, nonzero in every entry."""
    if len(gaps) == 1:
        found = np.zeros(len(dets))
        for at in np.flatnonzero(dets < base):
            found[at] = 2.0 * apart[dets[at] :: dets[at]].sum()
        return found
    multipliers = np.stack([_power(base, gap, dets) for gap in gaps], axis=1)
    half_widths = _half_widths(len(gaps), dets, base)
    found = _tails(dets, multipliers[:, 1], half_widths, len(gaps), base)
    if len(gaps) <= _MAX_PLACES:
        found += box_sums(dets, multipliers, half_widths, apart)
    return found


def _power(
    base: int, exponent: int, moduli: "Int64[np.ndarray, ' S']"
) -> "Int64[np.ndarray, ' S']":
    power = 1 % moduli
    for _ in range(exponent):
        power = power * (base % moduli) % moduli
    return power


def _half_widths(
    num_places: int, dets: "Int64[np.ndarray, ' S']", base: int
) -> "Int64[np.ndarray, ' S']":
    """How far the box of a support reaches in every direction; 0 where there is none."""
    reach = {2: _PAIR_REACH, 3: _TRIPLE_REACH, 4: _QUADRUPLE_REACH}.get(num_places, 0)
    return np.minimum(base - 1, (reach * dets ** (1 / num_places)).astype(np.int64))


def _tails(
    dets: "Int64[np.ndarray, ' S']",
    next_multipliers: "Int64[np.ndarray, ' S']",
    half_widths: "Int64[np.ndarray, ' S']",
    num_places: int,
    base: int,
) -> "Float64[np.ndarray, ' S']":
    """What the vectors beyond the box add at their mean density."""
    within = _prefix_sums(base, 1)
    steps = np.gcd(next_multipliers, dets)
    tails = np.empty(len(dets))
    for step in sorted(set(steps.tolist())):
        at = steps == step
        # The lowest place moves in multiples of the step.
        stepped = _prefix_sums(base, step)
        inside = half_widths[at]
        every = stepped[-1] * within[-1] ** (num_places - 1)
        boxed = stepped[inside // step] * within[inside] ** (num_places - 1)
        tails[at] = (every - boxed) / dets[at]
    return tails


def _box_sums(
    dets: "Int64[np.ndarray, ' S']",
    multipliers: "Int64[np.ndarray, 'S k']",
    half_widths: "Int64[np.ndarray, ' S']",
    apart: "Float64[np.ndarray, ' V']",
) -> "Float64[np.ndarray, ' S']":
    """As ``kernels.lattice.box_sums``, size by size in NumPy."""
    sums = np.empty(len(dets))
    for at, (det, half_width) in enumerate(zip(dets.tolist(), half_widths.tolist(), strict=True)):
        basis = np.array(reduced_basis(det, [1, *multipliers[at, 1:].tolist()]), dtype=np.int64)
        # |coefficient| <= half width times the l1 norm of its dual vector: no vector is missed.
        dual = np.abs(np.linalg.inv(basis)).sum(axis=0)
        limits = np.floor(half_width * dual + 1e-9).astype(np.int64).tolist()
        axes = [np.arange(-limit, limit + 1) for limit in limits]
        axes[-1] = axes[-1][limits[-1] :]  # v and -v weigh the same
        weights = np.append(apart[: half_width + 1], 0.0)
        products = np.ones(())
        for s in range(len(axes)):
            steps = [axis * vector[s] for axis, vector in zip(axes, basis, strict=True)]
            entries = np.abs(reduce(np.add.outer, steps))
            products = products * weights[np.minimum(entries, half_width + 1)]
        sums[at] = 2.0 * products.sum() - products[..., 0].sum()
    return sums
