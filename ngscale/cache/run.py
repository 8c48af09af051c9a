"""A design, a trace and tiers of memory -> a record."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ngscale import presets
from ngscale.cache import trace
from ngscale.cache.engines import FLAGS
from ngscale.cache.feeding import Level, Served, alone, asked_of, check_room, serve
from ngscale.cache.kept import identity, parts_of_run
from ngscale.cache.measure import (
    Advance,
    Measured,
    Source,
    check_memory,
    log_sizes,
    measure,
    parts,
)
from ngscale.cache.sampling import SampledCurve, Samples
from ngscale.cache.scopes import Scope, scopes
from ngscale.cache.sharding import offsets, splits
from ngscale.config_reader import read_config
from ngscale.errors import NoResultError, UsageError
from ngscale.ngram_config import specs_of
from ngscale.ngram_params import RowDtype, row_bytes, table_width
from ngscale.records import RunRecord
from ngscale.spec import NgramSpec
from ngscale.tiers import anchors
from ngscale.tokens import TokenStream

NUM_SIZES = 41
SPAN = 100_000
"""Largest over smallest size of an exact curve: source code recurs within some hundred rows."""
NUM_SAMPLES = 5
PREFILL_STEP_TOKENS = 4096

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""Opens a progress display with a title and a total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of a target, as they lie in memory."""

    title: str
    config_sha256: str
    model_type: str
    """Of the config.json; empty where it has none."""
    specs: tuple[NgramSpec, ...]
    width: int
    """Columns of a row."""
    dtype: RowDtype
    rows_per_page: int
    """Rows that are read and kept together."""

    @property
    def compressed_vocab(self) -> int | None:
        """Compressed ids that the hash takes (Engram); None where it takes the tokenizer's."""
        return self.specs[0].compressed_vocab

    @property
    def bytes_per_page(self) -> int:
        """Of the rows of a page, scales included."""
        return self.rows_per_page * row_bytes(self.width, self.dtype)

    @property
    def table_bytes(self) -> int:
        """Of all rows stored."""
        stored = sum(spec.physical_rows for spec in self.specs)
        return stored * row_bytes(self.width, self.dtype)


