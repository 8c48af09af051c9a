"""The evidence on one design: plain JSON for the record, and from that alone its report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ngscale.budget.evidence import qwen, vocabulary_slopes
from ngscale.budget.evidence.differences import SOURCES, loss_difference
from ngscale.budget.evidence.disagreements import disagreements
from ngscale.budget.evidence.facts import Facts, amounts
from ngscale.budget.evidence.fixed_total import TradeCurve
from ngscale.budget.evidence.law import evaluate
from ngscale.budget.evidence.registry import CURVES, LAWS, RULES
from ngscale.budget.evidence.rule import judge
from ngscale.records import Column, Figure, Panel, Section, Series, Table


def evidence_json(facts: Facts) -> list[dict[str, Any]]:
    """Every law and rule on ``facts``: its own words, and a value only where it applies."""
    return [*_laws(facts), *_rules(facts)]


def evidence_results(facts: Facts) -> dict[str, Any]:
    """The keys that ``evidence_section`` reads."""
    return {
        "evidence": evidence_json(facts),
        "loss_differences": [
            {"key": source, **asdict(loss_difference(source, facts))} for source in SOURCES
        ],
        "disagreements": disagreements(facts),
        "trade_studies": [_study(curve) for curve in CURVES],
        "row_studies": _row_studies(),
    }


def _laws(facts: Facts) -> list[dict[str, Any]]:
    known = amounts(facts)
    entries = []
    for law in LAWS:
        outcome = evaluate(law, known)
        entries.append(
            {
                "key": law.key,
                "kind": "law",
                "source": law.source,
                "standing": law.standing,
                "formula": law.formula,
                "coefficients": dict(law.coefficients),
                "units": law.units,
                "denominator": law.denominator,
                "scope": law.scope,
                "validity": [item.as_json() for item in law.validity],
                "applies": outcome.applies,
                "verdict": None if outcome.applies else "outside evidence",
                "reason": outcome.reason,
                "value": outcome.value,
            }
        )
    return entries


def _rules(facts: Facts) -> list[dict[str, Any]]:
    entries = []
    for rule in RULES:
        finding = judge(rule, facts)
        applies = finding.verdict != "outside evidence"
        entries.append(
            {
                "key": rule.key,
                "kind": "rule",
                "source": rule.source,
                "standing": rule.standing,
                "formula": rule.statement,
                "coefficients": dict(rule.numbers),
                "units": rule.units,
                "denominator": rule.denominator,
                "scope": rule.scope,
                "validity": [item.as_json() for item in rule.validity],
                "applies": applies,
                "verdict": finding.verdict,
                "reason": finding.sentence,
                "value": finding.value if applies else None,
            }
        )
    return entries


def _study(curve: TradeCurve) -> dict[str, Any]:
    return {
        "key": curve.key,
        "source": curve.source,
        "denominator": curve.denominator,
        "scope": curve.scope,
        "points": [asdict(point) for point in curve.points],
    }


def _row_studies() -> list[dict[str, Any]]:
    scales = [scale for scale in qwen.EXTRA_PARAMETERS if scale]
    return [
        {
            "key": "over-encoding.slope",
            "source": "arXiv:2501.16975",
            "x": "rows of the table",
            "rows": list(vocabulary_slopes.ROWS),
            "loss": [vocabulary_slopes.loss(rows) for rows in vocabulary_slopes.ROWS],
            "measured": False,
        },
        {
            "key": "qwen.slope",
            "source": "Qwen3.8-Flash-Next, Table 9",
            "x": "rows per id of a 250K base",
            "rows": scales,
            "loss": [qwen.EXTRA_PARAMETERS[scale] for scale in scales],
            "measured": True,
        },
    ]


def evidence_section(results: Mapping[str, Any]) -> Section:
    """What a person reads, from the record's own JSON (``evidence_results``)."""
    return Section(
        heading="What the evidence says",
        paragraphs=(
            "Every law and rule stands with its own denominator and is evaluated only inside the "
            "range it was measured in; elsewhere it is outside evidence. Losses of different "
            "studies are of different text and tokenizers: each has a panel of its own.",
            qwen.DOWNSTREAM_WARNING,
            *results["disagreements"],
        ),
        figures=(_figure(results),),
        tables=(
            _difference_table(results["loss_differences"]),
            _rule_table(results["evidence"]),
            _law_table(results["evidence"]),
        ),
    )


def _difference_table(differences: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="loss_differences",
        title="Predicted loss less that of the equal-total MoE, source by source (nats/token)",
        columns=(
            Column(key="key", title="source"),
            Column(key="nats", title="nats/token", spec="+.4f"),
            Column(key="low", title="low", spec="+.4f"),
            Column(key="high", title="high", spec="+.4f"),
            Column(key="sign", title="sign", spec="+d"),
            Column(key="reason", title="why"),
        ),
        rows=differences,
    )


def _rule_table(evidence: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="rules",
        title="Rules of thumb",
        columns=(
            Column(key="key", title="rule"),
            Column(key="verdict", title="verdict"),
            Column(key="formula", title="what it says"),
            Column(key="denominator", title="measured against"),
            Column(key="reason", title="this design"),
            Column(key="source", title="source"),
        ),
        rows=[entry for entry in evidence if entry["kind"] == "rule"],
    )


def _law_table(evidence: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="laws",
        title="Laws",
        columns=(
            Column(key="key", title="law"),
            Column(key="value", title="value", spec=".4f"),
            Column(key="units", title="units"),
            Column(key="reason", title="why"),
            Column(key="standing", title="standing"),
            Column(key="source", title="source"),
        ),
        rows=[entry for entry in evidence if entry["kind"] == "law"],
    )


def _figure(results: Mapping[str, Any]) -> Figure:
    return Figure(
        name="evidence",
        caption="Published losses, every study on its own axes; lines between points are "
        "interpolation. Left two: fixed total, experts traded for tables. Right two: extra rows.",
        panels=(
            *(_trade_panel(study) for study in results["trade_studies"]),
            *(_row_panel(study) for study in results["row_studies"]),
        ),
    )


def _trade_panel(study: Mapping[str, Any]) -> Panel:
    points = study["points"]
    rounded = all(point["error"] is not None for point in points)
    return Panel(
        title=study["source"],
        x_label=f"tables' share of {study['denominator']} (%)",
        y_label="nats/token of this study",
        series=(
            Series(
                label="published, within rounding" if rounded else "published",
                x=[100 * point["share"] for point in points],
                y=[point["loss"] for point in points],
                style="points",
                low=[point["loss"] - point["error"] for point in points] if rounded else None,
                high=[point["loss"] + point["error"] for point in points] if rounded else None,
            ),
            Series(
                label="interpolated",
                x=[100 * point["share"] for point in points],
                y=[point["loss"] for point in points],
                style="dashed",
            ),
        ),
    )


def _row_panel(study: Mapping[str, Any]) -> Panel:
    return Panel(
        title=study["source"],
        x_label=f"log10 of {study['x']}",
        y_label="nats/token of this study",
        series=(
            Series(
                label="published points" if study["measured"] else "published law",
                x=[math.log10(rows) for rows in study["rows"]],
                y=study["loss"],
                style="points" if study["measured"] else "line",
            ),
        ),
    )
