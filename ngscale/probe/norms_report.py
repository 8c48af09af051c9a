"""The report of ``probe``: norms by sub-layer, the embedding's share, how to read both."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.probe import against
from ngscale.probe.advice import DROWNED_BELOW, EVIDENCE, NOT_COVERED
from ngscale.probe.numbers import data_table, flat
from ngscale.probe.sentence import KINDS, LABELS, percent
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table


def build_report(record: RunRecord) -> Report:
    """The report of a record: norms by sub-layer, the embedding's share, how to read both."""
    compared = record.results.get("against")
    return Report(
        title="Norms along the residual stream",
        answer=record.answer,
        sections=(
            _norms_section(record),
            _share_section(record),
            *((against.section(compared),) if compared else ()),
            _reading_section(record),
        ),
    )


_LAYER_COLUMNS = (
    Column(key="name", title="write"),
    Column(key="added_to", title="added to"),
    Column(key="write_median", title="|write|", spec=".4g"),
    Column(key="stream_median", title="|stream|", spec=".4g"),
    Column(key="ratio_median", title="ratio", spec=".3f"),
    Column(key="ratio_p5", title="p5", spec=".3f"),
    Column(key="ratio_p95", title="p95", spec=".3f"),
    Column(key="ratio_p99", title="p99", spec=".3f"),
    Column(key="ratio_of_medians", title="medians", spec=".3f"),
    Column(key="cosine_median", title="cosine", spec=".3f"),
    Column(key="first_position_ratio", title="first", spec=".3g"),
)
_AMPLIFICATION_COLUMNS = (
    Column(key="label", title="amplification"),
    Column(key="factor", title="factor", spec=".4g"),
    Column(key="predicted_share", title="predicted share", spec=".4f"),
    Column(key="checked_share", title="checked share", spec=".4f"),
    Column(key="loss_change_nats", title="loss change, nats/token", spec="+.4f"),
    Column(key="advised", title="advised"),
)


def _norms_section(record: RunRecord) -> Section:
    layers = record.results["layers"]
    window, closure = record.inputs["window"], record.results["closure"]
    model, num_layers = record.inputs["model"], len(record.results["embedding_share"])
    facts = (
        f"{model['name']} ({model['model_type']}, {num_layers} layers, hidden size "
        f"{model['hidden_size']:,}) on "
        f"{window['count']} window(s) of {window['tokens']:,} tokens of "
        f"{', '.join(text['name'] for text in record.inputs['texts'])}. Writes are the outputs of "
        "attention and MLP, or of the post-norms behind them; the stream is what each is added to. "
        f"Embedding plus all writes is the stream at {closure['checks']} points of every pass "
        "(each layer's input, what reads the stream before each MLP, the final norm's input): "
        f"largest error {closure['max_relative_error']:.1g} of its norm (tolerance "
        f"{closure['tolerance']:g})."
    )
    rows = [flat(layer) for layer in layers]
    return Section(
        heading="What each sub-layer writes",
        paragraphs=(facts,),
        figures=(_figure(record),),
        tables=(
            Table(
                name="sublayers",
                title="L2 norm of the write, of the stream it is added to, and their ratio",
                columns=_LAYER_COLUMNS,
                rows=rows,
            ),
            data_table("layers", rows),
        ),
    )


def _share_section(record: RunRecord) -> Section:
    advice = record.results["advice"]
    rows = [
        {
            **{key: value for key, value in found.items() if not isinstance(value, list)},
            "label": LABELS[found["amplification"]],
            "advised": "<--" if found["amplification"] == advice["choice"] else None,
        }
        for found in advice["amplifications"]
    ]
    check = (
        "The check runs this model with its embedding amplified. The share is then measured; the "
        f"loss is that of the same {advice['num_loss_tokens']:,} tokens, whose change is an upper "
        "bound of the disturbance, since the weights were trained without, and says nothing of a "
        "run from scratch."
        if advice["checked"]
        else "No check was made: the model was not run again with its embedding amplified."
    )
    return Section(
        heading="What is left of the embedding",
        paragraphs=(
            "The embedding's share of the stream h is <h, e> / |h|^2, its additive part of it. "
            "The prediction amplifies the embedding and keeps what layer 0 writes as measured: "
            "exact for the first attention, which reads a norm of the embedding, rough for the "
            "first MLP. The scalar s makes the embedding as long as all that layer 0 writes.",
            check,
        ),
        tables=(
            Table(
                name="amplifications",
                title="Embedding's share after layer 0, by amplification (median over tokens)",
                columns=_AMPLIFICATION_COLUMNS,
                rows=rows,
            ),
            data_table("embedding_share", [flat(s) for s in record.results["embedding_share"]]),
            *_parts_table(record),
        ),
    )


