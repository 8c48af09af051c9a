"""What an ideal random hash would give: every n-gram in an independent, uniform row.

All but the busiest row are exact expectations (docs/method.md has the derivations); n = distinct
n-grams, M = rows, c_g = occurrences of n-gram g, T = sum of c_g.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from ngscale.hashing.byte_hashes import Ideal
from ngscale.ngrams import NgramTable

Numbers = int | Float64[np.ndarray, "..."] | Int64[np.ndarray, "..."]
_QUADRATURE_POINTS = 513
_MAX_ROW_SEEDS = 8
"""Draws of the ideal hash over which the busiest row is averaged."""
_MAX_ROW_SIZES = 4
"""Up to so many sizes each is simulated; of more, the smallest, middle and largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Expectations of ``metrics.Measured`` under an ideal hash."""

    occupied: float
    collisions: float
    collisions_sd: float
    """Standard deviation of ``collisions`` (and of ``occupied``): how far noise alone reaches."""
    colliding: float | None = None
    token_weighted: float | None = None
    purity: float | None = None
    effective_rows: float | None = None
    """exp of the expected entropy."""
    max_row_share: float | None = None
    """Simulated, see ``simulate_max_row_share``."""

    @property
    def impurity(self) -> float | None:
        """1 - purity."""
        return None if self.purity is None else 1.0 - self.purity


def expect_sharing(n: int, rows: int) -> Expected:
    """What depends on the number ``n`` of distinct n-grams alone, not on how often each occurs.

    The formulas and their derivation: docs/method.md, Collisions.
    """
    occupied, shared = float(expected_occupied(n, rows)), float(company(n, rows))
    return Expected(
        occupied=occupied,
        collisions=n - occupied,
        collisions_sd=float(occupied_variance(n, rows)) ** 0.5,
        colliding=n * shared,
        token_weighted=shared,
    )


class IdealHash:
    """Expectations for one n-gram table at any number of rows.

    The frequency spectrum is prepared once; each size then costs about a millisecond. The busiest
    row is simulated at a few of ``sizes`` and interpolated in 1/M, in which it is nearly linear.
    """

    def __init__(self, table: NgramTable, sizes: Sequence[int]) -> None:
        """Prepare the quadrature over the spectrum of ``table`` and the simulation."""
        self.distinct = table.distinct
        self.occurrences = table.occurrences
        counts, num_grams = np.unique(table.counts, return_counts=True)
        self._spectrum = Spectrum(counts, num_grams)
        chosen = sorted(set(sizes), reverse=True)
        if len(chosen) > _MAX_ROW_SIZES:
            chosen = [chosen[0], chosen[len(chosen) // 2], chosen[-1]]
        self._inverse_rows = [1.0 / rows for rows in chosen]
        self._max_row_shares = [simulate_max_row_share(table, rows) for rows in chosen]

    def at(self, table_rows: int) -> Expected:
        """Expectations for a table of ``table_rows`` rows, exact but for ``max_row_share``."""
        rows = table_rows
        own_traffic, weighted_log = self._spectrum.row_traffic(rows)
        return replace(
            expect_sharing(self.distinct, rows),
            purity=own_traffic / self.occurrences,
            effective_rows=float(self.occurrences * np.exp(-weighted_log / self.occurrences)),
            max_row_share=float(np.interp(1.0 / rows, self._inverse_rows, self._max_row_shares)),
        )

    def purity_at(self, table_rows: int) -> float:
        """Expected purity alone: for searches over sizes."""
        return self._spectrum.row_traffic(table_rows)[0] / self.occurrences


def expected_occupied(n: Numbers, rows: Numbers) -> Float64[np.ndarray, "..."]:
    """``M (1 - (1 - 1/M)**n)``."""
    return np.asarray(-np.asarray(rows) * np.expm1(_times(n, _log_missed(rows))))


def company(n: Numbers, rows: Numbers) -> Float64[np.ndarray, "..."]:
    """``1 - (1 - 1/M)**(n-1)``: the chance that an n-gram shares its row."""
    return np.asarray(-np.expm1(_times(np.asarray(n) - 1, _log_missed(rows))))


def occupied_variance(n: Numbers, rows: Numbers) -> Float64[np.ndarray, "..."]:
    """Var = M p (1-p) + M (M-1) (p2 - p**2), p = (1-1/M)**n, p2 = (1-2/M)**n.

    ``p2 - p**2`` is taken as ``p**2 * expm1(n log(1 - 1/(M-1)**2))``, which does not cancel.
    """
    rows = np.asarray(rows, dtype=np.float64)
    empty = np.exp(_times(n, _log_missed(rows)))
    pair = np.expm1(_times(n, _log_missed(np.maximum(rows - 1.0, 1.0) ** 2)))
    variance = rows * empty * (1.0 - empty) + rows * (rows - 1.0) * empty**2 * pair
    return np.asarray(np.maximum(0.0, variance))


def _log_missed(rows: Numbers) -> Float64[np.ndarray, "..."]:
    """``log(1 - 1/M)``: minus infinity for one row, which nothing misses."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(-1.0 / np.asarray(rows, dtype=np.float64)))


