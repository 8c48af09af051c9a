"""The stages in their order: a request -> what became of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ngscale.plan import (
    audit_stage,
    candidates_stage,
    proxies_stage,
    schedule_stage,
    sizes_stage,
    train_stage,
)
from ngscale.plan.choices import MOE, Choices, choose, patch_of
from ngscale.plan.ledger import Ledger
from ngscale.plan.request import Request
from ngscale.plan.target import Target
from ngscale.plan.training import trainees, why_impossible
from ngscale.records import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that was found."""

    request: Request
    ledger: Ledger
    choices: Choices | None
    """None where there are no candidates."""


Show = Callable[[Outcome], object]


def run_plan(request: Request, ledger: Ledger, show: Show) -> Outcome:
    """Every stage that is possible; a failed one leaves those that need it waiting.

    ``show`` is given all that is known before training begins, which may take hours.
    """
    audit, sizes = _tables_in_use(request, ledger)
    budget = _candidates(request, ledger)
    settled = all(entry.state in ("finished", "skipped") for entry in ledger.entries)
    choices = None
    if budget is not None and request.limits is not None and settled:
        choices = choose(request.target, request.limits, budget, audit, sizes)
        _train(request, ledger, choices, show)
    elif ledger.state(candidates_stage.NAME) == "skipped":
        ledger.skip(proxies_stage.NAME, "there are no candidates", unknown=proxies_stage.UNKNOWN)
    else:
        ledger.wait(proxies_stage.NAME, unknown=proxies_stage.UNKNOWN)
        ledger.wait(schedule_stage.NAME, unknown="")
    return Outcome(request=request, ledger=ledger, choices=choices)


def _tables_in_use(request: Request, ledger: Ledger) -> tuple[RunRecord | None, RunRecord | None]:
    """The records of audit and sizes."""
    target = request.target
    if not target.specs:
        why = "the target has no n-gram tables"
        ledger.skip(audit_stage.NAME, why, unknown="")
        why += "; those of the candidates pass the audit"
        ledger.skip(sizes_stage.NAME, why, unknown=sizes_stage.UNKNOWN)
        return None, None
    make = partial(audit_stage.audit_stage, request)
    audit = ledger.carry_out(audit_stage.NAME, make, unknown=audit_stage.UNKNOWN)
    spec = target.polynomial
    if spec is None:
        why = "the tables are not hashed by one polynomial, so there are no sizes to recommend"
        ledger.skip(sizes_stage.NAME, why, unknown=sizes_stage.UNKNOWN)
        return audit, None
    make = partial(sizes_stage.sizes_stage, request, spec)
    return audit, ledger.carry_out(sizes_stage.NAME, make, unknown=sizes_stage.UNKNOWN)


def _candidates(request: Request, ledger: Ledger) -> RunRecord | None:
    name, unknown = candidates_stage.NAME, candidates_stage.UNKNOWN
    design, limits = request.target.design, request.limits
    if design is None or limits is None:
        why = "of this model the tables alone are published, so its experts cannot be traded"
        ledger.skip(name, why, unknown=unknown)
        return None
    make = partial(candidates_stage.candidates_stage, request, design, limits)
    return ledger.carry_out(name, make, unknown=unknown)


def _train(request: Request, ledger: Ledger, choices: Choices, show: Show) -> None:
    """Proxies, schedule, and a stage for every candidate that the schedule has time for."""
    designs = choices.with_tables
    make = partial(proxies_stage.proxies_stage, request, designs)
    proxies = ledger.carry_out(proxies_stage.NAME, make, unknown=proxies_stage.UNKNOWN)
    if proxies is None:
        ledger.wait(schedule_stage.NAME, unknown="")
        for one in designs:
            _leave_out(ledger, one.name, None)
        return
    found = trainees(proxies.results)
    why = why_impossible(request, found)
    if why is not None:
        ledger.skip(schedule_stage.NAME, why, unknown="")
        for one in designs:
            _leave_out(ledger, one.name, why)
        return
    make = partial(schedule_stage.schedule_stage, request, found)
    schedule = ledger.carry_out(schedule_stage.NAME, make, unknown=schedule_stage.UNKNOWN)
    by_name = {one.name: one for one in found}
    if schedule is not None and not ledger.dry:
        ahead = [train_stage.name_of(name) for name in schedule.results["trained"]]
        if not all(any((ledger.root / "stages" / name).glob("*/stage.json")) for name in ahead):
            show(Outcome(request=request, ledger=ledger.ahead(ahead), choices=choices))
    for one in designs:
        if one.name not in by_name:
            _leave_out(ledger, one.name, "it has no proxy that can be trained here")
        elif schedule is None:
            _leave_out(ledger, one.name, None)
        elif one.name not in schedule.results["trained"]:
            _leave_out(ledger, one.name, _WHY_LEFT_OUT)
        else:
            hours = schedule.results["hours_each"]
            make = partial(train_stage.train_stage, request, by_name[one.name], hours)
            stage, unknown = train_stage.name_of(one.name), train_stage.unknown(one.name)
            ledger.carry_out(stage, make, unknown=unknown)


_WHY_LEFT_OUT = "the time, or --candidates, is not enough for it too"


def _leave_out(ledger: Ledger, candidate: str, why: str | None) -> None:
    """No training of a candidate; without a reason it waits for a stage before."""
    name, unknown = train_stage.name_of(candidate), train_stage.unknown(candidate)
    if why is None:
        ledger.wait(name, unknown=unknown)
    else:
        ledger.skip(name, why, unknown=unknown)


def training_record(ledger: Ledger, candidate: str) -> RunRecord | None:
    """That of one candidate's proxy."""
    return None if candidate == MOE else ledger.record(train_stage.name_of(candidate))


def own_patch(target: Target, ledger: Ledger) -> Mapping[str, Any] | None:
    """The keys that the target's own config.json should change, by the stages that are finished."""
    return patch_of(target, ledger.record(audit_stage.NAME), ledger.record(sizes_stage.NAME))
