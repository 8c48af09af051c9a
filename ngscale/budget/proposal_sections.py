"""The proposal of a budget's record -> what a person reads of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.budget.evidence.qwen import DOWNSTREAM_WARNING
from ngscale.records import Column, Figure, Panel, Section, Series, Table
from ngscale.units import format_bytes, format_count

_GIB = 2**30
_MIB = 2**20


def proposal_sections(results: Mapping[str, Any]) -> list[Section]:
    """Candidates first, then the frontier they come from."""
    return [_candidates(results), _frontier(results)]


def _candidates(results: Mapping[str, Any]) -> Section:
    proposal = results["proposal"]
    rows = [_candidate_row(candidate) for candidate in results["candidates"]]
    columns = (
        Column(key="name", title="candidate"),
        Column(key="experts", title="experts"),
        Column(key="shape", title="N, K"),
        Column(key="ratio", title="ratio"),
        Column(key="ngram_share", title="in tables", spec=".1%"),
        Column(key="total", title="total"),
        Column(key="tables_in", title="tables in"),
        Column(key="hbm", title="HBM"),
        Column(key="host", title="host"),
        Column(key="read", title="read per token"),
        Column(key="loss_difference", title="nats against the MoE", spec="+.4f"),
        Column(key="broken", title="rules broken"),
    )
    missing = proposal["missing"]
    return Section(
        heading="Candidates",
        paragraphs=(
            f"{format_count(proposal['total_parameters'])} parameters; every candidate has the "
            "model's layers, attention, width of experts and top-k, so they differ in the number "
            "of experts and the tables alone. Table sizes are what the released loaders make of "
            "the ratio, and pass every check of `ngscale audit`. `configs/` has a config.json of "
            "each. Totals differ by up to half an expert in every layer, where there is none to "
            "split.",
            *(f"{candidate['name']}: {candidate['why']}." for candidate in results["candidates"]),
            *missing,
            *_caveats(results),
            f"Amplification: {next(iter(_advice(results)), 'no tables, none')}.",
            DOWNSTREAM_WARNING,
        ),
        figures=(_allocation(results["candidates"]),),
        tables=(
            Table(name="candidates", title="Candidates", columns=columns, rows=rows),
            _rules(results["candidates"]),
        ),
    )


_TOLD_RULES = ("longcat.entry", "longcat.cap", "engram.share")
"""Rules of allocation: what they say of a design is told even beyond their range."""


def _caveats(results: Mapping[str, Any]) -> list[str]:
    """What the numbers on the best candidate rest on, and what speaks against them."""
    best = next((c for c in results["candidates"] if c["name"] == "evidence-best"), None)
    if best is None:
        return []
    rules = "; ".join(f"{key}: {best['reasons'][key]}" for key in _TOLD_RULES)
    source = results["proposal"]["source"]
    return [f"Loss by {source}: {best['loss_reason']}.", f"Of evidence-best say others: {rules}."]


def _advice(results: Mapping[str, Any]) -> list[str]:
    return [c["amplification"] for c in results["candidates"] if c["amplification"] is not None]


def _candidate_row(candidate: Mapping[str, Any]) -> dict[str, Any]:
    has_tables = candidate["max_order"] is not None
    broken = [key for key, verdict in candidate["rules"].items() if verdict == "broken"]
    return {
        **candidate,
        "shape": f"{candidate['max_order']}, {candidate['subtables']}" if has_tables else "",
        "total": f"{format_count(candidate['total_parameters'])} "
        f"({candidate['difference_to_total']:+,})",
        "hbm": format_bytes(candidate["hbm_bytes"]),
        "host": format_bytes(candidate["host_bytes"]) if candidate["host_bytes"] else "",
        "read": format_bytes(candidate["read_bytes_per_token"]),
        "broken": ", ".join(broken) or "none",
    }


def _rules(candidates: Sequence[Mapping[str, Any]]) -> Table:
    keys = list(candidates[0]["rules"])
    return Table(
        name="candidate_rules",
        title="Rules of thumb, candidate by candidate",
        columns=(
            Column(key="rule", title="rule"),
            *(Column(key=candidate["name"], title=candidate["name"]) for candidate in candidates),
        ),
        rows=[
            {
                "rule": key,
                **{candidate["name"]: candidate["rules"][key] for candidate in candidates},
            }
            for key in keys
        ],
    )


def _allocation(candidates: Sequence[Mapping[str, Any]]) -> Figure:
    groups = list(dict.fromkeys(group for c in candidates for group in c["groups"]))
    shown = [
        group
        for group in groups
        if any(c["groups"].get(group, 0) > 0.002 * c["total_parameters"] for c in candidates)
        and group != "mtp"
    ]
    series = tuple(
        Series(
            label=candidate["name"],
            x=range(len(shown)),
            y=[
                100 * candidate["groups"].get(group, 0) / candidate["total_parameters"]
                for group in shown
            ],
            style="bar",
        )
        for candidate in candidates
    )
    return Figure(
        name="candidate_allocation",
        caption="Share of all parameters; groups below 0.2% are not drawn.",
        panels=(
            Panel(
                title="Allocation of parameters",
                x_label="",
                y_label="share of total (%)",
                series=series,
                x_ticks=tuple(group.replace("_", " ") for group in shown),
            ),
        ),
    )


def _frontier(results: Mapping[str, Any]) -> Section:
    proposal, points = results["proposal"], results["frontier"]
    source = proposal["source"]
    if proposal["has_loss"]:
        axes = (
            "bytes in HBM, bytes read per token and the loss difference to the MoE of equal total "
            f"that {source} predicts, where it has evidence; designs beyond its range are "
            "compared by bytes alone and among their own"
        )
    else:
        reasons = {point["loss_reason"] for point in points if point["max_order"]}
        why = next(iter(sorted(reasons)), "no design with tables fits")
        axes = (
            f"bytes in HBM and bytes read per token; the axis of loss is dropped, since {source} "
            f"has no evidence here ({why})"
        )
    columns = (
        Column(key="ngram_share", title="in tables", spec=".1%"),
        Column(key="experts", title="experts"),
        Column(key="expert_intermediate_size", title="width"),
        Column(key="experts_per_token", title="top-k"),
        Column(key="ratio", title="ratio"),
        Column(key="tables_in", title="tables in"),
        Column(key="hbm_bytes", title="HBM bytes", spec=","),
        Column(key="read_bytes_per_token", title="read per token", spec=",.0f"),
        Column(key="loss_difference", title="nats against the MoE", spec="+.4f"),
    )
    return Section(
        heading="The frontier",
        paragraphs=(
            f"{proposal['num_designs']:,} feasible designs: shares of tables from 0 to 70%, whole "
            "experts of several widths at the same active parameters, N from 2 to 5, K of 1, 2 "
            f"and 4, tables in HBM{' or host memory' if proposal['host_bytes'] else ''}. On the "
            f"frontier are {proposal['num_on_frontier']:,}, of which {len(points)} are given sizes "
            f"that pass the audit. Axes: {axes}.",
            "Bytes read per token are those of one decoding step, divided by its "
            f"{proposal['num_sequences']} sequences: weights that all tokens need, "
            "E (1 - (1 - k/R)^B) experts of a layer if tokens chose evenly, and a token's own "
            "rows; caches are the same for all designs and left out.",
        ),
        figures=(_figure(points, source),),
        tables=(Table(name="frontier", title="Frontier", columns=columns, rows=points),),
    )


def _figure(points: Sequence[Mapping[str, Any]], source: str) -> Figure:
    def panel(title: str, label: str, key: str, unit: float) -> Panel:
        series = []
        for place in ("none", "hbm", "host"):
            own = [p for p in points if p["tables_in"] == place and p[key] is not None]
            if own:
                x = [100 * p["ngram_share"] for p in own]
                y = [p[key] / unit for p in own]
                name = {"none": "no tables", "hbm": "tables in HBM", "host": "tables in host"}
                series.append(Series(label=name[place], x=x, y=y, style="points"))
        return Panel(
            title=title, x_label="share in tables (%)", y_label=label, series=tuple(series)
        )

    panels = [
        panel("Memory", "HBM (GiB)", "hbm_bytes", _GIB),
        panel("Traffic", "read per token (MiB)", "read_bytes_per_token", _MIB),
    ]
    if any(point["loss_difference"] is not None for point in points):
        panels.append(panel(source, "nats against the MoE", "loss_difference", 1.0))
    return Figure(
        name="frontier",
        caption="Designs that no other dominates.",
        panels=tuple(panels),
    )
