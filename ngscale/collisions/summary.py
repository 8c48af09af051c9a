"""Points of a sweep -> the record (JSON) and the report (what a person reads)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ngscale.collisions.sweep import Point
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.resonance import Neighbour, nearest_fraction
from ngscale.tokens import TokenStream

_PEAK_EXCESS = 0.1
"""A peak has at least this much more than the ideal hash's collisions ..."""
_PEAK_SIGMAS = 5.0
"""... and at least this many standard deviations of the ideal hash more ..."""
_PEAK_COLLISIONS = 5
"""... and at least this many collisions more, so that a tiny corpus has no peaks by chance."""
_SHOULDER_ROWS = 2000
"""Sizes with ``|q*rows - p*V0|`` above this belong to no peak."""


def build(points: Sequence[Point], stream: TokenStream, inputs: Mapping[str, Any]) -> RunRecord:
    """The record: one result per table, the peaks, and the answer in a sentence."""
    base: int = inputs["hash_base"]
    peaks = find_peaks(points, base)
    return RunRecord(
        verb="collisions",
        answer=_answer(points, peaks, base, stream),
        inputs=inputs,
        results={"results": [_result(p, base) for p in points], "peaks": peaks},
    )


def find_peaks(points: Sequence[Point], base: int) -> list[dict[str, Any]]:
    """The tallest size near each p/q x V0 that stands out of the ideal hash's noise."""
    tallest: dict[tuple[int, int, int], tuple[Point, Neighbour]] = {}
    for point in points:
        near = nearest_fraction(point.table_rows, base)
        if near.distance > _SHOULDER_ROWS or not _stands_out(point):
            continue
        key = (point.order, near.p, near.q)
        if key not in tallest or _excess(point) > _excess(tallest[key][0]):
            tallest[key] = (point, near)
    ranked = sorted(tallest.values(), key=lambda found: (found[0].order, -_excess(found[0])))
    return [
        {"name": near.name(), "p": near.p, "q": near.q, "offset": near.offset, **_brief(point)}
        for point, near in ranked
    ]


def _stands_out(point: Point) -> bool:
    ideal = point.expected
    surplus = point.measured.collisions - ideal.collisions
    noise = max(_PEAK_SIGMAS * ideal.collisions_sd, _PEAK_COLLISIONS)
    return surplus > max(_PEAK_EXCESS * ideal.collisions, noise)


def _excess(point: Point) -> float:
    return point.collision_excess or 0.0


def _brief(point: Point) -> dict[str, Any]:
    return {
        "order": point.order,
        "table_rows": point.table_rows,
        "collisions": point.measured.collisions,
        "excess_collisions": point.collision_excess,
        "excess_impurity": point.impurity_excess,
    }


def _result(point: Point, base: int) -> dict[str, Any]:
    near = nearest_fraction(point.table_rows, base)
    return {
        "order": point.order,
        "table_rows": point.table_rows,
        "ratio": point.table_rows / base,
        "name": _name(near, point.table_rows, base),
        "distance": near.distance,
        "distinct": point.distinct,
        **asdict(point.measured),
        "impurity": point.measured.impurity,
        "expected": {**asdict(point.expected), "impurity": point.expected.impurity},
        "excess": {"collisions": point.collision_excess, "impurity": point.impurity_excess},
    }


def _name(near: Neighbour, rows: int, base: int) -> str:
    """Near a small fraction the fraction and the offset, elsewhere the plain ratio."""
    return near.name() if near.distance <= _SHOULDER_ROWS else f"{rows / base:.3f} x V0"


def farthest(points: Sequence[Point], base: int) -> Point:
    """The size farthest from every p/q x V0 (q <= 6); chosen by arithmetic, not by its result."""
    return max(points, key=lambda point: nearest_fraction(point.table_rows, base).distance)


