"""``ngscale collisions``: options -> n-grams, scheme, sizes -> sweep -> answer."""

from typing import TYPE_CHECKING, Annotated

import typer

from ngscale.commands.answer import (
    CorpusOption,
    JsonOption,
    OnBadRecordOption,
    OutOption,
    TokenizerOption,
    answer,
)
from ngscale.commands.source import read_source
from ngscale.errors import UsageError

if TYPE_CHECKING:
    from ngscale.spec import NgramSpec
    from ngscale.tokens import TokenStream

_RULES = ("pooled", "per-sequence")


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
    around: Annotated[
        float | None, typer.Option(metavar="R", help="Sweep sizes around R times V0 instead.")
    ] = None,
    within: Annotated[
        int, typer.Option(metavar="ROWS", min=1, help="How far --around reaches.")
    ] = 2000,
    step: Annotated[
        int | None,
        typer.Option(metavar="ROWS", min=1, help="Every ROWS-th size; 1 is exhaustive."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="ROWS,...", help="Measure exactly these sizes instead of a sweep."),
    ] = None,
    table_rows: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,...",
            help="Sub-tables of every order: measured one by one and all together.",
        ),
    ] = None,
    orders: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="N-gram orders, within 2..8.")
    ] = "2:5",
    scheme: Annotated[
        str,
        typer.Option(metavar="NAME", help="longcat, multiply-xor, crc32, murmur3 or ideal."),
    ] = "longcat",
    base: Annotated[
        int | None,
        typer.Option(metavar="V", min=2, help="Hash base of longcat, where it is not V0."),
    ] = None,
    multipliers: Annotated[
        str | None,
        typer.Option(metavar="ODD,...", help="Multipliers of multiply-xor, newest token first."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of murmur3 or key of ideal.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="pooled: distinct n-grams of the corpus; per-sequence: of each sequence, summed.",
        ),
    ] = "pooled",
    hit_rate: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Instead of collisions: the share of R times V0 rows read, against sequences.",
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option(metavar="S", min=1, help="Sequences of --rule per-sequence.")
    ] = 100,
    sequence_length: Annotated[
        int, typer.Option(metavar="L", min=2, help="Tokens of a sequence.")
    ] = 2048,
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
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Which table sizes waste rows on your text, measured against an ideal hash.

    Example: ngscale collisions --ratio 30:33 --out report
    """
    low_order, high_order = _orders(orders)
    ratio_bounds = _ratio(ratio)
    if rule not in _RULES:
        raise UsageError(f"--rule {rule}: takes {' or '.join(_RULES)}")
    ways = {
        "--sizes": sizes,
        "--table-rows": table_rows,
        "--around": around,
        "--hit-rate": hit_rate,
        "a target": target,
    }
    if len(given := [way for way, value in ways.items() if value is not None]) > 1:
        raise UsageError(f"{' and '.join(given)} both give the sizes; keep one")
    listed = None
    if sizes is not None:
        listed = sorted(set(_whole_numbers("--sizes", sizes)))
    if table_rows is not None:
        listed = _whole_numbers("--table-rows", table_rows)
    numbers = None if multipliers is None else _whole_numbers("--multipliers", multipliers)

    from ngscale.collisions.grid import around_grid, ratio_grid
    from ngscale.collisions.hit_rate import build_report as build_hit_rate_report
    from ngscale.collisions.run import Plan, Sequences, run, run_hit_rate
    from ngscale.collisions.summary import build_report
    from ngscale.console import progress
    from ngscale.hashing.registry import make_scheme
    from ngscale.resonance import nearest_rows

    stream, inputs = read_source(
        corpus,
        tokenizer,
        text_field=text_field,
        split=split,
        dtype=dtype,
        vocab_size=vocab_size,
        on_bad_record=on_bad_record,
    )
    spec = None if target is None else _spec(target, stream)
    if spec is not None and base is None and scheme == "longcat":
        base = spec.hash_base
    hashing = make_scheme(
        scheme, vocab_size=stream.vocab_size, base=base, multipliers=numbers, seed=seed
    )
    unit_rows = hashing.describe().get("base", stream.vocab_size)
    if hit_rate is not None:
        measured_orders = range(low_order, high_order + 1)
        rows = nearest_rows(*_positive("--hit-rate", hit_rate).as_integer_ratio(), unit_rows)
        record = run_hit_rate(
            stream, hashing, measured_orders, rows, sequence_length, inputs, progress
        )
        answer(record, build_hit_rate_report(record), as_json=as_json, out=out)
        return
    if spec is not None:
        swept = _own_sizes(spec)
    else:
        if listed is not None:
            shared = listed
        elif around is not None:
            shared = around_grid(_positive("--around", around), within, unit_rows, step)
        else:
            shared = ratio_grid(*ratio_bounds, unit_rows, step)
        swept = dict.fromkeys(range(low_order, high_order + 1), shared)
    by_sequence = Sequences(number=sequences, length=sequence_length)
    plan = Plan(
        scheme=hashing,
        sizes=swept,
        base=unit_rows,
        sequences=None if rule == "pooled" else by_sequence,
        together=table_rows is not None or spec is not None,
    )
    record = run(stream, plan, inputs, progress)
    answer(record, build_report(record), as_json=as_json, out=out)


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


def _positive(option: str, value: float) -> float:
    if not 0.0 < value < float("inf"):
        raise UsageError(f"{option} {value}: must be positive and finite")
    return value


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace("_", "").split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: takes whole numbers, comma-separated") from None
