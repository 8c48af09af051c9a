"""The costs in a budget's record -> the sections of its report that tell them."""

from collections.abc import Mapping
from typing import Any

from ngscale.records import Column, Section, Table
from ngscale.tiers import MAX_MISS
from ngscale.units import format_bytes, format_count

_TABLE_OPTIMIZERS = {
    "adamw": "AdamW",
    "sparse_adam": "sparse Adam",
    "rowwise_adagrad": "row-wise Adagrad",
}


def cost_sections(
    inputs: Mapping[str, Any], results: Mapping[str, Any], *, explain: bool
) -> list[Section]:
    """Memory, FLOPs, placement, ranks; the arithmetic line by line where it is asked for."""
    sections = [_memory(inputs, results), _flops(inputs, results)]
    if results["placement"] is not None:
        sections.append(_placement(results["placement"]))
    if results["parallel"]["num_ranks"] > 1:
        sections.append(_ranks(inputs, results["parallel"]))
    sections.append(_arithmetic(results["arithmetic"], explain=explain))
    return sections


def _memory(inputs: Mapping[str, Any], results: Mapping[str, Any]) -> Section:
    memory, context = results["memory"], inputs["context_tokens"]
    cache, training = memory["kv_cache"], memory["training"]
    by_dtype = memory["weight_bytes_by_dtype"]
    rows = {f"weights, {dtype}": num_bytes for dtype, num_bytes in by_dtype.items()}
    rows["KV cache of one token"] = cache["bytes_per_token"]
    if cache["bytes_per_token_beyond_windows"] != cache["bytes_per_token"]:
        rows["KV cache of one more, beyond windows"] = cache["bytes_per_token_beyond_windows"]
    rows[f"KV cache of {context:,} tokens"] = cache["bytes_per_sequence"]
    rows["state of a sequence"] = cache["state_bytes_per_sequence"]
    if inputs["num_sequences"] > 1:
        rows[f"caches of {inputs['num_sequences']:,} sequences"] = cache["bytes"]
    rows["training, all but tables: AdamW"] = training["dense_bytes"]
    if results["tables"]:
        rows |= {
            f"training, tables: {_TABLE_OPTIMIZERS[name]}": num_bytes
            for name, num_bytes in training["table_bytes"].items()
        }
    activations = training["activation_bytes"]
    rows["activations, all kept"] = activations["all"]
    rows["activations, layers recomputed"] = activations["recompute"]
    table = Table(
        name="memory",
        title="Memory",
        columns=(
            Column(key="quantity", title="quantity"),
            Column(key="bytes", title="bytes", spec=","),
            Column(key="size", title="size"),
        ),
        rows=[
            {"quantity": name, "bytes": num_bytes, "size": format_bytes(num_bytes)}
            for name, num_bytes in rows.items()
            if num_bytes
        ],
    )
    return Section(
        heading="What it takes in memory",
        paragraphs=(
            f"Caches are {cache['dtype']}. Training state is weights, gradients and optimiser of "
            f"one copy, in mixed precision; activations are those of a step of "
            f"{inputs['num_sequences']:,} x {context:,} tokens on one device.",
        ),
        tables=(table,),
    )


def _flops(inputs: Mapping[str, Any], results: Mapping[str, Any]) -> Section:
    flops, context = results["flops"], inputs["context_tokens"]
    attention = flops["attention_of_next_token"]
    rows = {
        "products with weights, a token": flops["matmuls_per_token"],
        f"attention, a token behind {context:,}": {"min": attention, "max": attention},
        f"decoding a token behind {context:,}": flops["decode_token"],
        f"forward of {context:,} tokens": flops["forward_of_context"],
        f"backward of {context:,} tokens": flops["backward_of_context"],
    }
    table = Table(
        name="flops",
        title="FLOPs",
        columns=(
            Column(key="quantity", title="quantity"),
            Column(key="min", title="fewest", spec=","),
            Column(key="max", title="most", spec=","),
            Column(key="size", title="most"),
        ),
        rows=[
            {"quantity": name, **count, "size": format_count(count["max"])}
            for name, count in rows.items()
        ],
    )
    return Section(
        heading="What it computes",
        paragraphs=(
            "2 FLOPs for every weight and every column of a pair of query and key; attention is "
            "causal. Backward is twice forward, without what is computed again.",
        ),
        tables=(table,),
    )


