"""A budget's record -> its report."""

from collections.abc import Mapping
from typing import Any

from ngscale.budget.allocation import allocation_section
from ngscale.budget.checkpoint import verdict
from ngscale.budget.cost_sections import cost_sections
from ngscale.budget.evidence import evidence_section
from ngscale.budget.proposal_sections import proposal_sections
from ngscale.budget.proxies import proxy_section
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.units import format_bytes, format_count

_ROW_DTYPES = {
    "fp32": "fp32",
    "bf16": "bf16",
    "fp8": "fp8, no scales",
    "fp8_e8m0": "fp8, an E8M0 scale for every 32 columns",
}
_SMALLEST_BAR = 0.002
"""Groups below this share of both models would be bars without height."""


def report(record: RunRecord) -> Report:
    """What a person reads: where the parameters are, what they cost, what to doubt; if asked, how
    every cost was computed.
    """
    results, explain = record.results, record.inputs["explain"]
    sections = [] if results["proposal"] is None else proposal_sections(results)
    if results["proxy"] is not None:
        sections.append(proxy_section(results["proxy"]))
    sections += [_allocation(results), _active(results)]
    if results["tables"]:
        sections += [_trade(results), _tables(results)]
    if results["checkpoint"] is not None:
        sections.append(_checkpoint(results["checkpoint"]))
    sections += cost_sections(record.inputs, results, explain=explain)
    if results["warnings"]:
        sections.append(_warnings(results["warnings"]))
    sections += [evidence_section(results), allocation_section(results["allocation"])]
    return Report(
        title=f"Parameter budget of {record.inputs['target']}",
        answer=record.answer,
        sections=tuple(sections),
        configs=_configs(results),
    )


