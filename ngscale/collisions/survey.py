"""A sweep of more sizes than anyone reads, told by counts: how many are bad, where, of which kind.

The record keeps what shows the shape, ``data/every_size.parquet`` the counts of every size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ngscale.collisions.grid import ratio_grid
from ngscale.collisions.peaks import QUIET_LENGTH, SHOULDER_ROWS, Peak, find_peaks
from ngscale.collisions.sweep import Point, SharingSweep
from ngscale.primes import is_prime
from ngscale.resonance import Neighbours, lattice_lengths, name_by_vector, nearest_fractions

THRESHOLDS = (1.05, 1.2, 1.5, 2.0)
DATA = "every_size"
"""Name of the table of all sizes."""
QUIET = f"lattice length above {QUIET_LENGTH}, coprime to the base"
ZOOM_ROWS = 130
_BINS = 512
_LEVELS = 49


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is told of one order's sweep."""

    peaks: Sequence[Peak]
    points: Sequence[Point]
    """The sizes a short sweep would measure, the peaks, what surrounds the tallest, the least
    resonant size."""
    summary: Mapping[str, Any]
    """Plain JSON, see ``_summary``."""


def survey(swept: SharingSweep, base: int, unit: str, requested: Sequence[int] = ()) -> Survey:
    """Counts by excess, place and kind of size, and the sizes worth listing.

    Predicted sizes are counted with the others, but never listed.
    """
    near = nearest_fractions(swept.sizes, base)
    lengths = lattice_lengths(swept.sizes, base)
    excess = swept.excess()
    peaks = list(_peaks(swept, near, excess, base))
    return Survey(
        peaks=sorted(peaks, key=lambda peak: -peak.height),
        points=swept.points(_worth_listing(swept, peaks, excess, lengths, base, requested)),
        summary=_summary(swept, near, excess, lengths, base, unit),
    )


def columns(sweeps: Sequence[SharingSweep]) -> dict[str, np.ndarray]:
    """The counts of every size of every order; what is not here follows from them.

    Of an adaptive sweep, ``exact`` is 1 where ``occupied`` was counted and 0 where it is predicted.
    """
    by_name: dict[str, Sequence[np.ndarray | None]] = {
        "order": [np.full(len(swept.sizes), swept.order) for swept in sweeps],
        "table_rows": [swept.sizes for swept in sweeps],
        "exact": [swept.exact for swept in sweeps],
        "occupied": [swept.measured.occupied for swept in sweeps],
        "colliding": [swept.measured.colliding for swept in sweeps],
        "colliding_tokens": [swept.measured.colliding_tokens for swept in sweeps],
    }
    found = {}
    for name, parts in by_name.items():
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            found[name] = np.concatenate(known).astype(np.int64)
    return found


def _peaks(
    swept: SharingSweep, near: Neighbours, excess: Float64[np.ndarray, " S"], base: int
) -> Iterator[Peak]:
    """``find_peaks``, one p/q at a time: only the sizes around one peak become objects."""
    counted = True if swept.exact is None else swept.exact
    shoulder = np.flatnonzero((near.distance <= SHOULDER_ROWS) & counted)
    group = near.p[shoulder] * 8 + near.q[shoulder]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for members in np.split(shoulder[order], starts[1:]):
        if len(members) and excess[members].max() > THRESHOLDS[0]:
            yield from find_peaks(swept.points(members), base)


def _worth_listing(
    swept: SharingSweep,
    peaks: Sequence[Peak],
    excess: Float64[np.ndarray, " S"],
    lengths: Float64[np.ndarray, " S"],
    base: int,
    requested: Sequence[int],
) -> list[int]:
    """Indices, by size."""
    sizes = swept.sizes
    wanted = ratio_grid(float(sizes.min()) / base, float(sizes.max()) / base, base)
    wanted += [*requested, *(peak.point.table_rows for peak in peaks)]
    chosen = np.isin(sizes, wanted)
    chosen[[np.argmax(excess), np.argmax(lengths)]] = True
    if peaks:
        tallest = max(peaks, key=lambda peak: peak.height)
        middle = tallest.point.table_rows - tallest.near.offset
        chosen |= np.abs(sizes - middle) <= ZOOM_ROWS
    if swept.exact is not None:
        coprime = np.gcd(sizes, base) == 1
        chosen[np.argmax(np.where(coprime, lengths, 0.0))] = True
        chosen &= swept.exact
    found: list[int] = np.flatnonzero(chosen).tolist()
    return found


