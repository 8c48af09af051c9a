"""Paired differences over seeds: better, worse, equivalent, undecided."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from scipy import optimize, stats

from ngscale.conclusive import MIN_SEEDS, smoke_test_reasons

MIN_EQUIVALENCE_SEEDS = 6
CONFIDENCE = 0.95
POWER = 0.8
MARGIN_NATS = 0.005
"""Differences below it are of no interest, unless another margin is given."""
_MAX_SEEDS = 10_000

Verdict = Literal["better", "worse", "equivalent", "undecided"]


class Pair(NamedTuple):
    """Losses of two arms, seed by seed."""

    baseline: str
    design: Sequence[float]
    other: Sequence[float]
    candidate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The design minus one baseline, in nats/token: negative is better."""

    candidate: str
    """Whose design it is, where there are several; else empty."""
    baseline: str
    differences: tuple[float, ...]
    """One per seed; both arms of a seed share data order and initial weights."""
    mean_difference: float
    sd: float | None
    """Of the differences; None from a single seed, as all below."""
    low: float | None
    """95% t-interval of the mean, of this comparison alone."""
    high: float | None
    p_value: float | None
    """Two-sided, of a mean difference of 0 (paired t-test)."""
    holm_p_value: float | None
    """The same, adjusted for all comparisons of the run."""
    equivalence_p_value: float | None
    """Of a mean difference of the margin or more, either way (two one-sided t-tests)."""
    holm_equivalence_p_value: float | None
    detectable_difference: float | None
    """What these seeds with this sd would find in four of five runs, by one test at 5%."""
    verdict: Verdict


def compare_all(pairs: Sequence[Pair], *, margin: float = MARGIN_NATS) -> list[Comparison]:
    """Every comparison of a run, p-values adjusted for their number by Holm's method.

    ``equivalent``: the two one-sided tests at the margin pass, with at least
    ``MIN_EQUIVALENCE_SEEDS`` seeds; a difference inside the margin is none, even where its sign is
    sure. Else ``better`` or ``worse``: the paired t-test passes, with at least ``MIN_SEEDS``. All
    else is ``undecided``, which does not say that the arms are equal.
    """
    found = [_measure(pair, margin) for pair in pairs]
    differs = holm([item.p_value for item in found])
    equals = holm([item.equivalence_p_value for item in found])
    return [
        replace(
            item,
            holm_p_value=p,
            holm_equivalence_p_value=q,
            verdict=_verdict(item, p, q),
        )
        for item, p, q in zip(found, differs, equals, strict=True)
    ]


def _measure(pair: Pair, margin: float) -> Comparison:
    differences = tuple(a - b for a, b in zip(pair.design, pair.other, strict=True))
    num, mean = len(differences), statistics.fmean(differences)
    sd = low = high = p_value = equivalence = detectable = None
    if num > 1:
        sd = statistics.stdev(differences)
        error = sd / math.sqrt(num)
        reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, num - 1)) * error
        low, high = mean - reach, mean + reach
        # Equal differences: t is 0/0 or infinite.
        p_value = 2 * _tail(abs(mean), error, num - 1) if mean else 1.0
        equivalence = _tail(margin - abs(mean), error, num - 1)
        detectable = _detectable_noncentrality(num) * error
    return Comparison(
        candidate=pair.candidate,
        baseline=pair.baseline,
        differences=differences,
        mean_difference=mean,
        sd=sd,
        low=low,
        high=high,
        p_value=p_value,
        holm_p_value=None,
        equivalence_p_value=equivalence,
        holm_equivalence_p_value=None,
        detectable_difference=detectable,
        verdict="undecided",
    )


def _tail(distance: float, error: float, freedom: int) -> float:
    """P(T > distance / error)."""
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, freedom))


def _verdict(item: Comparison, differs: float | None, equals: float | None) -> Verdict:
    alpha, num = 1 - CONFIDENCE, len(item.differences)
    if num >= MIN_EQUIVALENCE_SEEDS and equals is not None and equals < alpha:
        return "equivalent"
    if num >= MIN_SEEDS and differs is not None and differs < alpha:
        return "better" if item.mean_difference < 0 else "worse"
    return "undecided"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (Scand. J. Statist. 6, 1979): the i-th smallest of m times m - i.

    Those that are None stay so and are not counted.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for i, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - i)))
        adjusted[place] = largest
    return adjusted


@lru_cache
def _detectable_noncentrality(num_seeds: int) -> float:
    """The shift, delta sqrt(n) / sd, at which the two-sided t-test at 5% has a power of 80%.

    From the noncentral t-distribution; the other tail, below 1e-3 there, is left out.
    """
    freedom = num_seeds - 1
    critical = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    return float(
        optimize.brentq(lambda shift: float(stats.nct.sf(critical, freedom, shift)) - POWER, 0, 100)
    )


def detectable_difference(sd: float, num_seeds: int) -> float:
    """The mean difference that ``num_seeds`` pairs find in four of five runs, in nats/token."""
    return _detectable_noncentrality(num_seeds) * sd / math.sqrt(num_seeds)


def seeds_needed(sd: float, margin: float) -> int:
    """Seeds to tell a difference of ``margin``, and the lack of one, each in four of five runs.

    At least ``MIN_EQUIVALENCE_SEEDS``. Power of the two one-sided tests at a difference of 0:
    2 P(T' > t(0.95, n-1)) - 1 with T' noncentral by margin sqrt(n) / sd, which is a lower bound.
    """
    low, high = MIN_EQUIVALENCE_SEEDS, MIN_EQUIVALENCE_SEEDS
    while high < _MAX_SEEDS and not _suffice(sd, margin, high):
        low, high = high, min(_MAX_SEEDS, 2 * high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _suffice(sd, margin, middle) else (middle + 1, high)
    return low


def _suffice(sd: float, margin: float, num_seeds: int) -> bool:
    if sd == 0:
        return True
    if detectable_difference(sd, num_seeds) > margin:
        return False
    freedom, shift = num_seeds - 1, margin * math.sqrt(num_seeds) / sd
    passes = float(stats.nct.sf(stats.t.ppf(CONFIDENCE, freedom), freedom, shift))
    return 2 * passes - 1 >= POWER


def inconclusive_reasons(
    comparisons: Sequence[Comparison], *, num_seeds: int, tokens_per_active_parameter: float
) -> list[str]:
    """Why the whole run is only a smoke test; empty where it may be concluded from.

    A run concludes nothing with fewer than 3 seeds, with fewer than about 20 training tokens per
    active parameter, or as far as a comparison is undecided.
    """
    reasons = smoke_test_reasons(
        num_seeds=num_seeds, tokens_per_active_parameter=tokens_per_active_parameter
    )
    undecided = [item for item in comparisons if item.verdict == "undecided"]
    if undecided and len(undecided) == len(comparisons):
        reasons.append("nothing is decided")
    elif undecided:
        names = ", ".join(_pair_name(item) for item in undecided)
        reasons.append(f"undecided against {names}")
    return reasons


def _pair_name(item: Comparison) -> str:
    return f"{item.candidate} against {item.baseline}" if item.candidate else item.baseline