def _times(n: Numbers, log_missed: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """The product, 0 for n = 0 also where the logarithm is infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.asarray(n) > 0, n * log_missed, 0.0)


class Spectrum:
    """How many n-grams occur how often: all that expected purity and entropy depend on.

    With S the other traffic in g's row, an ideal hash gives
    ``E[exp(-t S)] = P(t) / (1 - (1 - exp(-t c_g))/M)`` with
    ``P(t) = prod_h (1 - (1 - exp(-t c_h))/M)``.
    Purity and entropy follow by integrals over t > 0:

        c/(c+S)  = integral c exp(-t (c+S)) dt
        log(c+S) = integral (exp(-t) - exp(-t (c+S))) / t dt          (Frullani)

    computed with t = exp(u) by the trapezoidal rule, which converges geometrically here.
    """

    def __init__(self, counts: Numbers, num_grams: Numbers) -> None:
        """``num_grams[i]`` n-grams that occur ``counts[i]`` times; fractions are as good."""
        counts, num_grams = np.asarray(counts), np.asarray(num_grams)
        low = np.log(1e-13 / float(counts.max()))
        u, self.step = np.linspace(low, np.log(60.0), _QUADRATURE_POINTS, retstep=True)
        self.t: Float64[np.ndarray, " points"] = np.exp(u)
        self.counts: Float64[np.ndarray, " C"] = counts.astype(np.float64)
        self.num_grams: Float64[np.ndarray, " C"] = num_grams.astype(np.float64)
        self.missed: Float64[np.ndarray, "points C"] = -np.expm1(-self.t[:, None] * self.counts)
        """1 - exp(-t c)."""
        self.traffic: Float64[np.ndarray, "points C"] = (
            self.num_grams * self.counts * np.exp(-self.t[:, None] * self.counts)
        )
        """c exp(-t c), times the number of n-grams with that count."""

    def row_traffic(self, rows: int) -> tuple[float, float]:
        """Expected ``sum_g c_g**2 / C_row(g)`` and ``sum_g c_g log C_row(g)``."""
        total = float(self.num_grams @ self.counts)
        if rows == 1:
            squares = float(self.num_grams @ self.counts**2)
            return squares / total, total * float(np.log(total))
        kept = 1.0 - self.missed / rows
        others = np.exp(np.log(kept) @ self.num_grams)
        own = others * ((self.traffic / kept) @ self.counts) @ self.t
        decay = total * np.exp(-self.t) - others * (self.traffic / kept).sum(axis=1)
        return float(self.step * own), float(self.step * decay.sum())


def simulate_max_row_share(table: NgramTable, table_rows: int) -> float:
    """Mean share of the busiest row over ``_MAX_ROW_SEEDS`` draws of the ideal hash (seeds 0..).

    It has no closed form. The seeds are fixed, so the same inputs give the same value.
    """
    from ngscale.kernels.occupancy import fill_rows

    traffic_of_row = np.empty(table_rows, dtype=np.int64)
    largest = []
    for seed in range(_MAX_ROW_SEEDS):
        row_ids = Ideal(seed=seed).rows(table.tokens, table_rows)
        traffic_of_row.fill(0)
        fill_rows(row_ids, table.counts, traffic_of_row)
        largest.append(int(traffic_of_row.max()))
    return sum(largest) / len(largest) / table.occurrences
