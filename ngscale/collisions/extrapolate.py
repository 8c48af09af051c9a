"""The frequency spectrum at token counts beyond the sample, with bands (docs/method.md).

A corpus is doubled again and again. Doubling it from t tokens multiplies the number of n-grams
that occur at all, N_1(t), by 2**growth, and N_2c(2t) is N_c(t) times 2**thinning_c. Both are
measured below the sample, on its documents in random order, and continued in a straight line in
log t. The bands are made of the errors of the same law inside the sample.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student_t

from ngscale.collisions.expected import Spectrum, company, expected_occupied
from ngscale.collisions.occurrences import Occurrences
from ngscale.errors import NoResultError, UsageError
from ngscale.ngrams import NgramTable

MAX_FACTOR = 30.0
"""Up to here the bands were shown to cover (reports/2026-11-22-extrapolation)."""
MIN_DOCUMENTS = 128
"""Of fewer no half could be continued."""
CONFIDENCE = 0.95
_SEED = 2026
_NUM_ORDERS = 4
"""Random orders of the documents over which the sample's curve is averaged."""
_NUM_HINDCASTS = 16
_NUM_HINDCAST_ORDERS = 2
_MAX_LEVELS = 6
_MIN_LEVELS = 2
_MIN_LEVEL_DOCUMENTS = 16
_MIN_HINDCAST_DOCUMENTS = 64
_MAX_HINDCAST_DOUBLINGS = 5
_MIN_GRAMS = 30
"""A ratio of fewer n-grams is noise; there shares are taken to stay what they are."""
_MAX_SINGLE = 16
"""Counts up to here are kept one by one; new n-grams of more are put in quarters of an octave."""
_PACK_PER_OCTAVE = 8

