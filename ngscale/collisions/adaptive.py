"""Every size of a range, most of them predicted: predict, calibrate, count what may be bad.

Counted for sure: sizes that were asked for, those a short sweep measures, every small p/q, the
calibration sample, and all predicted near or above ``THRESHOLD``. How near is found by going down
in bands until a band holds no size above the threshold (docs/method.md, "Adaptive sweeps").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ngscale.collisions.expected import expected_occupied
from ngscale.collisions.grid import ratio_grid
from ngscale.collisions.occupancy import Sharing, occupied_rows
from ngscale.collisions.predict import (
    SCAN_GRAMS,
    fit,
    held_out_error,
    is_marginal,
    marginal_signal,
    subsample_signal,
)
from ngscale.collisions.sweep import SharingSweep
from ngscale.collisions.threads import Done, Progress, nobody
from ngscale.ngrams import NgramTable
from ngscale.resonance import lattice_lengths

THRESHOLD = 1.05
"""Collisions over the ideal hash's that count as bad; ``survey.THRESHOLDS`` begins with it."""
FIRST_MARGIN = 0.97
"""Sizes predicted above so much of the threshold are counted without further question ..."""
BAND = 0.01
"""... then bands of this width below, until one holds no size above the threshold ..."""
MAX_COUNTED = 0.15
"""... or this share of all sizes is counted."""
_EVENLY, _AMONG_HIGH, _HIGHEST = 200, 200, 20
_HIGH_SHARE = 20
"""One in so many sizes is among the high ones, of which as many are drawn as of all."""
_MIN_SIZES = 4096
"""Up to so many sizes are simply counted."""
_MIN_GRAMS = 4 * SCAN_GRAMS
"""And so are orders above 2 with fewer n-grams: the scan would cost as much."""
_MAX_Q = 16
_NEAR_IDS = 31
"""Sizes with ``|q M - p V| <= 31``, q <= 16, are counted."""
_SEED = 2026


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A sweep and how it was made."""

    swept: SharingSweep
    told: dict[str, Any]
    """Plain JSON: what was counted and how far predictions were off."""


def sweep_adaptively(
    table: NgramTable,
    base: int,
    sizes: Sequence[int],
    requested: Sequence[int],
    progress: Progress,
) -> Adapted:
    """Counts of what may be bad among ``sizes``, predictions of the rest."""
    todo = np.array(sizes, dtype=np.int64)
    counted = _Counted(table, base, todo)
    marginal = is_marginal(table, base, todo)
    if len(todo) <= _MIN_SIZES or (not marginal and table.distinct < _MIN_GRAMS):
        with progress(f"{table.order}-gram tables", len(todo)) as done:
            counted.count(np.ones(len(todo), dtype=np.bool_), done)
        return _adapted(counted, counted.excess, None)
    with progress(f"{table.order}-gram tables, predicted", len(todo)) as done:
        signal = (marginal_signal if marginal else subsample_signal)(table, base, todo, done)
    sample = _sample(signal)
    counted.count(sample)
    errors = held_out_error(signal[sample], counted.excess[sample])
    predicted = fit(signal[sample], counted.excess[sample]).at(signal)
    wanted = np.isin(todo, requested) | _always(todo, base)
    margin, capped = FIRST_MARGIN, False
    wanted |= predicted > margin * THRESHOLD
    with progress(f"{table.order}-gram tables, counted", int((wanted & ~sample).sum())) as done:
        counted.count(wanted, done)
        while _holds_bad(counted, predicted, margin):
            band = (predicted > (margin - BAND) * THRESHOLD) & ~counted.known
            if counted.known.sum() + band.sum() > MAX_COUNTED * len(todo):
                capped = True
                break
            counted.count(band, done)
            margin -= BAND
    low = errors[predicted[sample] <= margin * THRESHOLD]
    return _adapted(
        counted,
        predicted,
        {
            "signal": "marginal" if marginal else "subsample",
            "num_sampled": int(sample.sum()),
            "num_sampled_low": len(low),
            "error_rms": float(np.sqrt((low**2).mean())),
            "error_max": float(np.abs(low).max()),
            "error_rms_all": float(np.sqrt((errors**2).mean())),
            "threshold": THRESHOLD,
            "margin": round(margin, 2),
            "band": BAND,
            "capped": capped,
        },
    )


def _holds_bad(counted: "_Counted", predicted: Float64[np.ndarray, " S"], margin: float) -> bool:
    """Whether the lowest band that was counted holds a size above the threshold."""
    lowest = (predicted > margin * THRESHOLD) & (predicted <= (margin + BAND) * THRESHOLD)
    return bool((counted.excess[lowest] > THRESHOLD).any())


class _Counted:
    """Occupied rows of the sizes that were counted so far."""

    def __init__(self, table: NgramTable, base: int, sizes: Int64[np.ndarray, " S"]) -> None:
        self.table, self.base, self.sizes = table, base, sizes
        self.known = np.zeros(len(sizes), dtype=np.bool_)
        self.occupied = np.zeros(len(sizes), dtype=np.int64)
        self.ideal = table.distinct - expected_occupied(table.distinct, sizes)

    @property
    def excess(self) -> Float64[np.ndarray, " S"]:
        """Collisions over the ideal hash's, 0 where unknown."""
        ratio: Float64[np.ndarray, " S"] = (self.table.distinct - self.occupied) / self.ideal
        return np.where(self.known, ratio, 0.0)

    def count(self, wanted: Bool[np.ndarray, " S"], done: Done = nobody) -> None:
        """Count those of ``wanted`` that are not known yet."""
        new = wanted & ~self.known
        self.occupied[new] = occupied_rows(
            self.table, self.base, self.sizes[new].tolist(), done=done
        )
        self.known |= new