def _parts_table(record: RunRecord) -> tuple[Table, ...]:
    """Word part, orders and tables; none of a model without tables."""
    embedding, after = record.results["embedding"], record.results["embedding_share"][0]["parts"]
    rows = [
        {"part": name, "norm": norm["median"], "share": after[name]["median"]}
        for name, norm in embedding["parts"].items()
    ]
    if not rows:
        return ()
    columns = (
        Column(key="part", title="part of the embedding"),
        Column(key="norm", title="|part|", spec=".4g"),
        Column(key="share", title="share after the first layer", spec=".4f"),
    )
    title = "Parts of the embedding: word, n-grams, orders, tables (medians over tokens)"
    return (Table(name="embedding_parts", title=title, columns=columns, rows=rows),)


def _reading_section(record: RunRecord) -> Section:
    return Section(
        heading="How to read this",
        paragraphs=(
            "Medians and percentiles are over tokens; the first position of each window is left "
            "out and shown apart, because most decoders keep a massive activation there. 'Of "
            "medians' is the median write over the median stream, which is what is left when "
            "only aggregated norms are published.",
            f"Evidence: {EVIDENCE}. It does not cover {NOT_COVERED}. The line of "
            f"{percent(DROWNED_BELOW)} is ours: writes of 3 times the embedding, between no "
            "problem and the paper's 10 times.",
            "What this cannot say: whether amplification would have helped this model. A first "
            "MLP that drowns the embedding may have learnt to restate it in another direction: "
            "the share is of the embedding's direction, not of what the stream knows of the "
            "token. Scaling the embedding of a trained checkpoint breaks it; the advice is for a "
            "run from scratch, with and without.",
        ),
    )


_MAX_TICKS = 16


def _figure(record: RunRecord) -> Figure:
    layers, shares = record.results["layers"], record.results["embedding_share"]
    ticks = _thinned([layer["name"] for layer in layers])
    return Figure(
        name="norms",
        caption=(
            "By sub-layer: L2 norm of the write and of the stream it is added to, and their ratio "
            "(as Fig. 5 of arXiv:2601.21204); by layer: the embedding's share of the stream. "
            "Lines are medians over tokens, bands the 5th to 95th percentile, first positions "
            "left out."
        ),
        panels=(
            Panel(
                title="Norms",
                x_label="sub-layer",
                y_label="L2 norm",
                series=(*_by_kind(layers, "write"), _line("stream", layers, "stream")),
                y_log=True,
                x_ticks=ticks,
            ),
            Panel(
                title="Write / stream it is added to",
                x_label="sub-layer",
                y_label="ratio",
                series=_by_kind(layers, "ratio"),
                y_log=True,
                x_ticks=ticks,
            ),
            Panel(
                title="Embedding's share of the stream",
                x_label="after layer",
                y_label="share",
                series=(_line("", shares, "share"),),
                x_ticks=_thinned([share["after"] for share in shares]),
            ),
        ),
    )


def _by_kind(layers: Sequence[Mapping[str, Any]], key: str) -> tuple[Series, ...]:
    """Each kind of write apart: one line through all is a zigzag that hides each."""
    present = dict.fromkeys(layer["kind"] for layer in layers)
    return tuple(
        _line(
            f"{key} of {KINDS[kind]}",
            layers,
            key,
            where=[index for index, layer in enumerate(layers) if layer["kind"] == kind],
        )
        for kind in present
    )


def _line(
    label: str,
    results: Sequence[Mapping[str, Any]],
    key: str,
    *,
    where: Sequence[int] | None = None,
) -> Series:
    places = list(range(len(results)) if where is None else where)
    drawn = [results[index] for index in places]
    return Series(
        label=label,
        x=places,
        y=[result[key]["median"] for result in drawn],
        low=[result[key]["p5"] for result in drawn],
        high=[result[key]["p95"] for result in drawn],
    )


def _thinned(names: Sequence[str]) -> tuple[str, ...]:
    """Every k-th name, so that at most ``_MAX_TICKS`` are drawn; the others empty."""
    step = -(-len(names) // _MAX_TICKS)
    return tuple(name if index % step == 0 else "" for index, name in enumerate(names))