def _answer(
    points: Sequence[Point], peaks: Sequence[Mapping[str, Any]], base: int, stream: TokenStream
) -> str:
    where = f"on {stream.num_tokens:,} tokens with V0 = {base:,}"
    order = min(point.order for point in points)
    of_order = [point for point in points if point.order == order]
    worst = max(of_order, key=_excess)
    if not any(peak["order"] == order for peak in peaks):
        return (
            f"No {order}-gram table measured stands out of an ideal hash's collisions "
            f"{where}; the highest is {worst.table_rows:,} rows at {_excess(worst):.2f} times."
        )
    sentence = f"A {order}-gram table of {_named(worst, base)} has {_excess(worst):.2f} times"
    sentence += f" the collisions of an ideal hash {where}"
    beside = [p for p in of_order if p.table_rows == worst.table_rows + 1]
    if beside:
        sentence += f", {_excess(beside[0]):.2f} times with one row more"
    calm = farthest(of_order, base)
    if calm is not worst:
        sentence += f"; {calm.table_rows:,} rows ({calm.table_rows / base:.3f} x V0), far "
        sentence += f"from every small fraction, have {_excess(calm):.2f} times"
    return sentence + "."


def _named(point: Point, base: int) -> str:
    return f"{nearest_fraction(point.table_rows, base).name()} = {point.table_rows:,} rows"


def build_report(record: RunRecord) -> Report:
    """The report of a record: peaks, the curve over sizes, a zoom on the largest peak, all data."""
    results: list[dict[str, Any]] = record.results["results"]
    peaks: list[dict[str, Any]] = record.results["peaks"]
    rows = [_flat(result) for result in results]
    sections = [_overview(record, rows, peaks), _how_to_read(record)]
    return Report(
        title="Hash collisions of n-gram tables", answer=record.answer, sections=tuple(sections)
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """One CSV row: nested keys joined by an underscore."""
    flat = {k: v for k, v in result.items() if k not in ("expected", "excess")}
    for group in ("expected", "excess"):
        flat |= {f"{group}_{key}": value for key, value in result[group].items()}
    return flat


def _overview(
    record: RunRecord, rows: Sequence[Mapping[str, Any]], peaks: Sequence[Mapping[str, Any]]
) -> Section:
    corpus = record.inputs["corpus"]
    facts = (
        f"Corpus: {corpus['name']}, {corpus['num_tokens']:,} tokens in {corpus['num_docs']:,} "
        f"documents. Hash: LongCat polynomial in base {record.inputs['hash_base']:,}. "
        f"{len(rows)} tables measured exactly; each is compared with an ideal hash that puts "
        "every n-gram in an independent, uniform row."
    )
    shown = [_size_table(rows)] + ([_peak_table(peaks)] if peaks else [])
    return Section(
        heading="Which sizes waste rows",
        paragraphs=(facts,),
        figures=tuple(_figures(record, rows, peaks)),
        tables=(*shown, _data_table(rows), *([_all_peaks(peaks)] if peaks else [])),
    )


def _how_to_read(record: RunRecord) -> Section:
    return Section(
        heading="How to read this",
        paragraphs=(
            "Collisions are distinct n-grams minus occupied rows, pooled over the corpus. "
            "Colliding n-grams share their row with at least one other. Purity is the share of a "
            "token's row traffic that belongs to its own n-gram (1 = private row). "
            "Excess is the measured value over the ideal hash's expectation; 1.00 is as good as "
            "random hashing gets.",
            "What this cannot say: how much loss a collision costs. The one published figure is "
            "0.024 nats of training loss for a table of exactly 64 x V0 rows (arXiv:2501.16975, "
            "Table 4).",
        ),
    )


_PEAK_COLUMNS = (
    Column(key="name", title="size"),
    Column(key="order", title="n", spec="d"),
    Column(key="table_rows", title="rows", spec=",d"),
    Column(key="collisions", title="collisions", spec=",d"),
    Column(key="excess_collisions", title="x ideal", spec=".2f"),
    Column(key="excess_impurity", title="impurity x ideal", spec=".2f"),
)
_PEAKS_SHOWN_PER_ORDER = 5


def _peak_table(peaks: Sequence[Mapping[str, Any]]) -> Table:
    """The tallest few of each order."""
    orders = sorted({peak["order"] for peak in peaks})
    by_order = [[peak for peak in peaks if peak["order"] == order] for order in orders]
    return Table(
        name="tallest_peaks",
        title=f"Sizes to avoid: the tallest of {len(peaks)} peaks",
        columns=_PEAK_COLUMNS,
        rows=[peak for of_order in by_order for peak in of_order[:_PEAKS_SHOWN_PER_ORDER]],
    )


def _all_peaks(peaks: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=key) for key in peaks[0])
    return Table(name="peaks", title="All peaks", columns=columns, rows=peaks, terminal=False)


