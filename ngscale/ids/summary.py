"""The records of ``ids`` -> their reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.records import Column, Report, RunRecord, Section, Table


def build_report(record: RunRecord) -> Report:
    """The rows, and the positions that differ first where two policies were compared."""
    results = record.results
    sections = []
    if results["difference"] is not None:
        sections.append(_difference(results["difference"]))
    sections.append(_rows(record.inputs["tokens"], results["layers"]))
    sections.append(_policy(results["policy"], results["difference"]))
    return Report(
        title=f"Rows of {record.inputs['target']}",
        answer=record.answer,
        sections=tuple(sections),
    )


def _difference(difference: Mapping[str, Any]) -> Section:
    reasons = Table(
        name="reasons",
        title="Why positions differ",
        columns=(Column(key="why", title="why"), Column(key="positions", title="positions")),
        rows=difference["reasons"],
    )
    positions = []
    for layer in difference["layers"]:
        rows = [
            {
                **position,
                "tables": ranges(position["tables"]),
                "why": "; ".join(position["why"]),
            }
            for position in layer["positions"]
        ]
        columns = (
            Column(key="position", title="position"),
            Column(key="token", title="token"),
            Column(key="tables", title="tables"),
            Column(key="why", title="why"),
        )
        title = f"Positions that differ{_of_layer(layer)}"
        name = _name("positions", layer)
        positions.append(Table(name=name, title=title, columns=columns, rows=rows))
    if not difference["reasons"]:
        return Section(
            heading=f"Against {difference['policy']['name']}",
            paragraphs=("No position differs on these tokens.",),
        )
    return Section(heading=f"Against {difference['policy']['name']}", tables=(reasons, *positions))


def ranges(numbers: Sequence[int]) -> str:
    """``0-3, 8``: ascending numbers with runs written as their ends."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _rows(tokens: Sequence[int], layers: Sequence[Mapping[str, Any]]) -> Section:
    tables = [table for layer in layers for table in _tables_of(tokens, layer)]
    return Section(heading="Rows by position", tables=tuple(tables))


def _tables_of(tokens: Sequence[int], layer: Mapping[str, Any]) -> list[Table]:
    """A table for every order: all of a model's in one would not fit a page."""
    zero: dict[int, list[int]] = {}
    for position, index in layer["reads_as_zero"]:
        zero.setdefault(position, []).append(index)
    made = []
    for order in sorted({table["order"] for table in layer["tables"]}):
        own = [table["index"] for table in layer["tables"] if table["order"] == order]
        rows = []
        for position, (token, ids) in enumerate(zip(tokens, layer["ids"], strict=True)):
            marked = [index for index in zero.get(position, []) if index in own]
            note = f"tables {ranges(marked)} read as the zero vector" if marked else None
            if all(ids[index] is None for index in own):
                note = "bypassed"
            row = {"position": position, "token": token, "note": note}
            rows.append(row | {f"table_{index}": ids[index] for index in own})
        columns = [Column(key="position", title="position"), Column(key="token", title="token")]
        columns += [Column(key=f"table_{index}", title=f"table {index}") for index in own]
        if any(row["note"] for row in rows):
            columns.append(Column(key="note", title="note"))
        made.append(
            Table(
                name=f"{_name('rows', layer)}-{order}-grams",
                title=f"{order}-grams{_of_layer(layer)}",
                columns=tuple(columns),
                rows=rows,
            )
        )
    return made


def _of_layer(layer: Mapping[str, Any]) -> str:
    layers = layer["layers"]
    return f", layer {', '.join(map(str, layers))}" if layers else ""


def _name(what: str, layer: Mapping[str, Any]) -> str:
    return "-".join([what, *(f"layer-{index}" for index in layer["layers"])])


def _policy(policy: Mapping[str, Any], difference: Mapping[str, Any] | None) -> Section:
    used = [policy] if difference is None else [policy, difference["policy"]]
    tables = [
        Table(
            name=f"policy-{number}",
            title=f"Policy of {one['name']}",
            columns=(
                Column(key="field", title="field"),
                Column(key="value", title="value"),
                Column(key="from", title="from"),
            ),
            rows=[
                {"field": name, "value": str(entry["value"]), "from": entry["from"]}
                for name, entry in one["fields"].items()
            ],
            terminal=False,
        )
        for number, one in enumerate(used, 1)
    ]
    return Section(
        heading="Policies",
        paragraphs=tuple(_described(one) for one in used),
        tables=tuple(tables),
    )


def _described(policy: Mapping[str, Any]) -> str:
    if policy["source"] is None:
        return "The policy is the one that the config describes (data/policy-1.csv)."
    remarks = [*policy["notes"], *(f"not verified: {text}" for text in policy["unverified"])]
    end = "".join(f" {text[0].upper()}{text[1:]}." for text in remarks)
    return f"{policy['name']}: {policy['source']} ({policy['confidence']}).{end}"


def check_report(record: RunRecord) -> Report:
    """A line per scheme, and one per vector that differs."""
    results = record.results
    schemes = Table(
        name="schemes",
        title="By scheme",
        columns=(
            Column(key="scheme", title="scheme"),
            Column(key="vectors", title="vectors"),
            Column(key="pass", title="pass"),
            Column(key="differ", title="differ"),
            Column(key="positions", title="positions", spec=","),
            Column(key="look_ups", title="look-ups", spec=","),
        ),
        rows=results["schemes"],
    )
    tables = [schemes]
    if results["differences"]:
        tables.append(
            Table(
                name="differences",
                title="First difference of every vector that differs",
                columns=(
                    Column(key="vector", title="vector"),
                    Column(key="scheme", title="scheme"),
                    Column(key="what", title="what"),
                    Column(key="position", title="position"),
                    Column(key="table", title="table"),
                    Column(key="expected", title="the file says"),
                    Column(key="computed", title="computed"),
                ),
                rows=results["differences"],
            )
        )
    return Report(
        title=f"Vectors of {record.inputs['vectors']}",
        answer=record.answer,
        sections=(Section(heading="Vectors", tables=tuple(tables)),),
    )
