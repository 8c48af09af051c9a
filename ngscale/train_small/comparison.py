"""Paired differences over seeds, and when they allow a conclusion."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

MIN_SEEDS = 3
MIN_TOKENS_PER_ACTIVE_PARAMETER = 20
"""About the compute-optimal ratio (Chinchilla, arXiv:2203.15556); below it the loss still falls
steeply, and orderings of arms can turn."""
CONFIDENCE = 0.95

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The design minus one baseline, in nats/token: negative is better."""

    baseline: str
    differences: tuple[float, ...]
    """One per seed; both arms of a seed share data order and initial weights."""
    mean_difference: float
    low: float | None
    """95% t-interval of the mean; None from a single seed."""
    high: float | None
    p_value: float | None
    """Two-sided, of a mean difference of 0 (paired t-test)."""
    verdict: Verdict


def compare(baseline: str, design: Sequence[float], other: Sequence[float]) -> Comparison:
    """Paired t-interval of ``design - other`` over seeds, and the verdict it allows.

    ``better`` needs the whole interval below 0 and ``worse`` the whole interval above it, with at
    least ``MIN_SEEDS`` seeds; all else is ``undecided``, which does not say that the arms are
    equal.
    """
    differences = tuple(a - b for a, b in zip(design, other, strict=True))
    mean = statistics.fmean(differences)
    low, high, p_value = _t_interval(differences, mean)
    verdict: Verdict = "undecided"
    if len(differences) >= MIN_SEEDS and low is not None and high is not None:
        if high < 0:
            verdict = "better"
        elif low > 0:
            verdict = "worse"
    return Comparison(
        baseline=baseline,
        differences=differences,
        mean_difference=mean,
        low=low,
        high=high,
        p_value=p_value,
        verdict=verdict,
    )


def _t_interval(
    differences: Sequence[float], mean: float
) -> tuple[float | None, float | None, float | None]:
    num = len(differences)
    if num < 2:
        return None, None, None
    error = statistics.stdev(differences) / math.sqrt(num)
    if error == 0:  # equal differences: the t statistic is 0/0 or infinite
        return mean, mean, 1.0 if mean == 0 else 0.0
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, num - 1)) * error
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, num - 1))


def inconclusive_reasons(
    comparisons: Sequence[Comparison], *, num_seeds: int, tokens_per_active_parameter: float
) -> list[str]:
    """Why the whole run is only a smoke test; empty where it may be concluded from.

    A run concludes nothing with fewer than 3 seeds, with fewer than about 20 training tokens per
    active parameter, or as far as an interval contains 0.
    """
    reasons = []
    if num_seeds < MIN_SEEDS:
        reasons.append(f"fewer than {MIN_SEEDS} seeds ({num_seeds})")
    if tokens_per_active_parameter < MIN_TOKENS_PER_ACTIVE_PARAMETER:
        reasons.append(
            f"{tokens_per_active_parameter:.2g} training tokens per active parameter, fewer than "
            f"{MIN_TOKENS_PER_ACTIVE_PARAMETER}"
        )
    for item in comparisons:
        if item.low is not None and item.high is not None and item.low <= 0 <= item.high:
            reasons.append(f"the interval against {item.baseline} contains 0")
    return reasons