def _placement(placement: Mapping[str, Any]) -> Section:
    rows = [
        {
            **tier,
            "fits": "yes" if tier["fits"] else "no",
            "check": "within x3" if tier["validated"] else "not validated",
        }
        for tier in placement["tiers"]
    ]
    columns = [
        Column(key="name", title="memory"),
        Column(key="fits", title="fits"),
        Column(key="bytes_moved_per_token", title="bytes moved per token", spec=",.0f"),
        Column(key="max_tokens_per_s", title="tokens/s at most", spec=",.0f"),
        Column(key="bound_by", title="bound by"),
    ]
    if any(tier["max_batch_tokens"] is not None for tier in placement["tiers"]):
        columns.append(Column(key="max_batch_tokens", title="batch hidden", spec=","))
    columns += [Column(key="check", title="check")]
    sources = Table(
        name="tiers",
        title="Kinds of memory",
        columns=(Column(key="name", title="memory"), Column(key="source", title="source")),
        rows=rows,
        terminal=False,
    )
    anchors = Table(
        name="anchors",
        title="Published slow-downs against predicted ones",
        columns=tuple(
            Column(key=key, title=key, spec=spec)
            for key, spec in (
                ("memory", ""),
                ("name", ""),
                ("source", ""),
                ("slow_down", ".2%"),
                ("predicted", ".2%"),
            )
        ),
        rows=[
            {"memory": tier["name"], **anchor}
            for tier in placement["tiers"]
            for anchor in tier["anchors"]
        ],
        terminal=False,
    )
    return Section(
        heading="Where the tables can live",
        paragraphs=(
            "Whether all tables fit in one device, and rates above which reading rows bounds the "
            "model, by data sheets and assumptions (data/tiers.csv). Checked is the order of "
            f"magnitude alone: a kind of memory is within x{MAX_MISS} where published slow-downs "
            "are (data/anchors.csv), and not validated where none is published or one is missed "
            "by more.",
        ),
        tables=(
            Table(name="placement", title="Placement", columns=tuple(columns), rows=rows),
            sources,
            anchors,
        ),
    )


def _ranks(inputs: Mapping[str, Any], parallel: Mapping[str, Any]) -> Section:
    ranks = inputs["ranks"]
    rows = [
        {
            "stage": index,
            **stage,
            "size": format_bytes(stage["weight_bytes"]),
            "cache": format_bytes(stage["cache_bytes"]),
        }
        for index, stage in enumerate(parallel["stages"])
    ]
    columns = [
        Column(key="stage", title="stage"),
        Column(key="num_layers", title="layers"),
        Column(key="weight_bytes", title="weight bytes", spec=","),
        Column(key="size", title="weights"),
        Column(key="cache", title="caches"),
    ]
    if any(stage["table_rows"] for stage in parallel["stages"]):
        columns.append(Column(key="table_rows", title="table rows", spec=","))
    how = ", ".join(
        f"{name.upper()} {ranks[name]}" for name in ("tp", "ep", "pp", "dp") if ranks[name] > 1
    )
    return Section(
        heading="What every rank holds",
        paragraphs=(
            f"{parallel['num_ranks']} ranks ({how}); the fullest has "
            f"{format_bytes(parallel['largest_rank_bytes'])} of weights and caches.",
        ),
        tables=(
            Table(name="ranks", title="A rank of each stage", columns=tuple(columns), rows=rows),
        ),
    )


def _arithmetic(lines: list[Mapping[str, Any]], *, explain: bool) -> Section:
    keys = ("quantity", "formula", "numbers", "value", "unit")
    tables = [
        Table(
            name="arithmetic",
            title="Arithmetic",
            columns=tuple(Column(key=key, title=key) for key in keys),
            rows=lines,
            terminal=False,
        )
    ]
    if explain:
        tables += [_explained(topic, lines) for topic in ("weights", "FLOPs", "memory")]
    return Section(
        heading="Arithmetic",
        paragraphs=("Every cost above as a sum of products: data/arithmetic.csv, --explain.",),
        tables=tuple(tables),
    )


def _explained(topic: str, lines: list[Mapping[str, Any]]) -> Table:
    """The lines whose quantity begins with the topic; those of no topic are memory's."""

    def topic_of(line: Mapping[str, Any]) -> str:
        before, colon, _ = line["quantity"].partition(": ")
        return before if colon and before in ("weights", "FLOPs") else "memory"

    return Table(
        name=f"explained_{topic.lower()}",
        title=f"How {topic} are computed" if topic != "memory" else "How memory is computed",
        columns=(Column(key="line", title="quantity = formula = numbers = result"),),
        rows=[
            {
                "line": f"{line['quantity']} = {line['formula']} = {line['numbers']} = "
                f"{line['value']:,} {line['unit']}"
            }
            for line in lines
            if topic_of(line) == topic
        ],
    )
