"""Norms and advice -> the record (JSON) and the report (what a person reads)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ngscale.probe import against
from ngscale.probe.advice import DROWNED_BELOW, EVIDENCE, Advice
from ngscale.probe.norms import EmbeddingShare, PerToken, StreamNorms, SublayerNorms
from ngscale.probe.windows import Windows
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.spec import Amplification

_AMPLIFICATIONS: dict[Amplification, str] = {
    "none": "none",
    "sqrt_d": "sqrt(D)",
    "layernorm": "LayerNorm",
}


def build(
    norms: StreamNorms, advice: Advice, inputs: Mapping[str, Any], windows: Windows
) -> RunRecord:
    """The record: one entry per sub-layer, shares, closure, advice, and the answer."""
    layers = [sublayer_result(sublayer, windows) for sublayer in norms.sublayers]
    in_layers = [layer["name"] for layer in layers if layer["kind"] != "position"]
    names = list(dict.fromkeys(name.split("_")[0] for name in in_layers))
    shares = [
        {"after": name, **_share_result(share)}
        for name, share in zip(names, norms.shares, strict=True)
    ]
    return RunRecord(
        verb="probe",
        answer=_answer(layers, shares, advice, inputs, tokens=_counted(norms)),
        inputs=inputs,
        results={
            "layers": layers,
            "embedding": {
                "norm": quantiles(norms.embed),
                "parts": {name: quantiles(part) for name, part in norms.embed_parts.items()},
            },
            "embedding_share": shares,
            "closure": _rounded(asdict(norms.closure)),
            "advice": {
                **_rounded(asdict(advice)),
                "drowned_below": DROWNED_BELOW,
                "evidence": EVIDENCE,
            },
            "num_tokens_counted": _counted(norms),
        },
    )


def _counted(norms: StreamNorms) -> int:
    """Tokens that the statistics are over: all but the first of each window."""
    return int(norms.sublayers[0].write[:, 1:].size)


def sublayer_result(sublayer: SublayerNorms, windows: Windows) -> dict[str, Any]:
    """Statistics over all tokens but the first of each window; that one stands apart.

    The first position carries the massive activations of most decoders (arXiv:2402.17762): one
    token whose norm is hundreds of times the others' would decide any mean.
    """
    ratio = sublayer.write / sublayer.stream
    to_input = sublayer.write / sublayer.layer_input
    first = {"write": sublayer.write, "stream": sublayer.stream, "ratio": ratio}
    by_window = [float(np.median(row)) for row in ratio[:, 1:]]
    result = {
        "name": sublayer.name,
        "kind": sublayer.kind,
        "added_to": sublayer.added_to,
        "write": quantiles(sublayer.write),
        "stream": quantiles(sublayer.stream),
        "ratio": quantiles(ratio),
        "ratio_of_medians": _ratio_of_medians(sublayer.write, sublayer.stream),
        "ratio_median_by_window": [_round(median) for median in by_window],
        "ratio_median_by_text": _by(ratio, [place.text for place in windows.places]),
        "ratio_median_by_draw": _by(ratio, [place.draw for place in windows.places]),
        "ratio_interval": window_interval(by_window),
        "ratio_to_layer_input": quantiles(to_input),
        "ratio_of_medians_to_layer_input": _ratio_of_medians(sublayer.write, sublayer.layer_input),
        "cosine": quantiles(sublayer.cosine),
        "first_position": {key: _round(np.median(of[:, 0])) for key, of in first.items()},
    }
    if sublayer.ratio_by_stream is not None:
        medians = np.nanmedian(sublayer.ratio_by_stream[:, 1:], axis=(0, 1))
        result["ratio_median_by_stream"] = [_round(median) for median in medians]
    return result


def _by(ratio: PerToken, labels: Sequence[int]) -> list[float]:
    """Median over the windows of each label 0, 1, .., first positions left out."""
    of = np.array(labels)
    return [_round(np.median(ratio[of == label, 1:])) for label in range(max(labels) + 1)]


def window_interval(medians: Sequence[float]) -> list[float] | None:
    """95% t-interval of the mean of the windows' medians; None of one window.

    Windows of one text are not independent, so it is the spread of this text, not of all text.
    """
    if len(medians) < 2:
        return None
    from scipy import stats

    mean, error = float(np.mean(medians)), float(stats.sem(medians))
    half = float(stats.t.ppf(0.975, len(medians) - 1)) * error
    return [_round(mean - half), _round(mean + half)]


def _share_result(share: EmbeddingShare) -> dict[str, Any]:
    return {
        "share": quantiles(share.share),
        "cosine_median": _round(np.median(share.cosine[:, 1:])),
        "parts": {name: quantiles(part) for name, part in share.parts.items()},
        "first_position": _round(np.median(share.share[:, 0])),
    }


def quantiles(values: PerToken) -> dict[str, float]:
    """Median and tails over all windows, first positions left out."""
    median, p5, p95, p99 = np.quantile(values[:, 1:], [0.5, 0.05, 0.95, 0.99])
    return {"median": _round(median), "p5": _round(p5), "p95": _round(p95), "p99": _round(p99)}


def _ratio_of_medians(write: PerToken, stream: PerToken) -> float:
    return _round(np.median(write[:, 1:]) / np.median(stream[:, 1:]))


def _round(value: float | np.floating[Any]) -> float:
    """Six significant digits, which is what a float32 forward pass is good for."""
    return float(f"{float(value):.6g}")


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with every float in it rounded."""
    rounded: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            rounded[key] = _rounded(value)
        else:
            rounded[key] = _round(value) if isinstance(value, float) else value
    return rounded


