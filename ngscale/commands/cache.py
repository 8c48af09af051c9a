"""``ngscale cache``: a design and text -> what caches of its rows hit, and what feeds them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngscale import presets
from ngscale.commands.answer import (
    CorpusOption,
    DtypeOption,
    JsonOption,
    OnBadRecordOption,
    OutOption,
    SplitOption,
    TextFieldOption,
    TokenizerOption,
    answer,
    starting,
)
from ngscale.errors import UsageError
from ngscale.ngram_params import RowDtype
from ngscale.units import parse_bytes, parse_count

if TYPE_CHECKING:
    from ngscale.tokens import TokenStream

_complete = starting(presets.with_tables)
_DEFAULT_TIERS = ("hbm-h100=256M", "host-thread=4G", "nvme-pm9a3")


def cache(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A preset, a config.json, or a directory that holds one.",
            autocompletion=_complete,
        ),
    ],
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of text: rows by position and table, as `ngscale ids --npy` saves them.",
        ),
    ] = None,
    tokens: Annotated[
        str, typer.Option(metavar="T", help="Read the text up to T tokens (250M).")
    ] = "1M",
    concurrency: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Decode N documents in turn; 1 is prefill."),
    ] = 1,
    lookahead: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Tokens of a document a turn: drafted and kept."),
    ] = 1,
    request_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="With --concurrency: cut longer documents into requests of N tokens."
        ),
    ] = None,
    row_dtype: Annotated[
        RowDtype, typer.Option("--row-dtype", help="Type of the rows in memory.")
    ] = "bf16",
    rows_per_page: Annotated[
        int, typer.Option(metavar="N", min=1, help="Neighbouring rows that are kept together.")
    ] = 1,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SIZE[:KEY=VALUE...]",
            help="A tier of memory, the nearest first; the last one has no size. Keys: bandwidth "
            "(B/s), latency (s), iops, read (B), in-flight. Default: " + ", ".join(_DEFAULT_TIERS),
        ),
    ] = None,
    miss_ratio: Annotated[
        str, typer.Option(metavar="R,...", help="Find the smallest cache for these miss ratios.")
    ] = "0.5,0.2,0.1",
    sample: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="LRU alone, from five samples of a share R of the rows, with error bars; for "
            "traces too long for all of them.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Stop, with exit code 6, before the rows measured at a time need more (8G).",
        ),
    ] = None,
    ranks: Annotated[
        int, typer.Option(metavar="N", min=1, help="Ranks the tables are spread over.")
    ] = 8,
    text_field: TextFieldOption = "text",
    split: SplitOption = "train",
    dtype: DtypeOption = "uint16",
    vocab_size: Annotated[
        int | None, typer.Option(metavar="V0", min=2, help="V0 of the ids in a .bin.")
    ] = None,
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Where table rows can live: what a cache would hit on your text, and what feeds the rest.

    Example: ngscale cache longcat-flash-lite --tokens 200K --concurrency 16 --request-tokens 1K
    """
    if trace is not None and (corpus is not None or tokenizer is not None):
        raise UsageError("--trace stands for the text; it takes no --corpus and no --tokenizer")
    if trace is not None and (concurrency > 1 or lookahead > 1):
        raise UsageError("--trace has an order of its own; no --concurrency, no --lookahead")
    if lookahead > 1 and concurrency == 1:
        raise UsageError("--lookahead goes with --concurrency: one document has nobody to wait for")
    if request_tokens is not None and concurrency == 1:
        raise UsageError("--request-tokens goes with --concurrency: prefill has no turns")
    if sample is not None and not 0 < sample <= 1:
        raise UsageError(f"--sample {sample}: is a share of the rows, above 0 and at most 1")
    targets = _targets(miss_ratio)

    from ngscale.artefacts import cache_dir, file_digest
    from ngscale.cache import run as runs
    from ngscale.cache.feeding import parse_levels
    from ngscale.cache.summary import build_report
    from ngscale.cache.trace import Order
    from ngscale.commands.source import read_source
    from ngscale.console import progress, say

    levels = tuple(parse_levels(tier or _DEFAULT_TIERS))
    tables = runs.load(target, dtype=row_dtype, rows_per_page=rows_per_page)
    inputs: dict[str, Any]
    if trace is not None:
        source, num_positions = runs.file_source(trace, tables)
        inputs = {"trace": {"name": trace.name, "sha256": file_digest(trace)}}
    else:
        stream, inputs = read_source(
            corpus,
            tokenizer,
            text_field=text_field,
            split=split,
            dtype=dtype,
            vocab_size=vocab_size,
            on_bad_record=on_bad_record,
        )
        order = Order(
            concurrency=concurrency,
            lookahead=lookahead,
            request_tokens=None if request_tokens is None else parse_count(request_tokens),
            max_tokens=parse_count(tokens),
        )
        stream = _hashed_ids(stream, tables.compressed_vocab, tokenizer, order.max_tokens)
        source, num_positions = runs.text_source(stream, tables, order)
        inputs |= {"ids": stream.vocab_size, "concurrency": concurrency, "lookahead": lookahead}
        if order.request_tokens is not None:
            inputs["request_tokens"] = order.request_tokens
    step = concurrency * lookahead if concurrency > 1 else runs.PREFILL_STEP_TOKENS
    request = runs.Request(
        levels=levels,
        targets=targets,
        num_ranks=ranks,
        step_tokens=step,
        sample=sample,
        max_bytes=None if max_memory is None else parse_bytes(max_memory),
    )
    keep = runs.Keep(directory=cache_dir() / "cache-runs", tell=say)
    record = runs.run(source, num_positions, tables, request, inputs, progress, keep)
    answer(record, build_report(record), as_json=as_json, out=out)


def _hashed_ids(
    stream: "TokenStream", compressed_vocab: int | None, tokenizer: str | None, most: int
) -> "TokenStream":
    """The stream as the hash takes it: with Engram, the compressed ids of the text's tokenizer."""
    from ngscale import tokens
    from ngscale.compressed_ids import compressed_ids

    if compressed_vocab is None or stream.num_bytes == 0:  # a .bin holds what is hashed
        return stream
    name = tokenizer or tokens.DEFAULT_TOKENIZER
    merged = compressed_ids(tokens.load_tokenizer(name).backend)
    return replace(stream, tokens=merged[stream.tokens[:most]], vocab_size=int(merged.max()) + 1)


def _targets(text: str) -> tuple[float, ...]:
    found = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not 0 < value < 1:
            raise UsageError(f"--miss-ratio {text}: takes shares between 0 and 1, such as 0.2,0.1")
        found.append(value)
    return tuple(found)