def _summary(
    swept: SharingSweep,
    near: Neighbours,
    excess: Float64[np.ndarray, " S"],
    lengths: Float64[np.ndarray, " S"],
    base: int,
    unit: str,
) -> dict[str, Any]:
    sizes = swept.sizes
    is_near = near.distance <= SHOULDER_ROWS
    prime = np.fromiter((is_prime(rows) for rows in sizes.tolist()), np.bool_, len(sizes))
    coprime = np.gcd(sizes, base) == 1
    is_quiet = (lengths > QUIET_LENGTH) & coprime
    kinds = {
        "all": np.ones(len(sizes), dtype=np.bool_),
        "odd": sizes % 2 == 1,
        "even": sizes % 2 == 0,
        "prime": prime,
        "near p/q, q <= 6": is_near,
        "elsewhere": ~is_near,
        "elsewhere, odd": ~is_near & (sizes % 2 == 1),
        "elsewhere, even": ~is_near & (sizes % 2 == 0),
        "elsewhere, prime": ~is_near & prime,
        f"lattice length above {QUIET_LENGTH}": lengths > QUIET_LENGTH,
        QUIET: is_quiet,
    }
    return {
        "order": swept.order,
        "num_sizes": len(sizes),
        "distinct": swept.distinct,
        "occurrences": swept.occurrences,
        "kinds": [_kind(name, excess[members]) for name, members in kinds.items() if members.any()],
        "worst": _worst(np.ones_like(is_near), sizes, excess, lengths, base, unit),
        "worst_elsewhere": _worst(~is_near, sizes, excess, lengths, base, unit),
        "worst_quiet": _worst(is_quiet, sizes, excess, lengths, base, unit),
        "envelope": _envelope(sizes, excess),
        "exceeding": _exceeding(excess, is_near),
    }


def _kind(name: str, excess: Float64[np.ndarray, " S"]) -> dict[str, Any]:
    """Of one kind of size: how many, their excess, and how many exceed each threshold."""
    low, median, high = np.quantile(excess, [0.01, 0.5, 0.99], method="nearest").tolist()
    return {
        "kind": name,
        "num_sizes": len(excess),
        "percentile_1": low,
        "median": median,
        "percentile_99": high,
        "max": float(excess.max()),
        "above": {str(bound): int((excess > bound).sum()) for bound in THRESHOLDS},
    }


def _worst(
    among: Bool[np.ndarray, " S"],
    sizes: Int64[np.ndarray, " S"],
    excess: Float64[np.ndarray, " S"],
    lengths: Float64[np.ndarray, " S"],
    base: int,
    unit: str,
) -> dict[str, Any] | None:
    if not among.any():
        return None
    i = int(np.flatnonzero(among)[np.argmax(excess[among])])
    rows = int(sizes[i])
    return {
        "table_rows": rows,
        "name": name_by_vector(rows, base, unit),
        "excess": float(excess[i]),
        "lattice_length": float(lengths[i]),
    }


def _envelope(
    sizes: Int64[np.ndarray, " S"], excess: Float64[np.ndarray, " S"]
) -> dict[str, list[float]]:
    """Smallest, median and largest excess of equal spans of sizes: no spike can fall through."""
    edges = np.linspace(sizes.min(), sizes.max() + 1, _BINS + 1)
    span = np.searchsorted(edges, sizes, side="right") - 1
    order = np.argsort(span, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(span[order])) + 1)
    return {
        "table_rows": [float(sizes[part].mean()) for part in parts],
        "smallest": [float(excess[part].min()) for part in parts],
        "median": [float(np.median(excess[part])) for part in parts],
        "largest": [float(excess[part].max()) for part in parts],
    }


def _exceeding(
    excess: Float64[np.ndarray, " S"], is_near: Bool[np.ndarray, " S"]
) -> dict[str, list[float]]:
    """Sizes above each of some levels, all and those near no p/q with q <= 6."""
    top = max(float(excess.max()), 1.02)
    levels = np.exp(np.linspace(np.log(1.01), np.log(top), _LEVELS)).tolist()
    return {
        "excess": levels,
        "all": [int((excess > level).sum()) for level in levels],
        "elsewhere": [int((excess[~is_near] > level).sum()) for level in levels],
    }