def _configs(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """config.json of every candidate and proxy."""
    found = {candidate["name"]: candidate["config"] for candidate in results["candidates"]}
    if results["proxy"] is not None:
        found |= {name: one["config"] for name, one in results["proxy"]["designs"].items()}
    return found


def _allocation(results: Mapping[str, Any]) -> Section:
    parameters, memory = results["parameters"], results["memory"]
    counts = {**parameters["groups"], "total": parameters["total"]}
    stored = {**memory["group_bytes"], "total": memory["weight_bytes"]}
    rows = [
        {
            "group": group,
            "parameters": count,
            "share": count / parameters["total"],
            "bytes": stored[group],
            "size": format_bytes(stored[group]),
        }
        for group, count in counts.items()
        if count
    ]
    columns = (
        Column(key="group", title="group"),
        Column(key="parameters", title="parameters", spec=","),
        Column(key="share", title="share", spec=".2%"),
        Column(key="bytes", title=f"{memory['dtype']} bytes", spec=","),
        Column(key="size", title="size"),
    )
    return Section(
        heading="Where the parameters are",
        paragraphs=(_total_counts(parameters),),
        figures=(_allocation_figure(results),),
        tables=(Table(name="groups", title="Parameters", columns=columns, rows=rows),),
    )


def _total_counts(parameters: Mapping[str, Any]) -> str:
    """What the total does and does not count, for this model."""
    bias = " the router's bias included," if parameters["groups"]["router_bias"] else ""
    mtp = (
        f" {format_count(parameters['mtp'])} parameters of multi-token prediction are not."
        if parameters["mtp"]
        else ""
    )
    return f"Every stored weight is counted,{bias} word embedding and head each once.{mtp}"


def _allocation_figure(results: Mapping[str, Any]) -> Figure:
    models = {"this design": (results["parameters"]["groups"], results["parameters"]["total"])}
    moe = results["parameter_equivalent_moe"]
    if moe is not None:
        models["parameter-equivalent MoE"] = (moe["groups"], moe["total"])
    groups = [
        group
        for group in results["parameters"]["groups"]
        if any(counts[group] >= _SMALLEST_BAR * total for counts, total in models.values())
    ]
    series = tuple(
        Series(
            label=label,
            x=range(len(groups)),
            y=[100 * counts[group] / total for group in groups],
            style="bar",
        )
        for label, (counts, total) in models.items()
    )
    panel = Panel(
        title="Allocation of parameters",
        x_label="",
        y_label="share of total (%)",
        series=series,
        x_ticks=tuple(group.replace("_", " ") for group in groups),
    )
    return Figure(
        name="allocation",
        caption=f"Share of all parameters; groups below {_SMALLEST_BAR:.1%} are not drawn.",
        panels=(panel,),
    )


def _active(results: Mapping[str, Any]) -> Section:
    rows = [
        {
            "convention": f"{name}: {', '.join(count['groups'])}",
            "min": count["min"],
            "max": count["max"],
        }
        for name, count in results["parameters"]["active"].items()
    ]
    columns = (
        Column(key="convention", title="convention: groups counted"),
        Column(key="min", title="fewest", spec=","),
        Column(key="max", title="most", spec=","),
    )
    return Section(
        heading="What one token activates",
        paragraphs=(
            "Rows read from the word embedding and the tables are not counted. Fewest and most "
            "differ where zero experts can take the place of real ones.",
        ),
        tables=(Table(name="active", title="Active parameters", columns=columns, rows=rows),),
    )


def _trade(results: Mapping[str, Any]) -> Section:
    """What the tables cost, and what their parameters would buy instead."""
    parameters, traffic = results["parameters"], results["traffic"]
    moe, table_rows = results["parameter_equivalent_moe"], results["table_rows"]
    figures = {
        "tables, share of total": f"{parameters['ngram_share']:.2%}",
        "tables and word table": f"{parameters['ngram_share_with_word_table']:.2%}",
        "rows read per token": f"{traffic['rows_per_token']} x {traffic['bytes_per_row']:,} B "
        f"= {format_bytes(traffic['bytes_per_token'])}",
        "rows of all tables": f"{table_rows['total']:,} ({table_rows['int32_share']:.2%} of int32)",
    }
    if moe is not None:
        figures |= {
            "equivalent MoE, experts per layer": f"{moe['experts_per_layer']} "
            f"({moe['total_difference']:+,} parameters)",
            "added experts, with router rows": f"{moe['exact_added_experts_per_layer']:.2f}",
            "added experts, matrices alone": f"{moe['added_experts_per_layer_without_router']:.2f}",
        }
    table = Table(
        name="trade",
        title="Tables against experts",
        columns=(Column(key="quantity", title="quantity"), Column(key="value", title="value")),
        rows=[{"quantity": name, "value": value} for name, value in figures.items()],
    )
    return Section(
        heading="What the tables cost, and would buy",
        paragraphs=(
            "The parameter-equivalent MoE spends tables and projections on more routed experts of "
            "the same size; top-k and zero experts stay.",
        ),
        tables=(table,),
    )


def _tables(results: Mapping[str, Any]) -> Section:
    columns = (
        Column(key="index", title="table"),
        Column(key="order", title="order"),
        Column(key="rows", title="rows", spec=","),
        Column(key="width", title="width"),
        Column(key="parameters", title="parameters", spec=","),
    )
    table = Table(name="tables", title="Tables", columns=columns, rows=results["tables"])
    stored = (
        Column(key="stored_as", title="stored as"),
        Column(key="row_bytes", title="bytes a row", spec=","),
        Column(key="bytes", title="bytes of all rows", spec=","),
        Column(key="size", title="size"),
    )
    rows = [
        {
            "stored_as": _ROW_DTYPES[dtype],
            "row_bytes": one["row_bytes"][dtype],
            "bytes": one["bytes"][dtype],
            "size": format_bytes(one["bytes"][dtype]),
        }
        for one in results["ngram_sets"]
        for dtype in _ROW_DTYPES
    ]
    return Section(
        heading="The n-gram tables",
        paragraphs=tuple(map(_set_told, results["ngram_sets"])),
        tables=(table, Table(name="rows", title="Rows by type", columns=stored, rows=rows)),
    )


def _set_told(one: Mapping[str, Any]) -> str:
    """One set of tables in a sentence."""
    where = f"layers {', '.join(map(str, one['layers']))}" if one["layers"] else "the embedding"
    padding = one["padding_parameters"]
    return (
        f"{one['tables']} tables of {one['width']} columns for {where}: "
        f"{format_count(one['parameters'])} parameters"
        + (f", {format_count(padding)} more of padding rows" if padding else "")
        + f", {format_count(one['projection_parameters'])} in projections and gates (fusion "
        f"{one['fusion']})."
    )


def _checkpoint(block: Mapping[str, Any]) -> Section:
    rows = [
        {
            **group,
            "difference": None
            if group["by_config"] is None
            else group["parameters"] - group["by_config"],
            "types": ", ".join(group["dtypes"]),
        }
        for group in block["groups"]
    ]
    columns = (
        Column(key="group", title="group"),
        Column(key="num_tensors", title="tensors", spec=","),
        Column(key="parameters", title="parameters", spec=","),
        Column(key="by_config", title="by config.json", spec=","),
        Column(key="difference", title="difference", spec="+,"),
        Column(key="bytes", title="bytes", spec=","),
        Column(key="types", title="types"),
    )
    unknown = block["unknown_names"]
    names = f" No group is known for: {', '.join(unknown)}." if unknown else ""
    return Section(
        heading="What the checkpoint holds",
        paragraphs=(
            f"{verdict(block)} Read from the headers alone. Copies of the word embedding, scales "
            f"of quantised weights and constants are no parameters.{names}",
        ),
        tables=(Table(name="checkpoint", title="Checkpoint", columns=columns, rows=rows),),
    )


def _warnings(sentences: list[str]) -> Section:
    table = Table(
        name="warnings",
        title="Warnings",
        columns=(Column(key="warning", title="warning"),),
        rows=[{"warning": sentence} for sentence in sentences],
    )
    return Section(heading="Warnings", tables=(table,))