Counts = Float64[np.ndarray, " C"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frequencies:
    """How many n-grams occur how often; neither need be whole numbers."""

    counts: Counts
    num_grams: Counts

    @classmethod
    def of(cls, table: NgramTable) -> "Frequencies":
        """The exact spectrum of a count."""
        counts, num_grams = np.unique(table.counts, return_counts=True)
        return cls(counts=counts.astype(np.float64), num_grams=num_grams.astype(np.float64))

    @property
    def distinct(self) -> float:
        """The number of n-grams, n."""
        return float(self.num_grams.sum())

    def packed(self) -> "Frequencies":
        """Counts above ``_MAX_SINGLE`` in eighths of an octave, at their mean."""
        some = self.num_grams > 0
        counts = self.counts[some]
        octave = np.floor(np.log2(counts) * _PACK_PER_OCTAVE)
        _, which = np.unique(
            np.where(counts <= _MAX_SINGLE, -1.0 / counts, octave), return_inverse=True
        )
        num_grams = np.bincount(which, self.num_grams[some])
        total = np.bincount(which, self.num_grams[some] * counts)
        return Frequencies(counts=total / num_grams, num_grams=num_grams)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Law:
    """What the next doublings do: each a straight line in the number of the doubling."""

    growth: tuple[float, float]
    """log2 N_1(2t)/N_1(t): its value at the next doubling, and its change per doubling."""
    thinning: tuple[tuple[float, float], ...]
    """log2 N_2c(2t)/N_c(t), c = 1, 2, 4, ...: the same."""

    def growths(self, number: int) -> Float64[np.ndarray, " K"]:
        """Of the next ``number`` doublings; none can lose n-grams or more than double them."""
        return np.asarray(np.clip(_continued(self.growth, number), 0.0, 1.0))

    def thinnings(self, number: int, octaves: int) -> Float64[np.ndarray, "K octaves"]:
        """Of the next ``number`` doublings; an n-gram's expected share does not change."""
        out = np.zeros((number, octaves))
        for i, line in enumerate(self.thinning[:octaves]):
            out[:, i] = np.minimum(_continued(line, number), 0.0)
        return out


def _continued(line: tuple[float, float], number: int) -> Float64[np.ndarray, " K"]:
    return line[0] + line[1] * np.arange(number, dtype=np.float64)


def fit(grams: Float64[np.ndarray, "levels octaves"]) -> Law:
    """The law of ``grams[j, i]``, the n-grams that occur 2**i times in the first T/2**j tokens.

    Lines by least squares, the j-th doubling from the top weighted by 1/j**2: the law drifts.
    """
    with np.errstate(divide="ignore"):
        log = np.log2(grams)
    thinning = []
    for i in range(grams.shape[1] - 1):
        few = np.append(grams[:-1, i + 1] < _MIN_GRAMS, [True])
        sure = int(few.argmax())
        if sure < 2:
            break
        thinning.append(_line(log[:sure, i + 1] - log[1 : sure + 1, i]))
    return Law(growth=_line(log[:-1, 0] - log[1:, 0]), thinning=tuple(thinning))


def _line(values: Float64[np.ndarray, " levels"]) -> tuple[float, float]:
    """Value one step before the first, and change per step towards it."""
    steps = np.arange(1, len(values) + 1, dtype=np.float64)
    slope, start = np.polyfit(steps, values, 1, w=1.0 / steps)
    return float(start), float(-slope)


def octave_counts(
    sample: Occurrences, num_orders: int, rng: np.random.Generator
) -> Float64[np.ndarray, "levels octaves"]:
    """``grams`` of ``fit``: means over random orders and all 2**j blocks of T/2**j tokens."""
    levels = int(math.log2(sample.num_docs / _MIN_LEVEL_DOCUMENTS))
    levels = min(_MAX_LEVELS, max(_MIN_LEVELS, levels))  # one giant document may fill a half
    out = np.zeros((levels + 1, 64))
    for _ in range(num_orders):
        block = (sample.shuffled(rng) << levels) // sample.num_tokens
        where = (sample.grams.astype(np.int64) << levels) + block
        where.sort()
        for j in range(levels, -1, -1):
            ends = np.flatnonzero(np.diff(where, append=-1))
            counts = np.diff(ends, prepend=-1)
            octaves = np.bincount(np.frexp(counts.astype(np.float64))[1] - 1, minlength=64)
            out[j] += octaves[::-1].cumsum()[::-1] / 2**j
            where >>= 1
    out /= num_orders
    return out[:, : int(np.count_nonzero(out[0])) + 1]


def grown(now: Frequencies, law: Law, factor: float) -> Frequencies:
    """The spectrum of ``factor`` >= 1 times the tokens; of 1, ``now`` itself.

    N-grams seen keep their expected share, thinned octave by octave; below ``factor`` occurrences
    come those that are new.
    """
    if factor == 1.0:
        return now
    doublings = math.log2(factor)
    whole = math.ceil(doublings)
    octave = np.frexp(now.counts)[1] - 1
    in_octave = np.bincount(octave, now.num_grams)
    reached = in_octave[::-1].cumsum()[::-1]
    log_now = np.log2(reached)
    thinnings = law.thinnings(whole, len(log_now))
    growths = law.growths(whole)
    table = np.full((whole + 1, whole + 1), np.nan)  # [k, i]: log2 N at 2**i after k doublings
    table[0, 0] = log_now[0]
    for k in range(1, whole + 1):
        table[k, 0] = table[k - 1, 0] + growths[k - 1]
        for i in range(k):
            table[k, i + 1] = table[k - 1, i] + (thinnings[k - 1, i] if i < len(log_now) else 0.0)
        table[k] = np.fmin.accumulate(table[k])
    below, part = whole - 1, doublings - (whole - 1)
    low = (1.0 - part) * table[below, : below + 1] + part * table[whole, : below + 1]
    kept = _along(thinnings, len(log_now), below, part)
    moved = np.minimum.accumulate(np.minimum(2.0 ** (log_now + kept), 2.0 ** low.min()))
    thinned = (moved - np.append(moved[1:], 0.0)) / in_octave.clip(min=1e-300)
    marks = np.append(2.0 ** np.arange(below + 1), factor)
    new = _new_grams(marks, np.append(low, math.log2(moved[0])))
    return Frequencies(
        counts=np.append(new.counts, now.counts * factor),
        num_grams=np.append(new.num_grams, now.num_grams * thinned[octave]),
    )


def _along(
    thinnings: Float64[np.ndarray, "K octaves"], octaves: int, below: int, part: float
) -> Float64[np.ndarray, " octaves"]:
    """Sum of thinnings from every octave along its own counts, which double at each step."""
    out = np.zeros(octaves)
    for i in range(octaves):
        for k in range(below + 1):
            if i + k < octaves:
                out[i] += thinnings[k, i + k] * (part if k == below else 1.0)
    return out


def _new_grams(marks: Counts, log_reached: Counts) -> Frequencies:
    """N-grams below the last mark, log N_c being a straight line in log c between marks."""
    top = float(marks[-1])
    fine = 2.0 ** np.arange(math.log2(_MAX_SINGLE), math.log2(top) + 1.0, 0.25)
    edges = np.concatenate([np.arange(1, _MAX_SINGLE, dtype=np.float64), fine])
    edges = np.append(edges[edges < top], top)
    reached = 2.0 ** np.interp(np.log2(edges), np.log2(marks), log_reached)
    middle = np.where(edges[:-1] < _MAX_SINGLE, edges[:-1], np.sqrt(edges[:-1] * edges[1:]))
    return Frequencies(counts=middle, num_grams=reached[:-1] - reached[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A prediction between the ends of its 95% band; bounds have no value."""

    value: float | None
    low: float
    high: float

    def within(self, bounds: "Band") -> "Band":
        """The part between bounds."""
        low, high = bounds.low, bounds.high
        value = None if self.value is None else min(max(self.value, low), high)
        return Band(
            value=value, low=min(max(self.low, low), high), high=max(low, min(self.high, high))
        )

    def mapped(self, change: Callable[[float], float]) -> "Band":
        """Of a monotone function of the quantity."""
        low, high = sorted((change(self.low), change(self.high)))
        return Band(value=None if self.value is None else change(self.value), low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One table at a number of tokens beyond the sample, under an ideal hash."""

    order: int
    table_rows: int
    distinct: Band
    load: Band
    """n-grams per row."""
    occupied: Band
    """Rows touched at least once."""
    sharing: Band
    """Share of n-grams that share their row with another."""
    purity: Band | None
    """None where there are bounds only."""
    updates_per_row: float
    """Reads of a row on average, each a gradient contribution: positions / rows."""
    updates_per_touched_row: Band


class Extrapolator:
    """Predictions for one order from one sample."""

    def __init__(
        self,
        order: int,
        now: Frequencies,
        sample: Occurrences,
        *,
        num_possible: float = math.inf,
    ) -> None:
        """``now`` is the whole corpus's spectrum, ``sample`` the n-grams drawn from it, and
        ``num_possible`` the n-grams there are, V0**n.

        Raises:
            NoResultError: too few documents.
        """
        check_documents(sample.num_docs)
        self.order = order
        self.now = now
        self._num_possible = num_possible
        self._sample = sample
        self._rarest = _rarest(sample)
        rng = np.random.default_rng(_SEED)
        self._law = fit(octave_counts(sample, _NUM_ORDERS, rng))
        doublings = int(math.log2(sample.num_docs / _MIN_HINDCAST_DOCUMENTS))
        self._doublings = min(_MAX_HINDCAST_DOUBLINGS, doublings)
        self._rarest_of_halves: list[tuple[float, float]] = []
        self._parts = [self._halved(rng) for _ in range(_NUM_HINDCASTS)]

    def _halved(self, rng: np.random.Generator) -> list[tuple[Frequencies, Law]]:
        """A random half of the sample, half of that, ...: each with the law it alone gives."""
        part, found = self._sample, []
        for depth in range(self._doublings):
            part = part.first(part.num_tokens // 2, rng)
            law = fit(octave_counts(part, _NUM_HINDCAST_ORDERS, rng))
            found.append((_frequencies(part), law))
            if depth == 0:
                self._rarest_of_halves.append(_rarest(part))
        return found

    def at(self, factor: float, sizes: Sequence[int]) -> list[Prediction]:
        """Predictions at ``factor`` times the sample's tokens, one for each of ``sizes``.

        Beyond ``MAX_FACTOR``, bounds without purity.

        Raises:
            UsageError: ``factor`` is below 1.
        """
        if factor < 1.0:
            raise UsageError(
                f"--at-tokens: is {factor:.3g} times the corpus; it takes more tokens than that has"
            )
        return (self.banded if factor <= MAX_FACTOR else self.bounded)(factor, sizes)

    def banded(self, factor: float, sizes: Sequence[int]) -> list[Prediction]:
        """Predictions with bands, whether or not they were shown to cover."""
        then = grown(self.now, self._law, factor)
        bands = _Bands(factor, _frequencies(self._sample), self._parts)
        distinct = bands.around(then.distinct, lambda found, _: found.distinct)
        distinct = distinct.within(self._bounds(factor))
        found = []
        for rows in sizes:
            impurity = bands.around(impurity_of(then, rows), impurity_of, rows)
            purity = impurity.mapped(lambda share: 1.0 - min(1.0, share))
            found.append(self._prediction(factor, rows, distinct, purity))
        return found

    def bounded(self, factor: float, sizes: Sequence[int]) -> list[Prediction]:
        """What holds whatever the law, up to the documents' own chance."""
        distinct = self._bounds(factor)
        return [self._prediction(factor, rows, distinct, None) for rows in sizes]

    def _bounds(self, factor: float) -> Band:
        """On the expectation, each end moved out by the scatter of random halves' ends."""
        low, high = _ends(self.now.distinct, *self._rarest, factor)
        halves = np.log(
            [
                _ends(halved[0][0].distinct, *rarest, factor)
                for halved, rarest in zip(self._parts, self._rarest_of_halves, strict=True)
            ]
        )
        out = np.exp(_spread(len(halves)) * _typical(halves - np.median(halves, axis=0)))
        low, high = max(self.now.distinct, low / float(out[0])), high * float(out[1])
        return Band(
            value=None, low=min(low, self._num_possible), high=min(high, self._num_possible)
        )

    def _prediction(
        self, factor: float, rows: int, distinct: Band, purity: Band | None
    ) -> Prediction:
        positions = float(self.now.counts @ self.now.num_grams) * factor
        occupied = distinct.mapped(lambda n: float(expected_occupied(np.asarray(n), rows)))
        return Prediction(
            order=self.order,
            table_rows=rows,
            distinct=distinct,
            load=distinct.mapped(lambda n: n / rows),
            occupied=occupied,
            sharing=distinct.mapped(lambda n: float(company(np.asarray(n), rows))),
            purity=purity,
            updates_per_row=positions / rows,
            updates_per_touched_row=occupied.mapped(lambda touched: positions / touched),
        )


def check_documents(number: int) -> None:
    """Whether there are enough documents to draw again.

    Raises:
        NoResultError: there are not.
    """
    if number < MIN_DOCUMENTS:
        raise NoResultError(
            f"--at-tokens needs {MIN_DOCUMENTS} documents or more to draw again, the corpus has "
            f"{number}; give --corpus a directory of texts, a .jsonl or a .parquet"
        )


class _Bands:
    """What the law would have said inside the sample, and how wrong that was."""

    def __init__(
        self, factor: float, actual: Frequencies, parts: Sequence[Sequence[tuple[Frequencies, Law]]]
    ) -> None:
        self.factor = factor
        self._actual = actual.packed()
        self._halves = [grown(*halved[0], factor).packed() for halved in parts]
        self._hindcasts = [
            [grown(now, law, 2.0**k).packed() for k, (now, law) in enumerate(halved, 1)]
            for halved in parts
        ]
        self._spread = _spread(len(parts))

    def around(
        self, value: float, quantity: Callable[[Frequencies, int], float], rows: int = 1
    ) -> Band:
        """The band of a positive quantity, even on a logarithmic scale.

        Tables shrink with the text, so that a row is read as often as in the prediction.
        """
        doublings = math.log2(self.factor)
        if doublings == 0.0 or value <= 0.0:
            return Band(value=value, low=value, high=value)
        halves = [_log(quantity(half, max(1, rows // 2))) for half in self._halves]
        scaled = max(1, round(rows / self.factor))
        actual = _log(quantity(self._actual, scaled))
        errors = [
            [_log(quantity(found, scaled)) - actual for found in hindcast]
            for hindcast in self._hindcasts
        ]
        typical = np.append(0.0, _typical(np.array(errors)))
        error = float(np.interp(doublings, np.arange(len(typical)), typical))
        error *= max(1.0, doublings / (len(typical) - 1)) ** 2
        around_median = np.array(halves)[:, np.newaxis] - np.median(halves)
        width = self._spread * math.hypot(float(_typical(around_median)[0]), error)
        return Band(value=value, low=value * math.exp(-width), high=value * math.exp(width))


def _rarest(sample: Occurrences) -> tuple[float, float]:
    """Q_1 and Q_2: n-grams that occur in one document, and in two."""
    return (
        float(sample.in_documents(1) * sample.weight),
        float(sample.in_documents(2) * sample.weight),
    )


def _ends(distinct: float, once: float, twice: float, factor: float) -> tuple[float, float]:
    """Fewest and most n-grams expected in ``factor`` times the tokens (docs/method.md)."""
    most = once * (factor - 1.0)
    rate = 2.0 * twice / max(1.0, once)
    least = once * -math.expm1(-rate * (factor - 1.0)) / rate if rate else most
    return distinct + least, distinct + most


def _spread(draws: int) -> float:
    """How many standard deviations a band reaches."""
    return float(student_t.ppf(0.5 + CONFIDENCE / 2, draws - 1))


def _typical(errors: Float64[np.ndarray, "draws K"]) -> Float64[np.ndarray, " K"]:
    """One standard deviation about zero: what 68.3% of the draws stay within.

    The root mean square is ruled by the few draws that one giant document fills: bands three times
    as wide on code, and covering no more.
    """
    return np.asarray(np.quantile(np.abs(errors), 0.683, axis=0))


def _log(value: float) -> float:
    """Of a quantity that rounding may have brought to zero."""
    return math.log(max(value, 1e-12))


def _frequencies(sample: Occurrences) -> Frequencies:
    counts, num_grams = sample.spectrum()
    return Frequencies(
        counts=counts.astype(np.float64), num_grams=num_grams.astype(np.float64) * sample.weight
    )


def impurity_of(found: Frequencies, rows: int) -> float:
    """Expected 1 - purity in a table of ``rows`` rows."""
    squares, _ = Spectrum(found.counts, found.num_grams).row_traffic(rows)
    return 1.0 - squares / float(found.counts @ found.num_grams)
