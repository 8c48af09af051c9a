"""The record of ``train-small`` -> what a person reads."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ngscale.conclusive import MIN_SEEDS, MIN_TOKENS_PER_ACTIVE_PARAMETER
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.train_small.comparison import MIN_EQUIVALENCE_SEEDS

_METHOD = (
    "Arms: the design; equivalent-moe, the same backbone with the tables' parameters in more "
    "experts; capacity-1, the design with tables of one row, a constant vector; unigram-tables, "
    "the same tables read at the current token alone; base-moe, the backbone without tables, with "
    "fewer parameters. The arms of a seed see the same batches and start from equal weights "
    "wherever they share a tensor; held-out text is chosen by hash and never trained on.",
    "equivalent: two one-sided paired t-tests at the margin, at 5%, with at least "
    f"{MIN_EQUIVALENCE_SEEDS} seeds; else better or worse: the two-sided one, with at least "
    f"{MIN_SEEDS}; undecided: all else. p-values are adjusted for the number of comparisons "
    "(Holm); intervals are of one comparison alone. The run as a whole concludes nothing below "
    f"{MIN_SEEDS} seeds or {MIN_TOKENS_PER_ACTIVE_PARAMETER} tokens per active parameter. More "
    "seeds after a look at the verdict would not keep the 5%.",
    "equivalent-moe has no amplification; where the design has one, capacity-1 isolates it.",
)


def build_report(record: RunRecord) -> Report:
    """Verdicts, then curves and use candidate by candidate."""
    parts = _parts(record)
    comparisons = [
        {**item, "arm": _label(name, item["baseline"])}
        for name, part in parts.items()
        for item in part["comparisons"]
    ]
    several = len(parts) > 1
    sections = [
        Section(
            heading="Does the design win?",
            paragraphs=_METHOD,
            figures=(_difference_figure(comparisons),),
            tables=(_comparison_table(comparisons, record.inputs["margin_nats"]),),
        )
    ]
    for name, part in parts.items():
        sections += _part_sections(name, part, several=several)
    return Report(
        title="Small training runs",
        answer=record.answer,
        sections=tuple(sections),
        configs={
            name or "design": next(arm for arm in part["arms"] if arm["name"] == "design")["config"]
            for name, part in parts.items()
        },
    )


def _parts(record: RunRecord) -> dict[str, Mapping[str, Any]]:
    """What was found of every candidate, by name."""
    if "candidates" in record.results:
        return {part["name"]: part for part in record.results["candidates"]}
    return {"": record.results}


def _label(candidate: str, role: str) -> str:
    return f"{candidate}: {role}" if candidate else role


def _part_sections(name: str, part: Mapping[str, Any], *, several: bool) -> list[Section]:
    runs, arms = part["runs"], [arm["name"] for arm in part["arms"]]
    mark = f"-{name}" if several else ""
    of = f" of {name}" if several else ""
    tables = (_loss_table(runs, arms), _run_table(runs), *_curve_tables(runs), _seen_table(runs))
    return [
        Section(
            heading=f"Losses{of}",
            figures=(_curves(f"losses{mark}", runs, arms),),
            tables=tuple(_renamed(table, mark) for table in tables),
        ),
        Section(
            heading=f"What was reached{of}",
            tables=(
                _renamed(_use_table(runs), mark),
                _renamed(_load_table(runs), mark),
            ),
        ),
        Section(
            heading=f"What was compared{of}",
            paragraphs=_shrunk_paragraphs(part["shrunk"]),
            tables=(
                _renamed(_arm_table(part["arms"]), mark),
                _renamed(_group_table(part["arms"]), mark),
                *([_renamed(_kept_table(part["shrunk"]), mark)] if part["shrunk"] else []),
            ),
        ),
    ]


def _renamed(table: Table, mark: str) -> Table:
    return replace(table, name=f"{table.name}{mark}")


def _shrunk_paragraphs(shrunk: Mapping[str, Any] | None) -> tuple[str, ...]:
    if shrunk is None:
        return ()
    return (
        "The design was too big to be trained here: this is its proxy, with "
        f"{shrunk['resonance']}. Not kept: " + " ".join(shrunk["lost"]),
    )


def _kept_table(shrunk: Mapping[str, Any]) -> Table:
    return Table(
        name="proxy",
        title="The design and its proxy",
        columns=(
            Column(key="name", title="quantity"),
            Column(key="design", title="design", spec=",.10g"),
            Column(key="proxy", title="proxy", spec=",.10g"),
        ),
        rows=shrunk["kept"],
    )


def _comparison_table(comparisons: Sequence[Mapping[str, Any]], margin: float) -> Table:
    return Table(
        name="comparisons",
        title="Held-out loss, design minus baseline (nats/token, negative is better; "
        f"equivalent within {margin:g})",
        columns=(
            Column(key="arm", title="baseline"),
            Column(key="verdict", title="verdict"),
            Column(key="mean_difference", title="mean difference", spec="+.4f"),
            Column(key="low", title="95% low", spec="+.4f"),
            Column(key="high", title="95% high", spec="+.4f"),
            Column(key="num_seeds", title="seeds"),
            Column(key="sd", title="sd", spec=".4f"),
            Column(key="p_value", title="p", spec=".2g"),
            Column(key="holm_p_value", title="p (Holm)", spec=".2g"),
            Column(key="holm_equivalence_p_value", title="p of a margin (Holm)", spec=".2g"),
            Column(key="detectable_difference", title="detectable", spec=".4f"),
        ),
        rows=comparisons,
    )


def _loss_table(runs: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Table:
    return Table(
        name="losses",
        title="Held-out loss after the last step, over seeds",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="mean_nats", title="nats/token", spec=".4f"),
            Column(key="sd_nats", title="sd", spec=".4f"),
            Column(key="mean_bits_per_byte", title="bits/byte", spec=".4f"),
            Column(key="num_seeds", title="seeds"),
        ),
        rows=[_loss_row(arm, [run for run in runs if run["arm"] == arm]) for arm in arms],
    )


def _loss_row(arm: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    nats = [run["val_loss_nats"] for run in runs]
    bits = [run["val_bits_per_byte"] for run in runs]
    return {
        "arm": arm,
        "mean_nats": statistics.fmean(nats),
        "sd_nats": statistics.stdev(nats) if len(nats) > 1 else None,
        "mean_bits_per_byte": None if None in bits else statistics.fmean(bits),
        "num_seeds": len(nats),
    }


def _run_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="runs",
        title="Every run",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="seed", title="seed"),
            Column(key="tokens", title="tokens", spec=","),
            Column(key="val_loss_nats", title="nats/token", spec=".4f"),
            Column(key="val_bits_per_byte", title="bits/byte", spec=".4f"),
        ),
        rows=runs,
        terminal=False,
    )


def _curve_tables(runs: Sequence[Mapping[str, Any]]) -> list[Table]:
    return [
        Table(
            name=curve,
            title=curve.replace("_", " "),
            columns=(
                Column(key="arm", title="arm"),
                Column(key="seed", title="seed"),
                Column(key="tokens", title="tokens", spec=","),
                Column(key="loss_nats", title="nats/token", spec=".4f"),
            ),
            rows=[
                {"arm": run["arm"], "seed": run["seed"], "tokens": tokens, "loss_nats": loss}
                for run in runs
                for tokens, loss in run[curve]
            ],
            terminal=False,
        )
        for curve in ("train_curve", "val_curve")
    ]


def _arm_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="arms",
        title="Parameters",
        columns=(
            Column(key="name", title="arm"),
            Column(key="total_parameters", title="total", spec=","),
            Column(key="active_parameters", title="active", spec=","),
            Column(key="num_experts", title="experts"),
            Column(key="ngram_tables", title="tables", spec=","),
            Column(key="ngram_projections", title="projections", spec=","),
        ),
        rows=[
            {**arm, **arm["groups"], "num_experts": arm["config"]["num_experts"]} for arm in arms
        ],
    )


def _group_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="parameter_groups",
        title="Parameters, group by group",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="group", title="group"),
            Column(key="parameters", title="parameters", spec=","),
        ),
        rows=[
            {"arm": arm["name"], "group": group, "parameters": count}
            for arm in arms
            for group, count in arm["groups"].items()
        ],
        terminal=False,
    )


def _seen_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Losses by how often a position's n-gram was trained on, means over seeds."""
    cells: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for item in run["val_by_seen"]:
            cells.setdefault((run["arm"], item["order"], item["seen"]), []).append(item)
    design = {
        key[1:]: _mean(items, "loss_nats") for key, items in cells.items() if key[0] == "design"
    }
    rows = []
    for (arm, order, seen), items in cells.items():
        loss, own = _mean(items, "loss_nats"), design[order, seen]
        rows.append(
            {
                "arm": arm,
                "order": order,
                "seen": seen,
                "num_positions": _mean(items, "num_positions"),
                "loss_nats": loss,
                "design_minus": None
                if arm == "design" or loss is None or own is None
                else own - loss,
            }
        )
    return Table(
        name="seen",
        title="Held-out loss by how often the n-gram was trained on, means over seeds",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="order", title="order"),
            Column(key="seen", title="times seen"),
            Column(key="num_positions", title="positions", spec=",.0f"),
            Column(key="loss_nats", title="nats/token", spec=".4f"),
            Column(key="design_minus", title="design minus arm", spec="+.4f"),
        ),
        rows=rows,
    )


