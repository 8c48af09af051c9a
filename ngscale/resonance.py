"""Where a table size stands between the simple multiples of the hash base: number theory only.

A table whose rows M are close to p/q times the base V maps predecessors p apart to nearly the same
row: with q*M = p*V + delta, bigrams (a, b) and (a + p, b + delta) share one (docs/method.md).
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # 0.05 s of an audit that takes half a second
    from jaxtyping import Float64, Int64

MAX_DENOMINATOR = 6
"""Beyond q = 6 the measured peaks are within a few percent of the background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """The fraction p/q of the base nearest to a size."""

    p: int
    q: int
    offset: int
    """``rows - round(p/q * V)``."""
    distance: int
    """``|q*rows - p*V|``: how far apart in current-token id the nearest colliding bigrams are."""

    def name(self, unit: str = "V0") -> str:
        """``31 x V0 + 1`` or ``61/2 x V0``; ``unit`` is what the base is called."""
        fraction = str(self.p) if self.q == 1 else f"{self.p}/{self.q}"
        sign = "+" if self.offset > 0 else "-"
        return f"{fraction} x {unit}" + (f" {sign} {abs(self.offset)}" if self.offset else "")


def nearest_fraction(rows: int, base: int) -> Neighbour:
    """The p/q with q <= 6 for which ``q * |rows - p/q * V|`` is smallest; small q wins ties.

    The weight q is how far the lattice vector ``(p, q*offset)`` reaches in token ids.
    """
    best: tuple[int, int, int] | None = None
    for q in range(1, MAX_DENOMINATOR + 1):
        p = max(1, round(Fraction(q * rows, base)))
        distance = abs(q * rows - p * base)
        if best is None or distance < best[0]:
            best = (distance, p, q)
    assert best is not None
    distance, p, q = best
    return Neighbour(p=p, q=q, offset=rows - nearest_rows(p, q, base), distance=distance)


class Neighbours(NamedTuple):
    """``Neighbour`` of many sizes at once."""

    p: "Int64[np.ndarray, ' S']"
    q: "Int64[np.ndarray, ' S']"
    distance: "Int64[np.ndarray, ' S']"


def nearest_fractions(sizes: "Int64[np.ndarray, ' S']", base: int) -> Neighbours:
    """``nearest_fraction`` of every size."""
    best = Neighbours(*(np.zeros(len(sizes), dtype=np.int64) for _ in range(3)))
    best.distance.fill(np.iinfo(np.int64).max)
    for q in range(1, MAX_DENOMINATOR + 1):
        # Half to even, as ``round`` has it: p + 1 only above the half, or at it from an odd p.
        p, rest = np.divmod(q * sizes, base)
        p = np.maximum(1, p + ((2 * rest > base) | ((2 * rest == base) & (p % 2 == 1))))
        distance = np.abs(q * sizes - p * base)
        nearer = distance < best.distance
        for kept, found in zip(best, (p, np.int64(q), distance), strict=True):
            np.copyto(kept, found, where=nearer)
    return best


def shortest_vector(rows: int, base: int) -> tuple[int, int]:
    """The shortest (A, B) with ``A*V + B = 0 mod rows``: previous tokens A apart collide when the
    current ones are B apart. Signs are such that A >= 0.

    Lagrange-Gauss reduction of the lattice spanned by (1, -V) and (0, rows). Its determinant is
    ``rows``, so no size can do better than about sqrt(rows): the longer, the less resonant.
    """
    u, v = (0, rows), (1, -(base % rows))
    while True:
        if _square(u) < _square(v):
            u, v = v, u
        step = round(Fraction(u[0] * v[0] + u[1] * v[1], _square(v)))
        u = (u[0] - step * v[0], u[1] - step * v[1])
        if _square(u) >= _square(v):
            return v if v[0] > 0 or (v[0] == 0 and v[1] > 0) else (-v[0], -v[1])


def _square(vector: tuple[int, int]) -> int:
    return vector[0] ** 2 + vector[1] ** 2


def name_by_vector(rows: int, base: int, unit: str = "V0") -> str:
    """A size by the fraction that its shortest vector stands for, whatever the denominator.

    From ``A*V + B = q*rows`` the size is ``A/q x V + B/q``.
    """
    p, rest = shortest_vector(rows, base)
    q = (p * base + rest) // rows
    if q < 1 or p < 1:
        return f"{rows / base:.3f} x {unit}"
    offset = rows - nearest_rows(p, q, base)
    return Neighbour(p=p, q=q, offset=offset, distance=abs(rest)).name(unit)


def lattice_length(rows: int, base: int) -> float:
    """Length of the shortest vector over sqrt(rows): at most about 1.07; near 0 is resonant."""
    return math.sqrt(_square(shortest_vector(rows, base)) / rows)


def gcd_with_base(rows: int, base: int) -> int:
    """What divides every ``V**s mod M``, s > 0: the current token fixes the row modulo it."""
    return math.gcd(rows, base)


def reachable_rows(rows: int, base: int, order: int) -> int:
    """Rows that n-grams with one and the same current token can reach: min(V**(n-1), M/g), exactly.

    What stands before the current token adds ``V * X mod M``, where X takes every value of
    0..V**(n-1)-1; V*X mod M has period M/g in X and no repeat within it.
    """
    contexts: int = base ** (order - 1)
    return min(contexts, rows // gcd_with_base(rows, base))


def lattice_lengths(sizes: "Int64[np.ndarray, ' S']", base: int) -> "Float64[np.ndarray, ' S']":
    """``lattice_length`` of every size below 2**31, whose squares fit 63 bits."""
    u = np.stack([np.zeros_like(sizes), sizes])
    v = np.stack([np.ones_like(sizes), -(base % sizes)])
    while True:
        swap = (u * u).sum(axis=0) < (v * v).sum(axis=0)
        u, v = np.where(swap, v, u), np.where(swap, u, v)
        square = (v * v).sum(axis=0)
        # To the nearest whole number; which way a half goes does not change the length.
        step = ((u * v).sum(axis=0) + square // 2) // square
        u -= step * v
        if not np.any((u * u).sum(axis=0) < square):
            length: Float64[np.ndarray, " S"] = np.sqrt(square / sizes)
            return length


def nearest_rows(p: int, q: int, base: int) -> int:
    """The size nearest to p/q times the base."""
    return round(Fraction(p * base, q))


def fractions_between(low: float, high: float) -> list[tuple[int, int]]:
    """Every reduced p/q with q <= 6 in [low, high], by size."""
    found = {
        Fraction(p, q)
        for q in range(1, MAX_DENOMINATOR + 1)
        for p in range(int(low * q), int(high * q) + 2)
        if low <= p / q <= high and p > 0
    }
    return [(f.numerator, f.denominator) for f in sorted(found)]