def load(target: str, *, dtype: RowDtype, rows_per_page: int) -> Tables:
    """The tables of a preset or config.json.

    Raises:
        InputError: the target is none, or its config is not understood.
        UsageError: its layers have rows of different widths.
    """
    path = presets.resolve(target)
    reader = read_config(path)
    specs = specs_of(reader)
    known = reader.values.get("hidden_size")
    hidden_size = known if type(known) is int else None
    widths = {table_width(spec, hidden_size) for spec in specs}
    if len(widths) > 1:
        raise UsageError(f"{target}: rows of {sorted(widths)} columns do not share a cache")
    return Tables(
        title=presets.title(target),
        config_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        model_type=str(reader.values.get("model_type", "")),
        specs=specs,
        width=widths.pop(),
        dtype=dtype,
        rows_per_page=rows_per_page,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a trace."""

    levels: tuple[Level, ...]
    targets: tuple[float, ...]
    """Miss ratios to find the smallest cache for."""
    num_ranks: int
    step_tokens: int
    sample: float | None
    """Share of the rows kept; None for all."""
    max_bytes: int | None = None
    """Of what is held of the rows of a scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Where finished scopes are kept, and who is told what is going on."""

    directory: Path
    tell: Callable[[str], object]


def text_source(stream: TokenStream, tables: Tables, order: trace.Order) -> tuple[Source, int]:
    """The trace of a text, and its positions."""
    trace.check_stream(stream, tables.specs, tables.title)
    trace.check_order(stream, order)
    total = min(stream.num_tokens, order.max_tokens)
    return lambda: trace.rows_of_text(stream, tables.specs, order), total


def file_source(path: Path, tables: Tables) -> tuple[Source, int]:
    """The trace of a file, and its positions; the whole file is checked."""
    total = trace.check_file(path, tables.specs)
    return lambda: trace.rows_of_file(path, tables.specs), total


def run(
    source: Source,
    num_positions: int,
    tables: Tables,
    request: Request,
    inputs: Mapping[str, Any],
    progress: Progress,
    keep: Keep,
) -> RunRecord:
    """Measure every scope, feed the tiers, spread over ranks; go on where a run was killed.

    Raises:
        NoResultError: the trace is too short to be cut in two.
        UsageError: a tier is smaller than a page.
        ResourceError: memory or disk is full.
    """
    check_room(request.levels, tables.bytes_per_page)
    if num_positions < 2:
        raise NoResultError(f"a trace of {num_positions} positions has no two halves")
    described = {
        **inputs,
        "target": tables.title,
        "config_sha256": tables.config_sha256,
        "dtype": tables.dtype,
        "rows_per_page": tables.rows_per_page,
        "sample": request.sample,
        "num_ranks": request.num_ranks,
        "step_tokens": request.step_tokens,
        "miss_ratios": list(request.targets),
        "tiers": [
            {**asdict(level.tier), "bytes_held": level.bytes_held} for level in request.levels
        ],
    }
    root = keep.directory / identity({**described, "num_positions": num_positions})
    num_tables = sum(spec.num_tables for spec in tables.specs)
    wanted = scopes(tables.specs)
    names = ["sampled"] if request.sample is not None else [scope.name for scope in wanted]
    with parts_of_run(root, source, (num_positions, num_tables)) as kept:
        if kept.lacks([*names, "ranks"]):
            with progress("positions hashed", num_positions) as advance:
                kept.hash_rows(advance)
        if request.sample is None:
            # The rows of every scope, and those with CLOCK again.
            weights = [len(scope.tables) * (1 + _with_clock(scope)) for scope in wanted]
            with progress("reads of rows", num_positions * sum(weights)) as advance:

                def exact(scope: Scope) -> Callable[[Source], dict[str, Any]]:
                    return lambda rows: _exact_scope(
                        _measured(rows, scope, num_positions, tables, request, advance),
                        tables,
                        request,
                    )

                found = [kept.get(scope.name, exact(scope)) for scope in wanted]
        else:
            wanted = [scope for scope in wanted if scope.kind != "table"]
            reads = num_positions * sum(len(scope.tables) for scope in wanted)
            with progress("reads of rows", reads) as advance:
                found = kept.get(
                    "sampled",
                    lambda rows: _sampled(rows, wanted, num_positions, tables, request, advance),
                )
        split = kept.get("ranks", lambda rows: _ranks(rows, tables, request, num_positions))
    if kept.num_found:
        keep.tell(f"{kept.num_found} parts of {kept.num_asked} were there already")
    results = _results(found, split, tables, request, num_positions)
    return RunRecord(
        verb="cache", answer=_answer(described, results), inputs=described, results=results
    )


def _results(
    found: Sequence[Mapping[str, Any]],
    split: Sequence[Mapping[str, Any]],
    tables: Tables,
    request: Request,
    num_positions: int,
) -> dict[str, Any]:
    num_tokens = num_positions - num_positions // 2
    asked = found[-1]["asked"]
    shape = {
        "num_tokens": num_tokens,
        "bytes_per_page": tables.bytes_per_page,
        "table_bytes": tables.table_bytes,
    }
    served = serve(request.levels, asked, step_tokens=request.step_tokens, **shape)
    return {
        "num_tokens": num_positions,
        "counted_tokens": num_tokens,
        "reads_per_token": asked[0] / num_tokens,
        "bytes_per_row": row_bytes(tables.width, tables.dtype),
        "bytes_per_page": tables.bytes_per_page,
        "table_bytes": tables.table_bytes,
        "table_rows": sum(spec.physical_rows for spec in tables.specs),
        "hashed_vocab": max(spec.vocab_size for spec in tables.specs),
        "scopes": list(found),
        "tiers": [_tier(one) for one in served],
        "devices": [
            {**asdict(one), "tier": one.tier.name} for one in alone(request.levels, asked, **shape)
        ],
        "anchors": _anchors(request.levels),
        "ranks": list(split),
        "offsets": [one._asdict() for one in offsets(tables.specs, tables.width)],
        "engine_flags": _flags(tables, found[-1]["smallest"]),
    }


def _with_clock(scope: Scope) -> bool:
    return scope.kind != "table"


def _measured(
    rows: Source,
    scope: Scope,
    num_positions: int,
    tables: Tables,
    request: Request,
    advance: Advance,
) -> Measured:
    return measure(
        rows,
        scope,
        num_positions=num_positions,
        rows_per_page=tables.rows_per_page,
        with_clock=_with_clock(scope),
        max_bytes=request.max_bytes,
        advance=advance,
    )


def _sampled(
    source: Source,
    wanted: Sequence[Scope],
    num_positions: int,
    tables: Tables,
    request: Request,
    advance: Advance,
) -> list[dict[str, Any]]:
    """Orders and all tables, in one pass."""
    assert request.sample is not None
    samples = [Samples(request.sample, range(1, NUM_SAMPLES + 1)) for _ in wanted]
    half = num_positions // 2
    for start, end, rows in parts(source, [half]):
        for scope, sample in zip(wanted, samples, strict=True):
            if start == half:
                sample.start()
            keys = trace.page_keys(rows, scope.tables, tables.rows_per_page)
            sample.add(keys)
            advance(len(keys))
        held = sum(sample.num_bytes for sample in samples)
        check_memory(held, request.max_bytes, wanted[-1], end)
    return [
        _sampled_scope(scope, sample.curve(), tables, request)
        for scope, sample in zip(wanted, samples, strict=True)
    ]


def _ranks(
    rows: Source, tables: Tables, request: Request, num_positions: int
) -> list[dict[str, Any]]:
    found = splits(
        rows,
        tables.specs,
        num_ranks=request.num_ranks,
        step_tokens=request.step_tokens,
        num_positions=num_positions,
        width=tables.width,
    )
    per_row = row_bytes(tables.width, tables.dtype)
    return [
        {
            **asdict(split),
            "bytes_of_busiest": split.rows_of_busiest * per_row,
            "mean_read_bytes": split.mean_reads * per_row,
            "busiest_read_bytes": split.busiest_reads * per_row,
        }
        for split in found
    ]


def _flags(tables: Tables, smallest: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of the model; a size in MB for the first miss ratio that some cache meets."""
    needed = next((one["lru_bytes"] for one in smallest if one["lru_bytes"] is not None), None)
    return [
        {
            "engine": flag.engine,
            "flag": f"{flag.flag}={-(-needed // 10**6)}" if flag.sized and needed else flag.flag,
            "effect": flag.effect,
            "source": flag.source,
        }
        for flag in FLAGS
        if tables.model_type in flag.model_types
    ]


def _exact_scope(one: Measured, tables: Tables, request: Request) -> dict[str, Any]:
    sizes = log_sizes(one.working_set[-1].so_far, NUM_SIZES, span=SPAN)
    page = tables.bytes_per_page
    curve = [
        {
            "pages": size,
            "bytes": size * page,
            "lru": one.lru.miss_ratio_at(size),
            "hot": one.hot.miss_ratio_at(size),
            "hindsight": one.hindsight.miss_ratio_at(size),
        }
        for size in sizes
    ]
    smallest = []
    for target in request.targets:
        pages = {"lru": one.lru, "hot": one.hot, "hindsight": one.hindsight}
        needed = {name: policy.rows_for(target) for name, policy in pages.items()}
        smallest.append(
            {
                "miss_ratio": target,
                **{f"{name}_pages": found for name, found in needed.items()},
                **{
                    f"{name}_bytes": None if found is None else found * page
                    for name, found in needed.items()
                },
            }
        )
    return {
        **_scope(one.scope),
        "accesses": one.lru.num_accesses,
        "asked": asked_of(request.levels, one.lru, page),
        "distinct_pages": one.lru.distinct,
        "new_share": int(one.histogram[0]) / one.lru.num_accesses,
        "busiest_page_share": 1 - one.hindsight.miss_ratio_at(1),
        "curve": curve,
        "clock": [
            {"pages": size, "clock": ratio, "lru": one.lru.miss_ratio_at(size)}
            for size, ratio in one.clock.items()
        ],
        "smallest": smallest,
        "reuse_distances": _binned(one),
        "working_set": [
            {"tokens": point.tokens, "so_far": point.so_far, "in_interval": point.in_interval}
            for point in one.working_set
        ],
    }


def _binned(one: Measured) -> list[dict[str, Any]]:
    """Share of the accesses by stack distance: 1, 2..3, 4..7, ..."""
    found, start = [], 1
    while start < len(one.histogram):
        end = 2 * start - 1 if start > 1 else 1
        count = int(one.histogram[start : end + 1].sum())
        found.append({"up_to": end, "share": count / one.lru.num_accesses})
        start = end + 1
    return found


def _sampled_scope(
    scope: Scope, curve: SampledCurve, tables: Tables, request: Request
) -> dict[str, Any]:
    page = tables.bytes_per_page
    smallest = []
    for target in request.targets:
        pages = curve.rows_for(target)
        smallest.append(
            {
                "miss_ratio": target,
                "lru_pages": pages,
                "lru_bytes": None if pages is None else pages * page,
            }
        )
    return {
        **_scope(scope),
        "accesses": curve.num_accesses,
        "asked": asked_of(request.levels, curve, page),
        "distinct_pages": curve.distinct,
        "curve": [
            {
                "pages": size,
                "bytes": size * page,
                "lru": curve.miss_ratio_at(size),
                "lru_half_width": curve.half_width_at(size),
            }
            for size in log_sizes(curve.distinct, NUM_SIZES)
        ],
        "smallest": smallest,
    }


def _scope(scope: Scope) -> dict[str, Any]:
    return {"scope": scope.name, "kind": scope.kind, "order": scope.order}


def _tier(served: Served) -> dict[str, Any]:
    level = served.level
    return {
        "name": level.tier.name,
        "bytes_held": level.bytes_held,
        "rows_asked": served.rows_asked,
        "bytes_asked": served.bytes_asked,
        "rows_served": served.rows_served,
        "bytes_moved": served.bytes_moved,
        "bound_by": served.bound_by,
        "max_tokens_per_s": served.max_tokens_per_s,
        "step_s": served.step_s,
        "fits": served.fits,
        "validated": served.validated,
        "source": level.tier.source,
    }


def _anchors(levels: Sequence[Level]) -> list[dict[str, Any]]:
    return [
        {
            "tier": level.tier.name,
            "name": anchor.name,
            "source": anchor.source,
            "slow_down": anchor.slow_down,
            "predicted": anchor.predicted,
            "ratio": anchor.ratio,
        }
        for level in levels
        for anchor in anchors(level.tier)
    ]


def _answer(inputs: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The one sentence: what a cache can hold and needs, and which tier saturates first."""
    from ngscale.units import format_bytes, format_count, format_share

    whole = results["scopes"][-1]
    text = (inputs.get("corpus") or inputs["trace"])["name"]
    turns = f", decoded {n} at a time" if (n := inputs.get("concurrency", 1)) > 1 else ""
    target = whole["smallest"][0]
    share, held = format_share(target["miss_ratio"]), target["lru_bytes"]
    if held is None:
        least = format_share(whole["curve"][-1]["lru"])
        kept = f"an LRU cache misses {least} of the reads at any size, so never at most {share}"
    else:
        kept = f"an LRU cache of {format_bytes(held)} misses at most {share} of the reads"
        if (hot := target.get("hot_bytes")) is not None:
            kept += f", a hot set ranked by the text before needs {format_bytes(hot)}"
    if (new := whole.get("new_share")) is not None:
        kept = f"{format_share(new)} of the reads are of rows never read before; {kept}"
    first = min(
        (one for one in results["tiers"] if one["max_tokens_per_s"] is not None),
        key=lambda one: float(one["max_tokens_per_s"]),
    )
    flag = "" if first["validated"] else " (not validated)"
    return (
        f"{inputs['target']} on {results['num_tokens']:,} tokens of {text}{turns}: "
        f"{kept}; with the tiers given, {first['name']} saturates first, at "
        f"{format_count(first['max_tokens_per_s'])} tokens/s{flag}."
    )