_SIZE_COLUMNS = (
    Column(key="name", title="size"),
    Column(key="order", title="n", spec="d"),
    Column(key="occupied", title="occupied", spec=",d"),
    Column(key="expected_occupied", title="ideal", spec=",.0f"),
    Column(key="colliding", title="colliding", spec=",d"),
    Column(key="expected_colliding", title="ideal", spec=",.0f"),
    Column(key="purity", title="purity", spec=".4f"),
    Column(key="expected_purity", title="ideal", spec=".4f"),
    Column(key="excess_collisions", title="x ideal", spec=".2f"),
)
_MAX_SIZES_SHOWN = 8


def _size_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """All sizes where they are few; of a sweep, one integer multiple beside two sizes near it."""
    sizes = sorted({row["table_rows"] for row in rows})
    if len(sizes) > _MAX_SIZES_SHOWN:
        sizes = _telling_sizes(rows)
    shown = [row for row in rows if row["table_rows"] in sizes]
    return Table(name="sizes", title="Sizes by order", columns=_SIZE_COLUMNS, rows=shown)


def _telling_sizes(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The tallest integer multiple, one row more, and the size farthest from all fractions."""
    lowest = [row for row in rows if row["order"] == min(r["order"] for r in rows)]
    whole = [row for row in lowest if "/" not in row["name"] and row["name"].endswith("V0")]
    farthest = max(lowest, key=lambda row: row["distance"])["table_rows"]
    if not whole:
        return [farthest]
    tallest = max(whole, key=lambda row: row["excess_collisions"] or 0.0)["table_rows"]
    return [tallest, tallest + 1, farthest]


def _data_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=key) for key in rows[0])
    return Table(name="results", title="All tables", columns=columns, rows=rows, terminal=False)


def _figures(
    record: RunRecord, rows: Sequence[Mapping[str, Any]], peaks: Sequence[Mapping[str, Any]]
) -> list[Figure]:
    if len({r["table_rows"] for r in rows}) < 3 or any(r["distinct"] < 2 for r in rows):
        return []
    base = record.inputs["hash_base"]
    panels = [_curve(rows, title="Whole range", x_label="table rows / V0", scale=base, shift=0)]
    if peaks:
        middle = peaks[0]["table_rows"] - peaks[0]["offset"]
        near = [row for row in rows if abs(row["table_rows"] - middle) <= _ZOOM_ROWS]
        name = peaks[0]["name"].split(" + ")[0].split(" - ")[0]
        if len(near) > len(record.inputs["orders"]):
            panels.append(
                _curve(
                    near, title=f"Around {name}", x_label=f"rows - {name}", scale=1, shift=middle
                )
            )
    caption = (
        "Collisions over those of an ideal hash, by table size; the band is the ideal hash plus "
        "or minus two standard deviations."
    )
    return [Figure(name="collisions", caption=caption, panels=tuple(panels))]


_ZOOM_ROWS = 130


def _curve(
    rows: Sequence[Mapping[str, Any]], *, title: str, x_label: str, scale: int, shift: int
) -> Panel:
    series = []
    for order in sorted({row["order"] for row in rows}):
        drawn = [row for row in rows if row["order"] == order]
        x = [(row["table_rows"] - shift) / scale for row in drawn]
        y = [row["excess_collisions"] for row in drawn]
        series.append(Series(label=f"{order}-grams", x=x, y=y))
        if order == min(row["order"] for row in rows):
            spread = [2 * r["expected_collisions_sd"] / r["expected_collisions"] for r in drawn]
            ideal = Series(
                label="ideal hash",
                x=x,
                y=[1.0] * len(x),
                style="dashed",
                low=[1 - s for s in spread],
                high=[1 + s for s in spread],
            )
    return Panel(
        title=title, x_label=x_label, y_label="collisions / ideal hash", series=(*series, ideal)
    )
