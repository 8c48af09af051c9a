"""What became of the stages -> the record: the decision first, then all it rests on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ngscale.budget.evidence.qwen import DOWNSTREAM_WARNING
from ngscale.plan import audit_stage, schedule_stage, sizes_stage
from ngscale.plan.choices import MOE, OWN, Choice, Choices, merged
from ngscale.plan.decision import Decision, changes, decide
from ngscale.plan.ledger import Entry
from ngscale.plan.request import Request
from ngscale.plan.run import Outcome, own_patch, training_record
from ngscale.plan.sharing import caveats, sharing
from ngscale.plan.train_stage import name_of
from ngscale.plan.verdicts import Verdict, verdict
from ngscale.records import RunRecord

_FULL_SCALE = "Nothing at full scale was trained."


def summarise(outcome: Outcome) -> RunRecord:
    """The record of the plan: a function of the stages' records."""
    request, ledger, choices = outcome.request, outcome.ledger, outcome.choices
    patch, sizes = own_patch(request.target, ledger), ledger.record(sizes_stage.NAME)
    schedule = ledger.record(schedule_stage.NAME)
    shares = sharing(sizes, patch)
    verdicts: list[Verdict] = []
    decision = None
    would_change: list[str] = []
    if choices is not None:
        why = {entry.name: entry.why for entry in ledger.entries}
        verdicts = [
            verdict(one, training_record(ledger, one.name), why.get(name_of(one.name), ""))
            for one in choices.with_tables
        ]
        decision = decide(choices, verdicts)
        hours = None if schedule is None else schedule.results["hours_wanted"]
        would_change = changes(decision, choices, verdicts, hours)
    polynomial = request.target.polynomial
    base = None if polynomial is None else polynomial.hash_base
    unknown = _unknown(ledger.entries, verdicts, decision) + caveats(sizes, base)
    results = {
        "decision": None if decision is None else _decision(decision),
        "patch": patch,
        "would_change": would_change,
        "unknown": unknown,
        "missing": [
            f"{one.name}: {one.why or one.state}" for one in ledger.entries if _is_missing(one)
        ],
        "verdicts": [_verdict(one) for one in verdicts],
        "candidates": [] if choices is None else [_choice(one) for one in choices.designs],
        "notes": [] if choices is None else list(choices.notes),
        "sharing": shares,
        "stages": [_stage(entry) for entry in ledger.entries],
        "configs": _configs(request, choices, patch, decision),
    }
    return RunRecord(
        verb="plan",
        answer=_answer(request, results, choices, decision),
        inputs=_inputs(request),
        results=results,
    )


def _inputs(request: Request) -> dict[str, Any]:
    return {
        "target": request.target.name,
        "config_sha256": request.target.sha256,
        "limits": None if request.limits is None else asdict(request.limits),
        "text": request.text is not None,
        "hours": request.hours,
        "tokens": request.tokens,
        "num_seeds": request.num_seeds,
        "num_candidates": request.num_candidates,
        "device": request.device,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "candidate": decision.candidate,
        "why": decision.why,
        "grade": str(decision.grade),
        "grade_why": decision.grade.why,
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    return {**asdict(one), "grade": str(one.grade)}


def _choice(one: Choice) -> dict[str, Any]:
    return {key: value for key, value in asdict(one).items() if key != "config"}


def _stage(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "state": entry.state,
        "answer": None if entry.record is None else entry.record.answer,
        "directory": None if entry.record is None else f"stages/{entry.name}/{entry.digest}",
        "why": entry.why,
        "unknown": entry.unknown,
    }


def _is_missing(entry: Entry) -> bool:
    return entry.state in ("to do", "failed", "waiting")


def _unknown(
    entries: Sequence[Entry], verdicts: Sequence[Verdict], decision: Decision | None
) -> list[str]:
    found = [_FULL_SCALE, DOWNSTREAM_WARNING]
    found += [entry.unknown for entry in entries if entry.unknown and entry.state != "finished"]
    chosen = None if decision is None else decision.candidate
    for one in verdicts:
        if one.lost and (one.candidate == chosen or chosen == MOE):
            found.append(f"Of {one.candidate} its proxy does not keep: {' '.join(one.lost)}")
    return list(dict.fromkeys(found))


def _configs(
    request: Request,
    choices: Choices | None,
    patch: Mapping[str, Any] | None,
    decision: Decision | None,
) -> dict[str, Mapping[str, Any]]:
    """config.json files by name, the one decided for first."""
    if choices is None:
        return {} if patch is None else {OWN: merged(request.target.config, patch)}
    chosen = None if decision is None else decision.candidate
    ordered = sorted(choices.designs, key=lambda one: one.name != chosen)
    return {one.name: one.config for one in ordered}


def _answer(
    request: Request,
    results: Mapping[str, Any],
    choices: Choices | None,
    decision: Decision | None,
) -> str:
    """The decision, its grade, and what would change it."""
    name, sizes = request.target.name, _sizes_clause(request, results)
    missing = results["missing"]
    unfinished = ""
    if missing:
        unfinished = f" Not finished: {missing[0]}. The same command goes on from here."
    if decision is None or choices is None:
        told = f"{sizes[0].upper()}{sizes[1:]}." if sizes else ""
        return f"{name}: no decision on the share of tables. {told}{unfinished}".replace("  ", " ")
    share = _share_clause(decision, choices)
    clauses = f"{sizes}; {share}" if sizes else share
    grade = decision.grade
    return (
        f"{name}: {clauses}. Evidence: {grade} ({grade.why}); nothing at full scale was trained. "
        f"It would change with {'; '.join(results['would_change'])}.{unfinished}"
    )


def _sizes_clause(request: Request, results: Mapping[str, Any]) -> str:
    patch = results["patch"]
    if patch is None:
        found = [
            one for one in results["stages"] if one["name"] == audit_stage.NAME and one["answer"]
        ]
        return "keep the table sizes" if found else ""
    clause = " and ".join(_setting(request, key, value) for key, value in patch.items())
    for one in results["sharing"][:1]:
        clause += (
            f" (of the traffic of {one['order']}-gram rows {one['recommended']:.2%} instead of "
            f"{one['in_use']:.2%} is then other n-grams')"
        )
    return clause


def _setting(request: Request, key: str, value: Any) -> str:
    """``set ngram_vocab_size_ratio to 77.982 instead of 78``; lists are in the files."""
    now = request.target.config.get(key)
    if isinstance(value, Mapping):
        own = now if isinstance(now, Mapping) else {}
        changed = [f"{key}.{inner}" for inner, new in value.items() if own.get(inner) != new]
        return f"set {', '.join(changed)} as in configs/"
    if not isinstance(value, int | float):
        return f"set {key} as in configs/"
    instead = f" instead of {json.dumps(now)}" if isinstance(now, int | float) else ""
    return f"set {key} to {json.dumps(value)}{instead}"


def _share_clause(decision: Decision, choices: Choices) -> str:
    (chosen,) = (one for one in choices.designs if one.name == decision.candidate)
    if chosen.name == MOE:
        what = "put no parameters in tables but in experts"
    elif chosen.name == OWN:
        what = f"keep {chosen.ngram_share:.1%} of the parameters in tables ({OWN})"
    else:
        what = f"put {chosen.ngram_share:.1%} of the parameters in tables ({chosen.name})"
    sure = "" if decision.grade.level == "proxy, decided" else ", which is not decided here"
    return f"{what}{sure}: {decision.why}"
