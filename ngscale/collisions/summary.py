"""The record -> the report a person reads: tables and figures, nothing computed anew."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.collisions import at_tokens
from ngscale.collisions.figure_3b import in_words
from ngscale.collisions.outcome import extent
from ngscale.collisions.peaks import SHOULDER_ROWS
from ngscale.collisions.survey import DATA, ZOOM_ROWS
from ngscale.collisions.survey_summary import envelope, exceeding, kind_table
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table

_MAX_TABLES_SHOWN = 48
"""Up to so many tables are all shown; of a longer sweep, three telling sizes."""
_PEAKS_SHOWN_PER_ORDER = 5

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
_TRAFFIC_COLUMNS = (
    Column(key="name", title="size"),
    Column(key="order", title="n", spec="d"),
    Column(key="token_weighted", title="tokens sharing", spec=".4f"),
    Column(key="expected_token_weighted", title="ideal", spec=".4f"),
    Column(key="effective_rows", title="effective rows", spec=",.0f"),
    Column(key="expected_effective_rows", title="ideal", spec=",.0f"),
    Column(key="max_row_share", title="busiest row", spec=".4f"),
    Column(key="expected_max_row_share", title="ideal", spec=".4f"),
)
_PEAK_COLUMNS = (
    Column(key="name", title="size"),
    Column(key="order", title="n", spec="d"),
    Column(key="table_rows", title="rows", spec=",d"),
    Column(key="collisions", title="collisions", spec=",d"),
    Column(key="height", title="x ideal", spec=".2f"),
    Column(key="width_at_half_height_rows", title="width (rows)", spec=",.1f"),
    Column(key="excess_impurity", title="impurity x ideal", spec=".2f"),
)
_PRIME_COLUMNS = (
    Column(key="name", title="multiple"),
    Column(key="order", title="n", spec="d"),
    Column(key="excess_collisions", title="x ideal on it", spec=".2f"),
    Column(key="offset_below", title="prime below", spec="+d"),
    Column(key="excess_below", title="x ideal", spec=".2f"),
    Column(key="offset_above", title="prime above", spec="+d"),
    Column(key="excess_above", title="x ideal", spec=".2f"),
)
_JOINT_COLUMNS = (
    Column(key="order", title="n", spec="d"),
    Column(key="num_tables", title="tables", spec="d"),
    Column(key="sharing_all", title="sharing in all", spec=",d"),
    Column(key="expected_sharing_all", title="ideal", spec=",.1f"),
    Column(key="sharing_all_share", title="of n-grams", spec=".3%"),
    Column(key="sharing_all_tokens_share", title="of tokens", spec=".3%"),
    Column(key="identity_lost", title="identity lost", spec=",d"),
    Column(key="expected_identity_lost", title="ideal", spec=",.1f"),
    Column(key="proven", title="how known"),
)


def build_report(record: RunRecord) -> Report:
    """Sizes, peaks, the curve over sizes and a zoom on the largest peak; all data as CSV."""
    rows = [_flat(result) for result in record.results["results"]]
    block = record.results.get(at_tokens.KEY)
    later = () if block is None else (at_tokens.section(block),)
    return Report(
        title="Hash collisions of n-gram tables",
        answer=record.answer,
        sections=(_overview(record, rows), *later, _how_to_read(record)),
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """One CSV row: nested keys joined by an underscore."""
    flat = {key: value for key, value in result.items() if key not in ("expected", "excess")}
    for group in ("expected", "excess"):
        flat |= {f"{group}_{key}": value for key, value in result[group].items()}
    return flat


def _overview(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> Section:
    peaks = record.results["peaks"]
    tables = [*_size_tables(record, rows)]
    if record.results["joint"]:
        tables.append(_joint_table(record.results["joint"]))
    if peaks:
        tables += [_peak_table(peaks), _data("peaks", "All peaks", peaks)]
    if primes := record.results["nearest_primes"]:
        title = "The nearest primes"
        tables.append(
            Table(name="nearest_primes", title=title, columns=_PRIME_COLUMNS, rows=primes)
        )
    if surveys := record.results["survey"]:
        tables = [kind_table(surveys), *tables]
    return Section(
        heading="Which sizes waste rows",
        paragraphs=tuple(_facts(record, rows)),
        figures=tuple(_figures(record, rows)),
        tables=(*tables, _data("results", "Listed tables" if surveys else "All tables", rows)),
    )


def _facts(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    inputs = record.inputs
    corpus, scheme = inputs["corpus"], inputs["scheme"]
    options = ", ".join(f"{key} {value}" for key, value in scheme.items() if key != "name")
    surveys = record.results["survey"]
    measured = sum(found["num_sizes"] for found in surveys) or len(rows)
    checked = record.results["figure_3b"]
    facts = [] if checked is None else [in_words(checked, inputs["rule"])]
    facts.append(
        f"Corpus: {corpus['name']}, {extent(corpus)} in {corpus['num_docs']:,} "
        f"documents. Hash: {scheme['name']}{f' ({options})' if options else ''}. Rule: "
        f"{inputs['rule']}. {measured:,} tables {_how(record)}; each is compared with an ideal "
        "hash that puts every n-gram in an independent, uniform row."
    )
    if surveys:
        held = "occupied rows, colliding n-grams and their occurrences at every size"
        if inputs["metrics"] == "occupied":
            held = "occupied rows at every size"
        facts.append(
            f"{len(rows):,} tables are listed here and in record.json: those that a short sweep "
            f"measures, the peaks, all around the tallest. data/{DATA}.parquet has {held}. Near "
            f"p/q means within |q M - p {inputs['unit']}| <= {SHOULDER_ROWS:,} for some q <= 6."
        )
        facts += [_prediction(told) for told in record.results.get("adaptive", ())]
    elif inputs["metrics"] == "sharing":
        facts.append("Sharing alone was measured (--metrics all adds purity and effective rows).")
    saving = record.results["saving"]
    if saving is not None:
        facts.append(
            f"A {saving['order']}-gram table of {saving['table_rows']:,} rows has purity "
            f"{saving['purity']:.4f}; one of {saving['smaller_rows']:,} rows, without resonance, "
            f"has {saving['smaller_purity']:.4f}: "
            f"{saving['table_rows'] / saving['smaller_rows']:.1f} times fewer rows, measured, "
            "for the same purity."
        )
    return facts


def _how(record: RunRecord) -> str:
    told = record.results.get("adaptive")
    if told is None:
        return "measured exactly"
    counted = sum(of_order["num_exact"] for of_order in told)
    return f"of which {counted:,} measured exactly and the others predicted"


def _prediction(told: Mapping[str, Any]) -> str:
    """Of one order of an adaptive sweep."""
    fitted = told["calibration"]
    if fitted is None:
        return f"Of the {told['order']}-gram tables all are exact: too little to predict."
    signals = {
        "marginal": "how often their two tokens would meet there, were they independent",
        "subsample": "the collisions of a subsample of the n-grams",
    }
    end = f"the last band of {fitted['band']:.2f} held none above {fitted['threshold']}."
    if fitted["capped"]:
        end = "the limit of counted sizes was met there, so that some above it may be missed."
    return (
        f"{told['num_predicted']:,} {told['order']}-gram tables are predicted from "
        f"{signals[fitted['signal']]}, fitted to {fitted['num_sampled']} counted sizes (column "
        f"exact of data/{DATA}.parquet: 1 counted, 0 predicted; all tables listed here are "
        "counted). Held out of the fit, sampled sizes like the predicted ones are off by "
        f"{fitted['error_rms']:.2%} (root mean square), {fitted['error_max']:.2%} at most. "
        f"Everything predicted above {fitted['margin']:.2f} x {fitted['threshold']} is counted; "
        + end
    )


def _how_to_read(record: RunRecord) -> Section:
    return Section(
        heading="How to read this",
        paragraphs=(
            "Collisions are distinct n-grams minus occupied rows"
            + (
                ", pooled over the corpus. "
                if record.inputs["rule"] == "pooled"
                else ", counted within each sequence and added up. "
            )
            + "Colliding n-grams share their row with at least one other. Purity is the share of "
            "a token's row traffic that belongs to its own n-gram (1 = private row). Effective "
            "rows are exp of the entropy of the row traffic. Sharing in all: no row of any of the "
            "order's sub-tables is the n-gram's own; identity lost: one other n-gram has the same "
            "row in every sub-table. x ideal is the measured value over "
            "the ideal hash's expectation; 1.00 is as good as random hashing gets. Width is at "
            "half of a peak's height above 1.",
            "What this cannot say: how much loss a collision costs. The one published figure is "
            "0.024 nats of training loss for a table of exactly 64 x V0 rows (arXiv:2501.16975, "
            "Table 4).",
        ),
    )


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


def _joint_table(joint: Sequence[Mapping[str, Any]]) -> Table:
    """Sub-tables of an order together."""
    rows = [
        {
            **{key: value for key, value in entry.items() if key != "expected"},
            **{f"expected_{key}": value for key, value in entry["expected"].items()},
            "num_tables": len(entry["table_rows"]),
            "proven": "by lcm" if entry["identity_proven"] else "counted",
        }
        for entry in joint
    ]
    title = "All sub-tables of an order at once"
    return Table(name="joint", title=title, columns=_JOINT_COLUMNS, rows=rows)


def _data(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=key) for key in rows[0])
    return Table(name=name, title=title, columns=columns, rows=rows, terminal=False)


def _size_tables(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """All sizes where they are few; of a sweep, one integer multiple beside two other sizes."""
    sizes = sorted({row["table_rows"] for row in rows})
    if len(rows) > _MAX_TABLES_SHOWN:
        sizes = _telling_sizes(record, rows)
    shown = sorted(
        (row for row in rows if row["table_rows"] in sizes),
        key=lambda row: (row["order"], sizes.index(row["table_rows"])),
    )
    tables = [Table(name="sizes", title="Sizes by order", columns=_SIZE_COLUMNS, rows=shown)]
    if shown[0]["purity"] is not None:
        tables.append(
            Table(name="traffic", title="Traffic by order", columns=_TRAFFIC_COLUMNS, rows=shown)
        )
    return tables


def _telling_sizes(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The tallest integer multiple, one row more, and the least resonant size."""
    lowest = [row for row in rows if row["order"] == min(r["order"] for r in rows)]
    unit, calm = record.inputs["unit"], record.results["recommendation"]["table_rows"]
    whole = [row for row in lowest if row["name"].endswith(unit) and row["distance"] == 0]
    whole = [row for row in whole if "/" not in row["name"]]
    if not whole:
        return [calm]
    tallest = max(whole, key=lambda row: row["excess_collisions"] or 0.0)["table_rows"]
    return [tallest, tallest + 1, calm]


