"""Points of a sweep -> the record: one result per table, peaks, a recommendation, the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ngscale.collisions.peaks import SHOULDER_ROWS, Peak, Saving, find_peaks, least_resonant
from ngscale.collisions.subtables import Subtables
from ngscale.collisions.sweep import Point
from ngscale.records import RunRecord
from ngscale.resonance import lattice_length, nearest_fraction


def build(
    points: Sequence[Point],
    inputs: Mapping[str, Any],
    saving: Saving | None = None,
    joint: Sequence[Subtables] = (),
) -> RunRecord:
    """The record; ``inputs`` holds ``corpus``, ``scheme``, ``rule``, ``base`` and ``unit``."""
    base: int = inputs["base"]
    lowest = [point for point in points if point.order == min(p.order for p in points)]
    peaks = find_peaks(points, base)
    recommended = least_resonant(lowest, base)
    results: dict[str, Any] = {
        "results": [_result(point, base, inputs["unit"]) for point in points],
        "peaks": [_peak(peak, inputs["unit"]) for peak in peaks],
        "recommendation": _recommendation(recommended, points, base),
        "saving": None if saving is None else asdict(saving),
        "joint": [_joint(subtables) for subtables in joint],
    }
    answer = _answer(lowest, peaks, recommended, inputs)
    if joint:
        answer += " " + _joint_answer(joint[0])
    return RunRecord(verb="collisions", answer=answer, inputs=inputs, results=results)


def extent(corpus: Mapping[str, Any]) -> str:
    """How much text: tokens, or what a saved n-gram table knows."""
    if "num_tokens" in corpus:
        return f"{corpus['num_tokens']:,} tokens"
    return f"{corpus['occurrences']:,} n-gram positions"


def name_size(rows: int, base: int, unit: str) -> str:
    """Near a small fraction the fraction and the offset, elsewhere the plain ratio."""
    near = nearest_fraction(rows, base)
    return near.name(unit) if near.distance <= SHOULDER_ROWS else f"{rows / base:.3f} x {unit}"


def _result(point: Point, base: int, unit: str) -> dict[str, Any]:
    return {
        "order": point.order,
        "table_rows": point.table_rows,
        "ratio": point.table_rows / base,
        "name": name_size(point.table_rows, base, unit),
        "distance": nearest_fraction(point.table_rows, base).distance,
        "lattice_length": lattice_length(point.table_rows, base),
        "distinct": point.distinct,
        **asdict(point.measured),
        "impurity": point.measured.impurity,
        "expected": {**asdict(point.expected), "impurity": point.expected.impurity},
        "excess": {"collisions": point.collision_excess, "impurity": point.impurity_excess},
    }


def _peak(peak: Peak, unit: str) -> dict[str, Any]:
    return {
        "name": peak.near.name(unit),
        "p": peak.near.p,
        "q": peak.near.q,
        "offset": peak.near.offset,
        "order": peak.point.order,
        "table_rows": peak.point.table_rows,
        "collisions": peak.point.measured.collisions,
        "height": peak.height,
        "width_at_half_height_rows": peak.width_rows,
        "excess_impurity": peak.point.impurity_excess,
    }


def _joint(subtables: Subtables) -> dict[str, Any]:
    """All-K sharing and identity loss, as counts and as shares."""
    measured, n = subtables.measured, subtables.distinct
    return {
        "order": subtables.order,
        "table_rows": list(subtables.table_rows),
        "distinct": n,
        "sharing_all": measured.colliding,
        "sharing_all_share": measured.colliding / n,
        "sharing_all_tokens_share": measured.colliding_tokens / subtables.occurrences,
        "identity_lost": measured.merged,
        "identity_lost_tokens_share": measured.merged_tokens / subtables.occurrences,
        "identity_proven": measured.merged_proven_zero,
        "expected": {
            "sharing_all": subtables.expected_colliding,
            "sharing_all_share": subtables.expected_colliding / n,
            "identity_lost": subtables.expected_merged,
        },
    }


def _joint_answer(subtables: Subtables) -> str:
    share = subtables.measured.colliding / subtables.distinct
    ideal = subtables.expected_colliding / subtables.distinct
    tokens = subtables.measured.colliding_tokens / subtables.occurrences
    return (
        f"In all {len(subtables.table_rows)} sub-tables at once {share:.2%} of the "
        f"{subtables.order}-grams and {tokens:.2%} of token positions share their row; ideal "
        f"hashes would leave {ideal:.4%}."
    )


def _recommendation(recommended: Point, points: Sequence[Point], base: int) -> dict[str, Any]:
    """The least resonant size of the sweep, with what was measured there."""
    there = [point for point in points if point.table_rows == recommended.table_rows]
    return {
        "table_rows": recommended.table_rows,
        "ratio": recommended.table_rows / base,
        "lattice_length": lattice_length(recommended.table_rows, base),
        "excess_collisions": {str(point.order): point.collision_excess for point in there},
        "excess_impurity": {str(point.order): point.impurity_excess for point in there},
    }


def _answer(
    points: Sequence[Point], peaks: Sequence[Peak], calm: Point, inputs: Mapping[str, Any]
) -> str:
    """About the lowest order, which suffers first."""
    base, unit = inputs["base"], inputs["unit"]
    order = points[0].order
    where = f"on {extent(inputs['corpus'])} with {unit} = {base:,}"
    worst = max(points, key=_excess)
    if not any(peak.point.order == order for peak in peaks):
        return (
            f"No {order}-gram table measured stands out of an ideal hash's collisions "
            f"{where}; the highest is {worst.table_rows:,} rows at {_excess(worst):.2f} times."
        )
    sentence = (
        f"A {order}-gram table of {name_size(worst.table_rows, base, unit)} = "
        f"{worst.table_rows:,} rows has {_excess(worst):.2f} times the collisions of an ideal "
        f"hash {where}"
    )
    beside = [point for point in points if point.table_rows == worst.table_rows + 1]
    if beside:
        sentence += f", {_excess(beside[0]):.2f} times with one row more"
    if calm is not worst:
        sentence += (
            f"; {calm.table_rows:,} rows ({name_size(calm.table_rows, base, unit)}), the least "
            f"resonant size of the sweep, have {_excess(calm):.2f} times"
        )
    return sentence + "."


def _excess(point: Point) -> float:
    return point.collision_excess or 0.0
