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
    sections = [
        _curves(scopes, found, record.inputs, exact),
        _smallest(scopes, exact),
        _tiers(found, record.inputs["step_tokens"]),
        _devices(found),
    ]
    if exact:
        sections += [_working_set(scopes), _reuse(scopes)]
    sections += [_ranks(found, record.inputs), _offsets(found), _engines(found, record.inputs)]
    return Report(
        title=f"Caches for the rows of {record.inputs['target']}",
        answer=record.answer,
        sections=tuple(sections),
    )


def _shown(scopes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Orders and all tables; single tables are in the data."""
    return [scope for scope in scopes if scope["kind"] != "table"]


def _curves(
    scopes: Sequence[Mapping[str, Any]],
    found: Mapping[str, Any],
    inputs: Mapping[str, Any],
    exact: bool,
) -> Section:
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
            *_other_tokenizer(found, inputs),
        ),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _other_tokenizer(found: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[str]:
    """A caveat where fewer ids can occur than the design hashes."""
    ids = inputs.get("ids")
    if ids is None or ids == found["hashed_vocab"]:
        return []
    return [
        f"The text has {ids:,} ids and the design hashes {found['hashed_vocab']:,}: this is its "
        "layout read by another tokenizer, whose n-grams recur more or less often than its own."
    ]


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


def _tiers(found: Mapping[str, Any], step_tokens: int) -> Section:
    rows = [
        {
            **tier,
            "held": "the rest" if tier["bytes_held"] is None else format_bytes(tier["bytes_held"]),
            "rate": _rate(tier["max_tokens_per_s"]),
            "step_us": 1e6 * tier["step_s"],
            "checked": _checked(tier),
            "room": "fits" if tier["fits"] else "does not fit",
        }
        for tier in found["tiers"]
    ]
    columns = (
        Column(key="name", title="tier"),
        Column(key="held", title="holds"),
        Column(key="room", title="room"),
        Column(key="rows_asked", title="rows missed to it/token", spec=".3f"),
        Column(key="bytes_asked", title="bytes missed to it/token", spec=",.0f"),
        Column(key="rows_served", title="rows served/token", spec=".3f"),
        Column(key="bytes_moved", title="bytes moved/token", spec=",.0f"),
        Column(key="rate", title="saturates at tokens/s"),
        Column(key="bound_by", title="bound by"),
        Column(key="step_us", title=f"us a step of {step_tokens:,}", spec=",.1f"),
        Column(key="checked", title="against measurements"),
    )
    anchors = (
        Table(
            name="anchors",
            title="Published slow-downs, and what the same numbers predict",
            columns=(
                Column(key="tier", title="tier"),
                Column(key="name", title="what"),
                Column(key="lost", title="tokens/s lost", spec=".2%"),
                Column(key="slow_down", title="as time/token", spec=".2%"),
                Column(key="predicted", title="predicted", spec=".2%"),
                Column(key="ratio", title="ratio", spec=".2f"),
                Column(key="source", title="source"),
            ),
            rows=[
                {**anchor, "lost": anchor["slow_down"] / (1 + anchor["slow_down"])}
                for anchor in found["anchors"]
            ],
        ),
    )
    sources = tuple(f"{tier['name']}: {tier['source']}." for tier in found["tiers"])
    return Section(
        heading="Tiers of memory",
        paragraphs=(
            "Each tier holds the pages used last that the tiers before it do not (LRU, exclusive). "
            "A token's reads take the longest of bytes, reads a second and latency; a step takes "
            "those of its tokens and one latency, nothing hidden behind computing. A tier is 'not "
            "validated' where no published slow-down of its kind is predicted within a factor of "
            f"{MAX_MISS}.",
            *sources,
        ),
        tables=(
            Table(name="tiers", title="What each tier serves", columns=columns, rows=rows),
            *(anchors if found["anchors"] else ()),
        ),
    )


def _rate(tokens_per_s: float | None) -> str:
    return "never" if tokens_per_s is None else format_count(tokens_per_s)


def _checked(tier: Mapping[str, Any]) -> str:
    return f"within {MAX_MISS}x" if tier["validated"] else "not validated"


def _devices(found: Mapping[str, Any]) -> Section:
    first = found["tiers"][0]
    behind = f"behind {first['name']}"
    rows = [
        {
            **device,
            "room": "fits" if device["fits"] else "does not fit",
            "alone": _rate(device["alone_tokens_per_s"]),
            "behind": _rate(device["behind_tokens_per_s"]),
            "checked": _checked(device),
        }
        for device in found["devices"]
    ]
    held = "all rows" if first["bytes_held"] is None else format_bytes(first["bytes_held"])
    return Section(
        heading="Every kind of memory",
        paragraphs=(
            f"All tables in one kind of memory: with no cache before it, and behind {held} of "
            f"{first['name']}.",
        ),
        tables=(
            Table(
                name="devices",
                title="Where a memory that holds every row saturates, in tokens/s",
                columns=(
                    Column(key="tier", title="memory"),
                    Column(key="room", title="tables"),
                    Column(key="alone_bytes", title="bytes/token alone", spec=",.0f"),
                    Column(key="alone", title="tokens/s alone"),
                    Column(key="behind_bytes", title=f"bytes/token {behind}", spec=",.0f"),
                    Column(key="behind", title=f"tokens/s {behind}"),
                    Column(key="checked", title="against measurements"),
                ),
                rows=rows,
            ),
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
    every = [
        {
            "name": split["name"],
            "rank": number,
            **rank,
            "bytes": rank["rows"] * found["bytes_per_row"],
        }
        for split in found["ranks"]
        for number, rank in enumerate(split["ranks"])
    ]
    hottest = [
        f"{scope['scope']} {scope['busiest_page_share']:.2%}"
        for scope in _shown(found["scopes"])
        if "busiest_page_share" in scope
    ]
    skew = (
        f"The one page read most has this share of the reads: {', '.join(hottest)}."
        if hottest
        else "A sample of the rows does not tell which is read most."
    )
    return Section(
        heading=f"{inputs['num_ranks']} ranks, steps of {inputs['step_tokens']:,} tokens",
        paragraphs=(
            "Head-split: table i on rank i modulo the ranks. Row-split: a range of every table on "
            "every rank. Replicated: all rows everywhere, tokens in turn. Skew is the busiest "
            f"rank's share of all reads over an equal share. {skew}",
        ),
        tables=(
            Table(
                name="ranks",
                title="Of the busiest rank",
                columns=(
                    Column(key="name", title="split by"),
                    Column(key="rows_of_busiest", title="rows", spec=",d"),
                    Column(key="stored", title="bytes"),
                    Column(key="mean_reads", title="mean rows/step", spec=",.1f"),
                    Column(key="mean_read_bytes", title="mean bytes/step", spec=",.0f"),
                    Column(key="busiest_reads", title="most rows/step", spec=",.1f"),
                    Column(key="busiest_read_bytes", title="most bytes/step", spec=",.0f"),
                    Column(key="skew", title="skew", spec=".3f"),
                    Column(key="offsets", title="offsets need"),
                ),
                rows=rows,
            ),
            Table(
                name="every_rank",
                title="Of every rank",
                columns=(
                    Column(key="name", title="split by"),
                    Column(key="rank", title="rank"),
                    Column(key="rows", title="rows", spec=",d"),
                    Column(key="bytes", title="bytes", spec=",d"),
                    Column(key="mean_reads", title="rows/step", spec=",.1f"),
                ),
                rows=every,
                terminal=False,
            ),
        ),
    )


def _offsets(found: Mapping[str, Any]) -> Section:
    wide = [one["stored"] for one in found["offsets"] if one["wide"]]
    if len(wide) == len(found["offsets"]):
        what = "every one of these needs 64"
    else:
        what = f"64 are needed by {', '.join(wide)}" if wide else "none of these needs more"
    return Section(
        heading="32-bit offsets",
        paragraphs=(
            f"A row begins at its id times the columns; 32 bits reach 2^31 elements: {what}.",
        ),
        tables=(
            Table(
                name="offsets",
                title="Elements stored as one",
                columns=(
                    Column(key="stored", title="stored as one"),
                    Column(key="rows", title="rows", spec=",d"),
                    Column(key="elements", title="rows x columns", spec=",d"),
                    Column(key="wide", title="over 2^31"),
                ),
                rows=[{**one, "wide": "yes" if one["wide"] else "no"} for one in found["offsets"]],
            ),
        ),
    )


def _engines(found: Mapping[str, Any], inputs: Mapping[str, Any]) -> Section:
    if not found["engine_flags"]:
        return Section(
            heading="Flags of engines",
            paragraphs=(f"We know of no documented flag for {inputs['target']}.",),
        )
    return Section(
        heading="Flags of engines",
        paragraphs=(
            "All or nothing, where a flag takes no size; a size is that of the smallest LRU cache "
            "above, with rows of the type given here.",
        ),
        tables=(
            Table(
                name="engine_flags",
                title="Where engines put rows",
                columns=(
                    Column(key="engine", title="engine"),
                    Column(key="flag", title="flag"),
                    Column(key="effect", title="effect"),
                    Column(key="source", title="source"),
                ),
                rows=found["engine_flags"],
            ),
        ),
    )