def _figures(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    if len({r["table_rows"] for r in rows}) < 3 or any(r["distinct"] < 2 for r in rows):
        return []
    base, unit, peaks = record.inputs["base"], record.inputs["unit"], record.results["peaks"]
    whole = f"table rows / {unit}"
    surveys = record.results["survey"]
    if surveys:
        panels = [envelope(surveys, whole, base)]
    else:
        panels = [_curve(rows, "Whole range", whole, scale=base, shift=0)]
    if peaks:
        middle = peaks[0]["table_rows"] - peaks[0]["offset"]
        near = [row for row in rows if abs(row["table_rows"] - middle) <= ZOOM_ROWS]
        name = peaks[0]["name"].split(" + ")[0].split(" - ")[0]
        if len({row["table_rows"] for row in near}) > 2:
            panels.append(_curve(near, f"Around {name}", f"rows - {name}", scale=1, shift=middle))
    caption = (
        "Collisions over those of an ideal hash, by table size; the band is the ideal hash plus "
        "or minus two standard deviations."
    )
    if not surveys:
        return [Figure(name="collisions", caption=caption, panels=tuple(panels))]
    caption = (
        "Left: of every span of neighbouring sizes the largest, the median and (lower edge of the "
        "band) the smallest collisions over those of an ideal hash; no size is left out. "
    ) + caption.replace("Collisions", "Right: collisions")
    return [Figure(name="collisions", caption=caption, panels=tuple(panels)), exceeding(surveys)]


def _curve(
    rows: Sequence[Mapping[str, Any]], title: str, x_label: str, *, scale: int, shift: int
) -> Panel:
    orders = sorted({row["order"] for row in rows})
    by_order = {order: [row for row in rows if row["order"] == order] for order in orders}

    def x(drawn: Sequence[Mapping[str, Any]]) -> list[float]:
        return [(row["table_rows"] - shift) / scale for row in drawn]

    series = [
        Series(label=f"{order}-grams", x=x(drawn), y=[row["excess_collisions"] for row in drawn])
        for order, drawn in by_order.items()
    ]
    lowest = by_order[orders[0]]
    spread = [2 * row["expected_collisions_sd"] / row["expected_collisions"] for row in lowest]
    ideal = Series(
        label="ideal hash",
        x=x(lowest),
        y=[1.0] * len(lowest),
        style="dashed",
        low=[1 - s for s in spread],
        high=[1 + s for s in spread],
    )
    return Panel(
        title=title,
        x_label=x_label,
        y_label="collisions / ideal hash",
        series=(*series, ideal),
    )
