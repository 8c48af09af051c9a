"""The survey of a long sweep as tables and figures, nothing computed anew."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ngscale.collisions.peaks import SHOULDER_ROWS
from ngscale.collisions.survey import THRESHOLDS
from ngscale.records import Column, Figure, Panel, Series, Table

_KIND_COLUMNS = (
    Column(key="kind", title="sizes"),
    Column(key="order", title="n", spec="d"),
    Column(key="num_sizes", title="number", spec=",d"),
    Column(key="percentile_1", title="1%", spec=".3f"),
    Column(key="median", title="median", spec=".3f"),
    Column(key="percentile_99", title="99%", spec=".3f"),
    Column(key="max", title="worst", spec=".3f"),
    *(Column(key=f"above_{bound}", title=f"> {bound}", spec=",d") for bound in THRESHOLDS),
)
_STYLES: tuple[tuple[str, Literal["line", "dashed"]], ...] = (
    ("all", "line"),
    ("elsewhere", "dashed"),
)


def kind_table(surveys: Sequence[Mapping[str, Any]]) -> Table:
    """Excess by kind of size."""
    rows = [
        {
            **{key: value for key, value in kind.items() if key != "above"},
            **{f"above_{bound}": number for bound, number in kind["above"].items()},
            "order": found["order"],
        }
        for found in surveys
        for kind in found["kinds"]
    ]
    title = "Collisions over the ideal hash's, of all sizes"
    return Table(name="kinds", title=title, columns=_KIND_COLUMNS, rows=rows)


def envelope(surveys: Sequence[Mapping[str, Any]], x_label: str, base: int) -> Panel:
    """Largest, median and smallest excess of neighbouring sizes, over all of them."""
    series = []
    for found in surveys:
        drawn, label = found["envelope"], f"{found['order']}-grams"
        x = [rows / base for rows in drawn["table_rows"]]
        series += [
            Series(
                label=f"{label}, largest",
                x=x,
                y=drawn["largest"],
                low=drawn["smallest"],
                high=drawn["largest"],
            ),
            Series(label=f"{label}, median", x=x, y=drawn["median"], style="dashed"),
        ]
    return Panel(
        title="Whole range, every size",
        x_label=x_label,
        y_label="collisions / ideal hash",
        series=tuple(series),
    )


def exceeding(surveys: Sequence[Mapping[str, Any]]) -> Figure:
    """How many sizes exceed each level."""
    return Figure(
        name="exceeding",
        caption="How many sizes have more than so many times the collisions of an ideal hash; "
        f"dashed: those farther than {SHOULDER_ROWS:,} token ids from every p/q with q <= 6.",
        panels=(_panel(surveys),),
    )


def _panel(surveys: Sequence[Mapping[str, Any]]) -> Panel:
    series = []
    for found in surveys:
        for among, style in _STYLES:
            levels, numbers = found["exceeding"]["excess"], found["exceeding"][among]
            shown = sum(number > 0 for number in numbers)  # they fall, and 0 has no logarithm
            label = f"{found['order']}-grams, {among}"
            series.append(Series(label=label, x=levels[:shown], y=numbers[:shown], style=style))
    return Panel(
        title="Sizes above",
        x_label="collisions / ideal hash",
        y_label="number of sizes",
        series=tuple(series),
        y_log=True,
    )