def _sample(signal: Float64[np.ndarray, " S"]) -> Bool[np.ndarray, " S"]:
    """Stratified by rank: over all sizes, over the highest twentieth, and the highest few."""
    rng = np.random.default_rng(_SEED)
    order = np.argsort(signal, kind="stable")
    high = order[-(len(order) // _HIGH_SHARE) :]
    chosen = np.zeros(len(signal), dtype=np.bool_)
    for strata in (np.array_split(order, _EVENLY), np.array_split(high, _AMONG_HIGH)):
        chosen[[rng.choice(stratum) for stratum in strata]] = True
    chosen[order[-_HIGHEST:]] = True
    return chosen


def _always(sizes: Int64[np.ndarray, " S"], base: int) -> Bool[np.ndarray, " S"]:
    """What a short sweep measures, the least resonant size, and all within reach of a p/q."""
    low, high = int(sizes.min()), int(sizes.max())
    grid = [rows for rows in ratio_grid(low / base, high / base, base) if low <= rows <= high]
    wanted = np.isin(sizes, grid)
    lengths = lattice_lengths(sizes, base)
    coprime = np.gcd(sizes, base) == 1
    wanted[[np.argmax(lengths), np.argmax(np.where(coprime, lengths, 0.0))]] = True
    for q in range(1, _MAX_Q + 1):
        off = (q * sizes + base // 2) % base - base // 2
        wanted |= np.abs(off) <= _NEAR_IDS
    return wanted


def _adapted(
    counted: _Counted, predicted: Float64[np.ndarray, " S"], calibration: dict[str, Any] | None
) -> Adapted:
    """Where nothing was counted, the prediction in whole rows."""
    guess = counted.table.distinct - np.rint(predicted * counted.ideal).astype(np.int64)
    swept = SharingSweep(
        order=counted.table.order,
        distinct=counted.table.distinct,
        occurrences=counted.table.occurrences,
        sizes=counted.sizes,
        measured=Sharing(occupied=np.where(counted.known, counted.occupied, guess)),
        exact=counted.known,
    )
    told = {
        "order": counted.table.order,
        "num_exact": int(counted.known.sum()),
        "num_predicted": int((~counted.known).sum()),
        "calibration": calibration,
    }
    return Adapted(swept=swept, told=told)
