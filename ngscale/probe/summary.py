"""Norms and advice -> the record (JSON)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ngscale.probe.advice import (
    AMPLIFICATIONS,
    DROWNED_BELOW,
    EVIDENCE,
    NOT_COVERED,
    Advice,
    Checked,
)
from ngscale.probe.norms import EmbeddingShare, PerToken, StreamNorms, SublayerNorms
from ngscale.probe.numbers import quantiles, rounded, window_interval
from ngscale.probe.sentence import answer
from ngscale.probe.windows import Windows
from ngscale.records import RunRecord


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
    advised = rounded(_advice_result(advice, windows))
    return RunRecord(
        verb="probe",
        answer=answer(layers, shares, advised, inputs, tokens=_counted(norms)),
        inputs=inputs,
        results={
            "layers": layers,
            "embedding": {
                "norm": over_tokens(norms.embed),
                "parts": {name: over_tokens(part) for name, part in norms.embed_parts.items()},
            },
            "embedding_share": shares,
            "closure": rounded(asdict(norms.closure)),
            "advice": advised,
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
        "write": over_tokens(sublayer.write),
        "stream": over_tokens(sublayer.stream),
        "ratio": over_tokens(ratio),
        "ratio_of_medians": _ratio_of_medians(sublayer.write, sublayer.stream),
        "ratio_median_by_window": [rounded(median) for median in by_window],
        "ratio_median_by_text": _by(ratio, [place.text for place in windows.places]),
        "ratio_median_by_draw": _by(ratio, [place.draw for place in windows.places]),
        "ratio_interval": window_interval(by_window),
        "ratio_to_layer_input": over_tokens(to_input),
        "ratio_of_medians_to_layer_input": _ratio_of_medians(sublayer.write, sublayer.layer_input),
        "cosine": over_tokens(sublayer.cosine),
        "first_position": {key: rounded(np.median(of[:, 0])) for key, of in first.items()},
    }
    if sublayer.ratio_by_stream is not None:
        medians = np.nanmedian(sublayer.ratio_by_stream[:, 1:], axis=(0, 1))
        result["ratio_median_by_stream"] = [rounded(median) for median in medians]
    return result


def _by(ratio: PerToken, labels: Sequence[int]) -> list[float]:
    """Median over the windows of each label 0, 1, .., first positions left out."""
    of = np.array(labels)
    return [rounded(np.median(ratio[of == label, 1:])) for label in range(max(labels) + 1)]


def _share_result(share: EmbeddingShare) -> dict[str, Any]:
    return {
        "share": over_tokens(share.share),
        "cosine_median": rounded(np.median(share.cosine[:, 1:])),
        "parts": {name: over_tokens(part) for name, part in share.parts.items()},
        "first_position": rounded(np.median(share.share[:, 0])),
    }


def _ratio_of_medians(write: PerToken, stream: PerToken) -> float:
    ratio: float = rounded(np.median(write[:, 1:]) / np.median(stream[:, 1:]))
    return ratio


def over_tokens(values: PerToken) -> dict[str, float]:
    """Median and tails over all windows, first positions left out."""
    return quantiles(values[:, 1:], ("median", "p5", "p95", "p99"))


def _advice_result(advice: Advice, windows: Windows) -> dict[str, Any]:
    num_windows, tokens = windows.ids.shape
    base = advice.checked.get("none")
    return {
        "choice": advice.choice,
        "drowned": advice.drowned,
        "drowned_below": DROWNED_BELOW,
        "where": advice.where,
        "where_kind": advice.where_kind,
        "times": advice.times,
        "already": advice.already,
        "amplifications": [
            {
                "amplification": name,
                "factor": advice.factors[name],
                "predicted_share": advice.predicted_share[name],
                **_checked_result(advice.checked.get(name), base),
            }
            for name in AMPLIFICATIONS
        ],
        "checked": bool(advice.checked),
        "num_loss_tokens": num_windows * (tokens - 1) if advice.checked else 0,
        "evidence_applies": advice.evidence_applies,
        "evidence": EVIDENCE,
        "not_covered": NOT_COVERED,
    }


def _checked_result(checked: Checked | None, base: Checked | None) -> dict[str, Any]:
    """Share, loss, and its change against the model as it is, paired by windows."""
    if checked is None or base is None:
        return {}
    changes = [mine - before for mine, before in zip(checked.losses, base.losses, strict=True)]
    return {
        "checked_share": checked.share,
        "loss_nats": float(np.mean(checked.losses)),
        "loss_change_nats": float(np.mean(changes)),
        "loss_change_interval_nats": window_interval(changes),
    }