def _answer(
    layers: Sequence[Mapping[str, Any]],
    shares: Sequence[Mapping[str, Any]],
    advice: Advice,
    inputs: Mapping[str, Any],
    *,
    tokens: int,
) -> str:
    attention, mlp = (
        _times(next(layer for layer in layers if layer["kind"] == kind)["ratio"]["median"])
        for kind in ("attention", "mlp")
    )
    measured = (
        f"{inputs['model']['name']}: the first attention writes {attention} and the first MLP "
        f"{mlp} the stream it is added to (median over {tokens:,} tokens); after layer "
        f"{shares[0]['after'][1:]} the embedding is "
        f"{_percent(advice.predicted_share['none'])} of the stream"
    )
    return f"{measured}. {_advice_sentence(advice, inputs['model']['hidden_size'])}"


def _advice_sentence(advice: Advice, hidden_size: int) -> str:
    line = _percent(DROWNED_BELOW)
    if not advice.drowned:
        return f"Advice: no amplification; it is not drowned (line: {line})."
    if advice.choice == "none":
        return (
            f"Advice: nothing further; it is below the line of {line}, but amplified already "
            f"({_AMPLIFICATIONS.get(advice.already, 'a factor')})."
        )
    means = {
        "sqrt_d": f"multiply the embedding by sqrt(D) = {hidden_size**0.5:.3g}",
        "layernorm": "put a LayerNorm on the embedding",
    }[advice.choice]
    share = _percent(advice.predicted_share[advice.choice])
    evidence = (
        "the published -0.02 loss is for this case: a first attention near 10x"
        if advice.evidence_applies
        else "the published -0.02 loss is for a first attention near 10x, which this is not"
    )
    return (
        f"Advice for the next training run: {means}, predicted to leave {share} if layer 0 writes "
        f"as before (line: {line}); "
        f"{evidence}."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"


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
_PREDICTION_COLUMNS = (
    Column(key="amplification", title="amplification"),
    Column(key="share", title="predicted share", spec=".4f"),
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
    rows = [_flat(layer) for layer in layers]
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
            _data_table("layers", rows),
        ),
    )


def _share_section(record: RunRecord) -> Section:
    advice = record.results["advice"]
    rows = [
        {
            "amplification": label,
            "share": advice["predicted_share"][key],
            "advised": "<--" if key == advice["choice"] else None,
        }
        for key, label in _AMPLIFICATIONS.items()
    ]
    return Section(
        heading="What is left of the embedding",
        paragraphs=(
            "The embedding's share of the stream h is <h, e> / |h|^2, its additive part of it. "
            "The prediction scales the embedding and keeps what layer 0 writes as measured: exact "
            "for the first attention, which reads a norm of the embedding, rough for the first "
            "MLP (SmolLM2-135M run with its embedding times sqrt(D): 50% left, 77% predicted).",
        ),
        tables=(
            Table(
                name="predicted_share",
                title="Embedding's share after layer 0, by amplification (median over tokens)",
                columns=_PREDICTION_COLUMNS,
                rows=rows,
            ),
            _data_table("embedding_share", [_flat(s) for s in record.results["embedding_share"]]),
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
            f"Evidence: {EVIDENCE}. The line of {_percent(DROWNED_BELOW)} is ours: writes of 3 "
            "times the embedding, between no problem and the paper's 10 times.",
            "What this cannot say: whether amplification would have helped this model. A first "
            "MLP that drowns the embedding may have learnt to restate it in another direction: "
            "the share is of the embedding's direction, not of what the stream knows of the "
            "token. Scaling the embedding of a trained checkpoint breaks it; the advice is for a "
            "run from scratch, with and without.",
        ),
    )


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """One CSV row: nested keys joined by an underscore; lists stay in the record."""
    flat: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}_{inner}": number for inner, number in _flat(value).items()}
        elif not isinstance(value, list):
            flat[key] = value
    return flat


def _data_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=key) for key in rows[0])
    return Table(name=name, title=name, columns=columns, rows=rows, terminal=False)


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


_KINDS: dict[str, str] = {
    "position": "positions",
    "ngram": "n-grams",
    "attention": "attention",
    "mlp": "MLP",
    "moe": "experts",
}


def _by_kind(layers: Sequence[Mapping[str, Any]], key: str) -> tuple[Series, ...]:
    """Attention and MLP apart: one line through both is a zigzag that hides each."""
    present = dict.fromkeys(layer["kind"] for layer in layers)
    return tuple(
        _line(
            f"{key} of {_KINDS[kind]}",
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
