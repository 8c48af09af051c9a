"""The record -> the report a person reads; and many records -> one table."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.records import Column, Report, RunRecord, Section, Table

_WHY = (
    "An n-gram table has far fewer rows than text has n-grams, so n-grams share rows. An ideal "
    "hash shares them evenly. A polynomial in base V modulo the number of rows does not: two "
    "n-grams share a row whenever their ids differ by a vector of a lattice, and if that lattice "
    "has a short vector, frequent n-grams meet frequent ones at every step of it. How short the "
    "shortest vector is depends on the number of rows alone, so it can be known before any text."
)
_CANNOT_SAY = (
    "An audit knows arithmetic and nothing else. It cannot say what a shared row costs in loss, "
    "nor how often your text meets a pattern: the score assumes independent tokens whose ids are "
    "in order of frequency. `ngscale collisions` measures on text; `ngscale train-small` trains."
)
_HOW_TO_READ = (
    "Score: row-traffic coincidences over an ideal hash's, under the rank law; from 1.1 on it is "
    "a warning. Reachable: rows that n-grams with one current token can reach. Shortest vector: "
    "the smallest difference of two n-grams in one row, current token first. Length: of that "
    "vector, over rows**(1/n); below 0.2 it is a warning. Tables needed: how many of the order's "
    "tables suffice, whichever they are, to tell all its n-grams apart (lcm argument, "
    "docs/method.md)."
)

_TABLES = (
    Column(key="index", title="table", spec="d"),
    Column(key="order", title="n", spec="d"),
    Column(key="rows", title="rows", spec=",d"),
    Column(key="nearest_name", title="nearest"),
    Column(key="gcd_with_base", title="gcd", spec="d"),
    Column(key="reachable_rows_per_token", title="reachable", spec=",d"),
    Column(key="lattice_score", title="score", spec=".3g"),
    Column(key="vector_text", title="shortest vector"),
    Column(key="relative_length", title="length", spec=".3f"),
)
_ORDERS = (
    Column(key="order", title="n", spec="d"),
    Column(key="num_tables", title="tables", spec="d"),
    Column(key="injective_text", title="tells n-grams apart"),
    Column(key="tables_needed", title="tables needed", spec="d"),
    Column(key="largest_pairwise_gcd", title="largest pairwise gcd", spec="d"),
)
_FINDINGS = (
    Column(key="severity", title="severity"),
    Column(key="code", title="code"),
    Column(key="message", title="finding"),
    Column(key="fix", title="way out"),
)
_ALL = (
    Column(key="target", title="config"),
    Column(key="num_tables", title="tables", spec="d"),
    Column(key="rows", title="rows", spec=",d"),
    Column(key="score_2", title="score n=2", spec=".3g"),
    Column(key="score_n", title="n>2", spec=".3g"),
    Column(key="largest_gcd", title="gcd", spec="d"),
    Column(key="injective", title="tells n-grams apart"),
    Column(key="warnings", title="errors and warnings"),
    Column(key="patch", title="smallest change"),
)


def build_report(record: RunRecord) -> Report:
    """Findings, tables, orders, what it cannot say."""
    results = record.results
    tables = [_flat_table(entry) for entry in results["tables"]]
    layers = {entry["layer"] for entry in results["tables"]}
    columns: tuple[Column, ...] = _TABLES
    if layers != {None}:
        columns = (Column(key="layer", title="layer", spec="d"), *columns)
    paragraphs = [_HOW_TO_READ]
    if results["patch"] is not None:
        paragraphs.insert(0, f"Patch for config.json: `{json.dumps(results['patch'])}`.")
    return Report(
        title=f"Audit of {record.inputs['target']}",
        answer=record.answer,
        sections=(
            Section(
                heading="Findings",
                paragraphs=tuple(paragraphs),
                tables=(
                    Table(
                        name="findings",
                        title="Findings",
                        columns=_FINDINGS,
                        rows=results["findings"],
                    ),
                    Table(name="tables", title="Tables", columns=columns, rows=tables),
                    Table(
                        name="orders",
                        title="Orders",
                        columns=_ORDERS,
                        rows=[_flat_order(entry) for entry in results["orders"]],
                    ),
                    *_families(results["tables"]),
                ),
            ),
            Section(heading="What an audit cannot say", paragraphs=(_CANNOT_SAY,)),
        ),
    )


def _flat_table(entry: Mapping[str, Any]) -> dict[str, Any]:
    vector = entry["shortest_vector"]
    return {
        **entry,
        "nearest_name": None if entry["nearest"] is None else entry["nearest"]["name"],
        "vector_text": None if vector is None else f"({', '.join(map(str, vector))})",
    }


def _flat_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    words = {True: "proven", False: "no, see the finding", None: "not known"}
    return {
        **entry,
        "num_tables": len(entry["tables"]),
        "injective_text": words[entry["jointly_injective"]],
    }


def _families(tables: Sequence[Mapping[str, Any]]) -> list[Table]:
    """N-grams that share a row, with the pairs that were checked."""
    rows = [
        {
            "index": entry["index"],
            "rule": entry["family"]["rule"],
            "examples": "; ".join(
                f"({', '.join(map(str, pair['first']))}) and "
                f"({', '.join(map(str, pair['second']))}): row {pair['row']:,}"
                for pair in entry["family"]["examples"]
            ),
        }
        for entry in tables
        if entry["family"] is not None
    ]
    if not rows:
        return []
    columns = (
        Column(key="index", title="table", spec="d"),
        Column(key="rule", title="share a row, for every j"),
        Column(key="examples", title="checked pairs"),
    )
    title = "N-grams that share a row (oldest token first)"
    return [Table(name="families", title=title, columns=columns, rows=rows)]


def combine(records: Sequence[RunRecord]) -> RunRecord:
    """The record of ``--all``: the audits side by side."""
    flawed = [record.inputs["target"] for record in records if _serious(record.results)]
    return RunRecord(
        verb="audit",
        answer=f"{len(flawed)} of {len(records)} published designs have errors or warnings: "
        f"{', '.join(flawed)}.",
        inputs={"targets": [dict(record.inputs) for record in records]},
        results={
            "audits": [
                {"target": record.inputs["target"], "answer": record.answer, **record.results}
                for record in records
            ]
        },
    )


def combined_report(record: RunRecord) -> Report:
    """One row per design, then each flaw in words."""
    audits = record.results["audits"]
    flaws = tuple(entry["answer"] for entry in audits if _serious(entry))
    return Report(
        title="Audit of every preset",
        answer=record.answer,
        sections=(
            Section(
                heading="Published designs",
                paragraphs=(_WHY, _worst(audits), _HOW_TO_READ),
                tables=(
                    Table(
                        name="audits",
                        title="Presets",
                        columns=_ALL,
                        rows=[_row(entry) for entry in audits],
                    ),
                ),
            ),
            Section(heading="Design by design", paragraphs=flaws),
            Section(heading="What an audit cannot say", paragraphs=(_CANNOT_SAY,)),
        ),
    )


def _worst(audits: Sequence[Mapping[str, Any]]) -> str:
    """The table with the highest score, in words."""
    scored = [
        (table["lattice_score"], entry["target"], table)
        for entry in audits
        for table in entry["tables"]
        if table["lattice_score"] is not None
    ]
    if not scored:
        return "None of these tables has a lattice: their hashes are no exact polynomials."
    score, target, table = max(scored, key=lambda each: each[0])
    return (
        f"The worst table here is table {table['index']} of {target}: {table['rows']:,} rows, "
        f"{table['nearest']['name']} for the hash base V, where {table['words']}. Under a rank "
        f"law of token ids that is {score:.3g} times an ideal hash's coincidences."
    )


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    scores: dict[bool, list[float]] = {True: [], False: []}
    for table in entry["tables"]:
        if table["lattice_score"] is not None:
            scores[table["order"] == 2].append(table["lattice_score"])
    injective = [order["jointly_injective"] for order in entry["orders"]]
    words = "not known" if None in injective else "proven" if all(injective) else "no"
    gcds = [table["gcd_with_base"] for table in entry["tables"] if table["gcd_with_base"]]
    return {
        "target": entry["target"],
        "num_tables": len(entry["tables"]),
        "rows": entry["rows"],
        "score_2": max(scores[True], default=None),
        "score_n": max(scores[False], default=None),
        "largest_gcd": max(gcds, default=None),
        "injective": words,
        "warnings": ", ".join(dict.fromkeys(finding["code"] for finding in _serious(entry))),
        "patch": None if entry["patch"] is None else json.dumps(entry["patch"]),
    }


def _serious(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [finding for finding in results["findings"] if finding["severity"] != "info"]
