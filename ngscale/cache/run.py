"""A design, a trace and tiers of memory -> a record."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ngscale import presets
from ngscale.cache import trace
from ngscale.cache.engines import FLAGS
from ngscale.cache.feeding import Level, MissCurve, Served, serve
from ngscale.cache.measure import Measured, Source, log_sizes, measure, parts
from ngscale.cache.sampling import SampledCurve, Samples
from ngscale.cache.scopes import Scope, scopes
from ngscale.cache.sharding import splits
from ngscale.config_reader import read_config
from ngscale.errors import NoResultError, UsageError
from ngscale.ngram_config import specs_of
from ngscale.ngram_params import RowDtype, row_bytes, table_width
from ngscale.records import RunRecord
from ngscale.spec import NgramSpec
from ngscale.tiers import anchors
from ngscale.tokens import TokenStream

NUM_SIZES = 41
NUM_SAMPLES = 5
PREFILL_STEP_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of a target, as they lie in memory."""

    title: str
    config_sha256: str
    specs: tuple[NgramSpec, ...]
    width: int
    """Columns of a row."""
    dtype: RowDtype
    rows_per_page: int
    """Rows that are read and kept together."""

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


def text_source(stream: TokenStream, tables: Tables, order: trace.Order) -> tuple[Source, int]:
    """The trace of a text, and its positions."""
    trace.check_stream(stream, tables.specs, tables.title)
    total = min(stream.num_tokens, order.max_tokens)
    return lambda: trace.rows_of_text(stream, tables.specs, order), total


def file_source(path: Path, tables: Tables) -> tuple[Source, int]:
    """The trace of a file, and its positions; the whole file is checked."""
    total = sum(len(rows) for rows in trace.rows_of_file(path, tables.specs))
    return lambda: trace.rows_of_file(path, tables.specs), total


def run(
    source: Source,
    num_positions: int,
    tables: Tables,
    request: Request,
    inputs: Mapping[str, Any],
) -> RunRecord:
    """Measure every scope, feed the tiers, spread over ranks.

    Raises:
        NoResultError: the trace is too short to be cut in two.
    """
    if num_positions < 2:
        raise NoResultError(f"a trace of {num_positions} positions has no two halves")
    num_tokens = num_positions - num_positions // 2
    if request.sample is None:
        measured = list(_exact(source, num_positions, tables))
        found = [_exact_scope(one, tables, request) for one in measured]
        whole: MissCurve = measured[-1].lru
    else:
        curves = _sampled(source, num_positions, tables, request.sample)
        found = [_sampled_scope(scope, curve, tables, request) for scope, curve in curves]
        whole = curves[-1][1]
    served = serve(
        request.levels,
        whole,
        num_tokens=num_tokens,
        bytes_per_page=tables.bytes_per_page,
        table_bytes=tables.table_bytes,
    )
    shards = splits(
        source,
        tables.specs,
        num_ranks=request.num_ranks,
        step_tokens=request.step_tokens,
        num_positions=num_positions,
        width=tables.width,
    )
    bytes_per_row = row_bytes(tables.width, tables.dtype)
    results = {
        "num_tokens": num_positions,
        "counted_tokens": num_tokens,
        "reads_per_token": whole.num_accesses / num_tokens,
        "bytes_per_row": bytes_per_row,
        "bytes_per_page": tables.bytes_per_page,
        "table_bytes": tables.table_bytes,
        "table_rows": sum(spec.physical_rows for spec in tables.specs),
        "scopes": found,
        "tiers": [_tier(one) for one in served],
        "anchors": _anchors(request.levels),
        "ranks": [
            {
                **asdict(split),
                "bytes_of_busiest": split.rows_of_busiest * bytes_per_row,
                "busiest_read_bytes": split.busiest_reads * bytes_per_row,
            }
            for split in shards
        ],
        "engine_flags": [flag._asdict() for flag in FLAGS],
    }
    described = {
        "target": tables.title,
        "config_sha256": tables.config_sha256,
        "dtype": tables.dtype,
        "rows_per_page": tables.rows_per_page,
        "sample": request.sample,
        "num_ranks": request.num_ranks,
        "step_tokens": request.step_tokens,
        "tiers": [
            {**asdict(level.tier), "bytes_held": level.bytes_held} for level in request.levels
        ],
    }
    return RunRecord(
        verb="cache",
        answer=_answer(found[-1], tables, served),
        inputs={**inputs, **described},
        results=results,
    )


def _exact(source: Source, num_positions: int, tables: Tables) -> Iterator[Measured]:
    for scope in scopes(tables.specs):
        yield measure(
            source,
            scope,
            num_positions=num_positions,
            rows_per_page=tables.rows_per_page,
            with_clock=scope.kind != "table",
        )


def _sampled(
    source: Source, num_positions: int, tables: Tables, rate: float
) -> list[tuple[Scope, SampledCurve]]:
    """Orders and all tables, in one pass."""
    wanted = [scope for scope in scopes(tables.specs) if scope.kind != "table"]
    samples = [Samples(rate, range(1, NUM_SAMPLES + 1)) for _ in wanted]
    half = num_positions // 2
    for start, _, rows in parts(source, [half]):
        for scope, sample in zip(wanted, samples, strict=True):
            if start == half:
                sample.start()
            sample.add(trace.page_keys(rows, scope.tables, tables.rows_per_page))
    return [(scope, sample.curve()) for scope, sample in zip(wanted, samples, strict=True)]


def _exact_scope(one: Measured, tables: Tables, request: Request) -> dict[str, Any]:
    sizes = log_sizes(one.working_set[-1].so_far, NUM_SIZES)
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
        "rows_served": served.rows_served,
        "bytes_moved": served.bytes_moved,
        "bound_by": served.bound_by,
        "max_tokens_per_s": served.max_tokens_per_s,
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


def _answer(whole: Mapping[str, Any], tables: Tables, served: Sequence[Served]) -> str:
    """The one sentence: what a cache needs, and which tier saturates first."""
    from ngscale.units import format_bytes, format_count, format_share

    target = whole["smallest"][0]
    share, held = format_share(target["miss_ratio"]), target["lru_bytes"]
    if held is None:
        least = format_share(whole["curve"][-1]["lru"])
        kept = f"an LRU cache misses {least} of the reads at any size, so never at most {share}"
    else:
        kept = f"an LRU cache of {format_bytes(held)} misses at most {share} of the reads"
    first = min(
        (one for one in served if one.max_tokens_per_s is not None),
        key=lambda one: one.max_tokens_per_s or 0.0,
    )
    flag = "" if first.validated else " (not validated)"
    return (
        f"Rows of {tables.title} on this text: {kept}; with the tiers given, "
        f"{first.level.tier.name} saturates first, at "
        f"{format_count(first.max_tokens_per_s or 0.0)} tokens/s{flag}."
    )
