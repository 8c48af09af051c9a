"""A record of ``ngscale cache`` as a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.tiers import MAX_MISS
from ngscale.units import format_bytes, format_count

_POLICIES = (("lru", "LRU"), ("hot", "hot set"), ("hindsight", "best hot set in hindsight"))


def build_report(record: RunRecord) -> Report:
    """Curves, smallest caches, tiers, working set, ranks, engines."""
    found = record.results
    scopes = found["scopes"]
    exact = "working_set" in scopes[-1]
    sections = [_curves(scopes, found, exact), _smallest(scopes, exact), _tiers(found)]
    if exact:
        sections += [_working_set(scopes), _reuse(scopes)]
    sections += [_ranks(found, record.inputs), _engines(found)]
    return Report(
        title=f"Caches for the rows of {record.inputs['target']}",
        answer=record.answer,
        sections=tuple(sections),
    )


def _shown(scopes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Orders and all tables; single tables are in the data."""
    return [scope for scope in scopes if scope["kind"] != "table"]


def _curves(scopes: Sequence[Mapping[str, Any]], found: Mapping[str, Any], exact: bool) -> Section:
    rows = [{"scope": scope["scope"], **point} for scope in scopes for point in scope["curve"]]
    columns = [
        Column(key="scope", title="cache of"),
        Column(key="pages", title="pages", spec=",d"),
        Column(key="bytes", title="bytes", spec=",d"),
        Column(key="lru", title="LRU", spec=".4f"),
    ]
    figures = [_figure("miss_ratio", _shown(scopes), "lru", "LRU", intervals=not exact)]
    tables = []
    if exact:
        columns += [Column(key=key, title=title, spec=".4f") for key, title in _POLICIES[1:]]
        figures.append(_policies(scopes[-1]))
        clock = [{"scope": s["scope"], **point} for s in _shown(scopes) for point in s["clock"]]
        tables.append(
            Table(
                name="clock",
                title="CLOCK, simulated at a few sizes: miss ratio",
                columns=(
                    Column(key="scope", title="cache of"),
                    Column(key="pages", title="pages", spec=",d"),
                    Column(key="clock", title="CLOCK", spec=".4f"),
                    Column(key="lru", title="LRU", spec=".4f"),
                ),
                rows=clock,
            )
        )
    else:
        columns.append(Column(key="lru_half_width", title="95% +-", spec=".4f"))
    tables.append(
        Table(
            name="curves",
            title="Miss ratio by cache size",
            columns=tuple(columns),
            rows=rows,
            terminal=False,
        )
    )
    how = (
        "LRU curves are exact at every size (stack distances)."
        if exact
        else "LRU curves are estimated from samples of the rows (SHARDS), with 95% intervals."
    )
    return Section(
        heading="Miss ratio",
        paragraphs=(
            f"{found['num_tokens']:,} tokens read {found['reads_per_token']:.2f} pages each, of "
            f"{found['bytes_per_page']:,} bytes; the first half warms the caches and ranks the "
            f"hot set, the second half ({found['counted_tokens']:,} tokens) is counted. {how} "
            "They are of this text at this length: a longer one meets rows again that this one "
            "meets once.",
        ),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _figure(
    name: str, scopes: Sequence[Mapping[str, Any]], key: str, title: str, *, intervals: bool
) -> Figure:
    series = []
    for scope in scopes:
        y = [point[key] for point in scope["curve"]]
        wide = [point["lru_half_width"] for point in scope["curve"]] if intervals else None
        series.append(
            Series(
                label=scope["scope"],
                x=[point["bytes"] for point in scope["curve"]],
                y=y,
                low=[a - b for a, b in zip(y, wide, strict=True)] if wide else None,
                high=[a + b for a, b in zip(y, wide, strict=True)] if wide else None,
            )
        )
    panel = Panel(
        title=title,
        x_label="bytes of the cache",
        y_label="miss ratio",
        series=tuple(series),
        x_log=True,
    )
    return Figure(
        name=name, caption="Share of the reads that miss, by cache size and order.", panels=(panel,)
    )


def _policies(scope: Mapping[str, Any]) -> Figure:
    x = [point["bytes"] for point in scope["curve"]]
    series = [
        Series(label=title, x=x, y=[point[key] for point in scope["curve"]])
        for key, title in _POLICIES
    ]
    clock = {point["pages"]: point["clock"] for point in scope["clock"]}
    page = scope["curve"][0]["bytes"] / scope["curve"][0]["pages"]
    series.append(
        Series(
            label="CLOCK",
            x=[pages * page for pages in clock],
            y=list(clock.values()),
            style="points",
        )
    )
    panel = Panel(
        title=scope["scope"],
        x_label="bytes of the cache",
        y_label="miss ratio",
        series=tuple(series),
        x_log=True,
    )
    return Figure(
        name="policies",
        caption="One cache for all tables, by policy; the hot set is ranked by the text before.",
        panels=(panel,),
    )


def _smallest(scopes: Sequence[Mapping[str, Any]], exact: bool) -> Section:
    policies = _POLICIES if exact else _POLICIES[:1]
    rows = [
        {
            "scope": scope["scope"],
            "miss_ratio": point["miss_ratio"],
            **{
                key: "none" if (held := point[f"{key}_bytes"]) is None else format_bytes(held)
                for key, _ in policies
            },
        }
        for scope in scopes
        for point in scope["smallest"]
    ]
    columns = (
        Column(key="scope", title="cache of"),
        Column(key="miss_ratio", title="at most", spec=".0%"),
        *(Column(key=key, title=title) for key, title in policies),
    )
    shown = {scope["scope"] for scope in _shown(scopes)}
    return Section(
        heading="The smallest cache for a miss ratio",
        paragraphs=(
            "none: no size does, because too many of the reads are the first of their row.",
        ),
        tables=(
            Table(
                name="smallest",
                title="Bytes needed",
                columns=columns,
                rows=[row for row in rows if row["scope"] in shown],
            ),
            Table(
                name="smallest_all",
                title="Bytes needed, single tables too",
                columns=columns,
                rows=rows,
                terminal=False,
            ),
        ),
    )


def _tiers(found: Mapping[str, Any]) -> Section:
    rows = [
        {
            **tier,
            "held": "the rest" if tier["bytes_held"] is None else format_bytes(tier["bytes_held"]),
            "rate": "never"
            if tier["max_tokens_per_s"] is None
            else format_count(tier["max_tokens_per_s"]),
            "checked": "within 3x" if tier["validated"] else "not validated",
            "room": "fits" if tier["fits"] else "does not fit",
        }
        for tier in found["tiers"]
    ]
    columns = (
        Column(key="name", title="tier"),
        Column(key="held", title="holds"),
        Column(key="room", title="tables"),
        Column(key="rows_asked", title="pages asked/token", spec=".3f"),
        Column(key="rows_served", title="served/token", spec=".3f"),
        Column(key="bytes_moved", title="bytes moved/token", spec=",.0f"),
        Column(key="rate", title="saturates at tokens/s"),
        Column(key="bound_by", title="bound by"),
        Column(key="checked", title="against measurements"),
    )
    anchors = (
        Table(
            name="anchors",
            title="Published slow-downs, and what the same numbers predict",
            columns=(
                Column(key="tier", title="tier"),
                Column(key="name", title="what"),
                Column(key="slow_down", title="published", spec=".2%"),
                Column(key="predicted", title="predicted", spec=".2%"),
                Column(key="ratio", title="ratio", spec=".2f"),
                Column(key="source", title="source"),
            ),
            rows=found["anchors"],
        ),
    )
    sources = tuple(f"{tier['name']}: {tier['source']}." for tier in found["tiers"])
    return Section(
        heading="Tiers of memory",
        paragraphs=(
            "Each tier holds the pages used last that the tiers before it do not (LRU, exclusive). "
            "A token's reads take the longest of bytes, reads a second and latency; nothing is "
            "hidden behind computing. A tier is 'not validated' where no published slow-down of "
            f"its kind is predicted within a factor of {MAX_MISS}.",
            *sources,
        ),
        tables=(
            Table(name="tiers", title="What each tier serves", columns=columns, rows=rows),
            *(anchors if found["anchors"] else ()),
        ),
    )


def _working_set(scopes: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        {"scope": scope["scope"], **point} for scope in scopes for point in scope["working_set"]
    ]
    panels = tuple(
        Panel(
            title=title,
            x_label="tokens",
            y_label="distinct pages",
            series=tuple(
                Series(
                    label=scope["scope"],
                    x=[point["tokens"] for point in scope["working_set"]],
                    y=[point[key] for point in scope["working_set"]],
                )
                for scope in _shown(scopes)
            ),
        )
        for key, title in (("so_far", "so far"), ("in_interval", "in the last interval"))
    )
    return Section(
        heading="Working set",
        figures=(
            Figure(name="working_set", caption="Distinct pages read over time.", panels=panels),
        ),
        tables=(
            Table(
                name="working_set",
                title="Distinct pages over time",
                columns=(
                    Column(key="scope", title="cache of"),
                    Column(key="tokens", title="tokens", spec=",d"),
                    Column(key="so_far", title="so far", spec=",d"),
                    Column(key="in_interval", title="in interval", spec=",d"),
                ),
                rows=rows,
                terminal=False,
            ),
        ),
    )


def _reuse(scopes: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        {"scope": scope["scope"], **point} for scope in scopes for point in scope["reuse_distances"]
    ]
    panel = Panel(
        title="Reuse distance",
        x_label="distinct pages since the last read, up to",
        y_label="share of the reads",
        series=tuple(
            Series(
                label=scope["scope"],
                x=[point["up_to"] for point in scope["reuse_distances"]],
                y=[point["share"] for point in scope["reuse_distances"]],
            )
            for scope in _shown(scopes)
        ),
        x_log=True,
    )
    new = ", ".join(f"{scope['new_share']:.1%} of {scope['scope']}" for scope in _shown(scopes))
    return Section(
        heading="Reuse distance",
        paragraphs=(f"Reads of pages never read before: {new}.",),
        figures=(
            Figure(
                name="reuse",
                caption="Reads by the distinct pages since the same page was read.",
                panels=(panel,),
            ),
        ),
        tables=(
            Table(
                name="reuse",
                title="Share of the reads by reuse distance",
                columns=(
                    Column(key="scope", title="cache of"),
                    Column(key="up_to", title="up to", spec=",d"),
                    Column(key="share", title="share", spec=".4f"),
                ),
                rows=rows,
                terminal=False,
            ),
        ),
    )


def _ranks(found: Mapping[str, Any], inputs: Mapping[str, Any]) -> Section:
    rows = [
        {
            **split,
            "offsets": "64 bits" if split["wide_offsets"] else "32 bits",
            "stored": format_bytes(split["bytes_of_busiest"]),
        }
        for split in found["ranks"]
    ]
    return Section(
        heading=f"{inputs['num_ranks']} ranks, steps of {inputs['step_tokens']:,} tokens",
        paragraphs=(
            "By tables: table i on rank i modulo the ranks. By rows: a range of every table on "
            "every rank. Copies: all rows everywhere, tokens in turn. Skew is the busiest rank's "
            "share of all reads over an equal share.",
        ),
        tables=(
            Table(
                name="ranks",
                title="Of the busiest rank",
                columns=(
                    Column(key="name", title="split by"),
                    Column(key="rows_of_busiest", title="rows", spec=",d"),
                    Column(key="stored", title="bytes"),
                    Column(key="mean_reads", title="mean reads/step", spec=",.1f"),
                    Column(key="busiest_reads", title="busiest reads/step", spec=",.1f"),
                    Column(key="busiest_read_bytes", title="bytes read/step", spec=",.0f"),
                    Column(key="skew", title="skew", spec=".3f"),
                    Column(key="offsets", title="offsets need"),
                ),
                rows=rows,
            ),
        ),
    )


def _engines(found: Mapping[str, Any]) -> Section:
    return Section(
        heading="Flags of engines",
        paragraphs=("All or nothing: none of these sources names a size of a hot set.",),
        tables=(
            Table(
                name="engine_flags",
                title="Where engines put rows",
                columns=(
                    Column(key="engine", title="engine"),
                    Column(key="flag", title="flag"),
                    Column(key="models", title="models"),
                    Column(key="effect", title="effect"),
                    Column(key="source", title="source"),
                ),
                rows=found["engine_flags"],
            ),
        ),
    )
