"""The record of ``train-small`` -> what a person reads."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.train_small.comparison import MIN_SEEDS, MIN_TOKENS_PER_ACTIVE_PARAMETER

_METHOD = (
    "Arms: the design; equivalent-moe, the same backbone with the tables' parameters in more "
    "experts; capacity-1, the design with tables of one row, a constant vector. The arms of a "
    "seed see the same batches and start from equal weights wherever they share a tensor; the "
    "held-out blocks are chosen by hash and never trained on.",
    "better: the 95% t-interval of the paired differences is below 0; worse: above 0; undecided: "
    f"all else, or fewer than {MIN_SEEDS} seeds. The run as a whole concludes nothing below "
    f"{MIN_SEEDS} seeds or {MIN_TOKENS_PER_ACTIVE_PARAMETER} tokens per active parameter.",
    "equivalent-moe has no amplification; where the design has one, capacity-1 isolates it.",
)


def build_report(record: RunRecord) -> Report:
    """Comparisons, curves, runs and arms, in that order."""
    runs, arms = record.results["runs"], [arm["name"] for arm in record.results["arms"]]
    comparisons = record.results["comparisons"]
    return Report(
        title="Small training runs",
        answer=record.answer,
        sections=(
            Section(
                heading="Does the design win?",
                paragraphs=_METHOD,
                tables=(_comparison_table(comparisons),),
            ),
            Section(
                heading="Losses",
                figures=(_curves(runs, arms, comparisons),),
                tables=(_loss_table(runs, arms), _run_table(runs), *_curve_tables(runs)),
            ),
            Section(
                heading="What was compared",
                tables=(
                    _arm_table(record.results["arms"]),
                    _group_table(record.results["arms"]),
                ),
            ),
        ),
    )


def _comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="comparisons",
        title="Held-out loss, design minus baseline (nats/token, negative is better)",
        columns=(
            Column(key="baseline", title="baseline"),
            Column(key="mean_difference", title="mean difference", spec="+.4f"),
            Column(key="low", title="95% low", spec="+.4f"),
            Column(key="high", title="95% high", spec="+.4f"),
            Column(key="num_seeds", title="seeds"),
            Column(key="p_value", title="p", spec=".2g"),
            Column(key="verdict", title="verdict"),
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


def _curves(
    runs: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    comparisons: Sequence[Mapping[str, Any]],
) -> Figure:
    return Figure(
        name="losses",
        caption="Mean over seeds; bands from the lowest to the highest seed. Right: held-out loss "
        "of the design minus each baseline, every seed and the 95% interval of the mean.",
        panels=(
            _curve_panel("Training loss", "train_curve", runs, arms),
            _curve_panel("Held-out loss", "val_curve", runs, arms),
            _difference_panel(comparisons),
        ),
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
        x_ticks=tuple(item["baseline"] for item in comparisons),
    )
