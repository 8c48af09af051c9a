"""What a person reads of a training run's series."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.probe.numbers import data_table, flat
from ngscale.probe.sentence import LABELS, percent
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table

_COLUMNS = (
    Column(key="step", title="step", spec=","),
    Column(key="tokens", title="tokens", spec=","),
    Column(key="attention_ratio_median", title="attention ratio", spec=".3f"),
    Column(key="attention_interval", title="95%"),
    Column(key="mlp_ratio_median", title="MLP ratio", spec=".3f"),
    Column(key="mlp_interval", title="95%"),
    Column(key="embedding_share_median", title="share", spec=".4f"),
    Column(key="share_interval", title="95%"),
    Column(key="loss_mean_nats", title="loss, nats/token", spec=".4f"),
    Column(key="closure_max_relative_error", title="closure", spec=".1g"),
)
_PANELS = (
    ("attention_ratio", "median", "First attention: write / stream", "ratio", True),
    ("mlp_ratio", "median", "First MLP: write / stream", "ratio", True),
    ("embedding_share", "median", "Embedding's share after the first layer", "share", False),
    ("loss", "mean_nats", "Loss on the windows", "nats/token", False),
)


def build_report(record: RunRecord) -> Report:
    """The report of ``probe --series``."""
    runs = [(record.inputs["model"], record.results["series"])]
    if (against := record.results.get("against")) is not None:
        runs.append((against["model"], against["series"]))
    window = record.inputs["window"]
    facts = (
        f"Every kept checkpoint on the same {window['count']} window(s) of {window['tokens']:,} "
        f"tokens of {', '.join(text['name'] for text in record.inputs['texts'])}. Medians over "
        "tokens, first positions left out; intervals are 95% t-intervals of the mean of the "
        "windows' medians, none of one window: they speak of this text and this seed, not of "
        "another run. The line under which the embedding counts as drowned is "
        f"{percent(record.results['drowned_below'])}. The windows may be of text that was trained "
        "on; the loss is theirs and not the run's held-out loss."
    )
    tables = []
    for index, (model, series) in enumerate(runs):
        name = "series_against" if index else "series"
        title = f"{model['name']}, amplification: {LABELS[model['amplification']]}"
        rows = [_row(point) for point in series]
        tables += [
            Table(name=f"{name}_table", title=title, columns=_COLUMNS, rows=rows),
            data_table(name, [flat(point) for point in series]),
        ]
    return Report(
        title="Norms along training",
        answer=record.answer,
        sections=(
            Section(
                heading="The first layer, step by step",
                paragraphs=(facts,),
                figures=(_figure(runs),),
                tables=tuple(tables),
            ),
        ),
    )


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    named = {"attention": "attention_ratio", "mlp": "mlp_ratio", "share": "embedding_share"}
    intervals = {f"{name}_interval": point[key]["interval"] for name, key in named.items()}
    return flat(point) | {
        key: None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        for key, interval in intervals.items()
    }


def _figure(runs: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> Figure:
    panels = []
    for key, statistic, title, label, is_log in _PANELS:
        lines = tuple(_line(model, series, key, statistic) for model, series in runs)
        panels.append(
            Panel(
                title=title, x_label="step", y_label=label, series=lines, x_log=True, y_log=is_log
            )
        )
    return Figure(
        name="series",
        caption=(
            "Along training: what the first attention and the first MLP write against the stream, "
            "the embedding's share after the first layer, and the loss. Bands are 95% intervals "
            "over windows, where there are several."
        ),
        panels=tuple(panels),
    )


def _line(
    model: Mapping[str, Any], series: Sequence[Mapping[str, Any]], key: str, statistic: str
) -> Series:
    intervals = [point[key]["interval"] for point in series]
    known = None not in intervals
    return Series(
        label=f"{model['name']} ({LABELS[model['amplification']]})",
        x=[point["step"] for point in series],
        y=[point[key][statistic] for point in series],
        low=[interval[0] for interval in intervals] if known else None,
        high=[interval[1] for interval in intervals] if known else None,
    )
