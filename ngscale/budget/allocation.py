"""Our own smooth allocation curve; no published law has a term for parameters in tables.

``y(s) = b s + c s^2``: the loss less that of the equal-total MoE, as a part of that MoE's loss,
over the tables' share s of total parameters. y(0) = 0 by definition. Least squares, every study
weighing the same; bands from a bootstrap over anchors. Outside the anchors' convex hull in (share,
total/active ratio) there is no evidence, and nothing is drawn for a design there.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ngscale.budget.evidence import engram, longcat, qwen
from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.fixed_total import TradeCurve
from ngscale.budget.training_records import TrainedPair, TrainingRecords
from ngscale.records import Column, Figure, Panel, Section, Series, Table

LABEL = "ngscale's own fit, not a published law"
_NUM_DRAWS = 1000
_SEED = 0
_CONFIDENCE = 0.95
_NUM_POINTS = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One comparison at equal total."""

    study: str
    """Anchors of one study share its weight."""
    share: float
    """Of total parameters."""
    total_active_ratio: float | None
    """None where the source does not say: the anchor bears on the fit, not on the hull."""
    changes: tuple[float, ...]
    """(loss - MoE loss) / MoE loss, one per seed; one value where published."""
    error: float = 0.0
    """Half-width of a published change's rounding."""
    share_error: float = 0.0
    """Half-width of the share, where the text says "about"."""

    @property
    def change(self) -> float:
        """The mean over seeds."""
        return sum(self.changes) / len(self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationCurve:
    """A fit with its bootstrap."""

    b: float
    c: float
    draws: tuple[tuple[float, float], ...]
    """(b, c) of every bootstrap sample."""
    anchors: tuple[Anchor, ...]
    hull: tuple[tuple[float, float], ...]
    """Corners in (share, total/active ratio), counter-clockwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The curve at one design, or why there is none."""

    change: float | None
    low: float | None
    high: float | None
    reason: str


def published_anchors() -> tuple[Anchor, ...]:
    """What three studies published of the trade, in shares of total parameters."""
    # 9.9B total and 993M active at C = 6e20 (arXiv:2601.07372 sec. 3): sparse over total.
    sparse_part = (9.9e9 - 993e6) / 9.9e9
    crossing_share = 0.45
    return (
        *_of_curve(engram.CURVE, "Engram", sparse_part, ratio=9.9e9 / 993e6),
        *_of_curve(qwen.CURVE, "Qwen3.8", 1.0, ratio=None),
        # "slightly above a ratio of 20", where tables are "approximately 50%": on the curve
        # 1 - 12/r, 40% at 20 and 50% at 24.
        Anchor(
            study="LongCat",
            share=crossing_share,
            total_active_ratio=longcat.BASE_RATIO / (1 - crossing_share),
            changes=(0.0,),
            share_error=0.05,
        ),
    )


def _of_curve(
    curve: TradeCurve, study: str, part_of_total: float, *, ratio: float | None
) -> list[Anchor]:
    moe = curve.points[0].loss
    base_error = curve.points[0].error or 0.0
    return [
        Anchor(
            study=study,
            share=point.share * part_of_total,
            total_active_ratio=ratio,
            changes=((point.loss - moe) / moe,),
            error=(base_error + (point.error or 0.0)) / moe,
        )
        for point in curve.points[1:]
    ]


def trained_anchor(pair: TrainedPair) -> Anchor:
    """A ``train-small`` comparison as an anchor."""
    return Anchor(
        study=f"train-small {pair.backbone}",
        share=pair.ngram_parameters / pair.total_parameters,
        total_active_ratio=pair.total_parameters / pair.active_parameters,
        changes=tuple(nats / pair.moe_loss_nats for nats in pair.differences_nats),
    )


def fit(anchors: Sequence[Anchor]) -> AllocationCurve:
    """The curve through ``anchors``, which must have at least two shares above 0."""
    assert len({anchor.share for anchor in anchors}) > 1, "a quadratic needs two shares"
    sizes = Counter(anchor.study for anchor in anchors)
    points = [(anchor.share, anchor.change, 1 / sizes[anchor.study]) for anchor in anchors]
    b, c = _quadratic(points)
    return AllocationCurve(
        b=b,
        c=c,
        draws=_bootstrap(anchors, sizes),
        anchors=tuple(anchors),
        hull=_convex_hull(
            [
                (share, anchor.total_active_ratio)
                for anchor in anchors
                if anchor.total_active_ratio is not None
                for share in (0.0, anchor.share)
            ]
        ),
    )


def _quadratic(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Weighted least squares of ``y = b s + c s^2`` on (s, y, weight), by the normal equations."""
    s2 = sum(w * s**2 for s, _, w in points)
    s3 = sum(w * s**3 for s, _, w in points)
    s4 = sum(w * s**4 for s, _, w in points)
    sy = sum(w * s * y for s, y, w in points)
    s2y = sum(w * s**2 * y for s, y, w in points)
    determinant = s2 * s4 - s3**2
    return (sy * s4 - s2y * s3) / determinant, (s2 * s2y - s3 * sy) / determinant


def _bootstrap(
    anchors: Sequence[Anchor], sizes: Mapping[str, int]
) -> tuple[tuple[float, float], ...]:
    """Anchors drawn with replacement, seeds within them too, published digits within rounding."""
    rng = random.Random(_SEED)
    draws: list[tuple[float, float]] = []
    while len(draws) < _NUM_DRAWS:
        sample = rng.choices(anchors, k=len(anchors))
        if len({anchor.share for anchor in sample}) < 2:
            continue
        points = []
        for anchor in sample:
            seeds = rng.choices(anchor.changes, k=len(anchor.changes))
            change = sum(seeds) / len(seeds) + rng.uniform(-anchor.error, anchor.error)
            share = anchor.share + rng.uniform(-anchor.share_error, anchor.share_error)
            points.append((share, change, 1 / sizes[anchor.study]))
        draws.append(_quadratic(points))
    return tuple(draws)


def _convex_hull(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Andrew's monotone chain."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return tuple(ordered)

    def half(chain: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        corners: list[tuple[float, float]] = []
        for point in chain:
            while len(corners) > 1 and _turn(corners[-2], corners[-1], point) <= 0:
                corners.pop()
            corners.append(point)
        return corners[:-1]

    return tuple(half(ordered) + half(ordered[::-1]))


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def inside(hull: Sequence[tuple[float, float]], share: float, ratio: float) -> bool:
    """Whether a point is in the hull, its border included."""
    point = (share, ratio)
    corners = list(hull)
    if len(corners) < 3:  # a point or a segment
        first, last = corners[0], corners[-1]
        on_line = _turn(first, last, point) == 0
        return on_line and all(
            min(first[i], last[i]) <= point[i] <= max(first[i], last[i]) for i in (0, 1)
        )
    sides = zip(corners, corners[1:] + corners[:1], strict=True)
    return all(_turn(a, b, point) >= 0 for a, b in sides)


def estimate(curve: AllocationCurve, *, share: float, total_active_ratio: float) -> Estimate:
    """The curve at a design, only within the hull of its anchors."""
    if not inside(curve.hull, share, total_active_ratio):
        return Estimate(
            change=None,
            low=None,
            high=None,
            reason=f"no evidence here: a share of {share:.1%} at total/active "
            f"{total_active_ratio:.1f} is outside the anchors' hull",
        )
    change, low, high = _at(curve, share)
    return Estimate(change=change, low=low, high=high, reason=f"inside the hull; {LABEL}")


def _at(curve: AllocationCurve, share: float) -> tuple[float, float, float]:
    low, high = _interval([b * share + c * share**2 for b, c in curve.draws])
    return curve.b * share + curve.c * share**2, low, high


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = round((1 - _CONFIDENCE) / 2 * len(ordered))
    return ordered[cut], ordered[-1 - cut]


def allocation_json(facts: Facts, records: TrainingRecords | None = None) -> dict[str, Any]:
    """The curve through published anchors and the user's records, and its value at ``facts``."""
    own = () if records is None else tuple(trained_anchor(pair) for pair in records.pairs)
    curve = fit((*published_anchors(), *own))
    most = max(anchor.share for anchor in curve.anchors)
    shares = [most * i / (_NUM_POINTS - 1) for i in range(_NUM_POINTS)]
    band = [_at(curve, share) for share in shares]
    here = estimate(
        curve,
        share=float(facts.share("total parameters")),
        total_active_ratio=facts.total_active_ratio,
    )
    return {
        "label": LABEL,
        "formula": "(L - L_moe) / L_moe = b s + c s^2, s of total parameters",
        "b": curve.b,
        "c": curve.c,
        "confidence": _CONFIDENCE,
        "num_draws": _NUM_DRAWS,
        "seed": _SEED,
        "anchors": [{**asdict(anchor), "change": anchor.change} for anchor in curve.anchors],
        "records_left_out": [] if records is None else list(records.left_out),
        "hull": [list(corner) for corner in curve.hull],
        "shares": shares,
        "change": [middle for middle, _, _ in band],
        "low": [low for _, low, _ in band],
        "high": [high for _, _, high in band],
        "here": asdict(here),
    }


def allocation_section(allocation: Mapping[str, Any]) -> Section:
    """What a person reads, from ``allocation_json`` alone."""
    here = allocation["here"]
    told = here["reason"]
    if here["change"] is not None:
        told = (
            f"At this design: {here['change']:+.2%} of the MoE's loss, "
            f"{here['low']:+.2%} to {here['high']:+.2%} ({told})."
        )
    paragraphs = [
        f"{LABEL}: a parabola through published comparisons at equal total and your own "
        f"train-small records, as a part of each study's own MoE loss; the band is a "
        f"{allocation['confidence']:.0%} bootstrap over anchors. It ranks nothing finer than its "
        "band, knows nothing of width, depth, data or collisions, and is no forecast of a loss.",
        told,
    ]
    if allocation["records_left_out"]:
        paragraphs.append(f"Records left out: {'; '.join(allocation['records_left_out'])}.")
    return Section(
        heading="A smooth allocation curve (ours)",
        paragraphs=tuple(paragraphs),
        figures=(_figure(allocation),),
        tables=(_anchor_table(allocation["anchors"]),),
    )


def _figure(allocation: Mapping[str, Any]) -> Figure:
    anchors = allocation["anchors"]
    studies = dict.fromkeys(anchor["study"] for anchor in anchors)
    series = [
        Series(
            label=allocation["label"],
            x=[100 * share for share in allocation["shares"]],
            y=[100 * change for change in allocation["change"]],
            low=[100 * change for change in allocation["low"]],
            high=[100 * change for change in allocation["high"]],
        )
    ]
    for study in studies:
        of_study = [anchor for anchor in anchors if anchor["study"] == study]
        series.append(
            Series(
                label=study,
                x=[100 * anchor["share"] for anchor in of_study],
                y=[100 * anchor["change"] for anchor in of_study],
                style="points",
            )
        )
    panel = Panel(
        title="Loss against the equal-total MoE",
        x_label="tables' share of total parameters (%)",
        y_label="change, % of each study's MoE loss",
        series=tuple(series),
    )
    return Figure(
        name="allocation_curve",
        caption=f"{allocation['label']}, with the anchors it is fitted to.",
        panels=(panel,),
    )


def _anchor_table(anchors: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="curve_anchors",
        title="Anchors of the curve",
        columns=(
            Column(key="study", title="study"),
            Column(key="share", title="share of total", spec=".1%"),
            Column(key="total_active_ratio", title="total / active", spec=".1f"),
            Column(key="change", title="change of loss", spec="+.2%"),
        ),
        rows=anchors,
    )
