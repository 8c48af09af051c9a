"""``ngscale collisions``: options -> n-grams, scheme, sizes -> sweep -> answer."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
)
from ngscale.commands.cluster import Spread
from ngscale.commands.recommend import Wanted
from ngscale.commands.recommend import run as _recommend
from ngscale.commands.source import read_source, run_directory
from ngscale.errors import UsageError
from ngscale.spec import PolynomialHash, check_hashed
from ngscale.units import parse_bytes, parse_count

if TYPE_CHECKING:
    from ngscale.collisions.run import Counting
    from ngscale.ngrams import NgramTable
    from ngscale.spec import NgramSpec
    from ngscale.tokens import TokenStream

_RULES = ("pooled", "per-sequence")
_POLICIES = ("hf", "no_eos")


def collisions(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A config.json, a directory with one, or a preset: measure its own tables. Or a "
            ".parquet of n-grams from --save-ngrams: sweep over those."
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
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive",
            help="Every size of the range, counted. Says first how long; goes on after a kill.",
        ),
    ] = False,
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive",
            help="Every size of the range: counted where it may be bad or is in --sizes, elsewhere "
            "predicted, with the error of the predictions.",
        ),
    ] = False,
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
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="all; sharing: occupied rows, colliding n-grams and token positions, much faster; "
            "occupied: occupied rows, and sharing where a size is listed. Default: all up to 4,096 "
            "sizes, sharing beyond (with the pooled longcat), occupied with --exhaustive.",
        ),
    ] = None,
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
    recommend: Annotated[
        bool,
        typer.Option(
            "--recommend",
            help="Instead of a sweep: sizes to choose within a budget (--ratio R, --rows, or "
            "--params with --hidden-size; a target's own), measured on --corpus if there is one.",
        ),
    ] = False,
    rows: Annotated[
        str | None, typer.Option(metavar="N", help="Budget: rows of all tables (123M).")
    ] = None,
    params: Annotated[
        str | None, typer.Option(metavar="P", help="Budget: parameters of all tables (31.4B).")
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(metavar="D", min=1, help="Width of the model, for --params.")
    ] = None,
    subtables: Annotated[
        int, typer.Option(metavar="K", min=1, help="Tables per order, for --recommend.")
    ] = 4,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Propose only longcat, primes or explicit sizes."),
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option("--tp", metavar="N", min=1, help="Stored rows are sharded over N ranks.")
    ] = 1,
    padding: Annotated[
        int, typer.Option(metavar="ROWS", min=1, help="Stored rows are padded to a multiple.")
    ] = 1,
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="hf: no n-gram crosses a document boundary; no_eos: they do.",
        ),
    ] = "hf",
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Count n-grams within SIZE (4G), spilling to the cache."),
    ] = None,
    at_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            help="Predict every table at T tokens of the same kind (10B) too: bands up to 30 times "
            "the corpus, bounds beyond.",
        ),
    ] = None,
    save_ngrams: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the counted n-grams as Parquet, an order a file."),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Count n-grams in tasks: local (processes of this machine), slurm or ray. The "
            "same bytes as without; --max-memory is each task's; after a kill the same command "
            "does the rest.",
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Parts of the corpus for --executor. Default: 8."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Tasks at a time. Default: as many as fit."),
    ] = None,
    cpus_per_task: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processors of a task. Default: 1.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where tasks meet, on a disk that all machines see. Default: in the cache.",
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option(metavar="NAME", help="Slurm's partition.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="HH:MM:SS", help="Slurm's time limit of a task.")
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One more option of sbatch (account=me)."),
    ] = None,
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
    """Which table sizes waste rows on your text, measured against an ideal hash.

    Example: ngscale collisions --ratio 30:33 --out report
    """
    if rule not in _RULES:
        raise UsageError(f"--rule {rule}: takes {' or '.join(_RULES)}")
    if policy not in _POLICIES:
        raise UsageError(f"--policy {policy}: takes {' or '.join(_POLICIES)}")
    ways = {
        "--sizes": None if adaptive else sizes,
        "--table-rows": table_rows,
        "--around": around,
        "--hit-rate": hit_rate,
        "a target": target,
    }
    if len(given := [way for way, value in ways.items() if value is not None]) > 1:
        raise UsageError(f"{' and '.join(given)} both give the sizes; keep one")
    if (rule != "pooled" or hit_rate is not None) and (policy != "hf" or save_ngrams is not None):
        raise UsageError("--policy no_eos and --save-ngrams go with --rule pooled")
    if (exhaustive or adaptive) and (hit_rate is not None or recommend):
        raise UsageError(
            "--exhaustive and --adaptive sweep sizes, which --hit-rate and --recommend do not"
        )
    if at_tokens is not None and (rule != "pooled" or hit_rate is not None or recommend):
        raise UsageError("--at-tokens goes with --rule pooled, not with --hit-rate or --recommend")
    later = None if at_tokens is None else parse_count(at_tokens)
    memory = None if max_memory is None else parse_bytes(max_memory)
    spread = Spread(
        executor=executor,
        tasks=tasks,
        workers=workers,
        cpus_per_task=cpus_per_task,
        run_dir=run_dir,
        partition=partition,
        time=time,
        sbatch=sbatch or (),
    )
    counted = target is not None and target.endswith(".parquet")
    if executor is not None and (rule != "pooled" or hit_rate is not None or recommend or counted):
        raise UsageError("--executor counts the n-grams of a --corpus for a pooled sweep")
    launch = spread.launch(memory)
    if recommend:
        _recommend(
            Wanted(
                target=target,
                orders=_orders(orders),
                num_subtables=subtables,
                ratio=None if ":" in ratio else _single_ratio(ratio),
                rows=None if rows is None else parse_count(rows),
                parameters=None if params is None else parse_count(params),
                hidden_size=hidden_size,
                tensor_parallel=tensor_parallel,
                padding=padding,
                family=family,
                corpus=corpus,
                tokenizer=tokenizer,
                vocab_size=vocab_size,
                source_options={
                    "text_field": text_field,
                    "split": split,
                    "dtype": dtype,
                    "on_bad_record": on_bad_record,
                },
                max_memory_bytes=memory,
                as_json=as_json,
                out=out,
            )
        )
        return

    from ngscale.artefacts import cache_dir
    from ngscale.collisions import at_tokens as predictions
    from ngscale.collisions import run as runs
    from ngscale.collisions.hit_rate import build_report as build_hit_rate_report
    from ngscale.collisions.planning import Request, Sequences, base_of, make_plan
    from ngscale.collisions.resumable import Keep
    from ngscale.collisions.summary import build_report
    from ngscale.console import progress, say
    from ngscale.hashing.registry import gram_scheme, make_scheme
    from ngscale.hashing.scheme import Scheme
    from ngscale.resonance import nearest_rows

    request = Request(
        orders=_orders(orders),
        ratio=_ratio(ratio),
        around=None if around is None else _positive("--around", around),
        within=within,
        step=step,
        exhaustive=exhaustive,
        adaptive=adaptive,
        sizes=None if sizes is None else _whole_numbers("--sizes", sizes),
        table_rows=None if table_rows is None else _whole_numbers("--table-rows", table_rows),
        sequences=None if rule == "pooled" else Sequences(number=sequences, length=sequence_length),
        metrics=metrics,
    )
    numbers = None if multipliers is None else _whole_numbers("--multipliers", multipliers)
    read_ratio = None if hit_rate is None else _positive("--hit-rate", hit_rate)
    grams = None
    if counted:
        assert target is not None
        if later is not None:
            raise UsageError(f"{target}: --at-tokens draws documents again; give the --corpus")
        if corpus is not None or tokenizer is not None or rule != "pooled":
            raise UsageError(f"{target}: is a counted corpus; it takes no text, tokenizer or rule")
        grams, v0, inputs = _read_grams(target)
        request = replace(request, orders=(grams.order, grams.order))
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
        v0 = stream.vocab_size
        if target is not None:
            request = replace(request, target=_spec(target, v0))
    if request.target is not None and base is None and scheme == "longcat":
        hashing: Scheme = gram_scheme(request.target.hash)
    else:
        hashing = make_scheme(scheme, vocab_size=v0, base=base, multipliers=numbers, seed=seed)
    inputs["policy"] = policy
    if read_ratio is not None:
        read_rows = nearest_rows(*read_ratio.as_integer_ratio(), base_of(hashing, v0))
        low, high = request.orders
        record = runs.run_hit_rate(
            stream, hashing, range(low, high + 1), read_rows, sequence_length, inputs, progress
        )
        answer(record, build_hit_rate_report(record), as_json=as_json, out=out)
        return
    plan = make_plan(request, hashing, vocab_size=v0)
    keep = Keep(directory=cache_dir() / "sweeps", tell=say)
    if later is not None:
        predictions.check(stream, later)
    if grams is not None:
        record = runs.run_tables({grams.order: grams}, v0, plan, inputs, progress, keep)
    else:
        counting = runs.Counting(
            cross_documents=policy == "no_eos",
            max_memory_bytes=memory,
            directory=None if memory is None else run_directory(inputs, policy),
        )
        if launch is not None:
            counting = spread.counting(launch, counting, sorted(plan.sizes), inputs)
        if save_ngrams is None and later is None:
            record = runs.run(stream, plan, counting, inputs, progress, keep)
        else:
            tables = runs.count_tables(stream, sorted(plan.sizes), counting)
            if save_ngrams is not None:
                _save_grams(stream, tables, counting, save_ngrams)
            record = runs.run_tables(tables, v0, plan, inputs, progress, keep)
            if later is not None:
                record = predictions.extend(
                    record,
                    tables,
                    stream,
                    plan,
                    later,
                    progress,
                    cross_documents=counting.cross_documents,
                )
    answer(record, build_report(record), as_json=as_json, out=out)


def _read_grams(target: str) -> "tuple[NgramTable, int, dict[str, Any]]":
    """The table, its V0 and what the record says of it."""
    from ngscale.ngram_files import read_parquet

    table, source = read_parquet(Path(target))
    corpus = {
        "name": Path(target).name,
        "sha256_of_tokens": source.stream_sha256,
        "occurrences": table.occurrences,
        "num_docs": source.num_docs,
    }
    return table, source.vocab_size, {"corpus": corpus}


def _save_grams(
    stream: "TokenStream", tables: "dict[int, NgramTable]", counting: "Counting", directory: Path
) -> None:
    """Write every order's table as ``DIR/<order>-grams.parquet``."""
    from ngscale.console import say
    from ngscale.ngram_files import NgramSource, write_parquet

    source = NgramSource.of(stream, cross_documents=counting.cross_documents)
    for order, table in tables.items():
        path = directory / f"{order}-grams.parquet"
        write_parquet(table, path, source)
        say(f"n-grams: {path}")


def _spec(target: str, vocab_size: int) -> "NgramSpec":
    from ngscale.ngram_config import read_specs
    from ngscale.presets import resolve

    spec, *others = read_specs(resolve(target))
    if others or spec.compressed_vocab is not None:
        raise UsageError(
            f"{target}: hashes compressed ids, or in several layers; use --scheme, --multipliers "
            "and --table-rows on ids of your own (.bin)"
        )
    if isinstance(spec.hash, PolynomialHash) and spec.hash.table_bases:
        raise UsageError(f"{target}: its tables have bases of their own; measure one by --base")
    check_hashed(target, spec, vocab_size)
    return spec


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


def _single_ratio(text: str) -> float:
    try:
        return _positive("--ratio", float(text))
    except ValueError:
        raise UsageError(f"--ratio {text}: takes one number with --recommend") from None


def _positive(option: str, value: float) -> float:
    if not 0.0 < value < float("inf"):
        raise UsageError(f"{option} {value}: must be positive and finite")
    return value


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace("_", "").split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: takes whole numbers, comma-separated") from None
