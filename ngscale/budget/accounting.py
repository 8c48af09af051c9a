"""A design -> the record of its budget. Pure arithmetic; every count is an exact integer."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from ngscale.budget.allocation import allocation_json
from ngscale.budget.checkpoint import compare, verdict
from ngscale.budget.costs import Workload, costs
from ngscale.budget.design_facts import facts_of
from ngscale.budget.evidence import evidence_results
from ngscale.budget.limits import Limits
from ngscale.budget.proposal import propose
from ngscale.budget.proxies import proxy_answer, proxy_results
from ngscale.budget.training_records import TrainingRecords
from ngscale.budget.warnings import warnings
from ngscale.design import Design
from ngscale.ngram_params import RowDtype, ngram_parameters, row_bytes
from ngscale.params import (
    ACTIVE_CONVENTION,
    Dtype,
    active_parameters,
    expert_only_equivalent,
    moe_of,
    ngram_padding,
    parameter_equivalent_experts,
    parameter_equivalent_moe,
    parameter_groups,
    total_parameters,
)
from ngscale.proxy_size import ProxySize
from ngscale.records import RunRecord
from ngscale.safetensors_header import TensorHeader
from ngscale.spec import MAX_TABLE_ROWS
from ngscale.units import format_count, format_share


def build(
    design: Design,
    *,
    target: str,
    config_sha256: str,
    dtype: Dtype,
    workload: Workload | None = None,
    tensors: Mapping[str, TensorHeader] | None = None,
    limits: Limits | None = None,
    trained: TrainingRecords | None = None,
    small: ProxySize | None = None,
    explain: bool = False,
) -> RunRecord:
    """The budget of ``design``, which a config.json of this hash describes; with ``tensors``, those
    of a checkpoint, what that holds; with ``limits``, the frontier and candidates they allow; with
    ``small``, a proxy.

    ``target`` is what the answer calls it; it must not be a path, for a record is a function of
    contents, not of places.

    Raises:
        UsageError: the design cannot be split over the ranks of ``workload``.
        NoResultError: nothing meets the ``limits``.
    """
    workload = workload or Workload()
    tokens = None if limits is None else limits.training_tokens
    facts = facts_of(design, real_experts="most", training_tokens=tokens)
    results: dict[str, Any] = {
        "parameters": _parameters(design),
        "parameter_equivalent_moe": _equivalent_moe(design),
        **costs(design, dtype, workload),
        "tables": _tables(design),
        "table_rows": _table_rows(design),
        "ngram_sets": _ngram_sets(design),
        "checkpoint": None if tensors is None else compare(design, tensors),
        "warnings": warnings(design),
        **evidence_results(facts),
        "allocation": allocation_json(facts, trained),
        **_NO_PROPOSAL,
    }
    answer = _answer(target, results)
    if limits is not None:
        results |= propose(design, limits)
        answer = results["proposal"]["answer"]
    if small is not None:
        results["proxy"] = proxy_results(design, small)
        answer = proxy_answer(target, results["proxy"])
    return RunRecord(
        verb="budget",
        answer=answer,
        inputs={
            "target": target,
            "config_sha256": config_sha256,
            "dtype": dtype,
            "explain": explain,
            "limits": None if limits is None else asdict(limits),
            "records": None if trained is None else len(trained.pairs),
            "proxy": None if small is None else asdict(small),
            **asdict(workload),
        },
        results=results,
    )


_NO_PROPOSAL: dict[str, Any] = {"frontier": [], "candidates": [], "proposal": None, "proxy": None}


def _parameters(design: Design) -> dict[str, Any]:
    groups = parameter_groups(design)
    total = total_parameters(design)
    assert sum(groups.values()) == total + groups["mtp"], "groups do not sum to the total"
    return {
        "total": total,
        "groups": {name: count for name, count in groups.items() if name != "mtp"},
        "mtp": groups["mtp"],
        "active": {
            convention: {
                "min": count.minimum,
                "max": count.maximum,
                "at": {str(real): parameters for real, parameters in count.at.items()},
                "groups": list(count.groups),
            }
            for convention, count in active_parameters(design).items()
        },
        "ngram_tables": groups["ngram_tables"],
        "ngram_padding": ngram_padding(design),
        "ngram_share": groups["ngram_tables"] / total,
        "ngram_share_with_word_table": (groups["ngram_tables"] + groups["word_embedding"]) / total,
    }


def _equivalent_moe(design: Design) -> dict[str, Any] | None:
    """None where there are no tables to spend, or no experts to spend them on."""
    if not design.ngrams or not design.model.moe_layers:
        return None
    equivalent = parameter_equivalent_moe(design)
    total = total_parameters(equivalent)
    groups = parameter_groups(equivalent)
    del groups["mtp"]
    return {
        "experts_per_layer": moe_of(equivalent.model).num_experts,
        "experts_per_layer_with_tables": moe_of(design.model).num_experts,
        "exact_added_experts_per_layer": float(parameter_equivalent_experts(design)),
        "added_experts_per_layer_without_router": float(expert_only_equivalent(design)),
        "total": total,
        "total_difference": total - total_parameters(design),
        "groups": groups,
    }


def _tables(design: Design) -> list[dict[str, int]]:
    tables = [
        (order, rows, design.table_width(spec))
        for spec in design.ngrams
        for order, rows in zip(spec.table_orders, spec.table_rows, strict=True)
    ]
    return [
        {"index": index, "order": order, "rows": rows, "width": width, "parameters": rows * width}
        for index, (order, rows, width) in enumerate(tables)
    ]


def _table_rows(design: Design) -> dict[str, int | float] | None:
    """Extremes and sum of the table sizes; engines number the rows of all tables in one int32."""
    rows = [size for spec in design.ngrams for size in spec.table_rows]
    if not rows:
        return None
    return {
        "min": min(rows),
        "max": max(rows),
        "total": sum(rows),
        "int32_share": sum(rows) / MAX_TABLE_ROWS,
    }


_ROW_DTYPES: tuple[RowDtype, ...] = ("fp32", "bf16", "fp8", "fp8_e8m0")


def _ngram_sets(design: Design) -> list[dict[str, Any]]:
    """Every set of tables: what its rows, padding and projections hold, and rows by dtype."""
    sets = []
    for spec, gate in zip_longest(design.ngrams, design.gates):
        width = design.table_width(spec)
        counts = ngram_parameters(spec, hidden_size=design.fused_width(spec), gate=gate)
        one_row = {name: row_bytes(width, name) for name in _ROW_DTYPES}
        sets.append(
            {
                "layers": list(spec.layers),
                "fusion": spec.fusion,
                "tables": spec.num_tables,
                "width": width,
                "parameters": counts.tables,
                "padding_parameters": counts.padding,
                "projection_parameters": counts.projections,
                "row_bytes": one_row,
                "bytes": {name: spec.physical_rows * size for name, size in one_row.items()},
            }
        )
    return sets


def _answer(target: str, results: dict[str, Any]) -> str:
    checkpoint = results["checkpoint"]
    said = "" if checkpoint is None else f" {verdict(checkpoint)}"
    return f"{_answer_of_design(target, results)}{said}"


def _answer_of_design(target: str, results: dict[str, Any]) -> str:
    parameters = results["parameters"]
    total = format_count(parameters["total"])
    active = _range(parameters["active"][ACTIVE_CONVENTION])
    if not results["tables"]:
        return f"{target} has {total} parameters, none in n-gram tables; {active} are active."
    answer = (
        f"{target} has {total} parameters, {format_count(parameters['ngram_tables'])} "
        f"({format_share(parameters['ngram_share'])}) of them in {len(results['tables'])} n-gram "
        f"tables; {active} are active"
    )
    moe = results["parameter_equivalent_moe"]
    if moe is None:
        return f"{answer}."
    return (
        f"{answer}; the parameter-equivalent MoE has {moe['experts_per_layer']} experts per layer "
        f"instead of {moe['experts_per_layer_with_tables']}."
    )


def _range(count: dict[str, int]) -> str:
    low, high = format_count(count["min"]), format_count(count["max"])
    return low if low == high else f"{low}-{high}"
