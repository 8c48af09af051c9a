"""A design -> the record of its budget. Pure arithmetic; every count is an exact integer."""

from typing import Any

from ngscale.budget.warnings import warnings
from ngscale.design import Design
from ngscale.params import (
    Dtype,
    active_parameters,
    bytes_per_parameter,
    expert_only_equivalent,
    moe_of,
    ngram_padding,
    parameter_equivalent_experts,
    parameter_equivalent_moe,
    parameter_groups,
    total_parameters,
)
from ngscale.records import RunRecord
from ngscale.spec import MAX_TABLE_ROWS
from ngscale.units import format_count, format_share


def build(design: Design, *, target: str, config_sha256: str, dtype: Dtype) -> RunRecord:
    """The budget of ``design``, which a config.json of this hash describes.

    ``target`` is what the answer calls it; it must not be a path, for a record is a function of
    contents, not of places.
    """
    parameters = _parameters(design)
    results = {
        "parameters": parameters,
        "parameter_equivalent_moe": _equivalent_moe(design),
        "memory": _memory(design, dtype),
        "traffic": _traffic(design, dtype),
        "tables": _tables(design),
        "table_rows": _table_rows(design),
        "warnings": warnings(design),
    }
    return RunRecord(
        verb="budget",
        answer=_answer(target, results),
        inputs={"target": target, "config_sha256": config_sha256, "dtype": dtype},
        results=results,
    )


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


def _memory(design: Design, dtype: Dtype) -> dict[str, Any]:
    widths = bytes_per_parameter(dtype)
    group_bytes = {name: count * widths[name] for name, count in parameter_groups(design).items()}
    mtp_bytes = group_bytes.pop("mtp")
    return {
        "dtype": dtype,
        "weight_bytes": sum(group_bytes.values()),
        "ngram_table_bytes": group_bytes["ngram_tables"],
        "mtp_bytes": mtp_bytes,
        "group_bytes": group_bytes,
        "bytes_per_parameter": widths,
    }


def _traffic(design: Design, dtype: Dtype) -> dict[str, int]:
    """What one token reads from the tables: one row of each."""
    width = bytes_per_parameter(dtype)["ngram_tables"]
    row_bytes = [design.table_width(spec) * width for spec in design.ngrams]
    return {
        "rows_per_token": sum(spec.num_tables for spec in design.ngrams),
        "bytes_per_row": max(row_bytes, default=0),
        "bytes_per_token": sum(
            spec.num_tables * size for spec, size in zip(design.ngrams, row_bytes, strict=True)
        ),
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


def _answer(target: str, results: dict[str, Any]) -> str:
    parameters = results["parameters"]
    total = format_count(parameters["total"])
    active = _range(parameters["active"]["with_projections"])
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
