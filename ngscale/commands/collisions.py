"""``ngscale collisions``: options -> corpus, sizes, sweep -> answer."""

from typing import TYPE_CHECKING, Annotated

import typer

from ngscale.commands.answer import CorpusOption, JsonOption, OutOption, TokenizerOption, answer
from ngscale.commands.source import read_source
from ngscale.errors import UsageError

if TYPE_CHECKING:
    from ngscale.spec import NgramSpec
    from ngscale.tokens import TokenStream


def collisions(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A config.json, a directory with one, or a preset: measure its own tables."
        ),
    ] = None,
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    ratio: Annotated[
        str,
        typer.Option(metavar="LOW:HIGH", help="Sweep table sizes from LOW to HIGH times V0."),
    ] = "30:33",
    orders: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="N-gram orders, within 2..8.")
    ] = "2:5",
    table_rows: Annotated[
        str | None,
        typer.Option(metavar="ROWS,...", help="Measure exactly these sizes instead of a sweep."),
    ] = None,
    text_field: Annotated[
        str, typer.Option(metavar="NAME", help="Key or column of the text (jsonl, parquet, hf://).")
    ] = "text",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Split of an hf:// data set.")
    ] = "train",
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Type of the ids in a .bin: uint16 or uint32.")
    ] = "uint16",
    vocab_size: Annotated[
        int | None, typer.Option(metavar="V0", min=2, help="V0 of the ids in a .bin.")
    ] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Which table sizes waste rows on your text, measured against an ideal hash.

    Example: ngscale collisions --ratio 30:33 --out report
    """
    low_order, high_order = _orders(orders)
    low_ratio, high_ratio = _ratio(ratio)
    if target is not None and table_rows is not None:
        raise UsageError("--table-rows and a target both give the sizes; keep one")
    rows = None if table_rows is None else _rows(table_rows)

    from ngscale.collisions import summary, sweep
    from ngscale.console import progress
    from ngscale.ngrams import count_ngrams

    stream, inputs = read_source(
        corpus,
        tokenizer,
        text_field=text_field,
        split=split,
        dtype=dtype,
        vocab_size=vocab_size,
    )
    spec = None if target is None else _spec(target, stream)
    base = stream.vocab_size if spec is None else spec.hash_base
    if spec is None:
        shared = sweep.ratio_grid(low_ratio, high_ratio, base) if rows is None else rows
        sizes = dict.fromkeys(range(low_order, high_order + 1), shared)
    else:
        sizes = _own_sizes(spec)
    sweep.check_sizes(
        [rows for of_order in sizes.values() for rows in of_order],
        base=base,
        max_order=max(sizes),
    )
    tables = count_ngrams(stream, max(sizes))
    if missing := sorted(set(sizes) - set(tables)):
        raise UsageError(f"the corpus has no {missing[0]}-gram; lower --orders")
    inputs |= {"hash_base": base, "orders": sorted(sizes), "scheme": "longcat"}
    inputs |= {"ratio": [low_ratio, high_ratio]} if spec is None and rows is None else {}
    with progress("tables", sum(map(len, sizes.values()))) as done:
        points = sweep.run(tables, sizes, hash_base=base, done=done)
    record = summary.build(points, stream, inputs)
    answer(record, summary.build_report(record), as_json=as_json, out=out)


def _spec(target: str, stream: "TokenStream") -> "NgramSpec":
    from ngscale.model_spec import read_design
    from ngscale.presets import resolve

    spec = read_design(resolve(target)).ngram
    if spec is None:
        raise UsageError(f"{target}: this design has no n-gram tables")
    if stream.vocab_size > spec.hash_base:
        raise UsageError(
            f"{target} hashes in base {spec.hash_base:,}, the tokenizer has {stream.vocab_size:,} "
            "ids; use its own --tokenizer"
        )
    return spec


def _own_sizes(spec: "NgramSpec") -> dict[int, list[int]]:
    sizes: dict[int, list[int]] = {order: [] for order in spec.orders}
    for table, rows in enumerate(spec.table_rows):
        sizes[spec.order_of(table)].append(rows)
    return sizes


def _orders(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        bounds = int(low), int(high or low)
    except ValueError:
        raise UsageError(f"--orders {text}: takes LOW:HIGH, for example 2:5") from None
    if not 2 <= bounds[0] <= bounds[1] <= 8:
        raise UsageError(f"--orders {text}: orders are within 2..8, the lower one first")
    return bounds


def _ratio(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high or low)
    except ValueError:
        raise UsageError(f"--ratio {text}: takes LOW:HIGH, for example 30:33") from None
    if not 1.0 <= bounds[0] < bounds[1] < float("inf"):
        raise UsageError(f"--ratio {text}: needs 1 <= LOW < HIGH")
    return bounds


def _rows(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.replace("_", "").split(",")})
    except ValueError:
        raise UsageError(f"--table-rows {text}: takes whole numbers, comma-separated") from None
