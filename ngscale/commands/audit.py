"""``ngscale audit``."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from ngscale import presets
from ngscale.commands.answer import JsonOption, OutOption, answer, starting
from ngscale.errors import GateError, UsageError

_complete = starting(presets.with_tables)


def audit(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A preset, a config.json, or a directory that holds one.",
            autocompletion=_complete,
        ),
    ] = None,
    all_presets: Annotated[
        bool, typer.Option("--all", help="Audit every preset into one table.")
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Exit 7 if there is an error, a warning (warn) or a finding of these codes "
            "(comma-separated).",
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option("--tp", metavar="N", min=1, help="Tables will be sharded over N ranks."),
    ] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """What is wrong with a config's n-gram tables, with no corpus at all.

    Example: ngscale audit longcat-flash-lite
    """
    if (target is None) != all_presets:
        raise UsageError("audit takes either a TARGET or --all")
    gates = _gates(fail_on)

    from ngscale.audit.outcome import audit as run
    from ngscale.audit.subject import Subject
    from ngscale.audit.summary import build_report, combine, combined_report

    names = presets.with_tables() if target is None else [target]
    records = [
        run(Subject.read(presets.resolve(name), presets.title(name)), tensor_parallel)
        for name in names
    ]
    if target is None:
        record = combine(records)
        report = combined_report(record)
    else:
        (record,) = records
        report = build_report(record)
    answer(record, report, as_json=as_json, out=out)
    _gate(gates, [finding for each in records for finding in each.results["findings"]])


def _gates(fail_on: str | None) -> list[str]:
    from ngscale.audit.findings import CODES

    gates = [] if fail_on is None else fail_on.split(",")
    known = ("error", "warn", *CODES)
    if unknown := [gate for gate in gates if gate not in known]:
        raise UsageError(f"--fail-on {unknown[0]}: takes {', '.join(known)}")
    return gates


def _gate(gates: list[str], findings: Iterable[Mapping[str, Any]]) -> None:
    severities = {"error": ("error",), "warn": ("error", "warn")}
    for gate in gates:
        hits = [
            finding
            for finding in findings
            if finding["code"] == gate or finding["severity"] in severities.get(gate, ())
        ]
        if hits:
            raise GateError(f"--fail-on {gate}: {hits[0]['code']}: {hits[0]['message']}")
