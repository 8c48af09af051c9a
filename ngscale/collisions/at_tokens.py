"""``--at-tokens``: predictions for the plan's tables -> the record's block and its section."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ngscale.collisions.extrapolate import (
    CONFIDENCE,
    MAX_FACTOR,
    Extrapolator,
    Frequencies,
    Prediction,
    check_documents,
)
from ngscale.collisions.occurrences import draw
from ngscale.collisions.outcome import name_size
from ngscale.collisions.planning import Plan
from ngscale.collisions.threads import Progress
from ngscale.errors import UsageError
from ngscale.ngrams import NgramTable
from ngscale.records import Column, RunRecord, Section, Table
from ngscale.tokens import TokenStream
from ngscale.units import format_count

KEY = "at_tokens"
_MAX_SIZES = 8
"""Up to so many sizes of an order are all predicted; of more, the smallest, middle and largest."""
_BANDED = ("load", "rows_touched", "sharing", "purity", "updates_per_touched_row")
_SPECS = {"load": ".3g", "rows_touched": ".1%", "sharing": ".1%", "purity": ".4f"}


def check(stream: TokenStream, num_tokens: int) -> None:
    """Whether anything can be said of ``num_tokens``, before n-grams are counted.

    Raises:
        UsageError: the corpus has more.
        NoResultError: it has too few documents to draw again.
    """
    if num_tokens < stream.num_tokens:
        raise UsageError(
            f"--at-tokens {num_tokens:,}: the corpus has {stream.num_tokens:,} tokens already; "
            "give more than that"
        )
    check_documents(stream.num_docs)


def extend(
    record: RunRecord,
    tables: Mapping[int, NgramTable],
    stream: TokenStream,
    plan: Plan,
    num_tokens: int,
    progress: Progress,
    *,
    cross_documents: bool = False,
) -> RunRecord:
    """The record with the block ``at_tokens`` and a sentence on its first table."""
    factor = num_tokens / stream.num_tokens
    found = []
    with progress("predictions", len(plan.sizes)) as done:
        for order, sizes in sorted(plan.sizes.items()):
            sample = draw(stream, order, cross_documents=cross_documents)
            source = Extrapolator(
                order,
                Frequencies.of(tables[order]),
                sample,
                num_possible=float(stream.vocab_size**order),
            )
            found += source.at(factor, _chosen(sizes))
            done(1)
    excess = {
        (result["order"], result["table_rows"]): result["excess"]
        for result in record.results["results"]
    }
    block = {
        "num_tokens": num_tokens,
        "factor": factor,
        "kind": "bands" if factor <= MAX_FACTOR else "bounds",
        "confidence": CONFIDENCE if factor <= MAX_FACTOR else None,
        "max_factor": MAX_FACTOR,
        "tables": [
            {
                "name": name_size(one.table_rows, plan.base, record.inputs["unit"]),
                **_plain(one),
                "excess_at_sample": excess.get((one.order, one.table_rows)),
            }
            for one in found
        ],
    }
    return replace(
        record,
        answer=f"{record.answer} {_sentence(block)}",
        inputs={**record.inputs, KEY: num_tokens},
        results={**record.results, KEY: block},
    )


def _chosen(sizes: Sequence[int]) -> list[int]:
    ordered = sorted(set(sizes))
    if len(ordered) <= _MAX_SIZES:
        return ordered
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _plain(one: Prediction) -> dict[str, Any]:
    plain = asdict(one)
    plain["rows_touched"] = asdict(one.occupied.mapped(lambda rows: rows / one.table_rows))
    return plain


def _sentence(block: Mapping[str, Any]) -> str:
    first = block["tables"][0]
    at = f"At {format_count(block['num_tokens'])} tokens, {block['factor']:.3g} times the corpus,"
    table = f"the {first['order']}-gram table of {first['table_rows']:,} rows"
    load = _interval(first["load"], ".3g")
    if block["kind"] == "bounds":
        return (
            f"{at} nothing is predicted, since bands were shown to cover up to "
            f"{block['max_factor']:.0f} times only: {table} would hold {load} n-grams per row "
            "(bounds); give more text for bands."
        )
    return (
        f"{at} {table} would hold {load} n-grams per row and have purity "
        f"{_interval(first['purity'], '.4f')} under an ideal hash; a row would be read "
        f"{first['updates_per_row']:,.0f} times on average."
    )


def _interval(band: Mapping[str, Any] | None, spec: str) -> str:
    """``0.52 (0.48 to 0.57)``; of bounds, the ends alone."""
    if band is None:
        return ""
    ends = f"{format(band['low'], spec)} to {format(band['high'], spec)}"
    return ends if band["value"] is None else f"{format(band['value'], spec)} ({ends})"


def section(block: Mapping[str, Any]) -> Section:
    """Every predicted table, its bands, and what they assume."""
    rows = [
        {
            "name": one["name"],
            "order": one["order"],
            "updates_per_row": one["updates_per_row"],
            "excess": (one["excess_at_sample"] or {}).get("impurity"),
            **{key: _interval(one[key], _SPECS.get(key, ",.0f")) for key in _BANDED},
        }
        for one in block["tables"]
    ]
    if block["kind"] == "bands":
        kind = (
            f"In brackets {block['confidence']:.0%} bands from documents drawn again and from the "
            "errors of the same law inside the sample."
        )
    else:
        kind = (
            f"{block['factor']:.3g} times the corpus is beyond the {block['max_factor']:.0f} times "
            "at which bands were shown to cover. What is given are bounds on the expectation, "
            "whatever the law of the text; purity has none."
        )
    columns = (
        Column(key="name", title="size"),
        Column(key="order", title="n", spec="d"),
        Column(key="load", title="n-grams per row"),
        Column(key="rows_touched", title="rows touched"),
        Column(key="sharing", title="n-grams sharing"),
        Column(key="purity", title="purity"),
        Column(key="updates_per_row", title="reads per row", spec=",.0f"),
        Column(key="updates_per_touched_row", title="per touched row"),
        Column(key="excess", title="impurity x ideal in the corpus", spec=".2f"),
    )
    at = f"{format_count(block['num_tokens'])} tokens"
    return Section(
        heading=f"At {at}",
        paragraphs=(
            f"More text of the same kind, {block['factor']:.3g} times as much. {kind}",
            "An ideal hash is assumed there. The last column is what this table's impurity was, in "
            "the corpus, over an ideal hash's; it is measured here and not carried over.",
        ),
        tables=(Table(name=KEY, title=f"Tables at {at}", columns=columns, rows=rows),),
    )
