"""``--dry-run``: every stage with about how long it takes and what memory it needs, nothing run.

Times are those of two cores: a size costs about a microsecond per token of text, five proposals are
measured; training takes what is left. Memory of training is 16 bytes per parameter of a proxy
(weights, gradients, two moments) above what torch itself takes.
"""

from dataclasses import replace
from typing import Any

from ngscale.params import most_active, total_parameters
from ngscale.plan import (
    audit_stage,
    candidates_stage,
    proxies_stage,
    schedule_stage,
    sizes_stage,
)
from ngscale.plan.ledger import Entry, State
from ngscale.plan.request import Request, device_type, hours_of
from ngscale.plan.run import Outcome
from ngscale.plan.training import why_impossible
from ngscale.records import Column, Report, RunRecord, Section, Table
from ngscale.train_small.candidates import shrink_to
from ngscale.units import format_bytes, format_duration

_BYTES_PER_TOKEN = 4
"""Of English text."""
_SIZE_S = 1e-6
"""To measure one size, per token of text."""
_DESIGNS = 5
"""The sizes in use and four proposals."""
_NGRAM_BYTES = 40
"""Of memory per token and order: codes, counts and the sort."""
_STATE_BYTES = 16
_FIXED_S = {
    audit_stage.NAME: 1.0,
    sizes_stage.NAME: 4.0,
    candidates_stage.NAME: 5.0,
    proxies_stage.NAME: 5.0,
    schedule_stage.NAME: 10.0,
}
_PROCESS_BYTES = 300 * 2**20
_TORCH_BYTES = 600 * 2**20


def dry_run(outcome: Outcome) -> RunRecord:
    """What ``--dry-run`` answers: an estimate, so no record of a run."""
    request = outcome.request
    entries = list(outcome.ledger.entries)
    if not any(entry.name.startswith("6-train") for entry in entries):
        state: State = "skipped" if entries[-1].state == "skipped" else "to do"
        entries.append(Entry(name="6-train-...", state=state))
    why_not = why_impossible(request)
    if why_not is not None:
        entries = [_skipped(entry, why_not) for entry in entries]
    rows = [_row(entry, request) for entry in entries]
    before = sum(row["seconds"] or 0.0 for row in rows)
    hours = hours_of(request)
    for row in rows:
        if row["name"].startswith("6-train") and row["state"] == "to do" and hours is not None:
            row["seconds"] = max(0.0, 3600 * hours - before)
    total = sum(row["seconds"] or 0.0 for row in rows)
    most = max(row["memory_bytes"] or 0 for row in rows)
    bound = "" if hours is None else f", within {hours:g} hours"
    unknown = (
        "" if hours is not None else " and what training takes, which a token bound leaves open"
    )
    return RunRecord(
        verb="plan-dry-run",
        answer=f"About {format_duration(total)}{bound}{unknown}, {format_bytes(most)} at the peak; "
        "nothing was run.",
        inputs={"target": request.target.name, "hours": hours, "tokens": request.tokens},
        results={"stages": rows},
    )


def _skipped(entry: Entry, why: str) -> Entry:
    """What needs training cannot be done here."""
    needs = entry.name == schedule_stage.NAME or entry.name.startswith("6-train")
    if not needs or entry.state != "to do":
        return entry
    return replace(entry, state="skipped", why=why)


def _row(entry: Entry, request: Request) -> dict[str, Any]:
    doing = entry.state == "to do"
    return {
        "name": entry.name,
        "state": entry.state,
        "why": entry.why,
        "seconds": _seconds(entry.name, request) if doing else None,
        "memory_bytes": _memory(entry.name, request) if doing else None,
    }


def _seconds(name: str, request: Request) -> float | None:
    seconds = _FIXED_S.get(name)
    if name == sizes_stage.NAME and request.text is not None and seconds is not None:
        num_tables = sum(spec.num_tables for spec in request.target.specs)
        tokens = request.text.num_bytes / _BYTES_PER_TOKEN
        seconds += _SIZE_S * tokens * num_tables * _DESIGNS
    return seconds


def _memory(name: str, request: Request) -> int:
    if name == sizes_stage.NAME and request.text is not None:
        orders = {order for spec in request.target.specs for order in spec.table_orders}
        tokens = request.text.num_bytes // _BYTES_PER_TOKEN
        rows = max((max(spec.table_rows) for spec in request.target.specs), default=0)
        return _PROCESS_BYTES + _NGRAM_BYTES * tokens * len(orders) + 8 * rows
    design = request.target.design
    if design is not None and (name == schedule_stage.NAME or name.startswith("6-train")):
        size = shrink_to(device_type(request), None).proxy_size
        total = total_parameters(design) * min(1.0, size.active_parameters / most_active(design))
        return _TORCH_BYTES + int(_STATE_BYTES * total)
    return _PROCESS_BYTES


def build_report(record: RunRecord) -> Report:
    """One table."""
    rows = [
        {
            **row,
            "time": "" if row["seconds"] is None else format_duration(row["seconds"]),
            "memory": "" if row["memory_bytes"] is None else format_bytes(row["memory_bytes"]),
        }
        for row in record.results["stages"]
    ]
    columns = (
        Column(key="name", title="stage"),
        Column(key="state", title="state"),
        Column(key="time", title="about"),
        Column(key="memory", title="memory"),
        Column(key="why", title="why"),
    )
    table = Table(name="stages", title="Stages", columns=columns, rows=rows)
    return Report(
        title=f"Plan for {record.inputs['target']}, not run",
        answer=record.answer,
        sections=(Section(heading="Stages", tables=(table,)),),
    )
