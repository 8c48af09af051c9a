"""Points of a sweep -> the record: one result per table, peaks, a recommendation, the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ngscale.collisions.figure_3b import figure_3b, nearest_primes_of
from ngscale.collisions.peaks import (
    QUIET_LENGTH,
    SHOULDER_ROWS,
    Peak,
    Saving,
    find_peaks,
    least_resonant,
)
from ngscale.collisions.subtables import Subtables
from ngscale.collisions.survey import QUIET, THRESHOLDS, Survey
from ngscale.collisions.sweep import Point
from ngscale.primes import is_prime
from ngscale.records import RunRecord
from ngscale.resonance import lattice_length, nearest_fraction

_PARITIES = ("odd", "even", "prime")


def build(
    points: Sequence[Point],
    inputs: Mapping[str, Any],
    *,
    saving: Saving | None = None,
    joint: Sequence[Subtables] = (),
    surveys: Sequence[Survey] = (),
    adaptive: Sequence[Mapping[str, Any]] | None = None,
) -> RunRecord:
    """The record; ``inputs`` holds ``corpus``, ``scheme``, ``rule``, ``base`` and ``unit``.

    Of ``surveys``, where there are any, ``points`` are those worth listing. ``adaptive`` says, by
    order, how many of the sizes were predicted and how well.
    """
    base, unit = inputs["base"], inputs["unit"]
    first = min(point.order for point in points)
    lowest = [point for point in points if point.order == first]
    peaks = [peak for found in surveys for peak in found.peaks] or find_peaks(points, base)
    recommended = least_resonant(lowest, base)
    primes = nearest_primes_of(points, base, unit)
    results: dict[str, Any] = {
        "results": [_result(point, base, unit) for point in points],
        "peaks": [_peak(peak, unit) for peak in peaks],
        "recommendation": _recommendation(recommended, points, base),
        "saving": None if saving is None else asdict(saving),
        "joint": [joint_result(subtables) for subtables in joint],
        "nearest_primes": primes,
        "figure_3b": figure_3b(points, primes, base),
        "survey": [dict(found.summary) for found in surveys],
    }
    answer = _answer(lowest, peaks, recommended, inputs)
    if surveys:
        answer = _survey_answer(surveys[0].summary, inputs)
    if adaptive is not None:
        results["adaptive"] = [dict(told) for told in adaptive]
        answer += " " + _adaptive_answer(adaptive[0])
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
        "prime": is_prime(point.table_rows),
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


def joint_result(subtables: Subtables) -> dict[str, Any]:
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


def _survey_answer(summary: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """How many sizes are bad, where they are, and which kind of size is safe."""
    base, unit, order = inputs["base"], inputs["unit"], summary["order"]
    kinds = {kind["kind"]: kind for kind in summary["kinds"]}
    low, *others = map(str, THRESHOLDS)
    every, worst = kinds["all"]["above"], summary["worst"]
    sentence = (
        f"Of all {summary['num_sizes']:,} sizes swept {every[low]:,} have over {low} times the "
        f"{order}-gram collisions of an ideal hash on {extent(inputs['corpus'])} with {unit} = "
        f"{base:,}, {', '.join(f'{every[bound]:,} over {bound}' for bound in others)}; the worst "
        f"is {worst['name']} = {worst['table_rows']:,} rows at {worst['excess']:.2f} times"
    )
    if (away := summary["worst_elsewhere"]) is not None:
        above = kinds["elsewhere"]["above"]
        counts = ", ".join(f"{above[bound]:,}" for bound in (low, *others))
        sentence += (
            f". Of those, in turn, {counts} lie farther than {SHOULDER_ROWS:,} token ids from "
            f"every p/q x {unit} with q <= 6; the worst there is {away['name']} at "
            f"{away['excess']:.2f} times"
        )
    if all(kind in kinds for kind in _PARITIES):
        shares = ", ".join(
            f"{kinds[kind]['above'][low] / kinds[kind]['num_sizes']:.2%} of the {kind} sizes"
            for kind in _PARITIES
        )
        sentence += f". Over {low} are {shares}"
    if (quiet := summary["worst_quiet"]) is not None:
        sentence += (
            f". None of the {kinds[QUIET]['num_sizes']:,} sizes coprime to {unit} with a lattice "
            f"length above {QUIET_LENGTH} exceeds {quiet['excess']:.3f}"
        )
    return sentence + "."


def _adaptive_answer(told: Mapping[str, Any]) -> str:
    fitted = told["calibration"]
    if fitted is None:
        return f"All {told['num_exact']:,} sizes were counted: too little to predict."
    return (
        f"Of the sizes {told['num_exact']:,} were counted, all that are predicted above "
        f"{fitted['margin'] * fitted['threshold']:.3f} times among them; {told['num_predicted']:,} "
        f"are predicted, with an error of {fitted['error_rms']:.1%} (root mean square, "
        f"{fitted['num_sampled_low']} sizes held out of the fit)."
    )


def _excess(point: Point) -> float:
    return point.collision_excess or 0.0
