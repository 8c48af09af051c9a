"""What an ideal random hash would give: every n-gram in an independent, uniform row.

All four are exact expectations (docs/method.md has the derivations); n = distinct n-grams,
M = rows, c_g = occurrences of n-gram g, T = sum of c_g.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ngscale.ngrams import NgramTable

_QUADRATURE_POINTS = 513


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Expectations of ``metrics.Measured`` under an ideal hash."""

    occupied: float
    collisions: float
    collisions_sd: float
    """Standard deviation of ``collisions`` (and of ``occupied``): how far noise alone reaches."""
    colliding: float
    purity: float

    @property
    def impurity(self) -> float:
        """1 - purity."""
        return 1.0 - self.purity


class IdealHash:
    """Expectations for one n-gram table at any number of rows.

    The frequency spectrum is prepared once; each size then costs about a millisecond.
    """

    def __init__(self, table: NgramTable) -> None:
        """Prepare the quadrature over the spectrum of ``table``."""
        self.distinct = table.distinct
        self.occurrences = table.occurrences
        counts, num_grams = np.unique(table.counts, return_counts=True)
        self._spectrum = _Spectrum(counts, num_grams)

    def at(self, table_rows: int) -> Expected:
        """Expectations for a table of ``table_rows`` rows."""
        n, rows = self.distinct, table_rows
        log_miss = np.log1p(-1.0 / rows) if rows > 1 else -np.inf
        occupied = -rows * np.expm1(n * log_miss)
        return Expected(
            occupied=float(occupied),
            collisions=float(n - occupied),
            collisions_sd=float(np.sqrt(_occupied_variance(n, rows))),
            colliding=float(-n * np.expm1((n - 1) * log_miss)) if n > 1 else 0.0,
            purity=self._spectrum.own_traffic(rows) / self.occurrences,
        )


def _occupied_variance(n: int, rows: int) -> float:
    """Var = M p (1-p) + M (M-1) (p2 - p**2), p = (1-1/M)**n, p2 = (1-2/M)**n.

    ``p2 - p**2`` is taken as ``p**2 * expm1(n log(1 - 1/(M-1)**2))``, which does not cancel.
    """
    if rows <= 2:
        return 0.0 if rows == 1 or n == 0 else 2.0 * 0.5**n * (1.0 - 2.0 * 0.5**n)
    empty = np.exp(n * np.log1p(-1.0 / rows))
    joint = empty**2 * np.expm1(n * np.log1p(-1.0 / (rows - 1) ** 2))
    return float(max(0.0, rows * empty * (1.0 - empty) + rows * (rows - 1) * joint))


class _Spectrum:
    """How many n-grams occur how often: all that the expected purity depends on.

    With S the other traffic in g's row, ``c/(c+S) = integral_0^1 c x**(c+S-1) dx`` and, for an
    ideal hash, ``E[x**S] = prod_{h != g} (1 - (1 - x**c_h)/M)``. So the expected own traffic is

        integral_0^1 P(x) sum_g c_g**2 x**(c_g - 1) / (1 - (1 - x**c_g)/M) dx,
        P(x) = prod_h (1 - (1 - x**c_h)/M),

    computed with x = exp(-exp(u)) by the trapezoidal rule, which converges geometrically here.
    """

    def __init__(self, counts: Int64[np.ndarray, " C"], num_grams: Int64[np.ndarray, " C"]) -> None:
        low = np.log(1e-13 / float(counts.max()))
        u, step = np.linspace(low, np.log(60.0), _QUADRATURE_POINTS, retstep=True)
        t = np.exp(u)[:, None]
        self.counts: Float64[np.ndarray, " C"] = counts.astype(np.float64)
        self.num_grams: Float64[np.ndarray, " C"] = num_grams.astype(np.float64)
        self.missed: Float64[np.ndarray, "points C"] = -np.expm1(-t * self.counts)
        """1 - x**c."""
        self.weight: Float64[np.ndarray, "points C"] = (
            step * t * self.num_grams * self.counts**2 * np.exp(-t * self.counts)
        )
        """c**2 x**(c-1) dx, times the number of n-grams with that count."""

    def own_traffic(self, rows: int) -> float:
        """Expected ``sum_g c_g**2 / C_row(g)`` in a table of ``rows`` rows."""
        if rows == 1:
            return float(self.num_grams @ self.counts**2 / (self.num_grams @ self.counts))
        kept = 1.0 - self.missed / rows
        others = np.exp(np.log(kept) @ self.num_grams)
        return float(others @ (self.weight / kept).sum(axis=1))
