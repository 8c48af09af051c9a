"""Peaks of a sweep: where they are, how high, how wide; and how many rows a peak throws away."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ngscale.collisions.expected import IdealHash
from ngscale.collisions.metrics import measure
from ngscale.collisions.sweep import Point
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable
from ngscale.resonance import Neighbour, gcd_with_base, lattice_length, nearest_fraction

PEAK_EXCESS = 0.1
"""A peak has at least this much more than the ideal hash's collisions ..."""
_PEAK_SIGMAS = 5.0
"""... and at least this many standard deviations of the ideal hash more ..."""
_PEAK_COLLISIONS = 5
"""... and at least this many collisions more, so that a tiny corpus has no peaks by chance."""
QUIET_LENGTH = 0.5
"""Lattice length above which a size is taken to have no resonance."""
SHOULDER_ROWS = 2000
"""Sizes with ``|q*rows - p*V0|`` above this belong to no peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The tallest measured size near one p/q x V0, for one order."""

    point: Point
    near: Neighbour
    width_rows: float | None
    """Width at half height above 1, interpolated between measured sizes; None where the sizes
    beside the peak were not measured."""

    @property
    def height(self) -> float:
        """Collisions over the ideal hash's."""
        return self.point.collision_excess or 0.0


def find_peaks(points: Sequence[Point], base: int) -> list[Peak]:
    """One peak per order and p/q (q <= 6), tallest first within an order."""
    groups: dict[tuple[int, int, int], list[tuple[Point, Neighbour]]] = {}
    for point in points:
        near = nearest_fraction(point.table_rows, base)
        if near.distance <= SHOULDER_ROWS:
            groups.setdefault((point.order, near.p, near.q), []).append((point, near))
    peaks = []
    for members in groups.values():
        top, near = max(members, key=lambda member: member[0].collision_excess or 0.0)
        if stands_out(top):
            flank = [point for point, _ in members]
            peaks.append(Peak(point=top, near=near, width_rows=half_width(flank, top)))
    return sorted(peaks, key=lambda peak: (peak.point.order, -peak.height))


def stands_out(point: Point) -> bool:
    """Whether a size has more collisions than the ideal hash's noise explains."""
    ideal = point.expected
    noise = max(_PEAK_SIGMAS * ideal.collisions_sd, _PEAK_COLLISIONS)
    surplus = point.measured.collisions - ideal.collisions
    return surplus > max(PEAK_EXCESS * ideal.collisions, noise)


def half_width(flank: Sequence[Point], top: Point) -> float | None:
    """Rows between the two places where the excess falls to half of its height above 1."""
    curve = sorted((point.table_rows, point.collision_excess or 0.0) for point in flank)
    half = 1.0 + ((top.collision_excess or 0.0) - 1.0) / 2.0
    middle = next(i for i, (rows, _) in enumerate(curve) if rows == top.table_rows)
    right = _crossing(curve[middle:], half)
    left = _crossing(curve[middle::-1], half)
    return None if left is None or right is None else right - left


def _crossing(curve: Sequence[tuple[int, float]], half: float) -> float | None:
    """Where a curve that starts above ``half`` first falls to it, by linear interpolation."""
    for (rows, value), (next_rows, next_value) in itertools.pairwise(curve):
        if next_value <= half:
            return rows + (next_rows - rows) * (value - half) / (value - next_value)
    return None


def least_resonant(points: Sequence[Point], base: int) -> Point:
    """The size with the longest shortest vector; chosen by arithmetic, not by its result.

    Being farthest from every p/q with q <= 6 is not enough: that is where the sevenths are. A
    factor g in common with the base makes n-grams M/g previous tokens apart collide that have the
    same current one, which costs more than the vector (M/g, 0) is short: such sizes come last.
    """

    def calm(point: Point) -> tuple[bool, float]:
        rows = point.table_rows
        return gcd_with_base(rows, base) == 1, lattice_length(rows, base)

    return max(points, key=calm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """A smaller table that is at least as pure as a resonant one, both measured."""

    order: int
    table_rows: int
    purity: float
    smaller_rows: int
    smaller_purity: float


def saving(
    worst: Point, table: NgramTable, scheme: Scheme, ideal: IdealHash, base: int
) -> Saving | None:
    """The smallest table without resonance that is measured to be at least as pure as ``worst``.

    The ideal hash's purity, which grows with the rows, says where to look; from there sizes are
    measured upwards in steps of a thousandth until one is as pure. None where ``worst`` is.
    """
    target = worst.measured.purity
    assert target is not None
    low, high = 1, worst.table_rows
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ideal.purity_at(middle) >= target else (middle, high)
    rows = high
    while rows < worst.table_rows:
        if lattice_length(rows, base) > QUIET_LENGTH:
            purity = measure(table, scheme, rows).purity
            if purity is not None and purity >= target:
                return Saving(
                    order=worst.order,
                    table_rows=worst.table_rows,
                    purity=target,
                    smaller_rows=rows,
                    smaller_purity=purity,
                )
        rows += max(1, rows // 1000)
    return None
