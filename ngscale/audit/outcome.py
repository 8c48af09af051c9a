"""Facts and findings -> the record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ngscale.audit.facts import OrderFacts, TableFacts, order_facts, size_faults, table_facts
from ngscale.audit.findings import SEVERITIES, Finding, Severity, find
from ngscale.audit.fix import Fix, propose
from ngscale.audit.subject import Subject
from ngscale.records import RunRecord
from ngscale.table_sizes import MAX_LATTICE_SCORE, MIN_RELATIVE_LENGTH


def audit(subject: Subject, tensor_parallel: int | None = None) -> RunRecord:
    """Everything that can be said of ``subject`` without a corpus: ``ngscale audit`` as a record.

    With ``tensor_parallel`` ranks it also checks whether rows split evenly. ``results["findings"]``
    are the findings, errors first.
    """
    tables: list[dict[str, Any]] = []
    orders: list[dict[str, Any]] = []
    findings: list[Finding] = []
    fixes: list[Fix] = []
    for spec in subject.specs:
        own_tables, own_orders = table_facts(spec), order_facts(spec)
        tables += [_table(facts) for facts in own_tables]
        orders += [_order(facts) for facts in own_orders]
        faults = size_faults(spec)
        fix = propose(spec, subject.config) if faults else None
        found = find(spec, own_tables, own_orders, faults, subject.config, tensor_parallel)
        findings += [_with_fix(finding, fix) for finding in found if finding not in findings]
        fixes += [fix] if fix is not None else []
    results = {
        "tables": tables,
        "orders": orders,
        "findings": [asdict(finding) for finding in findings],
        "patch": fixes[0].patch if fixes else None,
        "patched_table_rows": fixes[0].table_rows if fixes else None,
        "parameters": subject.parameters(),
        "rows": sum(spec.physical_rows for spec in subject.specs),
    }
    return RunRecord(
        verb="audit",
        answer=_answer(subject, tables, findings, fixes),
        inputs={
            "target": subject.name,
            "config_sha256": subject.sha256,
            "tensor_parallel": tensor_parallel,
        },
        results=results,
    )


_SIZE_CODES = ("resonance", "structured-sharing", "base-gcd")


def _with_fix(finding: Finding, fix: Fix | None) -> Finding:
    if fix is None or finding.code not in _SIZE_CODES:
        return finding
    return replace(finding, fix=fix.sentence)


def _table(facts: TableFacts) -> dict[str, Any]:
    lattice = facts.lattice
    common = {
        "index": facts.index,
        "layer": facts.layer,
        "order": facts.order,
        "rows": facts.rows,
        "is_prime": facts.is_prime,
    }
    if lattice is None:
        unknown = ("gcd_with_base", "reachable_rows_per_token", "nearest", "lattice_score")
        return common | dict.fromkeys(
            (*unknown, "shortest_vector", "relative_length", "words", "family")
        )
    patterned = lattice.score > MAX_LATTICE_SCORE or lattice.relative_length < MIN_RELATIVE_LENGTH
    return common | {
        "gcd_with_base": lattice.gcd_with_base,
        "reachable_rows_per_token": lattice.reachable_rows_per_token,
        "nearest": {
            "p": lattice.nearest.p,
            "q": lattice.nearest.q,
            "offset": lattice.nearest.offset,
            "name": lattice.nearest.name("V"),
        },
        "lattice_score": lattice.score,
        "shortest_vector": list(lattice.vector),
        "relative_length": lattice.relative_length,
        "words": lattice.words,
        "family": {
            "rule": lattice.family.sentence(),
            "examples": [asdict(pair) for pair in lattice.family.examples],
        }
        if patterned
        else None,
    }


def _order(facts: OrderFacts) -> dict[str, Any]:
    certificate = facts.certificate
    return {
        "layer": facts.layer,
        "order": facts.order,
        "tables": list(facts.tables),
        "jointly_injective": None if certificate is None else certificate.jointly_injective,
        "tables_needed": None if certificate is None else certificate.tables_needed,
        "witness": None if certificate is None else certificate.witness,
        "pairwise_gcd": [list(entry) for entry in facts.pairwise_gcd],
        "largest_pairwise_gcd": max((g for _, _, g in facts.pairwise_gcd), default=None),
    }


def _answer(
    subject: Subject,
    tables: Sequence[Mapping[str, Any]],
    findings: Sequence[Finding],
    fixes: Sequence[Fix],
) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in SEVERITIES
    }
    names: dict[Severity, str] = {"error": "error", "warn": "warning"}
    told = ", ".join(
        f"{counts[severity]} {name}{'' if counts[severity] == 1 else 's'}"
        for severity, name in names.items()
    )
    sentence = f"{subject.name}: {told} in {len(tables)} n-gram tables."
    serious = [finding for finding in findings if finding.severity != "info"]
    if serious:
        sentence += f" {serious[0].message}"
    if fixes:
        sentence += f" {fixes[0].sentence[0].upper()}{fixes[0].sentence[1:]}."
    return sentence
