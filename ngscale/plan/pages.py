"""The record of a plan -> the report a person reads: decision, candidates, stages, files to use."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.plan.choices import MOE
from ngscale.records import (
    Column,
    Figure,
    Link,
    Panel,
    Report,
    RunRecord,
    Section,
    Series,
    Table,
)
from ngscale.units import format_bytes, format_count

_GRADES = (
    "Evidence is graded: arithmetic only, where nothing was trained; smoke test, with fewer than 3 "
    "seeds or 20 training tokens per active parameter, whatever came out; proxy, undecided, where "
    "a comparison with the MoE of equal total or with a placebo stays undecided; proxy, decided. "
    "A proxy's losses are never the model's: only their order is evidence (docs/method.md)."
)
_BESIDE = (
    "Every stage is kept under a digest of its inputs. With other options, stages whose inputs "
    "changed are done anew and what was finished before stays beside them."
)


def build_report(record: RunRecord) -> Report:
    """Begins with the decision, ends with the files."""
    results = record.results
    return Report(
        title=f"Plan for {record.inputs['target']}",
        answer=record.answer,
        sections=(
            _decision(results),
            *([_candidates(results)] if results["candidates"] else []),
            *_sizes(results),
            _stages(results),
            *([_use(results)] if results["configs"] else []),
        ),
        configs=results["configs"],
    )


def _decision(results: Mapping[str, Any]) -> Section:
    made = results["decision"]
    first = "There is no decision on the share of tables."
    if made is not None:
        first = (
            f"{made['candidate']}: {made['why']}. Evidence: {made['grade']} ({made['grade_why']})."
        )
    would = tuple(f"It would change with {one}." for one in results["would_change"])
    missing = tuple(f"Not finished: {one}." for one in results["missing"])
    if missing:
        missing += ("The same command goes on: what is finished is taken up.",)
    return Section(
        heading="The decision",
        paragraphs=(
            first,
            *would,
            *missing,
            _GRADES,
            *(f"Not known: {one}" for one in results["unknown"]),
        ),
    )


def _candidates(results: Mapping[str, Any]) -> Section:
    by_name = {one["candidate"]: one for one in results["verdicts"]}
    rows = [_candidate_row(one, by_name.get(one["name"])) for one in results["candidates"]]
    columns = (
        Column(key="name", title="candidate"),
        Column(key="ngram_share", title="in tables", spec=".1%"),
        Column(key="total", title="total"),
        Column(key="hbm", title="HBM"),
        Column(key="host", title="host"),
        Column(key="loss_difference", title="nats against the MoE, published", spec="+.4f"),
        Column(key="difference", title="trained here", spec="+.4f"),
        Column(key="grade", title="evidence"),
        Column(key="stand", title="verdict"),
    )
    trained = [one for one in results["verdicts"] if one["comparisons"]]
    return Section(
        heading="Verdict on every candidate",
        paragraphs=(
            *(f"{one['name']}: {one['why']}." for one in results["candidates"]),
            *(f"{one['candidate']}: {one['sentence']}" for one in results["verdicts"]),
            *results["notes"],
        ),
        figures=(_figure(trained),) if trained else (),
        tables=(Table(name="candidates", title="Candidates", columns=columns, rows=rows),),
    )


_STANDS = {"wins": "beats MoE and placebos", "fails": "does not beat both", "open": "open"}


def _candidate_row(one: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    row = {
        **one,
        "total": format_count(one["total_parameters"]),
        "hbm": format_bytes(one["hbm_bytes"]),
        "host": format_bytes(one["host_bytes"]) if one["host_bytes"] else "",
    }
    if found is None:
        return {**row, "stand": "what the others are held to"}
    return {
        **row,
        "difference": found["difference"],
        "grade": found["grade"],
        "stand": _STANDS[found["stand"]],
    }


def _figure(trained: Sequence[Mapping[str, Any]]) -> Figure:
    return Figure(
        name="verdicts",
        caption="Held-out loss of every proxy minus each baseline: mean and 95% interval over "
        "seeds; negative is better. Grades: "
        + "; ".join(f"{one['candidate']}, {one['grade']}" for one in trained)
        + ".",
        panels=tuple(_panel(one) for one in trained),
    )


def _panel(one: Mapping[str, Any]) -> Panel:
    found = one["comparisons"]
    x = list(range(len(found)))
    means = [item["mean_difference"] for item in found]
    lows = [item["mean_difference"] if item["low"] is None else item["low"] for item in found]
    highs = [item["mean_difference"] if item["high"] is None else item["high"] for item in found]
    return Panel(
        title=one["candidate"],
        x_label="baseline",
        y_label="nats/token",
        series=(
            Series(label="mean", x=x, y=means, style="points", low=lows, high=highs),
            Series(label="no difference", x=[-0.5, len(x) - 0.5], y=[0, 0], style="dashed"),
        ),
        x_ticks=tuple(item["baseline"] for item in found),
    )


def _sizes(results: Mapping[str, Any]) -> list[Section]:
    rows = results["sharing"]
    if not rows:
        return []
    columns = (
        Column(key="order", title="n", spec="d"),
        Column(key="in_use", title="in use", spec=".3%"),
        Column(key="recommended", title="recommended", spec=".3%"),
    )
    title = "Impurity: traffic of rows that is other n-grams', the mean over an order's tables"
    return [
        Section(
            heading="Table sizes",
            tables=(Table(name="sharing", title=title, columns=columns, rows=rows),),
        )
    ]


def _stages(results: Mapping[str, Any]) -> Section:
    paragraphs = [_BESIDE]
    for one in results["stages"]:
        told = one["answer"] or f"{one['state']}{': ' if one['why'] else ''}{one['why']}."
        paragraphs.append(f"{one['name']}: {told}")
    return Section(
        heading="Stages",
        paragraphs=tuple(paragraphs),
        links=tuple(
            Link(text=f"Report of {one['name']}", path=f"{one['directory']}/README.md")
            for one in results["stages"]
            if one["directory"] is not None
        ),
        tables=(
            Table(
                name="stages",
                title="Stages",
                columns=(
                    Column(key="name", title="stage"),
                    Column(key="state", title="state"),
                    Column(key="why", title="why"),
                ),
                rows=results["stages"],
            ),
        ),
    )


def _use(results: Mapping[str, Any]) -> Section:
    made = results["decision"]
    chosen = None if made is None else made["candidate"]
    rows = [
        {"file": f"configs/{name}.json", "what": "decided for" if name == chosen else "candidate"}
        for name in results["configs"]
    ]
    (first, *_) = results["configs"]
    commands = [f"`ngscale budget configs/{first}.json`: what it costs."]
    with_tables = next((name for name in results["configs"] if name != MOE), None)
    if with_tables is not None:
        path = f"configs/{with_tables}.json"
        commands += [
            f"`ngscale audit {path}`: its table sizes, checked again.",
            f"`ngscale ids {path} --tokens 11,523,2,7`: the rows a port must look up.",
            f"`ngscale train-small {path} --hours 4 --out run`: its proxy, MoE and placebos for "
            "longer.",
        ]
    columns = (Column(key="file", title="config.json"), Column(key="what", title="what"))
    return Section(
        heading="Files to use",
        paragraphs=("From this directory:", *commands),
        tables=(Table(name="configs", title="config.json files", columns=columns, rows=rows),),
    )
