"""Published losses at a fixed total: experts traded for tables, one study at a time.

Between published points the curve is the straight line, told as interpolation; outside them there
is none. Differences are to the study's own MoE of the same total, so no absolute loss is compared.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from ngscale.budget.evidence.facts import Denominator, Facts, amounts
from ngscale.budget.evidence.law import Range, Standing, number, outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A published point of a trade curve."""

    share: float
    """Of the tables, by the curve's denominator."""
    loss: float
    """Nats/token of that study."""
    error: float | None
    """Half the last published digit of a loss; None where a tie is told in words only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeCurve:
    """The fixed-total study of one source; its first point is the MoE without tables."""

    key: str
    source: str
    standing: Standing
    denominator: Denominator
    scope: str
    validity: tuple[Range, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A predicted loss difference to the equal-total MoE; negative: the tables win."""

    source: str
    nats: float | None
    low: float | None = None
    """What the rounding of the published losses allows; no statement about other models."""
    high: float | None = None
    sign: int | None = None
    """-1 tables win, +1 the MoE does, 0 a tie; None unknown. Some sources publish no more."""
    reason: str


def difference(curve: TradeCurve, facts: Facts) -> Difference:
    """What ``curve`` says of ``facts``; one source, never an average."""
    known = amounts(facts)
    problem = outside(curve.validity, known, source=curve.source, key=curve.key)
    share = float(facts.share(curve.denominator))
    last = curve.points[-1].share
    if problem is None and share > last:
        problem = f"share {share:.1%} of {curve.denominator} is beyond the last point {last:.0%}"
    if problem is not None:
        return Difference(
            source=curve.source,
            nats=None,
            reason=f"outside evidence: {problem}",
        )
    base = curve.points[0]
    for left, right in pairwise(curve.points):
        if left.share <= share <= right.share:
            break
    weight = (share - left.share) / (right.share - left.share)
    nats = (1 - weight) * (left.loss - base.loss) + weight * (right.loss - base.loss)
    error = _error(base, left, right, weight)
    return Difference(
        source=curve.source,
        nats=nats,
        low=None if error is None else nats - error,
        high=None if error is None else nats + error,
        sign=_sign(nats, error),
        reason=_told(curve, share, left, right, known),
    )


def _sign(nats: float, error: float | None) -> int | None:
    if nats == 0:
        return 0
    return None if error is None or abs(nats) <= error else (1 if nats > 0 else -1)


def _error(base: Point, left: Point, right: Point, weight: float) -> float | None:
    """The widest change of the interpolated difference when each loss moves within its digit."""
    parts: dict[float, float] = {base.share: -1.0}
    parts[left.share] = parts.get(left.share, 0.0) + 1 - weight
    parts[right.share] = parts.get(right.share, 0.0) + weight
    total = 0.0
    for point in (base, left, right):
        part = abs(parts.pop(point.share, 0.0))
        if part and point.error is None:
            return None
        total += part * (point.error or 0.0)
    return total


def _told(
    curve: TradeCurve, share: float, left: Point, right: Point, known: Collection[str]
) -> str:
    assumed = [item.condition() for item in curve.validity if item.quantity not in known]
    note = f"; measured at {', '.join(assumed)}" if assumed else ""
    if share in (left.share, right.share):
        return f"published at {share:.0%} of {curve.denominator} ({curve.scope}){note}"
    return (
        f"interpolated between the published {left.share:.0%} and {right.share:.0%} of "
        f"{curve.denominator} for {number(share)} ({curve.scope}){note}"
    )