def _mean(items: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Over the seeds that have it."""
    found = [item[key] for item in items if item[key] is not None]
    return statistics.fmean(found) if found else None


def _use_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="table_use",
        title="Rows of the tables that training reached, means over seeds",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="table", title="table"),
            Column(key="order", title="order"),
            Column(key="num_rows", title="rows", spec=",.0f"),
            Column(key="touched_rows", title="touched", spec=",.0f"),
            Column(key="updates_per_touched_row", title="updates per touched row", spec=",.1f"),
            Column(key="median_updates", title="median", spec=",.1f"),
        ),
        rows=_means(runs, "table_use", ("table", "order")),
    )


def _load_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="layer_loads",
        title="Load of the experts on held-out text, means over seeds",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="layer", title="layer"),
            Column(key="num_experts", title="experts", spec=",.0f"),
            Column(key="max_over_mean", title="busiest / mean", spec=".2f"),
            Column(key="effective_experts", title="effective", spec=",.1f"),
            Column(key="idle_experts", title="idle", spec=",.1f"),
        ),
        rows=_means(runs, "layer_loads", ("layer",)),
    )


def _means(
    runs: Sequence[Mapping[str, Any]], part: str, keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Of every number of ``part`` over the runs of an arm, apart by ``keys``."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        for item in run[part]:
            groups.setdefault((run["arm"], *(item[key] for key in keys)), []).append(item)
    return [
        {
            "arm": place[0],
            **dict(zip(keys, place[1:], strict=True)),
            **{key: _mean(items, key) for key in items[0] if key not in keys},
        }
        for place, items in groups.items()
    ]


def _curves(name: str, runs: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Figure:
    return Figure(
        name=name,
        caption="Mean over seeds; bands from the lowest to the highest seed.",
        panels=(
            _curve_panel("Training loss", "train_curve", runs, arms),
            _curve_panel("Held-out loss", "val_curve", runs, arms),
        ),
    )


def _difference_figure(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    return Figure(
        name="differences",
        caption="Held-out loss of the design minus each baseline: every seed, and the 95% interval "
        "of the mean.",
        panels=(_difference_panel(comparisons),),
    )


def _curve_panel(
    title: str, curve: str, runs: Sequence[Mapping[str, Any]], arms: Sequence[str]
) -> Panel:
    series = []
    for arm in arms:
        curves = [run[curve] for run in runs if run["arm"] == arm]
        points = list(zip(*curves, strict=True))  # one tuple of (tokens, loss) per x
        losses = [[loss for _, loss in of_seeds] for of_seeds in points]
        series.append(
            Series(
                label=arm,
                x=[of_seeds[0][0] for of_seeds in points],
                y=[statistics.fmean(of_seeds) for of_seeds in losses],
                low=[min(of_seeds) for of_seeds in losses],
                high=[max(of_seeds) for of_seeds in losses],
            )
        )
    return Panel(title=title, x_label="training tokens", y_label="nats/token", series=tuple(series))


def _difference_panel(comparisons: Sequence[Mapping[str, Any]]) -> Panel:
    seeds = [(x, d) for x, item in enumerate(comparisons) for d in item["differences"]]
    series = [
        Series(
            label="seeds",
            x=[x for x, _ in seeds],
            y=[difference for _, difference in seeds],
            style="points",
        ),
        Series(
            label="no difference",
            x=[-0.5, len(comparisons) - 0.5],
            y=[0.0, 0.0],
            style="dashed",
        ),
    ]
    if all(item["low"] is not None for item in comparisons):
        series.append(
            Series(
                label="mean, 95% interval",
                x=[x + 0.15 for x in range(len(comparisons))],
                y=[item["mean_difference"] for item in comparisons],
                low=[item["low"] for item in comparisons],
                high=[item["high"] for item in comparisons],
                style="points",
            )
        )
    return Panel(
        title="Design minus baseline",
        x_label="baseline",
        y_label="nats/token",
        series=tuple(series),
        x_ticks=tuple(item["arm"] for item in comparisons),
    )
