"""Proposals measured beside the sizes in use: which tables to build instead, and what is gained."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ngscale.collisions import sweep
from ngscale.collisions.expected import IdealHash
from ngscale.collisions.outcome import extent, joint_result
from ngscale.collisions.peaks import Saving, saving
from ngscale.collisions.proposals import Budget, Proposal
from ngscale.collisions.subtables import Subtables, measure_subtables
from ngscale.collisions.sweep import Point
from ngscale.collisions.threads import Progress
from ngscale.hashing.longcat import Polynomial
from ngscale.lattice_score import lattice_score
from ngscale.ngrams import NgramTable
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.table_sizes import design_faults
from ngscale.units import format_share

CURRENT = "in use"
BYTES_PER_PARAMETER = 2
"""bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One order of one design on the corpus."""

    points: tuple[Point, ...]
    joint: Subtables


def recommend(
    budget: Budget,
    proposals: Sequence[Proposal],
    current: Sequence[int] | None,
    width: int | None,
    inputs: Mapping[str, Any],
    tables: Mapping[int, NgramTable] | None,
    progress: Progress,
) -> RunRecord:
    """The record: proposals best first; ``tables`` are the corpus's n-grams by order, if any.

    ``width`` is the columns of a table, for bytes.

    Raises:
        SpecError, ResourceError: a size that cannot be hashed or counted here.
    """
    designs = {CURRENT: tuple(current)} if current is not None else {}
    designs |= {proposal.name: proposal.table_rows for proposal in proposals}
    entries = {name: _arithmetic(rows, budget, width) for name, rows in designs.items()}
    savings: list[Saving] = []
    if tables is not None:
        measured = _measure(designs, budget, tables, progress)
        for name, found in measured.items():
            entries[name]["orders"] = [_order(measurement) for measurement in found.values()]
        if CURRENT in measured:
            savings = _savings(measured[CURRENT], budget, tables)
    for proposal in proposals:
        entries[proposal.name] |= {"patch": proposal.patch, "for_whom": proposal.for_whom}
    ranked = sorted(
        (entries[proposal.name] | {"name": proposal.name} for proposal in proposals), key=_rank
    )
    results = {
        "proposals": ranked,
        "current": entries.get(CURRENT),
        "savings": [_saving(found, budget, width) for found in savings],
        "patch": ranked[0]["patch"],
    }
    answer = _answer(results, inputs, has_corpus=tables is not None)
    return RunRecord(
        verb="collisions",
        answer=answer,
        inputs={**inputs, "base": budget.base, "total_rows": budget.total_rows},
        results=results,
    )


def _arithmetic(rows: Sequence[int], budget: Budget, width: int | None) -> dict[str, Any]:
    """What needs no corpus."""
    faults = list(design_faults(rows, budget.base, budget.orders))
    scores = [
        lattice_score(size, budget.base, order)
        for size, order in zip(rows, budget.orders, strict=True)
    ]
    stored = budget.stored(rows)
    return {
        "table_rows": list(rows),
        "ratio": sum(rows) / len(rows) / budget.base,
        "stored_rows": stored,
        "parameters": None if width is None else stored * width,
        "lattice_scores": scores,
        "worst_lattice_score": max(scores),
        "worst_by_order": [
            max(score for score, n in zip(scores, budget.orders, strict=True) if n == order)
            for order in sorted(set(budget.orders))
        ],
        "faults": sorted({fault.code for fault in faults}),
        "orders": [],
    }


def _measure(
    designs: Mapping[str, Sequence[int]],
    budget: Budget,
    tables: Mapping[int, NgramTable],
    progress: Progress,
) -> dict[str, dict[int, Measurement]]:
    """Every design exactly, each size once."""
    scheme = Polynomial(base=budget.base)
    orders = sorted(set(budget.orders))
    own = {
        name: {
            n: [size for size, m in zip(rows, budget.orders, strict=True) if m == n] for n in orders
        }
        for name, rows in designs.items()
    }
    sizes = {n: sorted({size for rows in own.values() for size in rows[n]}) for n in orders}
    every_size = [size for of_order in sizes.values() for size in of_order]
    sweep.check_sizes(scheme, every_size, vocab_size=budget.base, max_order=max(orders))
    with progress("tables", len(every_size)) as done:
        points = {
            (point.order, point.table_rows): point
            for point in sweep.run(tables, sizes, scheme, done)
        }
    return {
        name: {
            n: Measurement(
                points=tuple(points[n, size] for size in rows[n]),
                joint=measure_subtables(tables[n], scheme, rows[n]),
            )
            for n in orders
        }
        for name, rows in own.items()
    }


def _order(measurement: Measurement) -> dict[str, Any]:
    """Means over the K tables of an order, and the tables together."""
    points = measurement.points

    def mean(values: Sequence[float | None]) -> float:
        return statistics.fmean(value for value in values if value is not None)

    return {
        **joint_result(measurement.joint),
        "purity": mean([point.measured.purity for point in points]),
        "impurity": mean([point.measured.impurity for point in points]),
        "impurity_ideal": 1 - mean([point.expected.purity for point in points]),
        "purity_ideal": mean([point.expected.purity for point in points]),
        "token_weighted": mean([point.measured.token_weighted for point in points]),
        "token_weighted_ideal": mean([point.expected.token_weighted for point in points]),
        "effective_rows": mean([point.measured.effective_rows for point in points]),
        "effective_rows_ideal": mean([point.expected.effective_rows for point in points]),
        "worst_excess_collisions": max(point.collision_excess or 0.0 for point in points),
    }


def _rank(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """Least impurity, the mean over orders; then the scores.

    Of seven metrics it orders the losses of trained models best
    (reports/2026-11-22-e2-collisions-and-loss). That no two n-grams share all their rows, which it
    does not see, every sound design grants.
    """
    found = [order["impurity"] for order in entry["orders"]]
    return (statistics.fmean(found) if found else 0.0, *entry["worst_by_order"])


def _savings(
    current: Mapping[int, Measurement], budget: Budget, tables: Mapping[int, NgramTable]
) -> list[Saving]:
    """Per order, how few rows a sound table needs for the purity of the worst one in use."""
    found = []
    for order, measurement in current.items():
        worst = max(measurement.points, key=lambda point: point.impurity_excess or 0.0)
        ideal = IdealHash(tables[order], [])
        scheme = Polynomial(base=budget.base)
        smaller = saving(worst, tables[order], scheme, ideal, budget.base)
        if smaller is not None:
            found.append(smaller)
    return found


def _saving(found: Saving, budget: Budget, width: int | None) -> dict[str, Any]:
    rows = found.table_rows - found.smaller_rows
    return asdict(found) | {
        "rows_saved": rows,
        "bytes_saved": None if width is None else rows * width * BYTES_PER_PARAMETER,
        "num_tables": sum(order == found.order for order in budget.orders),
    }


def _answer(results: Mapping[str, Any], inputs: Mapping[str, Any], *, has_corpus: bool) -> str:
    best, current = results["proposals"][0], results["current"]
    sizes = f"{best['name']} ({best['ratio']:.3f} x V0, {best['stored_rows']:,} rows in all)"
    if not has_corpus:
        sentence = f"By the lattice score alone, without a corpus: {sizes}, worst score "
        sentence += f"{best['worst_lattice_score']:.2f}"
        if current is not None:
            sentence += f" against {current['worst_lattice_score']:.3g} of the sizes in use"
        return f"{sentence}. {best['for_whom']}"
    order = best["orders"][0]["order"]
    sentence = (
        f"Best on {extent(inputs['corpus'])}: {sizes}; {_impurity(best)} of the traffic of "
        f"{order}-gram rows is other n-grams' (in brackets: mean of all orders)"
    )
    if current is not None:
        sentence += f", with the sizes in use {_impurity(current)}"
    sentence += f", with ideal hashes {_impurity(best, 'impurity_ideal')}."
    loadable = next((p for p in results["proposals"] if "ngscale" not in p["patch"]), None)
    if loadable is not None and loadable is not best:
        ((key, value),) = loadable["patch"].items()
        sentence += (
            f" With the released loaders' own formula, {key} {value} gives {_impurity(loadable)}."
        )
    return f"{sentence} {best['for_whom']}"


def _impurity(entry: Mapping[str, Any], key: str = "impurity") -> str:
    """That of the lowest order and, in brackets, the mean of all: ``3.21% (18.15%)``."""
    values = [order[key] for order in entry["orders"]]
    return f"{format_share(values[0])} ({format_share(statistics.fmean(values))})"


_COLUMNS = (
    Column(key="name", title="sizes"),
    Column(key="order", title="n", spec="d"),
    Column(key="impurity", title="impurity", spec=".3%"),
    Column(key="impurity_ideal", title="ideal", spec=".3%"),
    Column(key="sharing_all_share", title="n-grams sharing in all", spec=".3%"),
    Column(key="sharing_all_ideal", title="ideal", spec=".3%"),
    Column(key="sharing_all_tokens_share", title="token positions", spec=".3%"),
    Column(key="token_weighted", title="tokens sharing, one table", spec=".2%"),
    Column(key="token_weighted_ideal", title="ideal", spec=".2%"),
    Column(key="effective_rows", title="effective rows", spec=",.0f"),
)
_SIZES = (
    Column(key="name", title="sizes"),
    Column(key="ratio", title="mean x V0", spec=".3f"),
    Column(key="stored_rows", title="rows stored", spec=",d"),
    Column(key="parameters", title="parameters", spec=",d"),
    Column(key="worst_lattice_score", title="worst score", spec=".3g"),
    Column(key="faults_text", title="audit"),
    Column(key="patch_text", title="config.json"),
)
_SAVED = (
    Column(key="order", title="n", spec="d"),
    Column(key="table_rows", title="rows in use", spec=",d"),
    Column(key="purity", title="purity", spec=".4f"),
    Column(key="smaller_rows", title="rows that do as well", spec=",d"),
    Column(key="rows_saved", title="saved", spec=",d"),
    Column(key="bytes_saved", title="bytes (bf16)", spec=",d"),
)


def build_report(record: RunRecord) -> Report:
    """Proposals beside the sizes in use, what equal purity would save, the patch."""
    results = record.results
    designs = list(results["proposals"])
    if results["current"] is not None:
        designs.insert(0, {**results["current"], "name": CURRENT})
    rows = [
        {
            **order,
            "name": design["name"],
            "sharing_all_ideal": order["expected"]["sharing_all_share"],
        }
        for design in designs
        for order in design["orders"]
    ]
    tables = [Table(name="sizes", title="Sizes", columns=_SIZES, rows=[*map(_size_row, designs)])]
    figures = []
    if rows:
        title = "On the corpus; all tables of an order at once, then means over its tables"
        tables.insert(0, Table(name="orders", title=title, columns=_COLUMNS, rows=rows))
        figures.append(_figure(designs))
    if results["savings"]:
        title = "What one table of sound size needs for the purity of the worst one in use"
        tables.append(Table(name="savings", title=title, columns=_SAVED, rows=results["savings"]))
    return Report(
        title="Table sizes to choose",
        answer=record.answer,
        sections=(
            Section(
                heading="Proposals, best first",
                paragraphs=tuple(
                    f"{design['name']}: {', '.join(f'{rows:,}' for rows in design['table_rows'])}."
                    for design in designs
                ),
                figures=tuple(figures),
                tables=tuple(tables),
            ),
            Section(heading="How to read this", paragraphs=(_HOW_TO_READ, _PATCHES, _CANNOT_SAY)),
        ),
        configs={
            f"{proposal['name'].replace(' ', '-')}.patch": proposal["patch"]
            for proposal in results["proposals"]
        },
    )


_HOW_TO_READ = (
    "Every proposal passes every check of `ngscale audit`. Impurity: the share of a token's row "
    "traffic that is other n-grams', the mean over an order's tables. Sharing in all: no row of "
    "any of the order's tables is the n-gram's own. Smallest change: the nearest ratio whose sizes "
    "are sound. Best ratio: the ratio within the budget whose worst table scores lowest. Explicit "
    "rows: sizes apart from each other, so that the tables of an order do not fail on the same "
    "n-grams. Proposals are ranked by impurity, the mean over orders, which orders the losses of "
    "small trained models best of seven metrics (experiment E2); without a corpus by the lattice "
    "score."
)
_PATCHES = (
    "`configs/` has a patch (JSON Merge Patch, RFC 7396) of each for the model's config.json: "
    "`jq -s '.[0] * .[1]' config.json configs/best-ratio.patch.json`."
)
_CANNOT_SAY = (
    "What this cannot say: how much loss impurity costs at your scale, and how another text would "
    "rank proposals that are close here."
)


def _size_row(design: Mapping[str, Any]) -> dict[str, Any]:
    patch = design.get("patch")
    if patch is None:
        text = ""
    elif "ngscale" in patch:
        text = "ngscale.table_rows"
    else:
        text = ", ".join(f"{key}: {value}" for key, value in patch.items())
    return {
        **design,
        "faults_text": ", ".join(design["faults"]) or "sound",
        "patch_text": text,
    }


def _figure(designs: Sequence[Mapping[str, Any]]) -> Figure:
    """Impurity, and sharing in all tables, order by order."""
    return Figure(
        name="sharing",
        caption="What tables of an order share: traffic of rows, and n-grams without a row of "
        "their own in any table.",
        panels=(
            _panel(
                designs, "Impurity", "share of traffic", "impurity", lambda o: o["impurity_ideal"]
            ),
            _panel(
                designs,
                "Sharing in all tables",
                "share of n-grams",
                "sharing_all_share",
                lambda o: o["expected"]["sharing_all_share"],
            ),
        ),
    )


def _panel(
    designs: Sequence[Mapping[str, Any]],
    title: str,
    y_label: str,
    key: str,
    ideal: Callable[[Mapping[str, Any]], float],
) -> Panel:
    places = list(range(len(designs[0]["orders"])))
    series = [
        Series(
            label=design["name"],
            x=places,
            y=[order[key] for order in design["orders"]],
            style="points",
        )
        for design in designs
    ]
    values = [ideal(order) for order in designs[-1]["orders"]]
    series.append(Series(label="ideal hashes", x=places, y=values, style="dashed"))
    return Panel(
        title=title,
        x_label="order",
        y_label=y_label,
        series=tuple(series),
        y_log=True,
        x_ticks=tuple(str(order["order"]) for order in designs[0]["orders"]),
    )
