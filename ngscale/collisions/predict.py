"""Collisions of many table sizes without counting them: two cheap signals, one fitted curve. Pure.

Both signals say how much more often than by chance two n-grams meet in one row; neither is the
excess of collisions itself, which ``fit`` learns from sizes that were counted (docs/method.md).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ngscale.collisions.expected import expected_occupied
from ngscale.collisions.occupancy import occupied_rows
from ngscale.collisions.threads import Done, Scratch, nobody, num_threads, run_jobs
from ngscale.ngrams import NgramTable

SCAN_GRAMS = 2**18
"""N-grams of the subsample that stands for an order above 2."""
_SEED = 2026
_DEGREE = 3
_SIZES_PER_JOB = 1024
_LOWEST = 1e-3
"""Of a signal whose logarithm is taken."""


def is_marginal(table: NgramTable, base: int, sizes: Int64[np.ndarray, " S"]) -> bool:
    """Whether ``marginal_signal`` is defined: bigrams of ids below the base, tables above it."""
    return table.order == 2 and int(table.tokens.max()) < base <= int(sizes.min())


def marginal_signal(
    table: NgramTable, base: int, sizes: Int64[np.ndarray, " S"], done: Done = nobody
) -> Float64[np.ndarray, " S"]:
    """Pairs of bigrams in one row, were their two tokens independent, over the ideal hash's.

    ``P(M) = sum_m (F(a) G(b) + F(a+1) G(V-b)) / n**2`` with m M = a V + b, F and G the
    autocorrelations of how many distinct bigrams start and end with each id; the ideal hash has
    ``n**2 / 2M``. Costs the same whatever the corpus: about 15 us a size.
    """
    from ngscale.kernels.pairs import meeting_pairs

    current, previous = (
        autocorrelation(np.bincount(tokens, minlength=base)) for tokens in table.tokens
    )
    pairs = np.empty(len(sizes))

    def work(start: int, _: Scratch) -> None:
        part = slice(start, start + _SIZES_PER_JOB)
        meeting_pairs(sizes[part], base, previous, current, pairs[part])
        done(len(sizes[part]))

    run_jobs(range(0, len(sizes), _SIZES_PER_JOB), work, Scratch, threads=num_threads())
    n = float(table.distinct)
    signal: Float64[np.ndarray, " S"] = 2.0 * sizes * pairs / n**4
    return np.asarray(np.maximum(signal, _LOWEST))


def autocorrelation(degrees: Int64[np.ndarray, " V"]) -> Float64[np.ndarray, " V_plus_1"]:
    """``sum_i d(i) d(i+k)`` for k = 0..V; exact as long as the sums are below 2**47 or so."""
    spectrum = np.fft.rfft(degrees, 2 * len(degrees))
    found = np.fft.irfft(np.abs(spectrum) ** 2, 2 * len(degrees))[: len(degrees)]
    return np.append(np.maximum(np.rint(found), 0.0), 0.0)


def subsample_signal(
    table: NgramTable, base: int, sizes: Int64[np.ndarray, " S"], done: Done = nobody
) -> Float64[np.ndarray, " S"]:
    """Collisions of ``SCAN_GRAMS`` of the n-grams over the ideal hash's of as many."""
    chosen = np.random.default_rng(_SEED).choice(table.distinct, SCAN_GRAMS, replace=False)
    chosen.sort()
    some = NgramTable(
        order=table.order,
        tokens=np.ascontiguousarray(table.tokens[:, chosen]),
        counts=table.counts[chosen],
    )
    collisions = SCAN_GRAMS - occupied_rows(some, base, sizes.tolist(), done=done)
    ideal = SCAN_GRAMS - expected_occupied(SCAN_GRAMS, sizes)
    return np.asarray(np.maximum(collisions / ideal, _LOWEST))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """log excess as a cubic in log signal, constant beyond the signals it was fitted to."""

    coefficients: Float64[np.ndarray, " degree_plus_1"]
    """Highest power first."""
    low: float
    high: float

    def at(self, signal: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
        """Predicted collisions over the ideal hash's."""
        x = np.clip(np.log(signal), self.low, self.high)
        return np.exp(np.polyval(self.coefficients, x))


def fit(signal: Float64[np.ndarray, " C"], excess: Float64[np.ndarray, " C"]) -> Curve:
    """Least squares in the logarithms."""
    x, y = np.log(signal), np.log(np.maximum(excess, _LOWEST))
    low, high = float(x.min()), float(x.max())
    degree = min(_DEGREE, len(np.unique(x)) - 1)
    return Curve(coefficients=np.polyfit(x, y, degree), low=low, high=high)


def held_out_error(
    signal: Float64[np.ndarray, " C"], excess: Float64[np.ndarray, " C"], folds: int = 10
) -> Float64[np.ndarray, " C"]:
    """log(excess / predicted), each tenth predicted by a curve fitted to the others."""
    errors = np.empty(len(signal))
    fold = np.random.default_rng(_SEED).permutation(len(signal)) % folds
    for out in range(folds):
        curve = fit(signal[fold != out], excess[fold != out])
        errors[fold == out] = np.log(
            np.maximum(excess[fold == out], _LOWEST) / curve.at(signal[fold == out])
        )
    return errors
