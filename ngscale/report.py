"""Report -> README.md, report.html, CSV, Parquet, JSON, SVG, PNG. The only jinja2 and matplotlib.

Everything but the foot of the report and environment.json is a pure function of the record.
"""

import base64
import csv
import importlib.util
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ngscale.printable import printable
from ngscale.records import Figure, Panel, Report, RunRecord, Table, dump_json, write_atomic

_MAX_ROWS_SHOWN = 48
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ report.title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
.answer { font-size: 1.25rem; border-left: 4px solid #0b6bcb; padding-left: 1rem; }
figure { margin: 1.5rem 0; } figure img { width: 100%; height: auto; }
figcaption, footer { color: #57606a; font-size: 0.9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
.scroll { overflow-x: auto; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #d0d7de; text-align: right; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f6f8fa; padding: 0.7rem; overflow-x: auto; }
</style></head><body>
<h1>{{ report.title }}</h1>
<p class="answer">{{ report.answer }}</p>
{% for section in report.sections %}
<h2>{{ section.heading }}</h2>
{% for paragraph in section.paragraphs %}<p>{{ paragraph }}</p>
{% endfor %}
{% for link in section.links %}<p><a href="{{ link.path }}">{{ link.text }}</a></p>
{% endfor %}
{% for figure in section.figures %}{% if figure.name in images %}
<figure><img src="data:image/svg+xml;base64,{{ images[figure.name] }}" alt="{{ figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption></figure>
{% endif %}{% endfor %}
{% for table in section.tables if table.terminal %}
<h3>{{ table.title }}</h3>
<div class="scroll"><table><thead><tr>
{% for column in table.columns %}<th>{{ column.title }}</th>{% endfor %}</tr></thead><tbody>
{% for row in shown(table) %}<tr>
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if note(table) %}<p>{{ note(table) }}</p>{% endif %}
{% endfor %}
{% endfor %}
<footer><hr>
<p>Reproduce:</p><pre>{{ command }}</pre>
<p>{{ made }}</p>
</footer></body></html>
"""


def write_report(
    report: Report, record: RunRecord, environment: Mapping[str, Any], out: Path
) -> Path:
    """Write the whole report under ``out``; returns the path of ``report.html``.

    README.md, report.html, record.json, environment.json, ``data/*.csv``, ``figures/*.svg`` and
    ``.png``, ``configs/*.json``; each is written whole or not at all. Without matplotlib (extra
    ``[report]``) the report has tables only, and says so. All but environment.json and the foot of
    README.md and report.html are a pure function of ``report`` and ``record``.

    Raises:
        ResourceError: the disk is full.
        InputError: the directory cannot be written.
    """
    from jinja2 import Environment

    images = {figure.name: _draw(figure) for figure in report.figures} if can_draw() else {}
    names = [table.name for table in report.tables]
    assert len(set(names)) == len(names), "two tables of one name"
    for table in report.tables:
        write_atomic(out / "data" / f"{table.name}.csv", csv_bytes(table))
    for name, columns in record.columns.items():
        write_atomic(out / "data" / f"{name}.parquet", parquet_bytes(columns))
    for name, config in report.configs.items():
        write_atomic(out / "configs" / f"{name}.json", dump_json(config).encode())
    for name, (svg, png) in images.items():
        write_atomic(out / "figures" / f"{name}.svg", svg)
        write_atomic(out / "figures" / f"{name}.png", png)
    command = shlex.join([*environment.get("program", ["ngscale"]), *environment["argv"]])
    command = command.replace("\n", "\\n")  # a line of its own could end the fence around it
    made = _made(environment)
    html = Environment(autoescape=True, trim_blocks=True).from_string(_HTML)
    page = html.render(
        report=report,
        images={name: base64.b64encode(svg).decode() for name, (svg, _) in images.items()},
        shown=_shown_rows,
        note=_note,
        command=command,
        made=made,
    )
    write_atomic(out / "report.html", printable(page).encode())
    readme = body_markdown(report, with_figures=bool(images)) + _foot(command, made)
    write_atomic(out / "README.md", printable(readme).encode())
    write_atomic(out / "record.json", dump_json(record.document()).encode())
    write_atomic(out / "environment.json", dump_json(environment).encode())
    return out / "report.html"


def can_draw() -> bool:
    """Whether matplotlib (extra ``[report]``) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def _shown_rows(table: Table) -> list[list[str]]:
    return [[column.cell(row) for column in table.columns] for row in table.rows[:_MAX_ROWS_SHOWN]]


def _note(table: Table) -> str:
    hidden = len(table.rows) - _MAX_ROWS_SHOWN
    return f"{hidden} more rows in data/{table.name}.csv" if hidden > 0 else ""


def _made(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items())
    made = f"Made {environment['date']} on {environment['machine']} with {versions}."
    speeds = environment.get("tokens_per_s", {})
    told = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
    return f"{made} Tokens/s: {told}." if told else made


def _foot(command: str, made: str) -> str:
    return f"\n---\n\nReproduce:\n\n```\n{command}\n```\n\n{made}\n"


def body_markdown(report: Report, *, with_figures: bool) -> str:
    """README.md without its foot: a pure function of the report."""
    lines = [_plain(report.answer), "", f"# {_plain(report.title)}", ""]
    for section in report.sections:
        lines += [f"## {_plain(section.heading)}", ""]
        for paragraph in section.paragraphs:
            lines += [_plain(paragraph), ""]
        for link in section.links:
            lines += [f"[{_plain(link.text)}]({link.path})", ""]
        for figure in section.figures:
            if with_figures:
                lines += [f"![{_plain(figure.caption)}](figures/{figure.name}.svg)", ""]
            lines += [f"*{_plain(figure.caption)}*", ""]
        for table in section.tables:
            if table.terminal:
                lines += _markdown_table(table)
    if report.figures and not with_figures:
        lines += ["Figures need matplotlib: `pip install 'ngscale[report]'`.", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that stays text in Markdown: no tag, link or image begins in it."""
    return _TAG.sub("&lt;", text).replace("](", "]\\(")


def _markdown_table(table: Table) -> list[str]:
    titles = " | ".join(_plain(column.title) for column in table.columns)
    rule = " | ".join(["---"] + ["---:"] * (len(table.columns) - 1))
    rows = [
        "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |"
        for row in _shown_rows(table)
    ]
    note = [_note(table), ""] if _note(table) else []
    return [f"### {_plain(table.title)}", "", f"| {titles} |", f"| {rule} |", *rows, "", *note]


def csv_bytes(table: Table) -> bytes:
    """A table's rows with raw values; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow([_csv_cell(row.get(column.key)) for column in table.columns])
    return text.getvalue().encode(errors="backslashreplace")


def parquet_bytes(columns: Mapping[str, Any]) -> bytes:
    """Integer columns whose neighbours differ little: the differences, packed."""
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(dict(columns)),
        out,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(columns, "DELTA_BINARY_PACKED"),
    )
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _draw(figure: Figure) -> tuple[bytes, bytes]:
    """SVG and PNG of a figure, the same bytes for the same figure."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    settings: Any = {
        "svg.hashsalt": figure.name,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    count = len(figure.panels)
    with mpl.rc_context(settings):
        canvas, axes = pyplot.subplots(
            1, count, figsize=(max(7.0, 5.5 * count), 4.2), squeeze=False, layout="constrained"
        )
        for panel, axis in zip(figure.panels, axes[0], strict=True):
            _draw_panel(panel, axis)
        _draw_legends(canvas, axes[0])
        svg, png = io.BytesIO(), io.BytesIO()
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        canvas.savefig(png, format="png", dpi=120, metadata={"Software": None})
        pyplot.close(canvas)
    return svg.getvalue(), png.getvalue()


def _draw_panel(panel: Panel, axis: Any) -> None:
    bars = [series for series in panel.series if series.style == "bar"]
    width = 0.8 / max(1, len(bars))
    for series in panel.series:
        if series.style == "bar":
            shift = (bars.index(series) - (len(bars) - 1) / 2) * width
            positions = [x + shift for x in series.x]
            axis.bar(positions, series.y, width=width, label=_label(series.label))
            if series.low is not None and series.high is not None:
                axis.errorbar(
                    positions,
                    series.y,
                    yerr=_errors(series.y, series.low, series.high),
                    fmt="none",
                    ecolor="#333",
                    capsize=3,
                )
        elif series.style == "points":
            if series.low is not None and series.high is not None:
                axis.errorbar(
                    series.x,
                    series.y,
                    yerr=_errors(series.y, series.low, series.high),
                    fmt="o",
                    markersize=4,
                    capsize=3,
                    label=_label(series.label),
                )
            else:
                axis.plot(series.x, series.y, "o", markersize=3.5, label=_label(series.label))
        else:
            dashed = series.style == "dashed"
            (line,) = axis.plot(
                series.x,
                series.y,
                linewidth=1.2,
                label=_label(series.label),
                linestyle="--" if dashed else "-",
            )
            if series.low is not None and series.high is not None:
                axis.fill_between(
                    series.x,
                    series.low,
                    series.high,
                    alpha=0.2,
                    color=line.get_color(),
                    linewidth=0,
                )
    axis.set_title(_label(panel.title))
    axis.set_xlabel(_label(panel.x_label))
    axis.set_ylabel(_label(panel.y_label))
    if panel.y_log:
        axis.set_yscale("log")
    if panel.x_log:
        axis.set_xscale("log")
    if panel.x_ticks is not None:
        names = [_label(name) for name in panel.x_ticks]
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")


def _draw_legends(canvas: Any, axes: Sequence[Any]) -> None:
    """One below panels that share it, where it covers nothing, else one in each that has labels."""
    (handles, labels), *others = (axis.get_legend_handles_labels() for axis in axes)
    if others and all(other == labels for _, other in others):
        if labels:
            canvas.legend(
                handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False
            )
        return
    for axis in axes:
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8, frameon=False)


def _label(text: str) -> str:
    """Text and never a formula, which matplotlib sees between two dollars."""
    return printable(text).replace("\n", " ").replace("$", r"\$")


def _errors(
    middle: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> list[list[float]]:
    return [
        [m - lo for m, lo in zip(middle, low, strict=True)],
        [hi - m for m, hi in zip(middle, high, strict=True)],
    ]
